"""A tiny model, a folder of painted people to search among, and a server to keep galleries on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from milvus_server import PROGRAM, running
from sample_images import SIZE, paint

from regard.gallery.embedder import Embedder
from regard.models import create_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    create_model("baseline", num_ids=4, backbone="test_resnet.r160_in1k").save(folder)
    return folder


@pytest.fixture(scope="session")
def embedder(model_folder) -> Embedder:
    return Embedder(model_folder, size=SIZE, batch_size=16, device="cpu")


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Six people, two cameras, three shots, in Market-1501's naming."""
    folder = tmp_path_factory.mktemp("photos")
    for pid in range(1, 7):
        for camera in (1, 2):
            for shot in range(3):
                paint(folder / f"camera{camera}" / f"{pid:04d}_c{camera}s1_{shot:06d}_00.jpg", pid, camera, shot)
    return folder


@pytest.fixture(scope="session")
def milvus() -> Iterator[str]:
    """Address of a Milvus server: the one ``REGARD_MILVUS`` names, else one that is started for the tests."""
    if named := os.environ.get("REGARD_MILVUS"):
        yield named
        return
    if not PROGRAM.exists():
        pytest.skip("no Milvus server to start: its wheel is for Linux on x86-64; name one in REGARD_MILVUS")
    with running() as address:
        yield address
