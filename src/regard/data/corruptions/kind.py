"""What every corruption is: a name, a family, five published levels and the function that applies one of them.

Shapes: h x w pixels of the stored picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["IMAGENET_SIDE", "SEVERITIES", "Kind"]

SEVERITIES = (1, 2, 3, 4, 5)

IMAGENET_SIDE = 224.0
"""Side, in pixels, of the pictures that the published levels were chosen for."""

Apply = Callable[[np.ndarray, Any, float, np.random.Generator], np.ndarray]
"""(h, w, 3) float32 picture in 0..1, level, scale of lengths, source of draws -> the corrupted picture.

The result may leave 0..1; the caller cuts it off.
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of corruption.

    Attributes:
        name: as the benchmarks call it.
        family: noise, blur, weather, digital or occlusion.
        levels: what ``apply`` gets at severity 1 to 5; lengths are in pixels of a picture of side ``reference``.
        apply: the corruption.
        reference: side of that picture, the square root of its pixels.
    """

    name: str
    family: str
    levels: tuple[Any, ...]
    apply: Apply
    reference: float = IMAGENET_SIDE

    def scale(self, height: int, width: int) -> float:
        """Factor on the lengths for a picture of another size: the ratio of the square roots of the pixels."""
        return (height * width) ** 0.5 / self.reference
