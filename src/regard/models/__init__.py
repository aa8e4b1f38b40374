"""Models: a backbone that comes in stages, attention between them, a head that ends in one descriptor.

One paper, one file; every model follows the contract of :class:`ReIDModel`.
"""

from __future__ import annotations

from regard.models.build import create_model, from_hub, load
from regard.models.contract import Attention, HeadLayer, ReIDModel
from regard.models.importers.released import import_released

__all__ = ["Attention", "HeadLayer", "ReIDModel", "create_model", "from_hub", "import_released", "load"]
