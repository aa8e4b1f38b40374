"""Descriptors of many images: of a network, to evaluate it on a data set, and of color alone, to measure it against.

Shapes: N images, D descriptor length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from regard.config import Config, EvalConfig
from regard.data.image import read_image
from regard.data.labels import read_labels
from regard.data.loaders import test_loader
from regard.data.transforms import TestTransform, normalize, resize
from regard.errors import DataError, check_choice
from regard.evaluation.scoring import embedding_options, score_features
from regard.input_spec import InputSpec
from regard.metrics import FeatureSet, RankingReport
from regard.models import ReIDModel
from regard.models.checked import weight_of
from regard.precision import Products, resolve_precision
from regard.progress import progress_bar
from regard.runtime.fabric import Runtime
from regard.structures import Sample, Splits
from regard.threads import Threads, allowed_cores, check_processes

__all__ = [
    "SplitName", "color_histograms", "embed_batch", "embed_run", "embed_split", "evaluate_splits", "extract",
    "loader_workers", "products_of", "run_input", "run_options", "samples_of", "view_transform",
]  # fmt: skip

SplitName = Literal["query", "gallery", "train"]


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
    seen: InputSpec,
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
        seen: what the network sees.
        five_crops: average over center and corners of the image at 9/8 of the size.
        batch_size: images at a time.
        workers: loader processes; None decides by core count.
        autocast: context manager to compute in, for mixed precision.
        progress: title of a progress bar; None shows none.

    Returns:
        (N, D) float32, not L2-normalized.
    """
    device = weight_of(model).device
    transform = view_transform(seen, five_crops=five_crops)
    pinned = device.type == "cuda"
    loader = test_loader(samples, transform, batch_size=batch_size, workers=loader_workers(workers), pin_memory=pinned)
    out = np.empty((len(samples), model.embed_dim), np.float32)
    done = 0
    bar = progress_bar(total=len(samples), title=progress, unit="image", quiet=progress is None)
    with bar, Threads(measured=device.type == "cpu") as threads:
        for batch in threads.each(loader):
            with autocast or nullcontext():
                embedding = embed_batch(model, batch.images, seen, batch.camids, five_crops=five_crops)
            out[done : done + len(embedding)] = embedding.cpu().numpy()
            done += len(embedding)
            bar.update(len(embedding))
    return out


def view_transform(seen: InputSpec, *, five_crops: bool) -> TestTransform:
    """Return what resizes the pictures that :func:`embed_batch` takes its views from."""
    return TestTransform.of(seen.resized((enlarged(seen.height), enlarged(seen.width))) if five_crops else seen)


def embed_batch(
    model: ReIDModel, images: torch.Tensor, seen: InputSpec, camids: torch.Tensor | None = None, *, five_crops: bool
) -> torch.Tensor:
    """Return the mean of the descriptors, (B, D), of the views of (B, 3, H', W') uint8 images of cameras (B,)."""
    device = weight_of(model).device
    cameras = None if camids is None else camids.to(device, non_blocking=True)
    images = images.to(device, non_blocking=True, memory_format=torch.channels_last)
    images = normalize(images, seen.mean, seen.std)
    return model.embed_views(crops(images, *seen.size) if five_crops else [images], cameras, flip=seen.flip)


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
    sides = FeatureSet.of(query, splits.query), FeatureSet.of(gallery, splits.gallery)
    return score_features(*sides, config, splits, **options)


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


def run_input(config: Config, known: InputSpec | None = None) -> InputSpec:
    """Return what a network is shown under a configuration; its pixels are centered as the network says it knows."""
    data, known = config.data, known or InputSpec()
    return InputSpec(data.height, data.width, data.interpolation, known.mean, known.std, config.eval.flip)


def run_options(config: Config, runtime: Runtime) -> dict[str, str]:
    """What changes the descriptors of a run besides its weights, in words: of those that :func:`embed_run` makes."""
    return embedding_options(config.eval, run_input(config), products_of(config, runtime.device).precision)


