"""Person masks on disk.

Shapes: h x w pixels of the stored mask.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from regard.data.image import read_image
from regard.errors import DataError

__all__ = ["read_mask"]


def read_mask(path: Path, threshold: int = 1) -> np.ndarray:
    """Where the person is.

    A palette picture holds labels, of which 0 is the background; anything else is read as gray levels.

    Args:
        path: the mask.
        threshold: the lowest gray level, or label, that is the person. Published JPEG masks want about 100.

    Returns:
        (h, w) uint8, 255 on the person and 0 elsewhere.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with Image.open(path) as image:
            labels = np.array(image) if image.mode in ("P", "L", "1") else None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot read mask '{path}' ({reason}), expected an image; restore or remove it") from error
    if labels is None:
        labels = read_image(path).max(2)
    return np.where(labels >= threshold, np.uint8(255), np.uint8(0))
