"""Painted people, and the size they are embedded at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (64, 32)


def paint(path: Path, pid: int, camera: int, shot: int) -> Path:
    """A crop whose halves tell the person, its brightness the camera."""
    colors = np.random.default_rng(pid).uniform(40, 215, (2, 1, 1, 3))
    noise = np.random.default_rng(1000 * pid + 10 * camera + shot).normal(0, 10, (48, 24, 3))
    halves = np.broadcast_to(colors, (2, 24, 24, 3)).reshape(48, 24, 3) * (0.8 + 0.1 * camera)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((halves + noise).clip(0, 255).astype(np.uint8)).save(path, quality=95)
    return path
