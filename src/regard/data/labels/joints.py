"""The 17 joints of COCO, drawn as heat maps and found in them.

Shapes: J joints, h x w pixels of the maps.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "BLAZEPOSE", "FLIPPED", "JOINTS", "PRESENT", "SKELETON", "VISIBLE", "draw_heatmaps", "find_peaks", "gaussian_size",
    "level_of",
]  # fmt: skip

JOINTS = (
    "nose",
    *("left_eye", "right_eye"),
    *("left_ear", "right_ear"),
    *("left_shoulder", "right_shoulder"),
    *("left_elbow", "right_elbow"),
    *("left_wrist", "right_wrist"),
    *("left_hip", "right_hip"),
    *("left_knee", "right_knee"),
    *("left_ankle", "right_ankle"),
)
"""Names in COCO's order; left and right are the person's."""

BLAZEPOSE = (
    "nose",
    *(None, "left_eye", None, None, "right_eye", None),
    *("left_ear", "right_ear", None, None),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *(None,) * 6,
    *("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
    *(None,) * 4,
)
"""Which of the 17 each of MediaPipe's 33 points is; the others are corners of eyes and mouth, hands and feet."""

FLIPPED = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
"""Which joint takes the place of each when the picture is mirrored: the left eye of a mirrored face is its right."""

VISIBLE, PRESENT = 0.3, 0.1
"""Lowest score of a joint that is seen, and of one that is there but hidden."""

SKELETON = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10)),
    *((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
)
"""Pairs of joints that COCO draws a bone between."""

REFERENCE = (256, 128)
SIGMA = (5.6, 3.7)
"""Standard deviation down and across at the reference size, in pixels: that of the pose network (Chen et al.:
Cascaded Pyramid Network, CVPR 2018) whose maps DAAF was trained on, brought from its output to 256 x 128."""

REACH = 3.0


def level_of(score: float, visible: float = VISIBLE, present: float = PRESENT) -> int:
    """Return COCO's visibility of a joint with that score: 2 seen, 1 hidden, 0 absent."""
    return (score >= present) + (score >= visible)


def gaussian_size(height: int, width: int) -> tuple[float, float]:
    """Standard deviation down and across, in pixels of maps of that size."""
    return SIGMA[0] * height / REFERENCE[0], SIGMA[1] * width / REFERENCE[1]


def draw_heatmaps(
    points: Tensor,
    height: int,
    width: int,
    sigma: tuple[float, float] | None = None,
    heights: Tensor | None = None,
) -> Tensor:
    """A Gaussian around every joint, nothing beyond three standard deviations either way.

    exp(-(x - m_x)² / (2 s_x²) - (y - m_y)² / (2 s_y²)), the product of one curve down and one across; of a joint
    outside, the part that reaches in is drawn.

    Args:
        points: (..., J, 2) x and y in pixels of the maps, whole numbers being pixel centers.
        height, width: h and w.
        sigma: s_y and s_x in pixels; None is :func:`gaussian_size`.
        heights: (..., J) of the Gaussians; None is 1.

    Returns:
        (..., J, h, w) from 0 to 1, of the type and on the device of the points.
    """
    down, across = sigma or gaussian_size(height, width)
    rows, columns = bell(points[..., 1], height, down), bell(points[..., 0], width, across)
    if heights is not None:
        rows = rows * heights[..., None]
    return rows[..., :, None] * columns[..., None, :]


def bell(centers: Tensor, length: int, sigma: float) -> Tensor:
    """(..., length): a Gaussian along one axis for each of the centers, cut off at three sigma."""
    away = (torch.arange(length, dtype=centers.dtype, device=centers.device) - centers[..., None]) / sigma
    return torch.exp(-away.square() / 2).masked_fill(away.abs() > REACH, 0)


def find_peaks(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where heat maps are highest: the largest pixel, and a quarter of a pixel towards the higher of its neighbors.

    Args:
        maps: (J, h, w).

    Returns:
        (J, 2) x and y in pixels of the maps, and (J,) the heights; the first pixel in row order where several are.
    """
    joints = len(maps)
    y, x = np.divmod(maps.reshape(joints, -1).argmax(1), maps.shape[2])
    padded = np.pad(maps.astype(np.float32), ((0, 0), (1, 1), (1, 1)), mode="edge")
    each = np.arange(joints)
    right = np.sign(padded[each, y + 1, x + 2] - padded[each, y + 1, x])
    below = np.sign(padded[each, y + 2, x + 1] - padded[each, y, x + 1])
    return np.stack([x + right / 4, y + below / 4], 1), maps[each, y, x]
