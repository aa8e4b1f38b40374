"""Whether a data set on disk is what it should be: ``regard data check``.

:func:`inspect` reads a data set, opens every picture and mask, and says what is wrong. A *fault* spoils training or
evaluation: counts that are not the published ones, files that cannot be read, one picture with two identities, a test
picture or person in training. A *warning* is worth knowing and may be meant: other duplicates, people seen by one
camera only, queries without a match, labels for some pictures only, files left out.
"""

from __future__ import annotations

import hashlib
import re
import statistics
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from regard.data.datasets import (
    count_differences,
    detect,
    find_datasets,
    published_counts,
    shared_ids,
    unmatched_queries,
)
from regard.data.datasets.layout import SPLITS
from regard.data.datasets.market1501 import HAND_DRAWN, KINDS, LISTS, NAMING, departures, find_lists
from regard.data.listing import OTHER, TEXT, list_folders, noting
from regard.data.scenes import COUNTED, is_scene, scenes_line
from regard.errors import ConfigError, DataError
from regard.registry import DATASETS
from regard.structures import DISTRACTOR, JUNK, Sample, Splits
from regard.threads import check_processes
from regard.wording import count

__all__ = ["Inspection", "Part", "inspect", "inspect_all"]

FEW = 256
"""Files up to which starting processes takes longer than opening them."""

EXAMPLES = 3
"""Files named per fault or warning in the printed report; the JSON names all."""


class Look(NamedTuple):
    """What opening a file showed: height and width in pixels, digest of its bytes (None in quick), or what is wrong."""

    height: int = 0
    width: int = 0
    digest: bytes | None = None
    error: str = ""


class Finding(NamedTuple):
    """Something wrong, or worth knowing, and the files it is about (relative to the data set's root)."""

    text: str
    files: list[str]

    def __str__(self) -> str:
        shown = ", ".join(self.files[:EXAMPLES])
        more = f" and {len(self.files) - EXAMPLES:,} more" if len(self.files) > EXAMPLES else ""
        return f"{self.text}: {shown}{more}" if self.files else self.text


class Part(NamedTuple):
    """Figures of one split."""

    images: int
    ids: int
    cameras: int
    junk: int
    distractors: int
    masks: int
    keypoints: int


@dataclass(slots=True)
class Inspection:
    """What was found in one data set.

    Attributes:
        name: name of the data set in the registry.
        root: its folder.
        quick: only headers were read, and no duplicates looked for.
        parts: split -> its figures.
        published: counts as published, by name; None where sizes are free.
        height, width: smallest, median and largest, in pixels; None without readable pictures.
        others: what is no picture and was passed over.
        notes: what else the data set brings, and what can be said of it.
        faults, warnings: see the module.
    """

    name: str
    root: Path
    quick: bool
    parts: dict[str, Part] = field(default_factory=dict)
    published: dict[str, int] | None = None
    height: tuple[int, float, int] | None = None
    width: tuple[int, float, int] | None = None
    others: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    faults: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    def add(self, kind: str, text: str, files: Iterable[Path | str] = ()) -> None:
        """Add a finding to ``others``, ``notes``, ``faults`` or ``warnings``."""
        names = [relative(file, self.root) if isinstance(file, Path) else file for file in files]
        getattr(self, kind).append(Finding(text, names))

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        kinds = ("others", "notes", "faults", "warnings")
        found = {kind: [finding._asdict() for finding in getattr(self, kind)] for kind in kinds}
        parts = {split: part._asdict() for split, part in self.parts.items()}
        return asdict(self) | {"root": str(self.root), "parts": parts} | found

    def __str__(self) -> str:
        lines = [f"{self.name} in '{self.root}'"]
        if self.parts:
            rows = [("", *Part._fields), *((split, *map("{:,}".format, part)) for split, part in self.parts.items())]
            lines += ["  " + "".join(cell.rjust(13) for cell in row) for row in rows]
        for name, sizes in (("height", self.height), ("width", self.width)):
            if sizes:
                lines.append(f"  {name:>13}   {sizes[0]} to {sizes[2]} pixels, median {sizes[1]:g}")
        lines += [f"  {finding}" for finding in (*self.others, *self.notes)]
        lines += [f"  FAULT    {finding}" for finding in self.faults]
        lines += [f"  warning  {finding}" for finding in self.warnings]
        if self.parts and not self.faults:
            how = "headers only" if self.quick else "every file decoded"
            known = "counts as published, " if self.published else ""
            lines.append(f"  no fault: {known}{how}")
        return "\n".join(lines)


