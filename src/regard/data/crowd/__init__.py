"""The crowd: synthetic pedestrians, drawn by a small software renderer and written as a data set.

Importing this package needs NumPy, Pillow and tqdm, not torch.
"""

from __future__ import annotations

from regard.data.crowd.knobs import PRESETS, Knobs
from regard.data.crowd.make import make_crowd
from regard.data.crowd.sheet import contact_sheet

__all__ = ["PRESETS", "Knobs", "contact_sheet", "make_crowd"]
