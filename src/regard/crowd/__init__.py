"""The crowd: synthetic pedestrians, drawn by a small software renderer and written as a data set.

Importing this package needs NumPy, Pillow and tqdm, not torch.
"""

from __future__ import annotations

from regard.crowd.cause import CAUSES
from regard.crowd.dataset.doses import DOSES, dose_sheet, make_doses
from regard.crowd.dataset.generate import make_crowd
from regard.crowd.dataset.label_files import contact_sheet
from regard.crowd.dataset.twins import make_twins
from regard.crowd.knobs import PRESETS, Knobs

__all__ = [
    "CAUSES", "DOSES", "PRESETS", "Knobs", "contact_sheet", "dose_sheet", "make_crowd", "make_doses", "make_twins",
]  # fmt: skip
