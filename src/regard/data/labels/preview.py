"""A contact sheet of labels: what a network would be told about the photos.

Shapes: h x w pixels of a panel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from regard.data.image import read_image
from regard.data.labels.convert import heatmaps_of, joints_of
from regard.data.labels.joints import JOINTS, SKELETON
from regard.data.labels.labeled import LabelKind, Labels, has_label, read_labels
from regard.errors import ConfigError
from regard.structures import Sample

__all__ = ["choose_shown", "preview_labels"]

PAPER, INK, FAINT = (250, 249, 246), (38, 42, 48), (140, 146, 154)
LEFT, RIGHT, MIDDLE = (0, 168, 181), (240, 84, 84), (247, 201, 72)
EDGE = (255, 64, 129)
PARTS = ((0, 1, 2, 3, 4), (5, 6), (7, 8), (9, 10, 11, 12), (13, 14), (15, 16))
PART_NAMES = ("head", "shoulders", "elbows", "wrists, hips", "knees", "ankles")
PART_COLORS = ((255, 209, 64), (255, 150, 50), (242, 62, 122), (170, 85, 255), (64, 145, 255), (38, 208, 170))
PANELS = ("photo", "mask", "joints", "heat maps")
GAP, MARGIN, HEAD, CAPTION = 6, 28, 74, 26
FINE = 3
"""Lines are drawn this many times larger and then shrunk, which makes them smooth."""


def choose_shown(samples: Sequence[Sample], most: int) -> list[Sample]:
    """Samples to show: evenly spread among those with all the labels there are, then with some of them, then with none.

    Args:
        samples: with labels attached.
        most: how many to choose.
    """
    kinds = [sum(has_label(sample, kind) for kind in get_args(LabelKind)) for sample in samples]
    chosen: list[Sample] = []
    for wanted in sorted(set(kinds), reverse=True):
        some = [sample for sample, kind in zip(samples, kinds) if kind == wanted]
        shown = min(most - len(chosen), len(some))
        chosen += [some[len(some) * number // shown] for number in range(shown)]
    return chosen


def preview_labels(samples: Sequence[Sample], columns: int = 2, height: int = 288) -> Image.Image:
    """Photos, each with its mask, its joints and its heat maps beside it.

    Args:
        samples: with labels attached, in reading order.
        columns: photos side by side.
        height: of a panel, in pixels.

    Raises:
        ConfigError: no sample, or a size below 1.
        DataError: a photo or a label cannot be read.
    """
    if not samples or columns < 1 or height < 32:
        raise ConfigError(
            f"preview of {len(samples)} photos in {columns} columns, {height} pixels high; expected 1 photo, "
            "1 column and 32 pixels or more"
        )
    width = height // 2
    columns = min(columns, len(samples))
    strip = len(PANELS) * width + (len(PANELS) - 1) * GAP
    rows = -(-len(samples) // columns)
    sheet = Image.new(
        "RGB",
        (2 * MARGIN + columns * strip + (columns - 1) * MARGIN, HEAD + rows * (height + CAPTION + GAP) + MARGIN),
        PAPER,
    )
    canvas = ImageDraw.Draw(sheet)
    draw_head(canvas, columns, strip, width)
    for number, sample in enumerate(samples):
        left = MARGIN + number % columns * (strip + MARGIN)
        top = HEAD + number // columns * (height + CAPTION + GAP)
        for panel, picture in enumerate(panels(sample, height, width)):
            sheet.paste(picture, (left + panel * (width + GAP), top))
        canvas.text((left, top + height + 5), sample.path.name, FAINT, ImageFont.load_default(12))
    return sheet


def draw_head(canvas: ImageDraw.ImageDraw, columns: int, strip: int, width: int) -> None:
    """The legend, and the name of each panel above every column."""
    x = MARGIN
    legend = [*zip(("left", "right"), (LEFT, RIGHT)), *zip(PART_NAMES, PART_COLORS)]
    for number, (name, color) in enumerate(legend):
        x += 14 if number == 2 else 0
        canvas.ellipse((x, 20, x + 10, 30), fill=color)
        canvas.text((x + 15, 25), name, INK, ImageFont.load_default(13), anchor="lm")
        x += 15 + round(canvas.textlength(name, ImageFont.load_default(13))) + 16
    for column in range(columns):
        left = MARGIN + column * (strip + MARGIN)
        for panel, name in enumerate(PANELS):
            canvas.text((left + panel * (width + GAP), HEAD - 10), name, INK, ImageFont.load_default(14), anchor="ls")


def panels(sample: Sample, height: int, width: int) -> list[Image.Image]:
    """The four pictures of a sample."""
    labels, photo = read_labels(sample), read_image(sample.path)
    stored = photo.shape[:2]
    large = Image.fromarray(photo).resize((width, height), Image.Resampling.LANCZOS)
    return [
        large,
        with_mask(large, labels.mask),
        with_joints(large, joints_of(labels, stored), stored),
        with_heat(large, labels, stored),
    ]


def missing(photo: Image.Image) -> Image.Image:
    """A photo that something is not known of: gray, and said so."""
    gray = Image.blend(photo.convert("L").convert("RGB"), Image.new("RGB", photo.size, PAPER), 0.75)
    ImageDraw.Draw(gray).text(
        (photo.width / 2, photo.height / 2), "none", FAINT, ImageFont.load_default(14), anchor="mm"
    )
    return gray


def with_mask(photo: Image.Image, mask: np.ndarray | None) -> Image.Image:
    """The background dimmed, the person outlined."""
    if mask is None:
        return missing(photo)
    large = Image.fromarray(mask).resize((FINE * photo.width, FINE * photo.height), Image.Resampling.BICUBIC)
    inner = np.asarray(large) > 127
    wide = np.pad(inner, FINE, mode="edge")
    rows, columns = inner.shape
    views = [
        wide[down : down + rows, right : right + columns]
        for down in (0, FINE, 2 * FINE)
        for right in (0, FINE, 2 * FINE)
    ]
    edge = np.logical_or.reduce(views) & ~np.logical_and.reduce(views)
    person, line = (
        np.asarray(Image.fromarray(part.view(np.uint8) * np.uint8(255)).resize(photo.size, Image.Resampling.BOX)) / 255
        for part in (inner, edge)
    )
    pixels = np.asarray(photo, float)
    dimmed = 0.3 * pixels.mean(2, keepdims=True) + 18
    mixed = pixels * person[..., None] + dimmed * (1 - person[..., None])
    mixed = mixed * (1 - line[..., None]) + np.array(EDGE) * line[..., None]
    return Image.fromarray(mixed.round().astype(np.uint8))


def with_joints(photo: Image.Image, joints: np.ndarray | None, stored: tuple[int, ...]) -> Image.Image:
    """The skeleton over a paled photo: left and right apart, hidden joints hollow."""
    if joints is None:
        return missing(photo)
    pale = Image.blend(photo, Image.new("RGB", photo.size, (12, 14, 18)), 0.45)
    drawn = pale.resize((FINE * photo.width, FINE * photo.height), Image.Resampling.BILINEAR)
    canvas = ImageDraw.Draw(drawn)
    scale = np.array([drawn.width / stored[1], drawn.height / stored[0]])
    places = (joints[:, :2] + 0.5) * scale
    thick, radius = max(2, photo.height * FINE // 110), photo.height * FINE / 80
    for a, b in SKELETON:
        if joints[a, 2] and joints[b, 2]:
            canvas.line([tuple(places[a]), tuple(places[b])], side_color(a, b), thick)
    for joint, (x, y) in enumerate(places):
        if joints[joint, 2]:
            box = (x - radius, y - radius, x + radius, y + radius)
            inner = side_color(joint, joint) if joints[joint, 2] >= 2 else (24, 27, 32)
            outer = (255, 255, 255) if joints[joint, 2] >= 2 else side_color(joint, joint)
            canvas.ellipse(box, inner, outer, max(1, thick // 2))
    return drawn.resize(photo.size, Image.Resampling.BOX)


def side_color(a: int, b: int) -> tuple[int, int, int]:
    """Color of a bone: of the side that both of its joints are on."""
    sides = {JOINTS[joint].partition("_")[0] for joint in (a, b)} - {"nose"}
    return MIDDLE if len(sides) != 1 else LEFT if sides == {"left"} else RIGHT


def with_heat(photo: Image.Image, labels: Labels, stored: tuple[int, ...]) -> Image.Image:
    """Heat maps in the color of their body part, over the photo in dark gray."""
    maps = heatmaps_of(labels, stored, (photo.height, photo.width))
    if maps is None:
        return missing(photo)
    parts = np.stack([maps[list(joints)].max(0) for joints in PARTS]).astype(float) / 255
    strength = parts.max(0)[..., None]
    weights = parts**2 / np.maximum((parts**2).sum(0), 1e-9)
    color = np.tensordot(weights, np.array(PART_COLORS, float), axes=(0, 0))
    gray = 0.5 * np.asarray(photo.convert("L"), float)[..., None] + 10
    mixed = gray * (1 - strength**0.8) + color * strength**0.8
    return Image.fromarray(mixed.round().clip(0, 255).astype(np.uint8))
