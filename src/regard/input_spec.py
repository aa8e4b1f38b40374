"""What a network wants to see: the size its pictures are resized to, and how.

A model knows it (``model.input``), its folder keeps it in ``config.json``, and evaluation, embedding, explanation,
export and search ask there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from regard.errors import ConfigError

__all__ = ["InputSpec", "Interpolation"]

Interpolation = Literal["bilinear", "bicubic"]

LARGEST = 4096


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The pictures a network was trained on.

    Args:
        height, width: in pixels.
        interpolation: how pictures are resized to that, antialiased.

    Raises:
        ConfigError: a side is no number of pixels, or there is no such interpolation.
    """

    height: int = 256
    width: int = 128
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            pixels = getattr(self, name)
            if type(pixels) is not int or not 1 <= pixels <= LARGEST:
                raise ConfigError(f"the input's {name} is {pixels!r}, wanted 1 to {LARGEST:,} pixels")
        if self.interpolation not in get_args(Interpolation):
            known = " or ".join(get_args(Interpolation))
            raise ConfigError(f"the input's interpolation is {self.interpolation!r}, wanted {known}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    def resized(self, size: tuple[int, int] | None) -> InputSpec:
        """The same with another height and width, where they are given."""
        return self if size is None else replace(self, height=size[0], width=size[1])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Any) -> InputSpec:
        """Read what :meth:`to_dict` wrote.

        Raises:
            ConfigError: it is something else.
        """
        wanted = ("height", "width", "interpolation")
        if not isinstance(content, Mapping) or set(content) != set(wanted):
            raise ConfigError(f"the input is {content!r}, wanted {', '.join(wanted)}")
        return cls(**content)

    def __str__(self) -> str:
        return f"{self.height} x {self.width}, {self.interpolation}"
