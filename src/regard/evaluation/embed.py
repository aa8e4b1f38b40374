"""Descriptors of many images, and the evaluation of a model on a data set.

Shapes: N images, D descriptor length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from regard.config import Config, EvalConfig
from regard.data.loaders import test_loader
from regard.data.transforms import Interpolation, TestTransform, normalize
from regard.errors import DataError
from regard.evaluation.scoring import as_feature_sets, embedding_options, score_features, with_options
from regard.metrics import RankingReport
from regard.models import ReIDModel
from regard.precision import Products, resolve_precision
from regard.runtime.fabric import Runtime
from regard.structures import Sample, Splits
from regard.threads import Threads, allowed_cores, check_processes

__all__ = [
    "embed_run",
    "embed_splits",
    "embed_views",
    "evaluate_model",
    "evaluate_splits",
    "extract",
    "loader_workers",
    "precision_in",
    "products_of",
    "protocol_labels",
    "run_options",
    "view_transform",
]


def loader_workers(wanted: int | None, world_size: int = 1) -> int:
    """Loader processes for each rank: as asked for, else one per core shared among the ranks, at most eight.

    Raises:
        ConfigError: so many are asked for that they would only fill this machine's memory.
    """
    if wanted is None:
        return min(8, max(1, allowed_cores() // world_size))
    return check_processes(wanted, "data.workers", least=0)


def extract(
    model: ReIDModel,
    samples: Sequence[Sample],
    *,
    height: int,
    width: int,
    interpolation: Interpolation = "bilinear",
    flip: bool = True,
    five_crops: bool = False,
    batch_size: int = 128,
    workers: int | None = None,
    autocast: Any = None,
    progress: str | None = None,
) -> np.ndarray:
    """Descriptor of every sample, in order.

    Args:
        model: on the device to compute on.
        samples: images on disk.
        height, width: pixels the crops are resized to.
        interpolation: how they are resized.
        flip: average with the descriptor of the mirrored image.
        five_crops: average over center and corners of the image at 9/8 of the size.
        batch_size: images at a time.
        workers: loader processes; None decides by core count.
        autocast: context manager to compute in, for mixed precision.
        progress: title of a progress bar; None shows none.

    Returns:
        (N, D) float32, not L2-normalized.
    """
    device = next(model.parameters()).device
    transform = view_transform(height, width, five_crops=five_crops, interpolation=interpolation)
    pinned = device.type == "cuda"
    loader = test_loader(samples, transform, batch_size=batch_size, workers=loader_workers(workers), pin_memory=pinned)
    out = np.empty((len(samples), model.embed_dim), np.float32)
    done = 0
    bar = tqdm(total=len(samples), desc=progress, unit="image", disable=progress is None, leave=False)
    with bar, Threads(measured=device.type == "cpu") as threads:
        for batch in threads.each(loader):
            images = normalize(batch.images.to(device, non_blocking=True, memory_format=torch.channels_last))
            with autocast or nullcontext():
                embedding = embed_views(model, images, height, width, flip=flip, five_crops=five_crops)
            out[done : done + len(images)] = embedding.cpu().numpy()
            done += len(images)
            bar.update(len(images))
    return out


def view_transform(height: int, width: int, *, five_crops: bool, interpolation: Interpolation) -> TestTransform:
    """Resizing of the pictures that :func:`embed_views` takes its views from."""
    size = (enlarged(height), enlarged(width)) if five_crops else (height, width)
    return TestTransform(*size, interpolation)


def embed_views(
    model: ReIDModel, images: torch.Tensor, height: int, width: int, *, flip: bool, five_crops: bool
) -> torch.Tensor:
    """Descriptors (B, D) of normalized (B, 3, H', W') images: the mean over their views of height x width."""
    views = crops(images, height, width) if five_crops else [images]
    views += [view.flip(3) for view in views] if flip else []
    return torch.stack([model.embed(view) for view in views]).mean(0)


def protocol_labels(splits: Splits) -> dict[str, Any]:
    """Identities and cameras of query and gallery, under the names the metrics take them by."""
    return {
        f"{part}_{key}s": np.array([getattr(sample, key) for sample in getattr(splits, part)], np.int64)
        for key in ("pid", "camid")
        for part in ("query", "gallery")
    }


def enlarged(length: int) -> int:
    """Side of an image to take five crops of the length from: 288 for 256, as TriNet was tested (arXiv:1703.07737)."""
    return round(length * 9 / 8)


def crops(images: torch.Tensor, height: int, width: int) -> list[torch.Tensor]:
    """Center and corners of (B, 3, H', W') images, five times (B, 3, H, W)."""
    down, right = images.shape[2] - height, images.shape[3] - width
    corners = [(down // 2, right // 2), *((top, left) for top in (0, down) for left in (0, right))]
    return [images[:, :, top : top + height, left : left + width] for top, left in corners]


def evaluate_splits(
    query: np.ndarray, gallery: np.ndarray, splits: Splits, config: EvalConfig, **options: Any
) -> RankingReport:
    """Score the descriptors of a data set's query and gallery under its protocol."""
    return score_features(*as_feature_sets(query, gallery, splits), config, splits, **options)


