"""From one way of keeping labels to another.

Shapes: h x w pixels of a photo, g x v pixels of a heat map.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from regard.data.image import read_image
from regard.data.labels.attach import relative_name
from regard.data.labels.coco import Outline, Person, check_thresholds, runs_of, write_coco
from regard.data.labels.joints import PRESENT, VISIBLE, draw_heatmaps, find_peaks
from regard.data.labels.labeled import Labels, read_labels
from regard.data.transforms import resize
from regard.progress import progress_bar
from regard.storage import write_atomic
from regard.structures import Sample

__all__ = ["KEYPOINTS_FOLDER", "MASKS_FOLDER", "joints_of", "to_coco", "to_maps"]

MASKS_FOLDER = "mask-anno"
KEYPOINTS_FOLDER = "keypoints"


def to_coco(
    samples: Sequence[Sample],
    root: Path,
    path: Path,
    *,
    visible: float = VISIBLE,
    present: float = PRESENT,
    progress: bool = False,
) -> int:
    """Write all that is known of samples as one COCO JSON.

    Args:
        samples: with labels attached.
        root: the data set's folder, which names are to be relative to.
        path: of the JSON file.
        visible, present: lowest peak of a heat map, from 0 to 1, of a joint that counts as visible (2), and as there
            but hidden (1); below, it is absent (0).
        progress: show a bar.

    Returns:
        Number of photos written; those without any label are left out.

    Raises:
        ConfigError: thresholds out of order.
        DataError: a label cannot be read.
        StorageError: the disk refused.
    """
    check_thresholds(visible, present)
    persons: list[tuple[str, Person]] = []
    for sample in progress_bar(samples, "to-coco", unit="photo", quiet=not progress, leave=True):
        labels = read_labels(sample)
        if labels.mask is None and labels.joints is None and labels.heatmaps is None:
            continue
        height, width, _ = read_image(sample.path).shape
        joints = joints_of(labels, (height, width), visible, present)
        person = Person(height, width)
        if joints is not None:
            keypoints = tuple((float(x), float(y), int(v)) for x, y, v, _ in joints)
            person = person._replace(keypoints=keypoints, scores=tuple(map(float, joints[:, 3])))
        if labels.mask is not None:
            runs = runs_of(resize(labels.mask, height, width, mask=True))
            person = person._replace(outline=Outline({"size": [height, width], "counts": runs}, height, width))
        persons.append((relative_name(sample.path, root), person))
    write_coco(path, persons, "person masks and keypoints")
    return len(persons)


def joints_of(
    labels: Labels, size: tuple[int, int], visible: float = VISIBLE, present: float = PRESENT
) -> np.ndarray | None:
    """Joints of a photo of h x w, from its heat maps where it has them.

    Returns:
        (17, 4) x and y in pixels of the photo, visibility, score; zeros for an absent joint. None without keypoints.
    """
    if labels.heatmaps is None or labels.drawn is None:
        return labels.joints
    points, peaks = find_peaks(labels.heatmaps)
    scale = np.array(size[::-1]) / np.array(labels.heatmaps.shape[:0:-1])
    scores = peaks / 255 * labels.drawn
    visibility = (scores >= present).astype(int) + (scores >= visible)
    joints = np.concatenate([(points + 0.5) * scale - 0.5, visibility[:, None], scores[:, None]], 1)
    joints[(visibility == 0) | ~labels.drawn] = 0
    return joints.astype(np.float32)


def to_maps(
    samples: Sequence[Sample],
    out: Path,
    keypoint_folder: str = "bounding_box_train_256_2",
    size: tuple[int, int] = (256, 128),
    *,
    progress: bool = False,
) -> int:
    """Write masks and heat maps as DAAF's authors released theirs, but as PNG: nothing is lost.

    ``<out>/mask-anno/<folder>/<stem>.png`` and ``<out>/keypoints/<keypoint_folder>/<stem>_<kk>.png``. Heat maps are as
    high as a joint's score; that of an absent joint is black.

    Args:
        samples: with labels attached.
        out: folder to write.
        keypoint_folder: folder for heat maps.
        size: height and width of heat maps.
        progress: show a bar.

    Returns:
        Number of files written.

    Raises:
        DataError: a label cannot be read.
        StorageError: the disk refused.
    """
    written = 0
    for sample in progress_bar(samples, "to-maps", unit="photo", quiet=not progress, leave=True):
        labels, stem = read_labels(sample), sample.path.stem
        if labels.mask is not None:
            write_gray(out / MASKS_FOLDER / sample.path.parent.name / f"{stem}.png", labels.mask)
            written += 1
        maps = heatmaps_of(labels, read_image(sample.path).shape[:2], size)
        for joint, heat in enumerate(() if maps is None else maps):
            write_gray(out / KEYPOINTS_FOLDER / keypoint_folder / f"{stem}_{joint:02d}.png", heat)
            written += 1
    return written


def heatmaps_of(labels: Labels, photo: tuple[int, ...], size: tuple[int, int]) -> np.ndarray | None:
    """(17, g, v) uint8 heat maps of the wanted size, drawn where only points are known; None without keypoints."""
    if labels.heatmaps is not None:
        resized = resize(np.ascontiguousarray(labels.heatmaps.transpose(1, 2, 0)), *size)
        return resized.transpose(2, 0, 1)
    if labels.joints is None:
        return None
    joints = torch.from_numpy(np.asarray(labels.joints, np.float64))
    points = (joints[:, :2] + 0.5) * torch.tensor([size[1] / photo[1], size[0] / photo[0]]) - 0.5
    maps = draw_heatmaps(points, *size, heights=joints[:, 3] * (joints[:, 2] > 0))
    return (255 * maps).round().to(torch.uint8).numpy()


def write_gray(path: Path, picture: np.ndarray) -> None:
    """Write (h, w) uint8 as PNG.

    Raises:
        StorageError: the disk refused.
    """
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG", compress_level=1)
    write_atomic(path, buffer.getvalue())
