"""Data sets on disk: one function each, registered by name, read as published.

Every function takes a root folder and returns :class:`regard.structures.Splits`: lists of samples in the order of
their file names, which no file system and no locale changes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from regard.data.datasets.layout import (
    LAYOUTS,
    Counts,
    check_splits,
    count,
    count_differences,
    dataset,
    describe_folders,
    find_homes,
    require_folder,
    shared_ids,
    told_deeper,
    unmatched_queries,
)
from regard.errors import DataError
from regard.registry import DATASETS
from regard.storage import as_path, plain_text
from regard.structures import Splits

__all__ = [
    "Counts", "check_splits", "count", "count_differences", "dataset", "detect", "find_datasets", "judging_counts",
    "load_dataset", "published_counts", "shared_ids", "unmatched_queries",
]  # fmt: skip

LOG = logging.getLogger(__name__)

_said: set[str] = set()
_judged: ContextVar[bool] = ContextVar("judged", default=False)


def load_dataset(name: str, root: str | Path, *, strict: bool = False, **options: Any) -> Splits:
    """Read a data set from disk.

    Counts that differ from the published ones are logged as a warning, once for each folder.

    Args:
        name: its name in the registry, such as ``"market1501"``.
        root: its folder, or a folder above it when it bears one of its usual names.
        strict: counts that differ from the published ones are an error.
        options: the data set's own, such as ``boxes="labeled"`` for CUHK03 or ``split=3`` for VIPeR.

    Raises:
        UnknownNameError: no data set of that name.
        ConfigError: it has no such option, or not with that value.
        DataError: the folder does not hold the data set, a part of it is missing, empty or damaged, or ``strict`` and
            counts differ.
    """
    root = as_path("root", root, "the folder of a data set")
    splits = DATASETS.create(name, root, **options)
    published = published_counts(name, **options)
    differences = count_differences(splits, published) if published else []
    if differences:
        more = f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
        message = (
            f"{name} in '{splits.root}' is not as published: {'; '.join(differences[:3])}{more}; "
            "'regard data check' tells more"
        )
        if strict:
            raise DataError(message)
        if message not in _said and not _judged.get():
            _said.add(message)
            LOG.warning(plain_text(message))
    return splits


@contextmanager
def judging_counts() -> Iterator[None]:
    """Context of a caller that compares counts with the published ones itself: reading a data set logs nothing."""
    token = _judged.set(True)
    try:
        yield
    finally:
        _judged.reset(token)


def detect(root: str | Path) -> str:
    """Name of the data set in a folder, or in the folder below it that bears a data set's usual name.

    Data sets that share a layout are told apart by how their files are named. A folder that still fits several is the
    one that asks for most: a crowd is a Market-1501 folder and more.

    Raises:
        DataError: no such folder, no data set in it, or several side by side.
    """
    root = Path(root)
    found = find_datasets(root)
    if root in found:
        return found[root]
    if not found:
        deeper = f"; {found}" if (found := told_deeper(root)) else ""
        raise DataError(
            f"no data set in '{root}': its files are laid out like none of {', '.join(DATASETS)}; "
            f"{describe_folders(root)}{deeper}; "
            "pass the folder of one of these, or say which one it is"
        )
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{name} in '{home}'" for home, name in sorted(found.items()))
        raise DataError(f"several data sets in '{root}': {listed}; pass the folder or the name of one of them")
    return next(iter(found.values()))


def find_datasets(root: str | Path) -> dict[Path, str]:
    """Every data set in a folder: its own folder and its name.

    Looked for in the folder itself and below it in folders that bear a data set's usual name.

    Raises:
        DataError: no such folder.
    """
    root = Path(root)
    return _found_among(DATASETS.loaded(), root) or _found_among(list(DATASETS), root)


def _found_among(known: Iterable[str], root: Path) -> dict[Path, str]:
    found: dict[Path, str] = {}
    by_name = {name: LAYOUTS[name] for name in known if name in LAYOUTS}
    # what asks for more parts goes first, then what looks at the names of files
    names = sorted(by_name, key=lambda name: (-max(map(len, by_name[name].variants)), by_name[name].fits is None, name))
    read_as = [name for name in names if root.suffix.lower() in LAYOUTS[name].endings]
    if read_as and root.is_file():
        return {root: read_as[0]}
    require_folder("data set", root, "a data set")
    for home in dict.fromkeys(home for name in names for home in find_homes(root, LAYOUTS[name])):
        fitting = next((name for name in names if LAYOUTS[name].recognises(home)), None)
        if fitting is not None:
            found[home] = fitting
    return found


def published_counts(name: str, **options: Any) -> Counts | None:
    """Counts the publication gives for a data set read with these options; None where sizes are free.

    Raises:
        UnknownNameError: no data set of that name.
    """
    DATASETS.get(name)
    published = LAYOUTS[name].published if name in LAYOUTS else None
    return published(**options) if callable(published) else published
