"""The records of pictures once they are on disk, and the label files made of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["JOINTS", "Record", "coco_json", "digest", "digests", "pair_digest"]

JOINTS = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder"),
    *("left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip"),
    *("left_knee", "right_knee", "left_ankle", "right_ankle"),
)
"""The COCO-17 joints in their order."""

BONES = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10)),
    *((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
)
"""Pairs of joints that COCO draws a line between."""


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
    native: tuple[int, int]
    file_digest: str
    pixel_digest: str


def coco_json(records: Sequence[Record], height: int, width: int) -> str:
    """Return COCO person keypoints of all pictures as one JSON text, ids counting the records from 1."""
    skeleton = [[a + 1, b + 1] for a, b in BONES]
    category = {"id": 1, "name": "person", "keypoints": JOINTS, "skeleton": skeleton}
    images = [image_entry(i, record, height, width) for i, record in enumerate(records, 1)]
    annotations = [annotation_entry(i, record) for i, record in enumerate(records, 1)]
    content = {"images": images, "annotations": annotations, "categories": [category]}
    return json.dumps(content, separators=(",", ":"))


def image_entry(index: int, record: Record, height: int, width: int) -> dict[str, Any]:
    """Return a picture's entry of COCO's ``images[]``."""
    return {
        "id": index,
        "file_name": record.file_name,
        "width": width,
        "height": height,
        "pid": record.pid,
        "camid": record.camid,
        "visible": record.visible,
        "native": record.native,
    }


def annotation_entry(index: int, record: Record) -> dict[str, Any]:
    """Return a picture's entry of COCO's ``annotations[]``."""
    return {
        "id": index,
        "image_id": index,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": record.bbox,
        "area": record.area,
        "keypoints": record.keypoints,
        "num_keypoints": sum(v > 0 for v in record.keypoints[2::3]),
    }


def digests(records: Sequence[Record]) -> dict[str, str]:
    """Return the SHA-256 over all files and over all pixels, in order of the file names."""
    return {
        "files": digest(f"{record.file_name} {record.file_digest}" for record in records),
        "pixels": digest(f"{record.file_name} {record.pixel_digest}" for record in records),
    }


def pair_digest(jpeg: bytes, png: bytes) -> str:
    """Return the SHA-256 of the two files of a picture."""
    return hashlib.sha256(jpeg + png).hexdigest()


def digest(lines: Any) -> str:
    """Return the SHA-256 of lines of text."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
