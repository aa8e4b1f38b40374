"""Data sets on disk: one function each, registered by name, read as published.

Every function takes a root folder and returns :class:`regard.structures.Splits`: lists of samples in the order of
their file names, which no file system and no locale changes.
"""

from __future__ import annotations

from pathlib import Path

from regard.data.datasets.check import Counts, check_splits, count, count_differences, shared_ids, unmatched_queries
from regard.data.datasets.layout import LAYOUTS, describe_folders, find_homes, require_folder
from regard.errors import DataError
from regard.registry import DATASETS
from regard.structures import Splits

__all__ = [
    "Counts",
    "check_splits",
    "count",
    "count_differences",
    "detect",
    "load_dataset",
    "published_counts",
    "shared_ids",
    "unmatched_queries",
]


def load_dataset(name: str, root: str | Path) -> Splits:
    """Read a data set from disk.

    Args:
        name: its name in the registry, such as ``"market1501"``.
        root: its folder, or the folder above it when it bears one of its usual names.

    Raises:
        UnknownNameError: no data set of that name.
        DataError: the folder does not hold the data set, or a part of it is missing, empty or damaged.
    """
    return DATASETS.get(name)(root)


def detect(root: str | Path) -> str:
    """Name of the data set in a folder, or in the folder below it that bears a data set's usual name.

    A folder that fits several layouts is the one that asks for most: a crowd is a Market-1501 folder and more.

    Raises:
        DataError: no such folder, no data set in it, or several side by side.
    """
    root = Path(root)
    names = sorted(DATASETS, key=lambda name: -len(LAYOUTS[name].requires))
    marks = ", ".join(f"{LAYOUTS[name].mark} ({name})" for name in names)
    require_folder("data set", root, marks)
    found: dict[Path, str] = {}
    for name in names:
        for home in find_homes(root, LAYOUTS[name]):
            found.setdefault(home, name)
    if root in found:
        return found[root]
    if not found:
        raise DataError(
            f"no data set in '{root}': looked for {marks}; {describe_folders(root)}; "
            "pass the folder that holds one of these"
        )
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{name} in '{home}'" for home, name in sorted(found.items()))
        raise DataError(f"several data sets in '{root}': {listed}; pass the folder or the name of one of them")
    return next(iter(found.values()))


def published_counts(name: str) -> Counts | None:
    """Counts the publication gives for a data set; None where sizes are free.

    Raises:
        UnknownNameError: no data set of that name.
    """
    DATASETS.get(name)
    return LAYOUTS[name].published
