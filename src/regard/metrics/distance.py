"""Distances between two sets of descriptors, a bounded block of query rows at a time.

Shapes: Q queries, G gallery images, D descriptor length, N rows of either, n rows of one block, M pairs.

The product runs in plain float32 on all CPU cores or on a device, whatever precision the caller has allowed elsewhere.
No Q x G matrix exists, and the gallery is not copied: its normalization is applied to the product. Matrix libraries
round differently in narrow products, so every product is padded to tiles: on a CPU a distance then depends neither on
the block it falls in nor on its column, and the distances of equal descriptors are equal.

Descriptors that have nearly everything in common leave few digits to what tells them apart: |q|^2 + |g|^2 - 2 q.g of
vectors a thousand times as long as their difference is off by a tenth. Their mean is taken off both sides first, which
changes no Euclidean distance; a cosine distance is half the squared one of vectors of length 1.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from regard.device import choose_device
from regard.errors import ConfigError, DataError, nearest, shown

__all__ = ["METRICS", "Array", "as_features", "distance_blocks", "pair_distances"]

Array = np.ndarray | Tensor

METRICS = ("cosine", "euclidean", "sqeuclidean")
"""Known distances: 1 - cos, the Euclidean distance, and its square (the same order without the root)."""

_COMMON = 15 / 16
"""Share of the mean square from which on the mean is taken off: below it, products lose no more than four bits."""

LONGEST, SHORTEST = 2.0**62, 2.0**-50
"""Lengths whose squares float32 still adds and tells from nothing."""

_TILE = 16
_ROWS_AT_ONCE = 1024
_PAIRS_AT_ONCE = {"cpu": 128, "cuda": 2**14}  # on a CPU, copies of twice that many descriptors stay near the cache


def as_features(features: Array, name: str, device: torch.device | str | None = None) -> Tensor:
    """Descriptors as a float32 tensor, sharing memory with the input where it can.

    Args:
        features: (N, D) numbers.
        name: what to call them in an error message.
        device: where to put them; None leaves them where they are.

    Returns:
        (N, D) float32, detached.

    Raises:
        ConfigError: there is no such device.
        DataError: not two-dimensional, empty, not real numbers, or with a row that is not finite.
    """
    return _measured(features, name, device)[0]


def _measured(features: Array, name: str, device: torch.device | str | None) -> tuple[Tensor, Tensor]:
    """What :func:`as_features` gives, and the (N,) lengths."""
    if device is not None and not (isinstance(device, torch.device) and device.type != "cuda"):
        device = choose_device(str(device) if isinstance(device, torch.device) else device, "device")
    if not isinstance(features, Tensor):
        features = as_array(features, f"{name} features")
        if features.dtype.kind not in "fiub":
            raise DataError(f"{name} features are of type {features.dtype}: give an (N, D) array of real numbers")
        if not features.flags.writeable or features.dtype.byteorder == ">":
            features = features.astype(np.float32)
        features = torch.from_numpy(np.ascontiguousarray(features))
    if features.is_complex():
        raise DataError(f"{name} features are of type {features.dtype}: give an (N, D) array of real numbers")
    if features.ndim != 2:
        raise DataError(f"{name} features have shape {tuple(features.shape)}: give an (N, D) array, one row per image")
    if not features.numel():
        raise DataError(f"{name} features are empty, shape {tuple(features.shape)}: give at least one image")
    features = features.detach().to(device=device, dtype=torch.float32)
    lengths = torch.linalg.vector_norm(features, dim=1)
    bad = (~(lengths < LONGEST)).nonzero().flatten()
    if len(bad):
        raise DataError(
            f"{name} features hold NaN, infinite or overflowing values in {len(bad)} of {len(features)} rows, first "
            f"in row {bad[0].item()}: check that image and the network's output"
        )
    return features, lengths


def as_array(values: object, name: str) -> np.ndarray:
    """What NumPy makes of values.

    Raises:
        DataError: rows differ in length.
    """
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:
        raise DataError(f"{name} are not an array ({' '.join(str(error).split())}): give rows of one length") from None


def comparable(
    query: Array, gallery: Array, metric: str, device: torch.device | str | None = None
) -> tuple[Tensor, Tensor]:
    """Queries (Q, D) and gallery (G, D) as float32 tensors on one device that a metric can compare.

    Args:
        query, gallery: numbers, one row per image.
        metric: one of ``METRICS``.
        device: where to put both; None stays where the gallery lies.

    Raises:
        ConfigError: there is no such device.
        DataError: as of :func:`as_features`, or they differ in columns, or :func:`check_lengths` finds a fault.
    """
    targets, target_lengths = _measured(gallery, "gallery", device)
    queries, query_lengths = _measured(query, "query", targets.device)
    if queries.shape[1] != targets.shape[1]:
        raise DataError(
            f"query features have {queries.shape[1]} columns and gallery features {targets.shape[1]}: "
            f"extract both with the same model"
        )
    check_lengths(queries, "query", metric, query_lengths)
    check_lengths(targets, "gallery", metric, target_lengths)
    return queries, targets


def check_lengths(features: Tensor, name: str, metric: str, lengths: Tensor | None = None) -> None:
    """Check that a metric can tell (N, D) descriptors apart; ``lengths`` are theirs, (N,), where known.

    Raises:
        DataError: a row of zeros, which has no direction, with the metric "cosine"; or all rows so short that their
            squares are nothing in float32.
    """
    lengths = torch.linalg.vector_norm(features, dim=1) if lengths is None else lengths
    short = (lengths < SHORTEST).nonzero().flatten()
    if metric == "cosine" and len(short):
        raise DataError(
            f"{name} features are zero in {len(short)} of {len(features)} rows, first in row {short[0].item()}: "
            f"without a direction there is no cosine; check that image and the network's output, or take the metric "
            f"'euclidean'"
        )
    if len(short) == len(features) and features.any():
        raise DataError(
            f"{name} features are all shorter than {SHORTEST:.0e}, and float32 takes their squares for nothing: "
            f"multiply all descriptors by one number"
        )


def check_metric(metric: str) -> None:
    """Raise ConfigError unless ``metric`` is one of ``METRICS``."""
    if metric not in METRICS:
        raise ConfigError(f"unknown metric {metric!r}{nearest(metric, METRICS)}; known: {', '.join(METRICS)}")


def ordering(metric: str) -> str:
    """The metric to rank by: the order of the root is that of the square, which has no ties but its own.

    Raises:
        ConfigError: the metric is not one of ``METRICS``.
    """
    check_metric(metric)
    return "sqeuclidean" if metric == "euclidean" else metric


def distance_blocks(
    query: Array,
    gallery: Array,
    *,
    metric: str = "cosine",
    memory_mb: float = 256,
    device: torch.device | str | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """All distances from query to gallery, in blocks of whole query rows.

    Args:
        query: (Q, D) descriptors.
        gallery: (G, D) descriptors.
        metric: one of ``METRICS``.
        memory_mb: the block in the caller's hands and the one being computed stay below half of it, in MiB (but 16
            rows each at least), so that the other half is the caller's to work with.
        device: where to compute; None stays where the gallery lies.

    Returns:
        An iterator over (query rows, (n, G) float32 distances of at least 0). A block is the caller's to overwrite.

    Raises:
        ConfigError: the metric is unknown or the budget not positive, or there is no such device.
        DataError: the features do not fit each other, are not finite, or all zero in a row, which has no cosine.
    """
    check_metric(metric)
    real = isinstance(memory_mb, numbers.Real) and not isinstance(memory_mb, bool)
    if not real or not 0 < memory_mb < math.inf:
        raise ConfigError(
            f"memory_mb is {shown(memory_mb)}: give the budget for distance blocks in MiB, for example 256"
        )
    queries, targets = comparable(query, gallery, metric, device)
    tiles = int(memory_mb * 2**20 / 4 / (4 * len(targets)) / _TILE)
    return _blocks(queries, targets, metric, max(1, tiles) * _TILE)


def _blocks(queries: Tensor, targets: Tensor, metric: str, rows: int) -> Iterator[tuple[slice, Tensor]]:
    """The loop of :func:`distance_blocks` over checked features; ``rows`` is a multiple of the tile."""
    factor = 1.0
    scale = inverse_lengths(targets) if metric == "cosine" else squared_lengths(targets)
    common = common_part(targets, metric, scale)
    if common is not None and _shared_by(queries, common, metric):
        queries, targets = (without(common, features, metric) for features in (queries, targets))
        metric, factor = ("sqeuclidean", 0.5) if metric == "cosine" else (metric, factor)
        scale = squared_lengths(targets)
    compute = _cosine if metric == "cosine" else _squared_euclidean
    width = len(targets)
    targets, scale = (targets, scale) if width >= _TILE else (_tiled(targets), pad(scale, (0, _TILE - width)))
    for start in range(0, len(queries), rows):
        part = queries[start : start + rows]
        with plain_float32(targets.device):
            block = compute(_tiled(part), targets, scale)[: len(part), :width]
        block = block if factor == 1 else block.mul_(factor)
        yield slice(start, start + len(part)), block.sqrt_() if metric == "euclidean" else block


def common_part(features: Tensor, metric: str, scale: Tensor) -> Tensor | None:
    """The mean of descriptors that have nearly everything in common; None of others, which are compared as they are.

    Args:
        features: (N, D) float32; of length 1 first with the metric "cosine".
        metric: one of ``METRICS``.
        scale: (N,) inverse lengths with the metric "cosine", else squared lengths.

    Returns:
        (D,) float32 of eight significant bits, so that what is left of whole numbers stays exact.
    """
    weights, square = (scale, 1.0) if metric == "cosine" else (torch.ones_like(scale), scale.mean().item())
    with plain_float32(features.device):
        mean = weights @ features / len(features)
    if mean.square().sum().item() <= _COMMON * square:
        return None
    total = features.new_zeros(features.shape[1], dtype=torch.float64)  # so that the order of rows changes nothing
    for part, weight in zip(features.split(_ROWS_AT_ONCE), weights.split(_ROWS_AT_ONCE)):
        total += (part * weight[:, None]).sum(0, dtype=torch.float64)
    return (total / len(features)).to(torch.bfloat16).to(torch.float32)


def _shared_by(queries: Tensor, common: Tensor, metric: str) -> bool:
    """Whether taking off the (D,) common part makes any of the (Q, D) queries much shorter."""
    weights = inverse_lengths(queries) if metric == "cosine" else queries.new_ones(len(queries))
    before = queries.new_ones(()) if metric == "cosine" else squared_lengths(queries)
    with plain_float32(queries.device):
        after = before - 2 * weights * (queries @ common) + common.square().sum()
    return bool((after < before / 2).any())


def without(common: Tensor, features: Tensor, metric: str) -> Tensor:
    """(N, D) features less the (D,) part they have in common; of length 1 before with the metric "cosine"."""
    return features * inverse_lengths(features)[:, None] - common if metric == "cosine" else features - common


def _cosine(queries: Tensor, targets: Tensor, inverse: Tensor) -> Tensor:
    """(n, G) values of 1 - cos; ``inverse`` is 1 / |g|."""
    block = torch.mm(queries * inverse_lengths(queries)[:, None], targets.T, out=_room(queries, targets))
    block *= inverse
    return torch.sub(block.new_ones(()), block, out=block).clamp_(min=0)


def _squared_euclidean(queries: Tensor, targets: Tensor, squared: Tensor) -> Tensor:
    """(n, G) values of |q|^2 + |g|^2 - 2 q.g, exact for small integers; ``squared`` is |g|^2."""
    block = torch.add(squared_lengths(queries)[:, None], squared, out=_room(queries, targets))
    return block.addmm_(queries, targets.T, alpha=-2).clamp_(min=0)


def _room(queries: Tensor, targets: Tensor) -> Tensor:
    """(n, G) to be filled, in rows of whole tiles: a product into rows of another length takes half as long again."""
    return queries.new_empty((len(queries), -(-len(targets) // _TILE) * _TILE))[:, : len(targets)]


def pair_distances(features: Tensor, first: Tensor, second: Tensor, metric: str) -> Tensor:
    """Distances of chosen pairs within one set, without the blocks they lie in.

    Args:
        features: (N, D) float32.
        first, second: (M,) int64 rows of ``features``, on its device.
        metric: one of ``METRICS``.

    Returns:
        (M,) float32 distances, equal to those of :func:`distance_blocks` up to rounding; equal descriptors have equal
        distances.
    """
    inverse = inverse_lengths(features) if metric == "cosine" else features.new_ones(())
    if metric == "cosine" and (common := common_part(features, metric, inverse)) is not None:
        return pair_distances(without(common, features, metric), first, second, "sqeuclidean").mul_(0.5)
    at_once = _PAIRS_AT_ONCE.get(features.device.type, _ROWS_AT_ONCE)
    sums, buffers = features.new_empty(len(first)), features.new_empty((2, at_once, features.shape[1]))
    for a, b, total in zip(*(values.split(at_once) for values in (first, second, sums))):
        left, right = (buffer[: len(a)] for buffer in buffers)
        torch.index_select(features, 0, a, out=left)
        torch.index_select(features, 0, b, out=right)
        torch.sum(left.mul_(right) if metric == "cosine" else left.sub_(right).square_(), 1, out=total)
    if metric == "cosine":
        return (1 - sums * (inverse[first] * inverse[second])).clamp_(min=0)
    return sums.sqrt_() if metric == "euclidean" else sums


def mutual_distances(features: Tensor, first: Tensor, second: Tensor, metric: str) -> Tensor:
    """What :func:`pair_distances` gives, each pair of images computed once whichever comes first.

    Images with common neighbors are taken together, so that their descriptors come from the cache.
    """
    count = len(features)
    pairs, index = torch.unique(
        torch.minimum(first, second) * count + torch.maximum(first, second), return_inverse=True
    )
    first, second = pairs // count, pairs % count
    leader = torch.full((count,), count, device=features.device).scatter_reduce_(0, second, first, "amin")
    together = leader[second].argsort(stable=True)
    distances = features.new_empty(len(pairs))
    distances[together] = pair_distances(features, first[together], second[together], metric)
    return distances[index]


def _tiled(features: Tensor) -> Tensor:
    """The (N, D) features, with rows of zeros below up to a multiple of the tile."""
    missing = -len(features) % _TILE
    return pad(features, (0, 0, 0, missing)) if missing else features


def inverse_lengths(features: Tensor) -> Tensor:
    """(N,) values of 1 / |x|; 1 for an all-zero row, which no factor changes."""
    lengths = torch.linalg.vector_norm(features, dim=1)
    return 1 / lengths.where(lengths > 0, 1)


def squared_lengths(features: Tensor) -> Tensor:
    """(N,) values of |x|^2, exact for small integers."""
    lengths = features.new_empty(len(features))
    for part, length in zip(features.split(_ROWS_AT_ONCE), lengths.split(_ROWS_AT_ONCE)):
        length.copy_(part.square().sum(1))
    return lengths


@contextmanager
def plain_float32(device: torch.device) -> Iterator[None]:
    """Products without TF32, bfloat16 or autocast for the time of the block; the caller's settings come back after."""
    settings = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # pyright: ignore[reportAttributeAccessIssue]
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for setting, precision in zip(settings, before):
            setting.fp32_precision = precision
