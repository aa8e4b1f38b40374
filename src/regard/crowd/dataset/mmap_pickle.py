"""Objects on disk that several processes read without a copy each.

Arrays are written beside the pickle, which refers to them; reading maps them into memory, so that however many
processes use a camera's pictures, they are in memory once.
"""

from __future__ import annotations

import mmap
import pickle
from pathlib import Path
from typing import Any

__all__ = ["load_shared", "save_shared"]

ALIGNMENT = 64


def save_shared(thing: Any, path: Path) -> None:
    """Write an object: its arrays to ``path``, the rest to the same path with ``.pickle``."""
    buffers: list[pickle.PickleBuffer] = []
    frame = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    spans, end = [], 0
    with path.open("wb") as file:
        for buffer in buffers:
            raw = buffer.raw()
            file.seek(end)
            file.write(raw)
            spans.append((end, raw.nbytes))
            end += -(-raw.nbytes // ALIGNMENT) * ALIGNMENT
        file.truncate(max(end, 1))
    path.with_suffix(".pickle").write_bytes(pickle.dumps((frame, spans)))


def load_shared(path: Path) -> Any:
    """Read an object written by :func:`save_shared`; its arrays cannot be written to."""
    frame, spans = pickle.loads(path.with_suffix(".pickle").read_bytes())
    with path.open("rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return pickle.loads(frame, buffers=[view[start : start + size] for start, size in spans])
