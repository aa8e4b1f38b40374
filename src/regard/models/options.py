"""Checks of constructor options that several systems share."""

from __future__ import annotations

from typing import Any, get_args

from regard.errors import ConfigError
from regard.layers.part_heads import Sharing

__all__ = ["check_choice", "check_part_options"]


def check_choice(option: str, value: object, literal: Any) -> None:
    """Refuse a value that is not one of the ``Literal`` type's.

    Raises:
        ConfigError: names the option, the value and the choices.
    """
    choices = get_args(literal)
    if value not in choices:
        raise ConfigError(f"{option} is {value!r}, wanted one of: {', '.join(map(str, choices))}")


def check_part_options(head_dim: int, dropout: float, part_conv: str) -> None:
    """Refuse options that classifiers of parts cannot have.

    Raises:
        ConfigError: names the option, the value and what it should be.
    """
    if head_dim < 1:
        raise ConfigError(f"head_dim is {head_dim}, but the classifiers need at least 1 number to look at")
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout is {dropout}, wanted a share of at least 0 and below 1")
    check_choice("part_conv", part_conv, Sharing)