def inspect_all(root: str | Path, name: str | None = None, **options: Any) -> list[Inspection]:
    """Inspect every data set in a folder, or the one called ``name``.

    Args:
        root: folder of a data set, or one with several.
        name: a data set's name in the registry; None looks for all.
        options: of :func:`inspect`.

    Raises:
        DataError: no such folder, or no data set in it.
        ConfigError: no data set of that name, or an option it does not have.
    """
    if name is not None:
        return [inspect(name, root, **options)]
    root = Path(root)
    found = find_datasets(root)
    for folder in list_folders(root) if root not in found else ():
        if not any(home.is_relative_to(root / folder) for home in found):  # below other names than the usual ones too
            found |= {home: name for home, name in find_datasets(root / folder).items() if name != "folder"}
    found = found or {root: detect(root)}
    return [inspect(found[home], home, **options) for home in sorted(found)]


def inspect(
    name: str,
    root: str | Path,
    *,
    quick: bool = False,
    workers: int | None = None,
    progress: bool = False,
    **options: Any,
) -> Inspection:
    """Read a data set, open its files and say what is wrong.

    Args:
        name: its name in the registry.
        root: its folder, or one above it.
        quick: read headers only: no damage inside a file and no duplicates are found.
        workers: processes; None: one per core.
        progress: show a bar.
        options: the data set's own.

    Raises:
        ConfigError: no data set of that name, or an option it does not have.
    """
    with noting() as skipped:
        try:
            splits = DATASETS.create(name, root, **options)
        except DataError as error:
            return Inspection(name, Path(root), quick, faults=[Finding(str(error), [])])
    report = Inspection(name, splits.root, quick, parts={split: describe(getattr(splits, split)) for split in SPLITS})
    if published := published_counts(name, **options):
        report.published = published._asdict()
        for line in count_differences(splits, published):
            report.add("faults", line)
    samples = [sample for split in SPLITS for sample in getattr(splits, split)]
    pictures = [sample.path for sample in samples]
    masks = [sample.mask for sample in samples if sample.mask is not None]
    looks = look_at(dict.fromkeys((*pictures, *masks)), quick=quick, workers=workers, progress=progress)
    for reason, found in skipped.reasons.items():
        kind = "others" if reason in (OTHER, TEXT) else "warnings"
        report.add(kind, f"{count(len(found), reason)} left out", map(Path, found))
    check_nobody(report, splits)
    check_files(report, samples, looks)
    check_identities(report, splits)
    check_duplicates(report, splits, looks)
    check_labels(report)
    if splits.options.get("gallery") != HAND_DRAWN:  # read and counted as the gallery, of which the lists do not speak
        check_hand_drawn(report, splits)
        check_lists(report, splits)
    return report


def describe(samples: list[Sample]) -> Part:
    """Figures of one split."""
    return Part(
        images=len(samples),
        ids=len({sample.pid for sample in samples if sample.pid > DISTRACTOR}),
        cameras=len({sample.camid for sample in samples}),
        junk=sum(sample.pid == JUNK for sample in samples),
        distractors=sum(sample.pid == DISTRACTOR for sample in samples),
        masks=sum(sample.mask is not None for sample in samples),
        keypoints=sum(sample.keypoints is not None for sample in samples),
    )


def look_at(paths: Iterable[Path], *, quick: bool, workers: int | None, progress: bool) -> dict[Path, Look]:
    """Open every file, in several processes where there are many."""
    from regard.progress import progress_bar

    paths = list(paths)
    workers = check_processes(workers, "workers")
    if workers > 1 and len(paths) > FEW:
        looked = look_in_processes(paths, quick=quick, workers=workers)
    else:
        looked = map(partial(look, quick=quick), paths)
    bar = progress_bar(looked, total=len(paths), title="pictures", unit="files", quiet=not progress)
    return dict(zip(paths, bar))


