"""Whether an exported network says what the network says, in batches of several sizes.

Shapes: N pictures, H x W pixels, D descriptor length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from regard.data.resizing import resize
from regard.data.transforms import affine, normalize
from regard.errors import CheckpointError
from regard.export.manifest import Card
from regard.input_spec import InputSpec
from regard.models import ReIDModel
from regard.models.checked import weight_of

__all__ = [
    "BATCHES", "TOLERANCE", "Parity", "check_parity", "made_pictures", "measure_drift", "measure_parity",
    "plainly_resized", "reference",
]  # fmt: skip

BATCHES = (1, 2, 7, 32)
"""Batch sizes that are tried: an export that fixed the batch it was traced with gives wrong descriptors at others."""

TOLERANCE = {"fp32": 1e-4, "fp16": 1e-3, "int8": 0.05}
"""Precision -> how much may be missing: of fp32 the largest relative difference, of others the largest cosine distance.
What int8 costs is told by mAP; this only finds files that are broken."""


@dataclass(frozen=True)
class Parity:
    """How far two sets of descriptors are apart.

    Attributes:
        relative: largest difference of a value, as a fraction of the largest value of its descriptor.
        cosine: largest cosine distance, 1 - cos.
        confused: pictures whose descriptor is nearer to that of another picture: seen even where a network's
            descriptors hardly differ.
        batch: batch size at which ``relative`` was found.
        pictures: name of a kind of picture -> how many were compared.
    """

    relative: float
    cosine: float
    confused: int
    batch: int
    pictures: dict[str, int]

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.pictures.items())
        return (
            f"largest relative difference {self.relative:.2g}, largest cosine distance {self.cosine:.2g}, "
            f"{self.confused} confused "
            f"({kinds} pictures, batches of {', '.join(map(str, BATCHES))})"
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {"batches": list(BATCHES)}


def made_pictures(height: int, width: int, count: int = 32, seed: int = 0) -> np.ndarray:
    """Pictures of nothing, (N, H, W, 3) uint8: half noise, half smooth colors with hard edges, all different."""
    generator = np.random.default_rng(seed)
    noise = generator.integers(0, 256, (count - count // 2, height, width, 3), np.uint8)
    blocks = generator.integers(0, 256, (count // 2, 8, 4, 3), np.uint8)
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 4 // width
    return np.concatenate([noise, blocks[:, rows][:, :, columns]])


def reference(model: ReIDModel, pictures: np.ndarray, form: Card | None = None) -> np.ndarray:
    """Descriptors by the network as it is, in small batches, in float32.

    Args:
        model: the network.
        pictures: (N, H, W, 3) uint8.
        form: what is done besides: reducing, mirroring, length 1; None: nothing.

    Returns:
        (N, D) float32.
    """
    device, seen = weight_of(model).device, model.input or InputSpec()
    parts = []
    for part in np.array_split(pictures, max(1, len(pictures) // 8)):
        images = torch.from_numpy(part).to(device).permute(0, 3, 1, 2)
        if form is not None and form.shrink > 1:
            size = (form.height // form.shrink, form.width // form.shrink)
            how: dict[str, Any] = {"mode": form.interpolation, "antialias": True}
            scale, shift = affine(seen.mean, seen.std, images.device)
            images = functional.interpolate(images.float(), size, **how) * scale + shift
        else:
            images = normalize(images, seen.mean, seen.std)
        found = model.embed_views([images], flip=form is not None and form.flip_averaged)
        parts.append(functional.normalize(found) if form is not None and form.l2_normalized else found)
    return torch.cat(parts).cpu().numpy()


def measure_drift(model: ReIDModel, pictures: Sequence[np.ndarray], form: Card) -> dict[str, Any]:
    """How far descriptors are from regard's where crops are resized bilinearly, without antialiasing.

    Args:
        model: the network.
        pictures: (h, w, 3) uint8 each, of any size.
        form: of the file; what it takes is what they are resized to.

    Returns:
        The least and the mean cosine, the number of pictures, and the height of the tallest.
    """
    small = replace(form, height=form.height // form.shrink, width=form.width // form.shrink, shrink=1)
    ours = np.stack([resize(one, small.height, small.width, interpolation=small.interpolation) for one in pictures])
    theirs = np.stack([plainly_resized(one, form.height, form.width) for one in pictures])
    found, wanted = reference(model, theirs, form), reference(model, ours, small)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    cosines = (found * wanted).sum(1) / lengths
    tallest = max(len(one) for one in pictures)
    return {
        "least": float(cosines.min()), "mean": float(cosines.mean()), "pictures": len(pictures), "tallest": tallest
    }  # fmt: skip


def plainly_resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture (h, w, 3) uint8 resized bilinearly from its four nearest pixels, as OpenCV and torch do; (H, W, 3)."""
    image = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()
    image = functional.interpolate(image, (height, width), mode="bilinear", align_corners=False)
    return image[0].permute(1, 2, 0).round().to(torch.uint8).numpy()


def measure_parity(
    embed: Callable[[np.ndarray], np.ndarray],
    pictures: dict[str, np.ndarray],
    wanted: dict[str, np.ndarray],
    batches: Sequence[int] = BATCHES,
) -> Parity:
    """Compare descriptors with those wanted, at every batch size.

    Args:
        embed: (B, H, W, 3) uint8 -> (B, D).
        pictures: kind -> (N, H, W, 3) uint8.
        wanted: kind -> (N, D).
        batches: sizes to embed in; the largest takes all pictures, the others the first 2 batches.
    """
    worst, cosine, confused, where = 0.0, 0.0, 0, batches[0]
    for kind, images in pictures.items():
        for size in batches:
            few = images if size == max(batches) else images[: 2 * size]
            found = np.concatenate([embed(few[start : start + size]) for start in range(0, len(few), size)])
            relative, apart, others = distances(found, wanted[kind][: len(few)])
            cosine, confused = max(cosine, apart), max(confused, others)
            if not relative <= worst:
                worst, where = relative, size
    return Parity(worst, cosine, confused, where, {kind: len(images) for kind, images in pictures.items()})


def distances(found: np.ndarray, wanted: np.ndarray) -> tuple[float, float, int]:
    """Largest relative difference, largest cosine distance and number confused of two (N, D).

    Infinite, and all of them, where shapes differ or values are not finite.
    """
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return float("inf"), float("inf"), len(wanted)
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    relative = np.abs(a - b).max(1) / np.abs(b).max(1).clip(1e-30)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    apart = np.linalg.norm(a[:, None] - b[None], axis=2)
    confused = int((apart.min(1) < np.diag(apart)).sum())
    return float(relative.max()), float((1 - (a * b).sum(1) / lengths.clip(1e-30)).max()), confused


def check_parity(parity: Parity, precision: str, tolerance: float | None, what: str) -> None:
    """Refuse an export that is too far from the network.

    Args:
        parity: how far it is.
        precision: of the export.
        tolerance: largest relative difference in fp32, where also nothing may be confused; largest cosine distance in
            others; None takes ``TOLERANCE``.
        what: the export, for the message.

    Raises:
        CheckpointError: it is too far.
    """
    limit = TOLERANCE[precision] if tolerance is None else tolerance
    exact = precision == "fp32"
    if not (parity.relative if exact else parity.cosine) <= limit or (exact and parity.confused):
        raise CheckpointError(
            f"{what} is not the network: {parity}, worst in batches of {parity.batch}; tolerance is {limit:g}, so "
            "nothing was written. Try another format, or raise --tolerance if that is good enough"
        )
