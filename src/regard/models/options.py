"""Checks of constructor options that several systems share."""

from __future__ import annotations

from regard.errors import ConfigError, check_choice
from regard.layers.part_heads import Sharing

__all__ = ["check_part_options"]


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