def look_in_processes(paths: list[Path], *, quick: bool, workers: int) -> Iterator[Look]:
    """What each file showed, in the order of the paths."""
    with ProcessPoolExecutor(workers) as pool, warnings.catch_warnings():
        # Python 3.12 warns of forking beside threads; ours hold no lock that decoding needs
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        yield from pool.map(partial(look, quick=quick), paths, chunksize=64)


def look(path: Path, *, quick: bool) -> Look:
    """Decode one picture and hash its bytes, or in ``quick`` read its header."""
    from regard.data.image import decode_image, measure_image, read_bytes

    try:
        if quick:
            return Look(*measure_image(path))
        content = read_bytes(path)
        height, width, _ = decode_image(content, f"'{path}'").shape
        return Look(height, width, hashlib.blake2b(content, digest_size=16).digest())
    except DataError as error:
        return Look(error=str(error))


def check_nobody(report: Inspection, splits: Splits) -> None:
    """Numbers that mean junk or a distractor elsewhere, in people's own data sets."""
    if report.name == "folder":
        named = {s.extra["identity"] for part in SPLITS for s in getattr(splits, part) if "identity" in s.extra}
        nobody = sorted(name for name in named if re.fullmatch(r"-1|0+", name))
        if nobody:
            text = "folders are read as people; distractors and junk are told in a table only"
            report.add("warnings", f"{len(nobody)} {text}", nobody)
    elif report.name == "table":
        for pid, kind in ((DISTRACTOR, "distractors: always wrong matches"), (JUNK, "junk: never ranked")):
            if found := [sample.path for sample in splits.gallery if sample.pid == pid]:
                text = f"pictures have pid {pid} and are {kind}; people are numbered from 1"
                report.add("warnings", f"{len(found):,} {text}", found)


def check_files(report: Inspection, samples: list[Sample], looks: dict[Path, Look]) -> None:
    """Files that could not be opened, masks whose size is not their picture's, and sizes of the pictures."""
    broken = [path for path, look in looks.items() if look.error]
    if len(broken) == 1:
        report.add("faults", looks[broken[0]].error)
    elif broken:
        report.add("faults", f"{len(broken):,} files cannot be read", broken)
    other = [
        s.mask
        for s in samples
        if s.mask is not None
        and not (looks[s.mask].error or looks[s.path].error)
        and looks[s.mask][:2] != looks[s.path][:2]
    ]
    if other:
        report.add("warnings", f"{len(other):,} masks are of another size than the picture", other)
    known = {path: look for path in dict.fromkeys(s.path for s in samples) if not (look := looks[path]).error}
    if scenes := [path for path, look in known.items() if is_scene(look.height, look.width)]:
        first, size = relative(scenes[0], report.root), known[scenes[0]][:2]
        report.add("warnings", scenes_line(len(scenes), first, size, COUNTED), scenes)
    if good := list(known.values()):
        report.height, report.width = (
            (min(side), statistics.median(side), max(side))
            for side in ([look.height for look in good], [look.width for look in good])
        )


def check_identities(report: Inspection, splits: Splits) -> None:
    """People on both sides of the split, seen by one camera only, or searched for in vain."""

    def some(pids: list[int]) -> str:
        return "pid " + ", ".join(map(str, pids[:EXAMPLES])) + (", ..." if len(pids) > EXAMPLES else "")

    if shared := shared_ids(splits):
        report.add("faults", f"{len(shared):,} identities are both in train and in query ({some(shared)})")
    for title, people, samples in (
        ("train", splits.train, splits.train),
        ("query and gallery", splits.query, [*splits.query, *splits.gallery]),
    ):
        wanted = {sample.pid for sample in people}
        cameras: defaultdict[int, set[int]] = defaultdict(set)
        for sample in samples:
            cameras[sample.pid].add(sample.camid)
        if alone := sorted(pid for pid in wanted if len(cameras[pid]) == 1):
            text = f"{len(alone):,} of {len(wanted):,} identities in {title} are seen by one camera only"
            report.add("warnings", f"{text} ({some(alone)})")
    if unmatched := unmatched_queries(splits):
        text = f"{len(unmatched):,} of {len(splits.query):,} queries have no match by another camera and are skipped"
        kind = "faults" if len(unmatched) == len(splits.query) else "warnings"
        report.add(kind, text, [sample.path for sample in unmatched])


