"""Something in front of the person: a patch that covers a share of the picture.

Not in the corrupted benchmarks; the levels are ours. The patch has the shape of the picture, a random color with
cloudy texture, and lies anywhere inside. A larger share of the same picture covers what a smaller one did, around the
same point.
"""

from __future__ import annotations

import numpy as np

from regard.data.corruptions.filters import plasma
from regard.data.corruptions.kind import Kind

__all__ = ["KINDS", "occlude"]


def occlude(picture: np.ndarray, share: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Cover a share of the pixels, between 0 and 1."""
    height, width = picture.shape[:2]
    color, where = rng.random(3, np.float32), rng.random(2)
    patch = 0.8 * color + 0.2 * plasma(height, width, 1.8, rng)[..., None]
    tall, wide = (round(length * share**0.5) for length in (height, width))
    top, left = round((height - tall) * where[0]), round((width - wide) * where[1])
    covered = picture.copy()
    covered[top : top + tall, left : left + wide] = patch[top : top + tall, left : left + wide]
    return covered


KINDS = (Kind("occlusion", "occlusion", (0.1, 0.2, 0.3, 0.4, 0.5), occlude),)
