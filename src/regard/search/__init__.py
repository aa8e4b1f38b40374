"""Search: a gallery of pictures of people, on disk or on a server, and who in it looks like a photograph.

Names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regard.search.embedder import Embedder
    from regard.search.gallery import Gallery
    from regard.search.query import Answer, Match
    from regard.search.record import Filter, Item, Record

_HOME = {
    "Answer": "regard.search.query",
    "Embedder": "regard.search.embedder",
    "Filter": "regard.search.record",
    "Gallery": "regard.search.gallery",
    "Item": "regard.search.record",
    "Match": "regard.search.query",
    "Record": "regard.search.record",
}

__all__ = ["Answer", "Embedder", "Filter", "Gallery", "Item", "Match", "Record"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'regard.search' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
