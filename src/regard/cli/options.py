"""What several verbs take: ``--set OPTION=VALUE``."""

from __future__ import annotations

from typing import Any

from regard.errors import ConfigError
from regard.parsing import parse_yaml

__all__ = ["read_option"]


def read_option(text: str, example: str) -> tuple[str, Any]:
    """An option's name and value; numbers, true and false are read as such.

    Raises:
        ConfigError: there is no ``=``, and the message shows the example; or the value is not YAML.
    """
    name, separator, value = text.partition("=")
    if not separator:
        raise ConfigError(f"--set {text!r} wants OPTION=VALUE, for example --set {example}")
    return name, parse_yaml(value, f"--set {text!r}")
