"""The 17 joints of COCO."""

from __future__ import annotations

__all__ = ["FLIPPED", "JOINTS"]

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
