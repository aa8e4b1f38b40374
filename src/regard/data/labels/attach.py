"""Labels for the samples of any data set, from where people keep them.

Three layouts, which may be combined; the roots are always given, never guessed from a picture's path:

- masks: ``<mask_root>/<folder>/<file name>`` or, with another ending, ``<mask_root>/<folder>/<stem>.png``; ``<folder>``
  is that of the photo, with those above it up to the data set's or without, and may be left out. DAAF's authors
  released Market-1501's as ``mask-anno``.
- heat maps: ``<keypoint_root>/<keypoint_folder>/<stem>_<kk>.png`` or ``.jpg``, kk from 00 to 16, as the authors
  released in ``Market_cpn_keypoints``.
- COCO JSON: keypoints, and masks as polygons or runs; names are relative to the data set's root.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from regard.data.labels.coco import Person, read_coco
from regard.data.labels.joints import JOINTS
from regard.data.labels.labeled import SCATTERED, LabeledSample, has_label
from regard.data.labels.pack import pack_labels
from regard.data.listing import list_images
from regard.errors import ConfigError, DataError
from regard.structures import Sample, Splits
from regard.wording import count

__all__ = ["PACK", "Coverage", "LabelRoots", "attach_labels", "label_training"]

PACK = "labels.pack"
"""Name of the pack that is looked for in a data set's folder."""

HEATMAP_ENDINGS = (".png", ".jpg")


@dataclass(frozen=True, slots=True)
class LabelRoots:
    """Where labels are kept.

    Attributes:
        mask_root: folder of mask pictures.
        keypoint_root: folder of heat maps.
        keypoint_folder: the folder in it.
        coco: JSON file. A mask picture goes before its segmentation, heat maps before its keypoints.
        mask_threshold: lowest gray level of a mask that is the person; any label of a palette picture is. Where there
            is a ``mask_root``, of the masks in it, 100 unless told; else of those that the data set brings.
        tolerance: share of the samples that may lack labels of a layout that was given.
    """

    mask_root: Path | None = None
    keypoint_root: Path | None = None
    keypoint_folder: str = "bounding_box_train_256_2"
    coco: Path | None = None
    mask_threshold: int | None = None
    tolerance: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.mask_root or self.keypoint_root or self.coco or self.mask_threshold)

    def __post_init__(self):
        if not 0 <= self.tolerance <= 1:
            raise ConfigError(f"tolerance is {self.tolerance}, expected a share from 0 to 1; correct it")
        if self.mask_threshold is not None and not 1 <= self.mask_threshold <= 255:
            raise ConfigError(f"mask_threshold is {self.mask_threshold}, expected a gray from 1 to 255; correct it")


class Coverage(NamedTuple):
    """How many samples have labels.

    Attributes:
        photos: samples.
        masks, keypoints: how many have a mask, and keypoints or heat maps.
        partial: how many have some of the 17 heat maps and lack others.
        several: how many photos of the JSON file have several persons, of which the largest is taken.
        missing: for each kind, the first photos without.
    """

    photos: int
    masks: int
    keypoints: int
    partial: int
    several: int
    missing: dict[str, list[str]]

    def __str__(self) -> str:
        more = [f"{self.partial:,} lack some of their heat maps"] if self.partial else []
        more += [f"{self.several:,} have several persons, the largest is taken"] if self.several else []
        return "; ".join(
            [f"{self.photos:,} photos: {self.masks:,} with mask, {self.keypoints:,} with keypoints", *more]
        )


def attach_labels(samples: Sequence[Sample], root: Path, roots: LabelRoots) -> tuple[list[Sample], Coverage]:
    """Samples with the labels that belong to them; what they had stays where nothing is found.

    Folders are listed and the JSON is read once; no picture is opened.

    Args:
        samples: of a split.
        root: the data set's folder, which names in the JSON are relative to.
        roots: where labels are kept.

    Raises:
        DataError: a folder or the file cannot be read or has nothing for any sample, or more samples than tolerated
            are without label.
    """
    heat = list_names(roots.keypoint_root / roots.keypoint_folder) if roots.keypoint_root else {}
    persons, several = read_coco(roots.coco) if roots.coco else ({}, [])
    names = [relative_name(sample.path, root) for sample in samples]
    folders = {folder for name in map(PurePosixPath, names) for folder in (name.parent.name, name.parent.as_posix())}
    masks = list_masks(roots.mask_root, folders) if roots.mask_root else {}
    found = [
        (find_mask(PurePosixPath(name), masks), find_maps(sample.path, heat), persons.get(name))
        for sample, name in zip(samples, names)
    ]
    given = (roots.mask_root, roots.keypoint_root, roots.coco if persons else None)
    for number, (kind, where) in enumerate(zip(("mask", "heat map", "label"), given)):
        # labels that they had would pass for those of a place that has nothing for any sample
        if where and samples and not any(parts[number] for parts in found):
            raise DataError(
                f"'{where}' holds no {kind} of any of the {count(len(samples), 'photo')}, such as {names[0]}; correct "
                f"the path, or leave it out"
            )
    labeled: list[Sample] = [join(sample, *parts, roots) for sample, parts in zip(samples, found)]
    coverage = cover(labeled, len(set(several).intersection(names)))
    check_coverage(coverage, roots, persons)
    return labeled, coverage


