"""What a data set's folder looks like, and finding it under the path a user gave.

A data set is one function that reads a folder, registered with what the folder must hold::

    @dataset("market1501", requires=("bounding_box_train", "query", "bounding_box_test"), folders=("market1501",))
    def market1501(root: Path) -> Splits: ...

The registered name accepts the folder itself or the one above it, and hands over only splits that passed
:func:`regard.data.datasets.check.check_splits`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from regard.data.datasets.check import Counts, check_splits
from regard.errors import DataError
from regard.registry import DATASETS
from regard.structures import Splits

__all__ = ["IMAGE_ENDINGS", "LAYOUTS", "Layout", "dataset", "find_homes", "find_root", "list_folders", "list_images"]

IMAGE_ENDINGS = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Endings, in lower case, by which a file counts as an image; everything else in a folder is passed over."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the folder of a data set holds.

    Attributes:
        requires: files and folders it must hold; the first is the mark by which it is recognised.
        folders: names under which people keep it, looked for one level below the given root, in any case.
        published: image and identity counts as published, where they are fixed.
    """

    requires: tuple[str, ...]
    folders: tuple[str, ...] = ()
    published: Counts | None = None

    @property
    def mark(self) -> str:
        """The file or folder by which a root is recognised."""
        return self.requires[0]


LAYOUTS: dict[str, Layout] = {}
"""Layout of every registered data set, by name."""


class Home(NamedTuple):
    """A folder that looks like the root of a data set."""

    name: str
    root: Path


def dataset(
    name: str, *, requires: tuple[str, ...], folders: tuple[str, ...] = (), published: Counts | None = None
) -> Callable[[Callable[[Path], Splits]], Callable[[str | Path], Splits]]:
    """Decorator that registers the reader of a data set together with its :class:`Layout`.

    Args:
        name: the name in the registry.
        requires, folders, published: see :class:`Layout`.
    """
    layout = Layout(requires, folders, published)

    def file(read: Callable[[Path], Splits]) -> Callable[[str | Path], Splits]:
        @functools.wraps(read)
        def load(root: str | Path) -> Splits:
            splits = read(find_root(name, Path(root), layout))
            check_splits(splits)
            return splits

        LAYOUTS[name] = layout
        return DATASETS.register(name)(load)

    return file


def find_root(name: str, root: Path, layout: Layout) -> Path:
    """The folder of data set ``name``: ``root``, or one of the layout's folders in it.

    Raises:
        DataError: no such folder, it holds something else, or a part is missing.
    """
    require_folder(name, root, layout.mark)
    home = next(find_homes(root, layout), None)
    if home is None:
        raise DataError(
            f"{name} not found in '{root}': looked for {', '.join(layout.requires)} there and in "
            f"{' or '.join(layout.folders) or 'no folder below'}; {describe_folders(root)}; {next_step(root, layout)}"
        )
    missing = [part for part in layout.requires if not (home / part).exists()]
    if missing:
        raise DataError(
            f"{name} in '{home}' is incomplete: no {', '.join(missing)}; {describe_folders(home)}; "
            "unpack or make the data set again"
        )
    return home


def find_homes(root: Path, layout: Layout) -> Iterator[Path]:
    """Folders that bear the layout's mark: ``root`` first, then its subfolders by the layout's names."""
    if (root / layout.mark).exists():
        yield root
    wanted = {folder.lower(): rank for rank, folder in enumerate(layout.folders)}
    named = [folder for folder in list_folders(root) if folder.lower() in wanted]
    for folder in sorted(named, key=lambda folder: wanted[folder.lower()]):
        if (root / folder / layout.mark).exists():
            yield root / folder


def require_folder(name: str, root: Path, mark: str) -> None:
    """Check that ``root`` is a folder.

    Raises:
        DataError: it is not; the message holds the nearest folder there is.
    """
    if root.is_dir():
        return
    if root.exists():
        raise DataError(f"{name}: '{root}' is a file, expected a folder; unpack it and pass the folder with {mark}")
    parent = next((folder for folder in root.absolute().parents if folder.is_dir()), Path(root.anchor or "."))
    raise DataError(
        f"{name}: there is no folder '{root}'; the nearest one, '{parent}': {describe_folders(parent)}; "
        f"pass the folder that holds {mark}"
    )


def next_step(root: Path, layout: Layout) -> str:
    """What to try instead of ``root``: a subfolder or parent with the mark if there is one."""
    nearby = [*(root / folder for folder in list_folders(root)), root.absolute().parent]
    for folder in nearby:
        if (folder / layout.mark).exists():
            return f"try '{folder}'"
    return f"pass the folder that holds {layout.mark}"


def describe_folders(folder: Path, limit: int = 8) -> str:
    """``"folders there: a, b, c and 4 more"``, for error messages."""
    names = list_folders(folder)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"folders there: {', '.join(names[:limit]) or 'none'}{more}"


def list_folders(folder: Path) -> list[str]:
    """Names of the subfolders of ``folder``, sorted; hidden and unreadable ones left out."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []


def list_images(folder: Path) -> list[Path]:
    """Image files in ``folder``, sorted by name in code-point order.

    Hidden files and files without an image ending (``Thumbs.db``) are passed over.

    Raises:
        DataError: the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if is_image(entry))
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"cannot list '{folder}' ({reason}); expected a folder of images; check the path") from error
    return [folder / name for name in names]


def is_image(entry: os.DirEntry[str]) -> bool:
    """Whether a directory entry is a visible file with an image ending in any case."""
    ending = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
    return ending in IMAGE_ENDINGS and not entry.name.startswith(".") and entry.is_file()
