"""Whether somebody is seen from behind, by where their joints are: teachers see faces on backs.

Of somebody who faces the camera, the left shoulder and hip lie to the right of the right ones, of a back to the left.
A head may be turned, though: a profile's nose and eyes are seen from behind, too, and then the nose is beyond the ears.
"""

from __future__ import annotations

import numpy as np

from regard.data.labels.joints import JOINTS

__all__ = ["FACE", "is_back"]

FACE = [JOINTS.index(name) for name in ("nose", "left_eye", "right_eye")]
"""What of a face is hidden from behind; ears are not."""

NOSE, EARS, SHOULDERS, HIPS = 0, [3, 4], [5, 6], [11, 12]

CLEARLY = 0.2
"""How far left is from right at shoulders and hips together, in lengths of the trunk, to be no chance."""

BEYOND = 2.0
"""Distance of the nose from the middle between the ears, in halves of the distance between them, of a profile."""


def is_back(joints: np.ndarray, known: np.ndarray) -> bool:
    """Whether joints are those of somebody seen from behind who does not show the face.

    Args:
        joints: (17, 2) x and y in pixels.
        known: (17,) bool.

    Returns:
        False where shoulders or hips are not known.
    """
    if not known[SHOULDERS + HIPS].all():
        return False
    x = joints[:, 0]
    trunk = np.hypot(*(joints[HIPS].mean(0) - joints[SHOULDERS].mean(0)))
    turned = (x[SHOULDERS[0]] - x[SHOULDERS[1]]) + (x[HIPS[0]] - x[HIPS[1]])
    if turned >= -CLEARLY * trunk:
        return False
    if not known[[NOSE, *EARS]].all():
        return True
    return bool(abs(x[NOSE] - x[EARS].mean()) < BEYOND * abs(x[EARS[0]] - x[EARS[1]]) / 2)
