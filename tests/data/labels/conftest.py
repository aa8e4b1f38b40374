"""Labels of tiny data sets, written to disk the way people keep them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regard.data.labels import draw_heatmaps
from regard.structures import Sample

PHOTO = (64, 32)


def person_mask() -> np.ndarray:
    mask = np.zeros(PHOTO, np.uint8)
    mask[4:60, 8:26] = 255
    return mask


def joints_of_photo(number: int) -> np.ndarray:
    """(17, 2) points on the mask, left joints at the right of those on the right side, as of somebody facing us."""
    sides = [0, 1, -1, 2, -2, 5, -5, 6, -6, 7, -7, 4, -4, 4, -4, 5, -5]
    rows = [10, 8, 8, 9, 9, 16, 16, 24, 24, 32, 32, 34, 34, 46, 46, 57, 57]
    return np.stack([np.array(sides) + 16.0 + number % 3 * 0.5, np.array(rows, float)], 1)


def write_photos(root: Path, count: int = 6) -> list[Sample]:
    """Photos of ``count`` people in ``bounding_box_train``."""
    samples = []
    for number in range(count):
        path = root / "bounding_box_train" / f"{number + 1:04d}_c{1 + number % 2}s1_{number:06d}_00.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (*PHOTO, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        samples.append(Sample(path, number + 1, 1 + number % 2))
    return samples


def write_released(root: Path, samples: list[Sample], ending: str = ".png") -> tuple[Path, Path]:
    """The released layout: noisy JPEG masks under the photos' names, 17 heat maps of 256 x 128 per photo."""
    masks, keypoints = root / "mask-anno", root / "Market_cpn_keypoints"
    (masks / "bounding_box_train").mkdir(parents=True)
    (keypoints / "bounding_box_train_256_2").mkdir(parents=True)
    for number, sample in enumerate(samples):
        noise = np.random.default_rng(number).integers(-20, 21, PHOTO)
        noisy = (person_mask().astype(int) * 200 // 255 + 30 + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(masks / "bounding_box_train" / sample.path.name, quality=95)
        points = (torch.from_numpy(joints_of_photo(number)) + 0.5) * 4 - 0.5
        for joint, heat in enumerate(draw_heatmaps(points, 256, 128)):
            path = keypoints / "bounding_box_train_256_2" / f"{sample.path.stem}_{joint:02d}{ending}"
            Image.fromarray((heat * 255).round().byte().numpy()).save(path)
    return masks, keypoints


@pytest.fixture
def photos() -> Callable[..., list[Sample]]:
    return write_photos


@pytest.fixture
def released() -> Callable[..., tuple[Path, Path]]:
    return write_released


@pytest.fixture
def points() -> Callable[[int], np.ndarray]:
    return joints_of_photo


@pytest.fixture
def silhouette() -> np.ndarray:
    return person_mask()
