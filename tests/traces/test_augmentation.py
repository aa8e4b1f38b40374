"""What becomes of training pictures, counted over 2,000 draws of regard's own loader.

Every pixel of the picture says where it was: its column in red, its row in green, and a blue that neither border nor
hole has. From a training picture all draws can be read back: mirrored or not, where it was cropped, what was erased.
Rates lie within four standard deviations of the published probability, and distributions as close to those of a plain
re-computation as two samples of one distribution do (Kolmogorov and Smirnov, one in a thousand; the draws are the same
every time).
"""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from plain_epochs import hole
from plain_training import Pictures
from published import TRAININGS
from traced import configuration

from regard.config import Config
from regard.engine import build
from regard.engine.step import TrainStep
from regard.recipes import read_recipe
from regard.runtime.fabric import Runtime
from regard.structures import Batch, Output, Sample, Splits

DRAWS = 2_000
TWIN = 20_000
SIZE = (128, 64)
BLUE = 201


class Same:
    """One picture in place of all."""

    def __init__(self, picture: np.ndarray):
        self.picture = picture

    def __getitem__(self, index: int) -> np.ndarray:
        return self.picture


class Read(NamedTuple):
    """What was drawn for a picture; ``hole`` is top, left, height, width."""

    flipped: bool
    top: int
    left: int
    hole: tuple[int, int, int, int] | None
    colors: np.ndarray


