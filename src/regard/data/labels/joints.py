"""The 17 joints of COCO."""

from __future__ import annotations

__all__ = ["FLIPPED", "JOINTS", "PRESENT", "SKELETON", "VISIBLE", "level_of"]

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

FLIPPED = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
"""Which joint takes the place of each when the picture is mirrored: the left eye of a mirrored face is its right."""

VISIBLE, PRESENT = 0.3, 0.1
"""Lowest score of a joint that is seen, and of one that is there but hidden."""

SKELETON = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10)),
    *((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
)
"""Pairs of joints that COCO draws a bone between."""


def level_of(score: float, visible: float = VISIBLE, present: float = PRESENT) -> int:
    """Return COCO's visibility of a joint with that score: 2 seen, 1 hidden, 0 absent."""
    return (score >= present) + (score >= visible)
