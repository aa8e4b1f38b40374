"""What a network wants to see: the size its pictures are resized to and how, what is taken off their pixels, and
whether a mirrored picture counts too.

A model knows it (``model.input``), its folder keeps it in ``config.json``, and training, evaluation, embedding,
explanation, export and search ask there. :func:`regard.data.transforms.network_input` makes a batch by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from regard.errors import ConfigError, is_whole

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "LARGEST", "MINDSPORE_MEAN", "InputSpec", "Interpolation", "known_input"]

Interpolation = Literal["bilinear", "bicubic"]
Color = tuple[float, float, float]

IMAGENET_MEAN: Color = (0.485, 0.456, 0.406)
IMAGENET_STD: Color = (0.229, 0.224, 0.225)
"""Of the pixels of each color, in fractions of white."""

MINDSPORE_MEAN: Color = (0.486, 0.459, 0.408)
"""What DAAF's MindSpore code takes off instead of ImageNet's mean."""

LARGEST = 4096
SIZED = frozenset({"height", "width", "interpolation"})
"""What a description has to hold; earlier versions knew no more."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The pictures a network was trained on, and how its descriptor is made of one.

    Args:
        height, width: in pixels.
        interpolation: how pictures are resized to that, antialiased.
        mean, std: per channel in fractions of white; the network gets (pixels / 255 - mean) / std.
        flip: the descriptor is averaged with that of the mirrored picture.

    Raises:
        ConfigError: a side is no number of pixels, there is no such interpolation, or a color is no three numbers.
    """

    height: int = 256
    width: int = 128
    interpolation: Interpolation = "bilinear"
    mean: Color = IMAGENET_MEAN
    std: Color = IMAGENET_STD
    flip: bool = True

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            pixels = getattr(self, name)
            if not is_whole(pixels) or not 1 <= pixels <= LARGEST:
                raise ConfigError(f"the input's {name} is {pixels!r}, wanted 1 to {LARGEST:,} pixels")
            object.__setattr__(self, name, int(pixels))
        if self.interpolation not in get_args(Interpolation):
            known = " or ".join(get_args(Interpolation))
            raise ConfigError(f"the input's interpolation is {self.interpolation!r}, wanted {known}")
        object.__setattr__(self, "mean", _color("mean", self.mean, "numbers from 0 to 1"))
        object.__setattr__(self, "std", _color("std", self.std, "positive numbers"))
        if not isinstance(self.flip, bool):
            raise ConfigError(f"the input's flip is {self.flip!r}, wanted true or false")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    def resized(self, size: tuple[int, int] | None) -> InputSpec:
        """The same with another height and width, where they are given.

        Raises:
            ConfigError: they are no two numbers of pixels.
        """
        if size is None:
            return self
        if isinstance(size, str | bytes) or not isinstance(size, Sequence) or len(size) != 2:
            raise ConfigError(f"size is {size!r:.90}, wanted height and width in pixels: (256, 128)")
        return replace(self, height=size[0], width=size[1])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, content: Any) -> InputSpec:
        """Read what :meth:`to_dict` wrote; a description of before has size and interpolation alone.

        Raises:
            ConfigError: it is something else.
        """
        wanted = [field.name for field in fields(cls)]
        if not isinstance(content, Mapping) or not SIZED <= set(content) <= set(wanted):
            raise ConfigError(f"the input is {content!r}, wanted {', '.join(wanted)}")
        return cls(**content)

    def __str__(self) -> str:
        return f"{self.height} x {self.width}, {self.interpolation}"


def _color(name: str, values: Any, wanted: str) -> Color:
    """Three numbers that can be a mean or a deviation.

    Raises:
        ConfigError: they cannot.
    """
    numbers = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else []
    good = all(isinstance(each, int | float) and not isinstance(each, bool) and math.isfinite(each) for each in numbers)
    if len(numbers) != 3 or not good or not all(0 <= each <= 1 if name == "mean" else each > 0 for each in numbers):
        raise ConfigError(f"the input's {name} is {values!r}, wanted three {wanted}, in fractions of white")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def known_input(known: InputSpec | None, size: tuple[int, int] | None = None, whose: object = "the model") -> InputSpec:
    """What a network sees, of another size where one is given.

    Args:
        known: what the model says; None where it was saved by a version that did not keep it.
        size: height and width, as a caller wants them.
        whose: the model or its folder, for the error.

    Raises:
        ConfigError: neither the model nor the caller says the size, or what the model says is something else.
    """
    if not isinstance(known, InputSpec | None):
        raise ConfigError(f"model.input is {' '.join(repr(known).split())}, wanted regard.InputSpec(HEIGHT, WIDTH)")
    if known is None and size is None:
        raise ConfigError(
            f"{whose} does not say of what size its pictures are, as models that were saved before do not; give it "
            "with --size HEIGHTxWIDTH, or set model.input = regard.InputSpec(HEIGHT, WIDTH) and save the model again"
        )
    return (known or InputSpec()).resized(size)
