"""What several verbs take: ``--set OPTION=VALUE``, numbers with bounds, files and folders to write."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from regard.errors import ConfigError, StorageError
from regard.parsing import parse_yaml
from regard.storage import check_writable

__all__ = [
    "MASK_THRESHOLD",
    "MAX_DPI",
    "SEEDS",
    "add_device",
    "between",
    "output_file",
    "output_folder",
    "read_option",
    "read_options",
    "refuse_repeats",
]

MAX_DPI = 2400
"""Dots per inch of the finest presses."""

MASK_THRESHOLD = "lowest gray of a person (100; 1 in a data set's own masks, but for JPEG and WebP)"
"""Help of ``--mask-threshold``."""

SEEDS = (0, 2**53 - 1)
"""Lowest and highest seed of a drawing."""


def read_option(text: str, example: str) -> tuple[str, Any]:
    """An option's name and value; numbers, true and false are read as such.

    Raises:
        ConfigError: there is no ``=``, and the message shows the example; or the value is not YAML.
    """
    name, separator, value = text.partition("=")
    if not separator:
        raise ConfigError(f"--set {text!r} wants OPTION=VALUE, for example --set {example}")
    return name, parse_yaml(value, f"--set {text!r}")


def read_options(texts: Iterable[str], example: str) -> dict[str, Any]:
    """What several ``--set`` give, by name.

    Raises:
        ConfigError: one is wrong, or a name is given twice.
    """
    texts = list(texts)
    refuse_repeats(texts)
    return dict(read_option(text, example) for text in texts)


def refuse_repeats(settings: Iterable[str]) -> None:
    """Refuse ``KEY=VALUE`` settings of which one would undo another unsaid.

    Raises:
        ConfigError: a key is given twice, or beside a section that it lies in.
    """
    given: list[str] = []
    for text in settings:
        key = text.partition("=")[0]
        for other in given:
            if key == other:
                raise ConfigError(f"{key} is given twice; give it once")
            if f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}."):
                inner, outer = sorted((key, other), key=len, reverse=True)
                raise ConfigError(f"{inner} is given beside {outer}, which it is part of; give one of the two")
        given.append(key)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Declare ``--device``, which the command line prefers for as long as the verb runs."""
    parser.add_argument(
        "--device", metavar="NAME", help="cpu, cuda, cuda:1 (a GPU by its number), mps (default: a GPU, if any)"
    )


def between(low: int, high: int) -> Callable[[str], int]:
    """A whole number from ``low`` to ``high``, as the type of an argument: what no machine can do is said at once."""

    def whole(text: str) -> int:
        value = parse_yaml(text, f"got {text!r}")
        if type(value) is not int or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"got {text!r}, wanted a whole number from {low:,} to {high:,}")
        return value

    return whole


def output_file(text: str) -> Path:
    """A file to write, as the type of an argument: whether it can be written is known before the work begins."""
    return _output(text, folder=False)


def output_folder(text: str) -> Path:
    """A folder to write into, as the type of an argument."""
    return _output(text, folder=True)


def _output(text: str, *, folder: bool) -> Path:
    try:
        check_writable(text, folder=folder)
    except StorageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return Path(text)
