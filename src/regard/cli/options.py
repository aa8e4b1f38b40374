"""What several verbs take: ``--set OPTION=VALUE``."""

from __future__ import annotations

from typing import Any

import yaml

from regard.errors import ConfigError

__all__ = ["read_option"]


def read_option(text: str, example: str) -> tuple[str, Any]:
    """An option's name and value; numbers, true and false are read as such.

    Raises:
        ConfigError: there is no ``=``; the message shows the example.
    """
    name, separator, value = text.partition("=")
    if not separator:
        raise ConfigError(f"--set {text!r} wants OPTION=VALUE, for example --set {example}")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        return name, value
