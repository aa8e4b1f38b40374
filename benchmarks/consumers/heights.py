"""How near a program's descriptors of a crop are to regard's, by how many rows of pixels the crop has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from regard.data.image import read_image
from regard.data.resizing import resize
from regard.integrations.checking import least_cosine

__all__ = ["ROWS", "cosines"]

ROWS = (64, 96, 128, 192, 256, 384, 512)
PICTURES = 12

Compute = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, list[np.ndarray]]]
"""(BGR frame, boxes) -> descriptors and the BGR crops that they are of."""


def cosines(
    compute: Compute, wanted: Callable[[list[np.ndarray]], np.ndarray], tall: Path, *, beyond: bool
) -> dict[str, float]:
    """The least cosine of twelve people's descriptors to regard's: rows of the crop -> cosine.

    Args:
        compute: what the program does.
        wanted: BGR crops -> regard's descriptors.
        tall: crowd whose pictures are 512 rows high; they are reduced to fewer.
        beyond: the program's crops are 2 % and 10 pixels larger than the boxes.
    """
    first = {path.name[:4]: path for path in sorted((tall / "query").glob("*.jpg"), reverse=True)}
    pictures = [read_image(path) for _, path in sorted(first.items())]
    assert len(pictures) == PICTURES, tall
    told = {}
    for rows in ROWS:
        frame = np.concatenate([resize(one, rows, rows // 2) for one in pictures], 1)[..., ::-1].copy()
        left = np.arange(PICTURES) * (rows // 2)
        boxes = np.stack([left, 0 * left, left + rows // 2, 0 * left + rows], 1).astype(np.float64)
        if beyond:
            middle = (boxes[:, :2] + boxes[:, 2:]) / 2 + 0.3  # fractions are cut off: no corner at a whole number
            size = (boxes[:, 2:] - boxes[:, :2] - 10) / 1.02
            boxes = np.concatenate([middle - size / 2, middle + size / 2], 1)
        found, crops = compute(frame, boxes.astype(np.float32))
        assert all(abs(len(crop) - rows) <= 1 for crop in crops), [crop.shape for crop in crops]
        told[str(rows)] = least_cosine(found, wanted(crops))
    return told
