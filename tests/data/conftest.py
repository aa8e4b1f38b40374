"""Tiny data sets written to disk with the published naming."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


def write_picture(path: Path, height: int = 16, width: int = 8, seed: int = 0) -> Path:
    """A colorful picture whose content depends on ``seed``; the format follows the ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_market(root: Path, train_ids: int = 6, images: int = 5) -> Path:
    """Market-1501 in miniature: 2 cameras, 2 people to search for, one distractor, one junk detection."""
    names = [
        f"bounding_box_train/{pid:04d}_c{1 + i % 2}s1_{i:06d}_01.jpg"
        for pid in range(1, train_ids + 1)
        for i in range(images)
    ]
    names += [f"query/{pid:04d}_c1s1_000001_00.jpg" for pid in (101, 102)]
    names += [f"bounding_box_test/{pid:04d}_c{c}s2_000451_03.jpg" for pid in (101, 102) for c in (1, 2)]
    names += ["bounding_box_test/0000_c2s1_000003_04.jpg", "bounding_box_test/-1_c1s1_000401_03.jpg"]
    for seed, name in enumerate(names):
        write_picture(root / name, seed=seed)
    return root


@pytest.fixture
def picture() -> Callable[..., Path]:
    return write_picture


@pytest.fixture
def market(tmp_path: Path) -> Path:
    return write_market(tmp_path / "market")


@pytest.fixture(scope="session")
def shared_market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For tests that only read."""
    return write_market(tmp_path_factory.mktemp("data") / "market")


@pytest.fixture
def random_states() -> Callable[[], bytes]:
    """A function that takes down the state of every global generator."""
    return lambda: pickle.dumps((random.getstate(), np.random.get_state(), torch.get_rng_state().tolist()))  # noqa: NPY002
