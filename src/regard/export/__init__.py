"""Export: a trained network as a file for other runtimes, and engines that embed with such a file.

Names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regard.lazy import lazily

if TYPE_CHECKING:
    from regard.export.engines import Engine
    from regard.export.exporting import Exported, export_run
    from regard.export.graph import optimize_for_inference
    from regard.export.manifest import Card
    from regard.export.opening import open_engine

_HOME = {
    "Card": "regard.export.manifest",
    "Engine": "regard.export.engines",
    "Exported": "regard.export.exporting",
    "export_run": "regard.export.exporting",
    "optimize_for_inference": "regard.export.graph",
    "open_engine": "regard.export.opening",
}

__all__ = ["Card", "Engine", "Exported", "export_run", "open_engine", "optimize_for_inference"]

__getattr__, __dir__ = lazily(__name__, _HOME)
