"""What several verbs take: ``--set OPTION=VALUE``, sizes, numbers with bounds, files to write; and how they end."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from regard.errors import ConfigError, StorageError
from regard.parsing import parse_yaml
from regard.storage import check_writable, write_atomic
from regard.wording import visible

__all__ = [
    "MASK_THRESHOLD", "MAX_DPI", "SEEDS", "add_cutting", "add_device", "between", "close_with", "eval_changes",
    "output_file", "output_folder", "parse_size", "read_option", "read_options", "read_where", "refuse_repeats",
    "report_on", "tell", "write_json",
]  # fmt: skip

MAX_DPI = 2400
"""Dots per inch of the finest presses."""

MASK_THRESHOLD = "lowest gray of a person (100; 1 in a data set's own masks, but for JPEG and WebP)"
"""Help of ``--mask-threshold``."""

EVAL_SETTINGS = (
    "precision", "metric", "ap", "flip", "five_crops", "rerank", "expansion", "ignore_cameras", "protocol", "cmc",
    "unmatched", "junk",
)  # fmt: skip
"""Of the ``eval`` section, what command lines change."""

MAX_SIDE = 4096
"""Pixels of an input's height or width, as in recipes."""

SEEDS = (0, 2**53 - 1)
"""Lowest and highest seed of a drawing."""


def read_option(text: str, example: str) -> tuple[str, Any]:
    """An option's name and value; numbers, true and false are read as such.

    Raises:
        ConfigError: no ``=`` or no name, and the message shows the example; or the value is not YAML.
    """
    name, separator, value = text.partition("=")
    if not separator or not name:
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


def read_where(texts: Iterable[str]) -> dict[str, list[str]]:
    """Attributes and their values of several ``--where NAME=VALUE``.

    Raises:
        ConfigError: one has no ``=``.
    """
    attributes: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--where {text!r} wants NAME=VALUE, for example --where color=red")
        attributes.setdefault(name, []).append(value)
    return attributes


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


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Height and width of ``256x128``.

    Raises:
        ConfigError: it is something else.
    """
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise ConfigError(f"--size {text!r} wants HEIGHTxWIDTH in pixels, for example 256x128")
    if max(int(height), int(width)) > MAX_SIDE:
        raise ConfigError(f"--size {text!r} is larger than {MAX_SIDE}x{MAX_SIDE}; choose a smaller one, as 256x128")
    return int(height), int(width)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Declare ``--device``, which the command line prefers for as long as the verb runs."""
    parser.add_argument(
        "--device", metavar="NAME", help="cpu, cuda, cuda:1 (a GPU by its number), mps (default: a GPU, if any)"
    )


def add_cutting(parser: argparse.ArgumentParser) -> None:
    """Declare what cuts people out of whole scenes."""
    parser.add_argument(
        "--detector", metavar="WHAT",
        help="finds people in whole scenes: NAME=WEIGHTS of torchvision, FILE.onnx, FILE.xml or MODULE:FUNCTION",
    )  # fmt: skip
    parser.add_argument(
        "--boxes", type=Path, action="append", metavar="FILE",
        help="says where they are: a table with picture, x0, y0, x1, y1, or a MOT file; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--min-score", type=float, metavar="S", help="lowest score of a person (default: 0.5, or the description's)"
    )


def eval_changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """Settings of the ``eval`` section that a verb's arguments change."""
    given = {name: getattr(arguments, name, None) for name in EVAL_SETTINGS}
    return {name: value for name, value in given.items() if value is not None}


def between(low: int, high: int) -> Callable[[str], int]:
    """A whole number from ``low`` to ``high``, as the type of an argument: what no machine can do is said at once."""

    def whole(text: str) -> int:
        value = parse_yaml(text, f"got {text!r}")
        if type(value) is not int or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"got {text!r}, wanted a whole number from {low:,} to {high:,}")
        return value

    return whole


def output_file(text: str, *, folder: bool = False) -> Path:
    """A file to write, as the type of an argument: whether it can be written is known before the work begins."""
    try:
        check_writable(text, folder=folder)
    except StorageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return Path(text)


def output_folder(text: str) -> Path:
    """A folder to write into, as the type of an argument."""
    return output_file(text, folder=True)


def write_json(file: Path | None, content: Mapping[str, Any]) -> None:
    """Write plain values as JSON, where a file was asked for."""
    if file is not None:
        write_atomic(file, (json.dumps(content, indent=2) + "\n").encode())


def tell(text: str) -> None:
    """Print a remark on standard error, beside the result."""
    print(f"regard: {visible(text)}", file=sys.stderr, flush=True)


def report_on(*runs: str | Path, arguments: argparse.Namespace) -> list[str | Path]:
    """Return the command that reports on runs, on the data set that was just asked for where there is one."""
    named = [arguments.data] if isinstance(arguments.data, str) else list(arguments.data or ())
    data = ["--data", *named] if len(named) == 1 else []
    return ["report", *runs, *data, *(["--root", arguments.root] if arguments.root else [])]


def close_with(written: Iterable[str | Path | None] = (), score: str = "", then: Iterable[str | Path] = ()) -> None:
    """Print the closing line of a command: what was written, the score, the next command; it stays with ``--quiet``.

    Args:
        written: files and folders; None stands for one that was not asked for.
        score: what was found, where that is a number or two.
        then: arguments of the command to go on with, after ``regard``.
    """
    places = ", ".join(str(place) for place in written if place is not None)
    command = shlex.join(str(argument) for argument in then)
    parts = [f"wrote {places}" if places else "", score, f"next: regard {command}" if command else ""]
    if any(parts):
        print("; ".join(part for part in parts if part))
