"""Contact sheets: a crowd at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from regard.crowd.dataset.crowd_folder import MASKS, read_json
from regard.crowd.dataset.label_files import BONES
from regard.crowd.dataset.request import whole
from regard.errors import DataError

__all__ = ["contact_sheet"]

SEEN, HIDDEN, BONE = (60, 220, 60), (230, 60, 50), (250, 220, 60)


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
        return assembled(rows)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"no crowd in '{root}' ({error}), wanted keypoints.json; make one there first") from error


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


def assembled(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Return pictures of one size in rows, on black."""
    width, height = rows[0][0].size
    sheet = Image.new("RGB", (width * max(map(len, rows)), height * len(rows)))
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (column * width, row * height))
    return sheet
