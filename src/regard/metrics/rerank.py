"""k-reciprocal re-ranking with sparse neighborhoods.

Zhun Zhong, Liang Zheng, Donglin Cao, Shaozi Li: Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR
2017. https://arxiv.org/abs/1701.08398

Shapes: Q queries, G gallery images, N = Q + G images in all, n rows of one block.

Two images are close when each is among the other's nearest, and when their other close ones are the same. All sets live
in sparse N x N matrices with some dozens of entries per row, so memory grows with N and not with its square.

Departures:
    - Neighbors at equal distance are ordered by index, queries first; the paper leaves it open.
    - Distances are those of the metric, squared once (the cosine distance counts as squared: 1 - cos = |q - g|^2 / 2
      on unit vectors). ``squared="twice"`` squares a squared distance again, as some toolkits do.
    - The rule of 2/3 overlap is evaluated in integers: 3 |shared| > 2 |half-size neighborhood|.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from regard.errors import ConfigError
from regard.metrics.distance import Array, comparable, distance_blocks, mutual_distances, ordering
from regard.metrics.neighbors import nearest_neighbors

__all__ = ["KReciprocal", "rerank_blocks"]


@dataclass(frozen=True)
class KReciprocal:
    """Options of the re-ranking, the paper's by default.

    Args:
        k1: size of a neighborhood, without the image itself.
        k2: neighbors averaged in the local query expansion, the image itself included; 1 turns it off.
        lam: weight of the original distance, 0 to 1; the rest goes to the Jaccard distance.
        squared: ``"once"`` or ``"twice"``.

    Raises:
        ConfigError: a value is out of range.
    """

    k1: int = 20
    k2: int = 6
    lam: float = 0.3
    squared: str = "once"

    def __post_init__(self) -> None:
        if self.k1 < 1 or self.k2 < 1:
            raise ConfigError(f"re-ranking with k1={self.k1}, k2={self.k2}: both must be at least 1, usually 20 and 6")
        if not 0 <= self.lam <= 1:
            raise ConfigError(f"re-ranking with lam={self.lam}: give a weight from 0 to 1, usually 0.3")
        if self.squared not in ("once", "twice"):
            raise ConfigError(f"re-ranking distances squared {self.squared!r}: choose 'once' or 'twice'")

    def __str__(self) -> str:
        return f"k1={self.k1} k2={self.k2} lambda={self.lam:g} squared {self.squared}"


def rerank_blocks(
    query: Array,
    gallery: Array,
    options: KReciprocal | None = None,
    *,
    metric: str = "cosine",
    memory_mb: float = 256,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> Iterator[tuple[slice, Tensor]]:
    """Re-ranked distances from query to gallery, in blocks like those of :func:`regard.metrics.distance_blocks`.

    Args:
        query: (Q, D) descriptors.
        gallery: (G, D) descriptors, without junk.
        options: None takes the paper's.
        metric: "cosine", or either Euclidean one (which are the same here).
        memory_mb: bound of the distance blocks in MiB; a copy of the features and the neighborhoods come on top.
        device: where to compute distances; None stays where the gallery lies.
        progress: show a bar while neighbors are searched.

    Returns:
        An iterator over (query rows, (n, G) float32 distances from 0 to 1).

    Raises:
        ConfigError, DataError: as :func:`regard.metrics.distance_blocks`.
    """
    metric = ordering(metric)
    options = options or KReciprocal()
    queries, targets = comparable(query, gallery, metric, device)
    blocks = distance_blocks(queries, targets, metric=metric, memory_mb=memory_mb)
    return _blocks(
        blocks, torch.cat([queries, targets]), len(queries), options, metric, memory_mb=memory_mb, progress=progress
    )


def _blocks(
    blocks: Iterator[tuple[slice, Tensor]],
    features: Tensor,
    num_queries: int,
    options: KReciprocal,
    metric: str,
    *,
    memory_mb: float,
    progress: bool,
) -> Iterator[tuple[slice, Tensor]]:
    """The work of :func:`rerank_blocks`, done when the first block is asked for."""
    power = 1 if options.squared == "once" else 2
    k = min(max(options.k1 + 1, options.k2), len(features))
    order, farthest = nearest_neighbors(features, k, metric=metric, memory_mb=memory_mb, progress=progress)
    farthest[farthest == 0] = 1
    weights = _weights(_expanded(order, options.k1), features, farthest, metric, power)
    weights = _averaged(weights, order[:, : options.k2])
    of_queries, of_gallery = csr_array(weights[:num_queries]), csr_array(weights[num_queries:].T)
    for rows, block in blocks:
        jaccard = np.empty(block.shape, np.float32)
        for number, row in enumerate(range(rows.start, rows.stop)):
            jaccard[number] = _jaccard(of_queries, of_gallery, row, block.shape[1])
        block /= torch.from_numpy(farthest[rows]).to(block.device)[:, None]
        block.pow_(power).mul_(options.lam).add_(torch.from_numpy(jaccard).to(block.device), alpha=1 - options.lam)
        yield rows, block.clamp_(min=0)


def _rows_of(order: np.ndarray, value: float) -> csr_array:
    """(N, N) matrix with ``value`` at the images listed in each row of (N, k) ``order``."""
    count, k = order.shape
    data = np.full(order.size, value, np.float32)
    return csr_array((data, order.ravel(), np.arange(count + 1) * k), shape=(count, count))


def _mutual(order: np.ndarray) -> csr_array:
    """(N, N), 1 where two images are in each other's row of ``order``: R(p, k) of the paper's equation 2."""
    chosen = _rows_of(order, 1)
    return csr_array(chosen.multiply(chosen.T))


def _expanded(order: np.ndarray, k1: int) -> csr_array:
    """(N, N), nonzero in the expanded neighborhoods R*(p, k1) of equation 3."""
    whole = _mutual(order[:, : k1 + 1])
    half = _mutual(order[:, : round(k1 / 2) + 1])
    shared = csr_array((whole @ half.T).multiply(whole))
    size = np.diff(half.indptr)
    shared.data = (3 * shared.data > 2 * size[shared.indices]).astype(np.float32)
    shared.eliminate_zeros()
    return csr_array(whole + shared @ half)


def _weights(expanded: csr_array, features: Tensor, farthest: np.ndarray, metric: str, power: int) -> csr_array:
    """(N, N) neighborhoods with weights that fall with distance, each row of sum 1: equation 7."""
    rows, columns = expanded.nonzero()
    first, second = (torch.from_numpy(index.astype(np.int64)).to(features.device) for index in (rows, columns))
    distances = mutual_distances(features, first, second, metric).cpu().numpy()
    data = np.exp(-((distances / farthest[rows]) ** power))
    data /= np.bincount(rows, data, minlength=len(features))[rows]
    return csr_array((data.astype(np.float32), (rows, columns)), shape=expanded.shape)


def _averaged(weights: csr_array, order: np.ndarray) -> csr_array:
    """Mean of the weights of each row's first neighbors, the local query expansion of equation 11."""
    return csr_array(_rows_of(order, 1 / order.shape[1]) @ weights)


def _jaccard(of_queries: csr_array, of_gallery: csr_array, row: int, size: int) -> np.ndarray:
    """(size,) Jaccard distances of one query's weights to those of every gallery image: equation 10.

    Rows have sum 1, so that the larger weights sum to 2 less the sum of the smaller. ``of_gallery`` is (N, size): only
    gallery images that share a neighbor with the query are visited.
    """
    span = slice(of_queries.indptr[row], of_queries.indptr[row + 1])
    shared, weight = of_queries.indices[span], of_queries.data[span]
    start = of_gallery.indptr[shared].astype(np.int64)
    count = of_gallery.indptr[shared + 1] - start
    entry = np.repeat(start - np.cumsum(count) + count, count) + np.arange(count.sum())
    smaller = np.minimum(np.repeat(weight, count), of_gallery.data[entry])
    overlap = np.bincount(of_gallery.indices[entry], smaller, minlength=size)
    return 1 - overlap / (2 - overlap)
