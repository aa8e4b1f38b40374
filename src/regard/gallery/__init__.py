"""Gallery: pictures of people, on disk or on a server, and who in it looks like a photograph.

Names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regard.lazy import lazily

if TYPE_CHECKING:
    from regard.gallery.embedder import Embedder
    from regard.gallery.gallery import Gallery
    from regard.gallery.record import Answer, Filter, Item, Match, Record

_HOME = {
    "Answer": "regard.gallery.record",
    "Embedder": "regard.gallery.embedder",
    "Filter": "regard.gallery.record",
    "Gallery": "regard.gallery.gallery",
    "Item": "regard.gallery.record",
    "Match": "regard.gallery.record",
    "Record": "regard.gallery.record",
}

__all__ = ["Answer", "Embedder", "Filter", "Gallery", "Item", "Match", "Record"]

__getattr__, __dir__ = lazily(__name__, _HOME)
