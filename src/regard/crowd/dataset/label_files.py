"""The records of pictures once they are on disk, the label files made of them, and a sheet that shows both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from regard.crowd.dataset.crowd_folder import MASKS, digest, read_json
from regard.crowd.dataset.request import whole
from regard.errors import DataError

__all__ = ["JOINTS", "Record", "coco_json", "contact_sheet", "digests"]

PAIRS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
JOINTS = ("nose", *(f"{side}_{part}" for part in PAIRS for side in ("left", "right")))
"""The COCO-17 joints in their order."""

BONES = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10)),
    *((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
)
"""Pairs of joints that COCO draws a line between."""
SEEN, HIDDEN, BONE = (60, 220, 60), (230, 60, 50), (250, 220, 60)
"""Colors of joints and bones on a contact sheet."""


@dataclass(frozen=True, slots=True)
class Record:
    """One picture of the data set.

    Attributes:
        file_name: path within the data set, with ``/``.
        pid, camid: identity and camera as in the file name.
        keypoints: 51 numbers, (x, y, visibility) of the joints in pixels of the picture; 0 absent, 1 hidden, 2 seen.
        bbox: (x, y, width, height) of the visible person in pixels; zeros where nobody is.
        area: pixels of the visible person.
        visible: share of the silhouette within the box that nothing stands in front of.
        shown: in crowds with a cause, share of the whole silhouette that the picture shows, in its box and with
            nothing in front; None in others.
        native: (width, height) of the crop in the video before it was enlarged, in pixels.
        file_digest: SHA-256 of the JPEG and the PNG file.
        pixel_digest: SHA-256 of the pixels before either was encoded.
    """

    file_name: str
    pid: int
    camid: int
    keypoints: tuple[float, ...]
    bbox: tuple[int, int, int, int]
    area: int
    visible: float
    shown: float | None
    native: tuple[int, int]
    file_digest: str
    pixel_digest: str


def coco_json(records: Sequence[Record], height: int, width: int) -> str:
    """Return COCO person keypoints of all pictures as one JSON text, ids counting the records from 1."""
    skeleton = [[a + 1, b + 1] for a, b in BONES]
    category = {"id": 1, "name": "person", "keypoints": JOINTS, "skeleton": skeleton}
    images = [
        {
            "id": index,
            "file_name": record.file_name,
            "width": width,
            "height": height,
            "pid": record.pid,
            "camid": record.camid,
            "visible": record.visible,
            "native": record.native,
            **({} if record.shown is None else {"shown": record.shown}),
        }
        for index, record in enumerate(records, 1)
    ]
    annotations = [
        {
            "id": index,
            "image_id": index,
            "category_id": 1,
            "iscrowd": 0,
            "bbox": record.bbox,
            "area": record.area,
            "keypoints": record.keypoints,
            "num_keypoints": sum(v > 0 for v in record.keypoints[2::3]),
        }
        for index, record in enumerate(records, 1)
    ]
    content = {"images": images, "annotations": annotations, "categories": [category]}
    return json.dumps(content, separators=(",", ":"))


def digests(records: Sequence[Record]) -> dict[str, str]:
    """Return the SHA-256 over all files and over all pixels, in order of the file names."""
    return {
        "files": digest(f"{record.file_name} {record.file_digest}" for record in records),
        "pixels": digest(f"{record.file_name} {record.pixel_digest}" for record in records),
    }


def contact_sheet(
    root: str | Path, *, people: int = 10, columns: int = 16, labels: bool = False, scale: int = 1
) -> Image.Image:
    """Show the first people of a crowd, a row each, camera by camera.

    Args:
        root: folder of the crowd.
        people: rows.
        columns: most pictures of a person.
        labels: below each row the masks, and the keypoints: green seen, red hidden.
        scale: enlargement.

    Raises:
        ConfigError: a number is less than 1.
        DataError: the folder holds no crowd, or not all of it.
    """
    root = Path(root)
    for name, number in (("people", people), ("columns", columns), ("scale", scale)):
        whole(name, number, 1, 10_000)
    rows: list[list[Image.Image]] = []
    try:
        for _, group in islice(groupby(read_entries(root), key=lambda entry: entry[0]["pid"]), people):
            chosen = list(group)[:columns]
            pictures = [picture_of(root / image["file_name"], scale) for image, _ in chosen]
            rows.append(pictures)
            if labels:
                rows.append([picture_of(root / MASKS / f"{image['file_name'][:-4]}.png", scale) for image, _ in chosen])
                rows.append([with_joints(p, joints["keypoints"], scale) for p, (_, joints) in zip(pictures, chosen)])
        if not rows:
            raise ValueError("nobody is in it")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"no crowd in '{root}' ({error}), wanted keypoints.json; make one there first") from error
    width, height = rows[0][0].size
    sheet = Image.new("RGB", (width * max(map(len, rows)), height * len(rows)))
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (column * width, row * height))
    return sheet


def read_entries(root: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Read image and annotation of every picture of somebody, person by person and camera by camera."""
    coco = read_json(root / "keypoints.json")
    entries = [pair for pair in zip(coco["images"], coco["annotations"], strict=True) if pair[0]["pid"] > 0]
    return sorted(entries, key=lambda pair: tuple(pair[0][name] for name in ("pid", "camid", "file_name")))


def picture_of(path: Path, scale: int) -> Image.Image:
    """Return a picture or a mask in color, enlarged."""
    with Image.open(path) as image:
        resampling = Image.Resampling.NEAREST if image.mode == "P" else Image.Resampling.BICUBIC
        return image.convert("RGB").resize((image.width * scale, image.height * scale), resampling)


def with_joints(picture: Image.Image, keypoints: Sequence[float], scale: int) -> Image.Image:
    """Return a copy of a picture with its keypoints and the bones between them."""
    drawn = picture.copy()
    canvas = ImageDraw.Draw(drawn)
    joints = [(scale * x, scale * y, v) for x, y, v in zip(keypoints[0::3], keypoints[1::3], keypoints[2::3])]
    for a, b in BONES:
        if joints[a][2] and joints[b][2]:
            canvas.line([joints[a][:2], joints[b][:2]], fill=BONE)
    radius = 1 + scale / 2
    for x, y, visibility in joints:
        if visibility:
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=SEEN if visibility == 2 else HIDDEN)
    return drawn