def embed_run(
    model: ReIDModel, splits: Splits, config: Config, runtime: Runtime, *, quiet: bool = False
) -> tuple[FeatureSet, FeatureSet]:
    """Embed query and gallery as a run's configuration says; see :func:`embed_split`."""
    how: dict[str, Any] = {"config": config, "runtime": runtime, "quiet": quiet}
    return embed_split(model, splits, "query", **how), embed_split(model, splits, "gallery", **how)


def embed_split(
    model: ReIDModel, splits: Splits, split: SplitName, config: Config, runtime: Runtime, *, quiet: bool = False
) -> FeatureSet:
    """Embed a part of a data set (see :func:`samples_of`) as a run's configuration says.

    The ranks of ``runtime`` share the work, and each gets the result; rank 0 shows the progress.
    """
    samples, data, how = samples_of(splits, split), config.data, config.eval
    embed = partial(
        extract, model, seen=run_input(config, model.input), five_crops=how.five_crops,
        batch_size=how.batch_size, autocast=products_of(config, runtime.device),
        workers=loader_workers(data.workers, runtime.world_size),
        progress=None if quiet or not runtime.is_main else f"embedding {split}",
    )  # fmt: skip
    with torch.inference_mode():
        return FeatureSet.of(share(embed, samples, how.batch_size, runtime), samples)


def samples_of(splits: Splits, split: SplitName) -> list[Sample]:
    """Return the pictures of a part of a data set.

    Raises:
        ConfigError: there is no such split.
        DataError: it is empty.
    """
    check_choice("split", split, SplitName)
    samples: list[Sample] = getattr(splits, split)
    if not samples:
        raise DataError(f"the {split} of {splits.root} is empty, so there is nothing to evaluate; add images to it")
    return samples


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


def color_histograms(
    samples: Sequence[Sample], stripes: int = 6, bins: int = 8, *, masked: bool = False, progress: str | None = None
) -> np.ndarray:
    """Descriptors of color alone, without learning: joint HSV histograms of horizontal stripes, square roots taken.

    Under a cosine that is the Hellinger kernel.

    Args:
        samples: N images on disk.
        stripes: parts a picture is cut into from top to bottom, so that shirt and trousers count apart.
        bins: per color channel.
        masked: count only pixels inside the person's mask, which is a label no other method is given; all pixels of a
            picture that shows nobody, as of a distractor.
        progress: title of a progress bar; None shows none.

    Returns:
        (N, stripes * bins ** 3) float32.

    Raises:
        DataError: ``masked``, and a sample has no mask.
    """
    out = np.empty((len(samples), stripes, bins**3), np.float32)
    for row, sample in enumerate(progress_bar(samples, progress, unit="image", quiet=progress is None)):
        hsv = np.asarray(Image.fromarray(read_image(sample.path)).convert("HSV"), np.int64) * bins // 256
        inside = _mask(sample, *hsv.shape[:2]) if masked else np.ones(hsv.shape[:2], bool)
        inside = inside if inside.any() else ~inside
        codes = (hsv[..., 0] * bins + hsv[..., 1]) * bins + hsv[..., 2]
        for part, rows in enumerate(np.array_split(np.arange(len(codes)), stripes)):
            counts = np.bincount(codes[rows][inside[rows]], minlength=bins**3)
            out[row, part] = np.sqrt(counts / max(1, counts.sum()))
    return out.reshape(len(samples), -1)


def _mask(sample: Sample, height: int, width: int) -> np.ndarray:
    """Return where the person is, (height, width) bool, wherever the mask is kept."""
    mask = read_labels(sample, ("mask",)).mask
    if mask is None:
        raise DataError(f"{sample.path} has no person mask; leave masked off, or use a data set with masks")
    return resize(mask, height, width, mask=True) > 0
