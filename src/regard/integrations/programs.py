"""The programs that regard goes into, imported where they are used; they exclude each other, so none is an extra."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from regard.errors import ConfigError
from regard.wording import one_line

__all__ = ["program", "version_of"]


def program(module: str) -> ModuleType:
    """Import a module of another program.

    Raises:
        ConfigError: it is not installed, or cannot be imported.
    """
    name = module.partition(".")[0].replace("_", "-")
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"this needs {name}, which cannot be imported ({one_line(error)}); pip install {name}"
        ) from None


def version_of(package: str) -> str:
    """Version of a package that is installed; empty where none is."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