def evaluate_model(
    model: ReIDModel, splits: Splits, config: EvalConfig, **how: Any
) -> tuple[RankingReport, np.ndarray, np.ndarray]:
    """Embed query and gallery and score them; arguments as of :func:`embed_splits`.

    Returns:
        The report, the query descriptors (Q, D) and the gallery descriptors (G, D).

    Raises:
        DataError: the data set has no query or no gallery.
    """
    query, gallery = embed_splits(model, splits, config, **how)
    options = embedding_options(
        config, height=how["height"], width=how["width"], interpolation=how.get("interpolation", "bilinear"),
        precision=precision_in(how.get("autocast")),
    )  # fmt: skip
    report = with_options(evaluate_splits(query, gallery, splits, config), options)
    return report, query, gallery


def precision_in(context: Any) -> str:
    """The precision that a context computes in, by name; of None, outside of any."""
    return getattr(context, "precision", "autocast") if context else "fp32"


def products_of(config: Config, device: torch.device) -> Products:
    """What a run's descriptors are computed in where it is scored.

    Left to itself that is what it was trained in, as far as this device has it.

    Raises:
        ConfigError: ``eval.precision`` is one that the device does not have.
    """
    name, setting = config.eval.precision, "eval.precision"
    if name == "auto":
        name = config.train.precision
        name = "fp32" if name == "tf32" and device.type != "cuda" else name
    return Products(resolve_precision(name, device.type, setting), device)


def run_options(config: Config, runtime: Runtime) -> dict[str, str]:
    """What changes the descriptors of a run besides its weights, in words: of those that :func:`embed_run` makes."""
    data = config.data
    return embedding_options(
        config.eval, height=data.height, width=data.width, interpolation=data.interpolation,
        precision=products_of(config, runtime.device).precision,
    )  # fmt: skip


def embed_run(
    model: ReIDModel, splits: Splits, config: Config, runtime: Runtime, *, quiet: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Embed query and gallery as a run's configuration says; see :func:`embed_splits`. Rank 0 shows the progress."""
    data = config.data
    return embed_splits(
        model, splits, config.eval, height=data.height, width=data.width, interpolation=data.interpolation,
        workers=data.workers, autocast=products_of(config, runtime.device), runtime=runtime,
        quiet=quiet or not runtime.is_main,
    )  # fmt: skip


def embed_splits(
    model: ReIDModel,
    splits: Splits,
    config: EvalConfig,
    *,
    height: int,
    width: int,
    interpolation: Interpolation = "bilinear",
    workers: int | None = None,
    autocast: Any = None,
    runtime: Runtime | None = None,
    quiet: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Embed query and gallery; ``runtime`` shares the work out among its ranks, each of which gets the result.

    Returns:
        The query descriptors (Q, D) and the gallery descriptors (G, D).

    Raises:
        DataError: the data set has no query or no gallery.
    """
    features = []
    for split in ("query", "gallery"):
        samples: list[Sample] = getattr(splits, split)
        if not samples:
            raise DataError(f"the {split} of {splits.root} is empty, so there is nothing to evaluate; add images to it")
        embed = partial(
            extract, model, height=height, width=width, interpolation=interpolation, flip=config.flip,
            five_crops=config.five_crops, batch_size=config.batch_size, autocast=autocast,
            workers=loader_workers(workers, runtime.world_size if runtime else 1),
            progress=None if quiet else f"embedding {split}",
        )  # fmt: skip
        with torch.inference_mode():
            features.append(share(embed, samples, config.batch_size, runtime) if runtime else embed(samples))
    query, gallery = features
    return query, gallery


def share(
    embed: Callable[[Sequence[Sample]], np.ndarray], samples: Sequence[Sample], batch_size: int, runtime: Runtime
) -> np.ndarray:
    """What ``embed`` makes of all samples, (N, D), when every rank takes its part of them.

    A rank takes whole batches, so that each holds the same images as with one process and comes out the same. Where one
    cannot embed its part, all say so, and none waits for it.

    Raises:
        DataError: another rank failed; that one raises its own error.
    """
    batches = -(-len(samples) // batch_size)
    rows = -(-batches // runtime.world_size) * batch_size
    start = runtime.rank * rows
    fault: Exception | None = None
    own = torch.empty(0)
    try:
        own = torch.from_numpy(embed(samples[start : start + rows]))
    except Exception as error:
        fault = error
    if runtime.any(fault is not None):
        raise fault or DataError("another process could not embed its part of the pictures; its own line says why")
    parts = runtime.collect(functional.pad(own, (0, 0, 0, rows - len(own))))
    return torch.cat(parts)[: len(samples)].numpy()
