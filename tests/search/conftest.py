"""A tiny model, and a folder of painted people to search among."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from painted import SIZE, paint

from regard.models import create_model
from regard.search.embedder import Embedder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    create_model("baseline", num_ids=4, backbone="test_resnet.r160_in1k").save(folder)
    return folder


@pytest.fixture(scope="session")
def embedder(model_folder) -> Embedder:
    return Embedder(model_folder, SIZE, batch_size=16, device="cpu")


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Six people, two cameras, three shots, in Market-1501's naming."""
    folder = tmp_path_factory.mktemp("photos")
    for pid in range(1, 7):
        for camera in (1, 2):
            for shot in range(3):
                paint(folder / f"camera{camera}" / f"{pid:04d}_c{camera}s1_{shot:06d}_00.jpg", pid, camera, shot)
    return folder
