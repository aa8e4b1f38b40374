"""A tiny run: weights that have seen something, its settings, and a data set of painted people."""

from __future__ import annotations

from pathlib import Path

import pytest
from exportable import seasoned

from regard.recipes import read_recipe


def write_run(folder: Path, market: Path, seed: int = 0) -> Path:
    """A run folder as training leaves one, as far as an export looks at it."""
    overrides = [
        f"data.root={market}", "data.name=market1501", "data.height=64", "data.width=32", "data.workers=0",
        "model.backbone=test_resnet.r160_in1k",
    ]  # fmt: skip
    seasoned("baseline", (64, 32), seed=seed).save(folder / "final")
    (folder / "config.yaml").write_text(read_recipe("baseline_crowd").config(overrides).to_yaml())
    return folder


@pytest.fixture(scope="session")
def market_run(tmp_path_factory, market) -> Path:
    """A run with its exports; those that are made stay."""
    return write_run(tmp_path_factory.mktemp("exporting") / "run", market)


@pytest.fixture
def fresh_run(tmp_path, market) -> Path:
    """A run without any."""
    return write_run(tmp_path / "run", market)
