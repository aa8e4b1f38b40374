"""What a data set's folder looks like, finding it under the path a user gave, and what its splits must hold.

A data set is one function that reads a folder, registered with what the folder must hold::

    @dataset("market1501", requires=("bounding_box_train", "query", "bounding_box_test"), folders=("market1501",))
    def market1501(root: Path, /) -> Splits: ...

The registered name accepts the folder itself or one above it, and hands over only splits that passed
:func:`check_splits`; the other functions on splits only report, and leave the choice to the caller. Keyword arguments
of the function are the data set's options. Every reader raises a DataError where the folder is not the data set, a
part of it is missing, empty or damaged, or a file name is not understood, and a ConfigError where an option is wrong.
"""

from __future__ import annotations

import functools
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from regard.data.listing import OTHER, TEXT, is_noting, list_folders, list_images, noting
from regard.errors import ConfigError, DataError
from regard.registry import DATASETS
from regard.storage import plain_text
from regard.structures import DISTRACTOR, JUNK, Sample, Splits
from regard.wording import count as counted

__all__ = [
    "FOLDERS", "LAYOUTS", "SPLITS", "Counts", "Layout", "Naming", "check_splits", "choice", "count",
    "count_differences", "dataset", "find_homes", "find_root", "first_image", "list_folders", "list_images",
    "shared_ids", "unmatched_queries",
]  # fmt: skip

LOG = logging.getLogger(__name__)

SPLITS = ("train", "query", "gallery")

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
"""Split -> its folder, in Market-1501 and all that keep its layout."""

DEPTH = 2
"""How many folders with a data set's usual names are opened below a given root (``grid/underground_reid``)."""


class Counts(NamedTuple):
    """Sizes of the three splits; ``gallery_images`` includes distractors and junk."""

    train_images: int
    train_ids: int
    query_images: int
    query_ids: int
    gallery_images: int
    distractors: int = 0
    junk: int = 0


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
                if unsaid := skipped.without(OTHER, TEXT):
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


def told_deeper(root: Path) -> str:
    """How many pictures lie a level deeper than in the folders in ``root``, and where; empty where none do."""
    try:
        below = [root / name / inner for name in list_folders(root) for inner in list_folders(root / name)]
        deeper = [path for folder in below for path in list_images(folder)]
    except (DataError, OSError):  # what may not be read is told where it is wanted
        return ""
    if not deeper:
        return ""
    home = deeper[0].parent.parent
    much = counted(len(deeper), "picture")
    return f"{much} a level deeper, the first in '{deeper[0].parent}'; if that folder is a person, pass '{home}'"


class Naming(NamedTuple):
    """How a data set names its files.

    Attributes:
        pattern: with the group pid, and camid, sequence and frame as far as names have them.
        example: a good name.
        told: what a name tells.
        step: what to do with a file of another name.
    """

    pattern: re.Pattern[str]
    example: str
    told: str = "the person"
    step: str = "rename the file or take it out of the folder"

    def fits(self, folder: Path) -> bool:
        """Whether the first picture in a folder is named so."""
        return self.pattern.match(first_image(folder)) is not None

    def read(self, path: Path, camid: int = 0, offset: int = 0) -> Sample:
        """Read a sample off a file name; ``offset`` is added to the pid, ``camid`` taken where names have none.

        Raises:
            DataError: the name is another.
        """
        match = self.pattern.match(path.name)
        if match is None:
            raise DataError(
                f"cannot tell {self.told} from the name of '{path}', expected one like {self.example}; {self.step}"
            )
        known: dict[str, Any] = {group: int(number) for group, number in match.groupdict().items() if number}
        return Sample(path, known.pop("pid") + offset, known.pop("camid", camid), **known)

    def read_folder(self, folder: Path, camid: int = 0, offset: int = 0) -> list[Sample]:
        """Read every picture of a folder, sorted by file name."""
        return [self.read(path, camid, offset) for path in list_images(folder)]

    def read_folders(self, home: Path) -> dict[str, list[Sample]]:
        """Read Market-1501's three folders, by split."""
        return {split: self.read_folder(home / folder) for split, folder in FOLDERS.items()}


def choice(name: str, option: str, value: Any, allowed: Iterable[Any]) -> Any:
    """``value``, which must be one of ``allowed`` and of the same type.

    Raises:
        ConfigError: it is not.
    """
    allowed = list(allowed)
    if not any(value == one and type(value) is type(one) for one in allowed):
        listed = ", ".join(map(str, allowed))
        raise ConfigError(f"{name}: option {option} is {value!r}, expected one of {listed}; correct it")
    return value


def check_splits(splits: Splits, *, test_only: bool = False) -> None:
    """Check that there is something to train on and to evaluate.

    Args:
        splits: what a data set read.
        test_only: nothing to train on is expected.

    Raises:
        DataError: a split is empty, an image to train on or to search for shows nobody in particular (junk or
            distractor), or there is only one identity to train on.
    """
    for split in ("query", "gallery") if test_only else ("train", "query", "gallery"):
        if not getattr(splits, split):
            raise DataError(
                f"{splits.name} in '{splits.root}' has an empty {split} split, expected at least one image; "
                "unpack or make the data set again"
            )
    for split in ("train", "query"):
        nobody = next((sample for sample in getattr(splits, split) if sample.pid <= DISTRACTOR), None)
        if nobody is not None:
            raise DataError(
                f"'{nobody.path}' has pid {nobody.pid}, which marks a distractor (0) or junk (-1) and belongs in the "
                f"gallery, not in {split}; move the file or give it a pid from 1 up"
            )
    if not test_only and splits.num_ids < 2:
        raise DataError(
            f"{splits.name} in '{splits.root}' has a single training identity, expected at least 2; "
            "check the first number of the file names"
        )


def unmatched_queries(splits: Splits) -> list[Sample]:
    """Queries whose person no other camera of the gallery has seen; evaluation skips them."""
    cameras: defaultdict[int, set[int]] = defaultdict(set)
    for sample in splits.gallery:
        cameras[sample.pid].add(sample.camid)
    return [query for query in splits.query if not cameras[query.pid] - {query.camid}]


def shared_ids(splits: Splits) -> list[int]:
    """Identities both trained on and searched for, sorted; empty in every published protocol."""
    return sorted({sample.pid for sample in splits.train} & {sample.pid for sample in splits.query})


def count(splits: Splits) -> Counts:
    """Images and identities of each split."""
    return Counts(
        train_images=len(splits.train),
        train_ids=splits.num_ids,
        query_images=len(splits.query),
        query_ids=len({sample.pid for sample in splits.query}),
        gallery_images=len(splits.gallery),
        distractors=sum(sample.pid == DISTRACTOR for sample in splits.gallery),
        junk=sum(sample.pid == JUNK for sample in splits.gallery),
    )


def count_differences(splits: Splits, published: Counts) -> list[str]:
    """One line for every count that is not the published one: ``"query images: 3,367 found, 3,368 published"``."""
    return [
        f"{name.replace('_', ' ')}: {found:,} found, {expected:,} published"
        for name, found, expected in zip(Counts._fields, count(splits), published)
        if found != expected
    ]
