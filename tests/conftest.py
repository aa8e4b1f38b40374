"""Fixtures shared by the suite: a Market-1501-layout data set small enough to train on within a test."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read with torch: threads without a core for each must not spin

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

settings.register_profile("repeatable", derandomize=True, deadline=None)  # nothing is timed here
settings.load_profile("repeatable")  # the same cases every time; --hypothesis-profile default draws new ones
torch.set_num_threads(1)  # the nets of the tests are tiny; two threads would only wait for each other


TESTS = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SLOW_FOLDERS = (
    "crowd", "engine", "evaluation", "explain", "export", "gallery", "parity", "report", "service", "traces",
)  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def audit_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Seals of the logs that tests write, away from those of whoever runs them; processes they start inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGARD_AUDIT_KEYS", str(tmp_path_factory.mktemp("audit-keys")))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_exports_made() -> Iterator[None]:
    """Searches in this process make no export, which takes ten seconds; commands in processes of their own do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("regard.export.keeping.MAKERS", ("a_package_of_no_test",))
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever draws, trains, starts processes or builds many networks is slow; outside these folders it says so.

    Files with slow tests come first: small ones fill what is left of the last minute on every core.
    """
    for item in items:
        if item.path.relative_to(TESTS).parts[0] in SLOW_FOLDERS:
            item.add_marker(pytest.mark.slow)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What is slow as a whole is not read, either, where it is left out."""
    if config.option.markexpr.startswith("not slow") and collection_path.is_relative_to(TESTS):
        return collection_path.relative_to(TESTS).parts[:1] in {(folder,) for folder in SLOW_FOLDERS} or None
    return None


def write_market(root: Path, train_ids: int = 6, test_ids: int = 4, cameras: int = 2, images: int = 3) -> Path:
    """People told apart by the colors of their two halves, seen by cameras of different brightness."""
    generator = np.random.default_rng(7)
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        (root / folder).mkdir(parents=True)
    for pid in range(1, train_ids + test_ids + 1):
        colors = generator.uniform(40, 215, (2, 1, 1, 3))
        for camera in range(1, cameras + 1):
            for shot in range(images):
                halves = np.broadcast_to(colors, (2, 24, 24, 3)).reshape(48, 24, 3)
                picture = halves * (0.7 + 0.3 * camera / cameras) + generator.normal(0, 12, (48, 24, 3))
                if pid <= train_ids:
                    folder = "bounding_box_train"
                else:
                    folder = "query" if shot == 0 else "bounding_box_test"
                path = root / folder / f"{pid:04d}_c{camera}s1_{100 + shot:06d}_00.jpg"
                Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path, quality=95)
    return root


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of the small data set; do not write into it."""
    return write_market(tmp_path_factory.mktemp("market"))


@pytest.fixture(name="write_market", scope="session")
def market_writer() -> Callable[..., Path]:
    """:func:`write_market`, for tests that want another one."""
    return write_market


@pytest.fixture
def tiny_overrides(market: Path) -> list[str]:
    """Overrides that make any crowd recipe train on ``market`` in about a second."""
    return [
        f"data.root={market}", "data.name=market1501", "data.height=48", "data.width=32", "data.ids_per_batch=4",
        "data.images_per_id=2", "data.workers=0", "data.pad=2", "model.backbone=test_resnet.r160_in1k",
        "train.epochs=2", "train.eval_every=1", "train.log_every=2", "train.accelerator=cpu",
        "train.precision=fp32", "eval.batch_size=16",
        "schedule.warmup_epochs=0",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    if os.environ.get("REGARD_SKIP_BROWSER"):
        pytest.skip("REGARD_SKIP_BROWSER is set")
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.fail(
            f"no browser found ({', '.join(BROWSERS)}); install one (Debian: apt-get install chromium) "
            "or set REGARD_SKIP_BROWSER=1 to leave these tests out"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()
