"""What a gallery holds of folders and shards in which it is not any more.

Gone is what is not there: a file that is merely left out of the listing, since it is hidden, cannot be read or is no
picture any more, keeps what the gallery has of it, as does everything outside the inputs.

Shapes: none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from regard.gallery.crops import scene_of
from regard.gallery.inputs import SHARDS, Listing, where
from regard.gallery.record import Record

__all__ = ["find_gone"]

ESCAPED = re.compile(r"\\udc([89a-f][0-9a-f])")
"""A byte of a name that is no text, as records have it (:func:`regard.storage.plain_text`)."""


def find_gone(records: Iterable[Record], listing: Listing) -> list[Record]:
    """The records of pictures of the inputs that are not there any more.

    Args:
        records: of a gallery.
        listing: of the inputs as they are now.
    """
    there = {source.path for source in listing.sources}
    there |= {where_of(what) for found in listing.skipped.reasons.values() for what in found}
    below = tuple(f"{where(path).rstrip('/')}/" for path in listing.inputs if path.is_dir())
    given = {where(path) for path in listing.inputs}

    def is_gone(path: str) -> bool:
        shards = list(shards_of(path))
        if path in there or not (path.startswith(below) or given.intersection(shards)):
            return False
        if listing.shards.intersection(shards):
            return True
        return not any(map(exists, [*shards, path]))

    return [record for record in records if is_gone(record.path) and is_gone(scene_of(record.path))]


def where_of(what: str) -> str:
    """A file that was left out, as a record would call it."""
    return what if what.startswith("/") else f"{os.getcwd()}/{what}"  # noqa: PTH109


def shards_of(path: str) -> Iterator[str]:
    """The shards that a picture may lie in, by its path: ``s.tar`` of ``s.tar!1.jpg``, ``t.parquet`` of row ``#1``."""
    for mark in re.finditer("[!#]", path):
        if path[: mark.start()].lower().endswith(tuple(SHARDS)):
            yield path[: mark.start()]


def exists(path: str) -> bool:
    """Whether something of that name is there, or may be: what cannot be looked for is not said to be gone."""
    for name in {path, ESCAPED.sub(lambda found: chr(0xDC00 + int(found[1], 16)), path)}:
        try:
            os.lstat(name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError):
            return True
        return True
    return False