def label_training(
    splits: Splits, roots: LabelRoots | None = None, pack: Path | None = None, *, progress: bool = False
) -> Splits:
    """Splits ready to train on labels: those of ``roots`` attached to the training split, and packed.

    Args:
        splits: as read; query and gallery stay as they are.
        roots: where labels are kept besides what the data set brings.
        pack: file of a pack, made or renewed where needed; None takes ``labels.pack`` in the data set's folder if it is
            there, and otherwise none.
        progress: show a bar while a pack is made.

    Raises:
        DataError: labels are missing or cannot be read.
        StorageError: a pack could not be written.
    """
    train = splits.train
    if roots:
        train, _ = attach_labels(train, splits.root, roots)
    if pack is None and (splits.root / PACK).is_file():
        pack = splits.root / PACK
    if pack is not None:
        train = pack_labels(train, pack, progress=progress)
    return replace(splits, train=train)


def join(
    sample: Sample, mask: Path | None, maps: tuple[Path | None, ...], person: Person | None, roots: LabelRoots
) -> LabeledSample:
    """A sample with whatever there is for it."""
    person, changes = person or Person(), {}
    if mask or person.outline:
        outline = None if mask else person.outline
        changes |= {"mask": mask, "mask_threshold": roots.mask_threshold or SCATTERED, "outline": outline}
    elif roots.mask_threshold and not roots.mask_root:
        changes["mask_threshold"] = roots.mask_threshold
    if person.keypoints:
        changes |= {"keypoints": person.keypoints, "scores": person.scores}
    if maps:
        changes["heatmaps"] = maps
    return LabeledSample.of(sample, **changes)


def find_maps(path: Path, heat: dict[str, Path]) -> tuple[Path | None, ...]:
    """The heat map of each joint of a photo; empty where there is none of any."""
    stems = [f"{path.stem}_{joint:02d}" for joint in range(len(JOINTS))] if heat else []
    maps = tuple(next((heat[stem + end] for end in HEATMAP_ENDINGS if stem + end in heat), None) for stem in stems)
    return maps if any(maps) else ()


def find_mask(name: PurePosixPath, masks: dict[str, Path]) -> Path | None:
    """The mask of a photo by its name below the root and the keys of :func:`list_masks`, best first."""
    folders = (f"{name.parent}/", f"{name.parent.name}/", "")
    keys = (f"{folder}{file}" for folder in folders for file in (name.name, f"{name.stem}.png"))
    return next((masks[key] for key in keys if key in masks), None)


def list_masks(root: Path, folders: set[str]) -> dict[str, Path]:
    """Mask pictures by name, those in one of the photos' folders with the folder before it.

    Raises:
        DataError: the root cannot be listed.
    """
    found = list_names(root)
    for folder in folders:
        if (root / folder).is_dir():
            found |= {f"{folder}/{name}": path for name, path in list_names(root / folder).items()}
    return found


def list_names(folder: Path) -> dict[str, Path]:
    """Pictures in a folder by name.

    Raises:
        DataError: the folder cannot be listed.
    """
    return {path.name: path for path in list_images(folder)}


def relative_name(path: Path, root: Path) -> str:
    """Path below the root with ``/``, as COCO files name a photo; the path itself where it lies elsewhere."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def cover(samples: Sequence[Sample], several: int = 0) -> Coverage:
    """Count the labels of samples."""
    missing = {kind: [s.path.name for s in samples if not has_label(s, kind)] for kind in ("mask", "keypoints")}
    heatmaps = [s.heatmaps for s in samples if isinstance(s, LabeledSample) and s.heatmaps is not None]
    return Coverage(
        photos=len(samples),
        masks=len(samples) - len(missing["mask"]),
        keypoints=len(samples) - len(missing["keypoints"]),
        partial=sum(None in maps for maps in heatmaps),
        several=several,
        missing={kind: names[:3] for kind, names in missing.items()},
    )


def check_coverage(coverage: Coverage, roots: LabelRoots, persons: dict[str, Person]) -> None:
    """Refuse more gaps than tolerated in labels of which a root was given.

    Raises:
        DataError: there are.
    """
    given: dict[str, tuple[int, Path]] = {}
    if roots.coco and any(person.keypoints for person in persons.values()):
        given["keypoints"] = coverage.keypoints, roots.coco
    if roots.coco and any(person.outline for person in persons.values()):
        given["mask"] = coverage.masks, roots.coco
    if roots.mask_root:
        given["mask"] = coverage.masks, roots.mask_root
    if roots.keypoint_root:
        whole = coverage.keypoints - coverage.partial
        given["keypoints"] = whole, roots.keypoint_root / roots.keypoint_folder
    if roots.coco and not persons:
        raise DataError(f"'{roots.coco}' annotates no photo, expected keypoints or masks; make it again")
    for kind, (found, where) in given.items():
        gaps = coverage.photos - found
        if gaps > roots.tolerance * coverage.photos:
            examples = ", ".join(coverage.missing[kind]) or "photos with some of their 17 heat maps"
            raise DataError(
                f"{gaps:,} of {coverage.photos:,} photos have no whole label '{kind}' in '{where}' ({examples}), "
                f"expected at most {roots.tolerance:.0%}; complete the labels or raise the tolerance"
            )