def training_pictures(config: Config, picture: np.ndarray, folder: Path, most: int) -> list[np.ndarray]:
    """(H, W, 3) training pictures of regard's loader, every one of them made of ``picture``."""
    samples = [Sample(Path(f"{n}.jpg"), n // 8, 1) for n in range(8 * 64)]
    with patch.object(build, "build_cache", lambda *_: Same(picture)):
        splits = Splits("market1501", folder, samples, [], [])
        loader = build.build_loader(config, splits, folder, Runtime(config.train))
    found: list[np.ndarray] = []
    for epoch in range(most):
        loader.batch_sampler.set_epoch(epoch)
        for batch in loader:
            found.extend(batch.images.numpy().transpose(0, 2, 3, 1))
        if len(found) >= most:
            break
    return found[:most]


def coded(height: int, width: int) -> np.ndarray:
    """The picture whose pixels say where they are."""
    rows, columns = np.mgrid[1 : height + 1, 1 : width + 1]
    return np.stack([columns, rows, np.full_like(rows, BLUE)], 2).astype(np.uint8)


def read(picture: np.ndarray, wide: int, pad: int) -> Read:
    """Read the draws of a training picture back."""
    blue = picture[:, :, 2]
    seen, erased = blue == BLUE, (blue != BLUE) & ((picture[:, :, 0] | blue) != 0)
    box = None
    rows, columns = np.flatnonzero(erased.any(1)), np.flatnonzero(erased.any(0))
    if len(rows):
        box = int(rows[0]), int(columns[0]), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
    y = int(seen.sum(1).argmax())  # a row of which most is to be seen
    x, *_, end = np.flatnonzero(seen[y])
    red, green = int(picture[y, x, 0]), int(picture[y, x, 1])
    flipped = bool(picture[y, end, 0] < red)
    left = (wide - red if flipped else red - 1) - x + pad
    return Read(flipped, green - 1 - y + pad, int(left), box, picture[erased])


def apart(one: list[float], two: list[float]) -> float:
    """Largest distance of two samples' distributions, in what one in a thousand pairs of equal ones exceeds."""
    grid = np.sort(np.concatenate([one, two]))
    shares = [np.searchsorted(np.sort(sample), grid, side="right") / len(sample) for sample in (one, two)]
    return float(np.abs(shares[0] - shares[1]).max() / (1.95 * (1 / len(one) + 1 / len(two)) ** 0.5))


def check_rate(count: int, total: int, share: float, what: str) -> None:
    assert abs(count - total * share) <= 4 * (total * share * (1 - share)) ** 0.5, f"{what}: {count} of {total}"


def is_crop(picture: np.ndarray) -> bool:
    """Whether rows follow one another as in the picture it was taken from, instead of being resized."""
    return int(np.ptp(picture[picture[:, :, 2] == BLUE][:, 1])) < len(picture)


def check(recipe: str, overrides: list[str], folder: Path) -> None:
    """Compare a recipe's augmentation with what is published.

    Raises:
        AssertionError: they differ.
    """
    published = TRAININGS[recipe].pictures
    plain = ("data.labels=[]", "data.workers=0", "data.ids_per_batch=16", "data.images_per_id=4", *overrides)
    config = configuration(recipe, plain, SIZE)
    tall, wide = (round(side * published.enlarge) for side in SIZE)
    pictures = training_pictures(config, coded(tall, wide), folder, DRAWS)
    if published.enlarged < 1:
        crops = [picture for picture in pictures if is_crop(picture)]
        check_rate(len(crops), len(pictures), published.enlarged, "enlarged")
        pictures = crops
    found = [read(picture, wide, published.pad) for picture in pictures]
    check_rate(sum(one.flipped for one in found), len(found), 0.5, "mirrored")
    for place, most in (("top", tall - SIZE[0]), ("left", wide - SIZE[1])):
        values, counts = np.unique([getattr(one, place) for one in found], return_counts=True)
        possible = most + 2 * published.pad + 1
        assert list(values) == list(range(possible)), f"{place} of the crop"
        expected = len(found) / possible
        surprise = ((counts - expected) ** 2 / expected).sum()
        assert surprise <= possible + 4.5 * (2 * possible) ** 0.5, f"{place} of the crop is not even"
    check_holes(found, published)


def check_holes(found: list[Read], published: Pictures) -> None:
    """Compare what was erased."""
    holes = [one.hole for one in found if one.hole]
    check_rate(len(holes), len(found), published.erasing, "erased")
    if not published.erasing:
        return
    draw = random.Random(11)
    twins = [box for _ in range(TWIN) if (box := hole(*SIZE, published.area, draw))]
    measures = {
        "area": lambda top, left, h, w: h * w,
        "ratio": lambda top, left, h, w: h / w,
        "top": lambda top, left, h, w: top / (SIZE[0] - h),
        "left": lambda top, left, h, w: left / (SIZE[1] - w),
    }
    for name, measure in measures.items():
        distance = apart([measure(*box) for box in holes], [measure(*box) for box in twins])
        assert distance <= 1, f"{name} of the hole"
    colors = np.concatenate([one.colors for one in found if one.hole])
    if published.fill is not None:
        assert (colors == published.fill).all(), f"color of the hole: {colors[0]}"
        return
    noise = np.random.default_rng(5).normal(size=(TWIN, 3))
    wanted = (255 * (np.array([0.485, 0.456, 0.406]) + noise * [0.229, 0.224, 0.225])).clip(0, 255)
    for channel in range(3):
        ours = colors[:: max(1, len(colors) // TWIN), channel]
        assert abs(ours.mean() - wanted[:, channel].mean()) < 2, "mean of the noise"
        assert abs(ours.std() - wanted[:, channel].std()) < 2, "size of the noise"


@pytest.mark.parametrize("recipe", TRAININGS)
def test_pictures_become_what_the_authors_make_of_them(recipe, tmp_path):
    check(recipe, [], tmp_path)


def check_resizing(recipe: str, overrides: list[str], folder: Path) -> None:
    """Compare a resized picture with Pillow's, and the size with the published one.

    Raises:
        AssertionError: they differ.
    """
    published = TRAININGS[recipe].pictures
    off = ("data.labels=[]", "data.workers=0", "data.flip=0", "data.pad=0", "data.enlarge=1", "data.erasing=0")
    config = configuration(recipe, [*off, *overrides], published.size)
    as_is = read_recipe(recipe).config(overrides)
    assert (as_is.data.height, as_is.data.width) == published.size
    stored = np.random.default_rng(2).integers(60, 190, (128, 64, 3)).astype(np.uint8)
    (made,) = training_pictures(config, stored, folder, 1)
    kind = Image.Resampling.BICUBIC if published.bicubic else Image.Resampling.BILINEAR
    wanted = np.asarray(Image.fromarray(stored).resize(published.size[::-1], kind))
    assert np.abs(made.astype(int) - wanted).max() <= 2


@pytest.mark.parametrize("recipe", TRAININGS)
def test_pictures_are_resized_as_the_authors_resize_them(recipe, tmp_path):
    check_resizing(recipe, [], tmp_path)


class NoLoss(torch.nn.Module):
    """A criterion that finds nothing wrong."""

    def forward(self, *_):
        return torch.zeros(()), {}


def test_the_network_sees_pixels_normalized_as_published():
    """(x / 255 - mean) / std, ImageNet's, on the way from the batch to the network."""
    images = torch.randint(256, (4, 3, 8, 4), dtype=torch.uint8)
    seen = []

    def network(x):
        seen.append(x)
        return Output(x.mean((2, 3)), {}, {}, {})

    learn = TrainStep(
        network, torch.nn.Identity(), NoLoss(),
        SimpleNamespace(world_size=1, backward=lambda loss: None, gather=None), 1, timer=lambda part: None,
    )  # fmt: skip
    learn(Batch(images, torch.zeros(4), torch.zeros(4), {}))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    wanted = (images.double() / 255 - mean[:, None, None]) / std[:, None, None]
    assert (seen[0] - wanted).abs().max() < 1e-5
