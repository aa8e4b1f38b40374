"""Opening galleries on the command line.

The searches of a gallery in a folder are logged in that folder, those of a gallery on a server where the command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regard.gallery.gallery import Gallery

__all__ = ["open_gallery"]


def open_gallery(where: str) -> Gallery:
    """A gallery; where what its searches need has to be built again, a bar shows how far that is when it takes a while.

    Raises:
        DataError: there is none, or it is damaged.
        StorageError: another process has it open.
    """
    from tqdm import tqdm

    from regard.gallery.audit import AuditLog
    from regard.gallery.gallery import Gallery

    bar = None

    def show(done: int, total: int) -> None:
        nonlocal bar
        bar = bar or tqdm(total=total, desc=f"reading {where}", unit="part", leave=False, delay=1)
        bar.update(done - bar.n)

    try:
        gallery = Gallery.open(where, progress=show)
        gallery.audit = gallery.audit or AuditLog(Path("audit.jsonl"))
        return gallery
    finally:
        if bar is not None:
            bar.close()
