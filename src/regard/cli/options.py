"""What several verbs take: ``--set OPTION=VALUE``, and files and folders to write."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from regard.errors import ConfigError, StorageError
from regard.parsing import parse_yaml
from regard.storage import check_writable

__all__ = ["output_file", "output_folder", "read_option"]


def read_option(text: str, example: str) -> tuple[str, Any]:
    """An option's name and value; numbers, true and false are read as such.

    Raises:
        ConfigError: there is no ``=``, and the message shows the example; or the value is not YAML.
    """
    name, separator, value = text.partition("=")
    if not separator:
        raise ConfigError(f"--set {text!r} wants OPTION=VALUE, for example --set {example}")
    return name, parse_yaml(value, f"--set {text!r}")


def output_file(text: str) -> Path:
    """A file to write, as the type of an argument: whether it can be written is known before the work begins."""
    return _output(text, folder=False)


def output_folder(text: str) -> Path:
    """A folder to write into, as the type of an argument."""
    return _output(text, folder=True)


def _output(text: str, folder: bool) -> Path:
    try:
        check_writable(text, folder)
    except StorageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return Path(text)
