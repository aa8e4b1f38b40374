"""Creases of clothes that differ from picture to picture: they bend the light on a figure, not its outline."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from regard.crowd.body.mesh import CREASED
from regard.crowd.render.raster import Figure
from regard.crowd.rng import Rng, value_noise

__all__ = ["creased"]

SIZE = 64
"""Texels of the noise, which repeats."""
UP, ACROSS, SLANT = 34.0, 15.0, 9.0
"""Texels per meter of height, of what lies beside it, and by how many a crease falls on its way around."""


def creased(figure: Figure, rng: Rng, depth: float) -> Figure:
    """Return a figure whose clothes face a little up or down in creases that run around the body and fall.

    Args:
        figure: where everything else stays as it is.
        rng: stream of the creases.
        depth: 0 for none, 1 for those of loose cloth.
    """
    noise, slant = value_noise(rng, (SIZE, SIZE), (9, 9), 3), rng.sign() * SLANT
    x, y, z = figure.world
    row, column = np.float32(UP) * y, np.float32(ACROSS) * (x + np.float32(0.6) * z) + np.float32(slant) * y
    row, column = (np.floor(place).astype(np.intp) % SIZE for place in (row, column))
    bent = noise.ravel().take(row * SIZE + column) * np.float32(1.5 * depth) * worn(figure)
    normals = figure.normals.copy()
    normals[1] += bent
    normals[0] += bent * np.float32(0.5)
    return replace(figure, normals=normals)


def worn(figure: Figure) -> np.ndarray:
    """Return 1 for vertices of cloth and 0 for others; (V,) float32."""
    return np.concatenate(
        [np.full((part.rows + 1) * part.columns, part.name in CREASED, np.float32) for part in figure.body.parts]
    )
