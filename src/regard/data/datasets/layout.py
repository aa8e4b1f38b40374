"""What a data set's folder looks like, and finding it under the path a user gave.

A data set is one function that reads a folder, registered with what the folder must hold::

    @dataset("market1501", requires=("bounding_box_train", "query", "bounding_box_test"), folders=("market1501",))
    def market1501(root: Path, /) -> Splits: ...

The registered name accepts the folder itself or one above it, and hands over only splits that passed
:func:`regard.data.datasets.paths_check.check_splits`. Keyword arguments of the function are the data set's options.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regard.data.datasets.paths_check import Counts, check_splits
from regard.data.listing import OTHER, is_noting, list_folders, list_images, noting
from regard.errors import DataError
from regard.registry import DATASETS
from regard.storage import plain_text
from regard.structures import Splits

__all__ = [
    "LAYOUTS",
    "Layout",
    "dataset",
    "find_homes",
    "find_root",
    "first_image",
    "list_folders",
    "list_images",
]

LOG = logging.getLogger(__name__)

DEPTH = 2
"""How many folders with a data set's usual names are opened below a given root (``grid/underground_reid``)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the folder of a data set holds.

    Attributes:
        variants: the forms it comes in, each the files and folders it must hold; the first of them is the mark by which
            the form is recognised.
        folders: names under which people keep it, looked for below the given root, in any case.
        published: image and identity counts as published, where they are fixed; a function of the options where they
            depend on them.
        fits: whether a folder with the mark is this data set and not another one that shares it; None: the mark is
            enough, but a data set with a test of its own comes first.
        endings: endings of a file that may stand for the folder, such as ``.csv``.
        test_only: there is nothing to train on.
        may_lack_train: there may be nothing to train on.
    """

    variants: tuple[tuple[str, ...], ...]
    folders: tuple[str, ...] = ()
    published: Counts | Callable[..., Counts] | None = None
    fits: Callable[[Path], bool] | None = None
    endings: tuple[str, ...] = ()
    test_only: bool = False
    may_lack_train: bool = False

    @property
    def mark(self) -> str:
        """The file or folder by which a root of the first variant is recognised."""
        return self.variants[0][0]

    def variant(self, folder: Path) -> tuple[str, ...] | None:
        """The form whose mark is in ``folder``."""
        return next((parts for parts in self.variants if (folder / parts[0]).exists()), None)

    def recognises(self, folder: Path) -> bool:
        """Whether ``folder`` looks like this data set and no other."""
        return self.variant(folder) is not None and (self.fits is None or self.fits(folder))


LAYOUTS: dict[str, Layout] = {}
"""Layout of every registered data set, by name."""


def dataset(
    name: str, *, requires: tuple[str, ...] = (), variants: tuple[tuple[str, ...], ...] = (), **layout: Any
) -> Callable[[Callable[..., Splits]], Callable[..., Splits]]:
    """Decorator that registers the reader of a data set together with its :class:`Layout`.

    Args:
        name: the name in the registry.
        requires: what the folder must hold, where there is one form only.
        variants, layout: see :class:`Layout`.
    """
    described = Layout(variants or (requires,), **layout)

    def file(read: Callable[..., Splits]) -> Callable[..., Splits]:
        @functools.wraps(read)
        def load(root: str | Path, /, **options: Any) -> Splits:
            home = find_root(name, Path(root), described)
            if is_noting():
                splits = read(home, **options)
            else:
                with noting() as skipped:
                    splits = read(home, **options)
                if unsaid := skipped.without(OTHER):
                    LOG.warning(plain_text(f"{name} in '{home}': left out {unsaid}; 'regard data check' tells more"))
            check_splits(splits, test_only=described.test_only or (described.may_lack_train and not splits.train))
            return replace(splits, options=options)

        DATASETS.register(name)(load)
        LAYOUTS[name] = described
        return load

    return file


def find_root(name: str, root: Path, layout: Layout) -> Path:
    """The folder of data set ``name``: ``root``, or one of the layout's folders in it.

    Raises:
        DataError: no such folder, it holds something else, or a part is missing.
    """
    if root.suffix.lower() in layout.endings and root.is_file():
        return root
    require_folder(name, root, layout.mark)
    home = next(find_homes(root, layout), None)
    if home is None:
        parts = " or ".join(", ".join(variant) for variant in layout.variants)
        raise DataError(
            f"{name} not found in '{root}': looked for {parts} there and in "
            f"{' or '.join(layout.folders) or 'no folder below'}; {describe_folders(root)}; {next_step(root, layout)}"
        )
    missing = [part for part in layout.variant(home) or () if not (home / part).exists()]
    if missing:
        raise DataError(
            f"{name} in '{home}' is incomplete: no {', '.join(missing)}; {describe_folders(home)}; "
            "unpack or make the data set again"
        )
    return home


def find_homes(root: Path, layout: Layout, depth: int = DEPTH) -> Iterator[Path]:
    """Folders that bear the layout's mark: ``root`` first, then its subfolders by the layout's names."""
    if layout.variant(root):
        yield root
        return
    wanted = {folder.lower(): rank for rank, folder in enumerate(layout.folders)}
    named = [folder for folder in list_folders(root) if folder.lower() in wanted] if depth else []
    for folder in sorted(named, key=lambda folder: wanted[folder.lower()]):
        yield from find_homes(root / folder, layout, depth - 1)


def first_image(folder: Path) -> str:
    """Name of the first image in ``folder``, or an empty string: what tells data sets of one layout apart."""
    try:
        return next((path.name for path in list_images(folder)), "")
    except DataError:
        return ""


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
        if layout.variant(folder):
            return f"try '{folder}'"
    return f"pass the folder that holds {layout.mark}"


def describe_folders(folder: Path, limit: int = 8) -> str:
    """``"folders there: a, b, c and 4 more"``, for error messages."""
    names = list_folders(folder)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"folders there: {', '.join(names[:limit]) or 'none'}{more}"
