"""Export: a trained network as a file for other runtimes, and engines that embed with such a file.

Names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regard.export.card import Card
    from regard.export.engines import Engine
    from regard.export.make import Exported, export_run
    from regard.export.opening import open_engine
    from regard.export.program import optimize_for_inference

_HOME = {
    "Card": "regard.export.card",
    "Engine": "regard.export.engines",
    "Exported": "regard.export.make",
    "export_run": "regard.export.make",
    "open_engine": "regard.export.opening",
    "optimize_for_inference": "regard.export.program",
}

__all__ = ["Card", "Engine", "Exported", "export_run", "open_engine", "optimize_for_inference"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'regard.export' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
