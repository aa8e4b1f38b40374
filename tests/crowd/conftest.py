"""Fixtures of the crowd's tests."""

from __future__ import annotations

from itertools import count

import pytest
from crowd_album import CLEAR, Album


@pytest.fixture
def album(tmp_path):
    """Takes pictures: ``album(knobs={...}, seed=1)``."""
    number = count()
    return lambda **options: Album(tmp_path / f"album{next(number)}", **options)


@pytest.fixture
def tiny_album(album):
    """Takes pictures of 64 x 32 pixels."""
    return lambda **options: album(height=64, width=32, **options)


@pytest.fixture(scope="session")
def clear_album(tmp_path_factory):
    """People whole and sharp, nothing in front of them."""
    knobs = CLEAR | {"occlusion": 0, "detector_jitter": 0, "truncation": 0}
    return Album(tmp_path_factory.mktemp("clear"), train_ids=5, knobs=knobs)