def check_duplicates(report: Inspection, splits: Splits, looks: dict[Path, Look]) -> None:
    """Pictures with the same bytes: of two identities, in training and test, or simply twice."""
    same: defaultdict[bytes, list[tuple[str, Sample]]] = defaultdict(list)
    for split in SPLITS:
        for sample in getattr(splits, split):
            if (digest := looks[sample.path].digest) is not None:
                same[digest].append((split, sample))
    found: dict[str, list[str]] = defaultdict(list)
    for copies in same.values():
        if len(copies) > 1:
            found[duplicate_kind(copies)].append(" = ".join(f"{split}/{sample.path.name}" for split, sample in copies))
    for duplicate, kind, text in (
        ("identities", "faults", "pictures are there under several identities"),
        ("leak", "faults", "pictures of query or gallery are in train as well"),
        ("splits", "warnings", "pictures are both in query and in gallery"),
        ("twice", "warnings", "pictures are there more than once in a split"),
    ):
        if found[duplicate]:
            report.add(kind, f"{len(found[duplicate]):,} {text}", found[duplicate])


def duplicate_kind(copies: list[tuple[str, Sample]]) -> str:
    """The worst that can be said of pictures with the same bytes."""
    if len({sample.pid for _, sample in copies if sample.pid > DISTRACTOR}) > 1:
        return "identities"
    splits = {split for split, _ in copies}
    if "train" in splits and len(splits) > 1:
        return "leak"
    return "splits" if len(splits) > 1 else "twice"


def check_labels(report: Inspection) -> None:
    """Masks or keypoints for some pictures of a split only."""
    for split, part in report.parts.items():
        for label, labeled in (("masks", part.masks), ("keypoints", part.keypoints)):
            if 0 < labeled < part.images:
                report.add("warnings", f"{split}: {label} for {labeled:,} of {part.images:,} pictures")


def check_hand_drawn(report: Inspection, splits: Splits) -> None:
    """Names and number of Market-1501's hand-drawn boxes, where they are there."""
    if splits.name != "market1501" or not (splits.root / HAND_DRAWN).is_dir():
        return
    try:
        with noting():
            boxes = NAMING.read_folder(splits.root / HAND_DRAWN)
    except DataError as error:
        report.add("warnings", str(error))
        return
    text = f"{count(len(boxes), 'hand-drawn box')} of {count(len({box.pid for box in boxes}), 'id')}"
    report.add("notes", f"{HAND_DRAWN}: {text}; a gallery with gallery={HAND_DRAWN}")
    wanted = published_counts(splits.name, gallery=HAND_DRAWN)
    if wanted is not None and len(boxes) != wanted.gallery_images:
        report.add("warnings", f"{HAND_DRAWN} images: {len(boxes):,} found, {wanted.gallery_images:,} published")


def check_lists(report: Inspection, splits: Splits) -> None:
    """Whether every query has its match lists, they can be read, and they say what identities and cameras say."""
    home = splits.root / LISTS
    if not home.is_dir():
        return
    asked = {f"{sample.path.stem}_{kind}.mat" for sample in splits.query for kind in KINDS}
    if unasked := sorted(path for path in home.glob("[!.]*.mat") if path.name not in asked):
        report.add("warnings", f"{LISTS}: {count(len(unasked), 'list')} of no query", unasked)
    try:
        lists = find_lists(splits)
    except (ConfigError, DataError) as error:
        report.add("faults", str(error))
        return
    found = list(departures(lists, splits.query, splits.gallery))
    total = count(len(splits.query), "query")
    agree = f"those of {len(splits.query) - len(found):,} as" if found else "all as"
    text = f"{count(2 * len(splits.query), 'list')} for {total}, {agree} identity and camera say"
    report.add("notes", f"{LISTS}: {text}; scores go by them with eval.protocol=lists")
    if found:
        text = f"{LISTS}: the lists of {count(len(found), 'query')} depart from identity and camera"
        report.add("warnings", text, found)


def relative(path: Path, root: Path) -> str:
    """A path below ``root``, or its file name, as text."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name
