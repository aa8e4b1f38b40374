"""Models: a backbone that comes in stages, attention between them, a head that ends in one descriptor.

One paper, one file; every model follows the contract of :class:`ReIDModel`. Names are loaded when they are first used:
what a model's folder says (:mod:`regard.models.folder`) is read without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regard.lazy import lazily

if TYPE_CHECKING:
    from regard.models.build import create_model, from_hub, load
    from regard.models.contract import Attention, HeadLayer, ReIDModel
    from regard.models.foreign import import_graph
    from regard.models.importers.released import import_released

_HOME = {
    "Attention": "regard.models.contract",
    "HeadLayer": "regard.models.contract",
    "ReIDModel": "regard.models.contract",
    "create_model": "regard.models.build",
    "from_hub": "regard.models.build",
    "import_graph": "regard.models.foreign",
    "import_released": "regard.models.importers.released",
    "load": "regard.models.build",
}

__all__ = ["Attention", "HeadLayer", "ReIDModel", "create_model", "from_hub", "import_graph", "import_released", "load"]

__getattr__, __dir__ = lazily(__name__, _HOME)
