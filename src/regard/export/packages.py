"""The packages of the ``export`` extra, as far as they are there."""

from __future__ import annotations

from types import ModuleType

from regard.errors import ConfigError, require

__all__ = ["install", "is_installed"]


def install(name: str) -> ModuleType:
    """Import a package of the ``export`` extra.

    Raises:
        ConfigError: it is not installed.
    """
    return require(name, "this format", "export")


def is_installed(name: str) -> bool:
    """Whether a package of the ``export`` extra can be imported."""
    try:
        install(name)
    except ConfigError:
        return False
    return True
