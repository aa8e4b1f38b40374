"""Checks of constructor options that several systems share."""

from __future__ import annotations

from typing import Any, get_args

from regard.errors import ConfigError

__all__ = ["check_choice"]


def check_choice(option: str, value: object, literal: Any) -> None:
    """Refuse a value that is not one of the ``Literal`` type's.

    Raises:
        ConfigError: names the option, the value and the choices.
    """
    choices = get_args(literal)
    if value not in choices:
        raise ConfigError(f"{option} is {value!r}, wanted one of: {', '.join(map(str, choices))}")
