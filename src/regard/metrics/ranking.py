"""Order in the gallery: ranks of the right images by counting, and the first k images.

Shapes: Q queries, G gallery images, n rows of one block, M positives, C candidates, K ranks kept per query.

Tie rule: equal distances are ordered by gallery index, as a stable sort does.

To score a query only its positives need ranks, and the rank of one is the number of images that come before it. So
nothing is sorted but the few positives: every gallery image no farther than the farthest positive is searched into
them, a histogram says how many landed before each, and its running sum is the rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from regard.errors import ConfigError, is_whole, shown
from regard.metrics.distance import comparable, distance_blocks, ordering
from regard.metrics.feature_set import FeatureSet, check_sets
from regard.metrics.protocol import Pairs, Protocol, read_protocol
from regard.structures import Ranking
from regard.wording import count

__all__ = [
    "check_ranks", "keep_nearest", "mask_pairs", "nearest_images", "positive_ranks", "rank", "ranks_in_block",
    "thin_blocks",
]  # fmt: skip

_MOST_FILLED = 1000  # ranks that may be asked for though the gallery has fewer images
_CHUNK_PAIRS = 2**20
_BYTES_PER_PAIR = 128  # of ranks_in_block at worst, when every image of the gallery is a positive


def positive_ranks(
    blocks: Iterable[tuple[slice, Tensor]], protocol: Protocol, memory_mb: float = 256
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Ranks of all positives, some queries at a time, in order.

    Args:
        blocks: consecutive query rows and their (n, G) distances, at least 0, to the gallery without junk. They are
            overwritten.
        protocol: who is right for whom.
        memory_mb: half of it, in MiB, bounds the working memory (but one query's at least).

    Yields:
        Query rows, (M,) int64 ranks from 1, ascending within each query, and (n,) int64 positives of each query.
    """
    for rows, part in thin_blocks(blocks, memory_mb):
        positives, removed = protocol.pairs(rows)
        mask_pairs(part, removed)
        ranks = ranks_in_block(part, positives)
        yield rows, ranks.cpu().numpy(), np.bincount(positives.rows, minlength=len(part))


def thin_blocks(blocks: Iterable[tuple[slice, Tensor]], memory_mb: float) -> Iterator[tuple[slice, Tensor]]:
    """The same blocks in thinner ones, about as large as a processor's cache and within the budget."""
    pairs = min(_CHUNK_PAIRS, memory_mb * 2**20 / 2 / _BYTES_PER_PAIR)
    for rows, block in blocks:
        start = rows.start
        for part in block.split(max(1, int(pairs / block.shape[1]))):
            yield slice(start, start + len(part)), part
            start += len(part)


def mask_pairs(block: Tensor, removed: Pairs) -> None:
    """Put (n, G) distances of removed pairs at infinity, in place."""
    row, column = (torch.from_numpy(index).to(block.device) for index in removed)
    block[row, column] = torch.inf


def ranks_in_block(block: Tensor, positives: Pairs) -> Tensor:
    """Rank of every positive among the images of its query, by counting.

    Query row, distance and gallery column are packed into one integer, so that a single search orders candidates by
    query, then distance, then index: ties need no case of their own.

    Args:
        block: (n, G) distances, infinite where removed; at most 2^30 of them.
        positives: the M right pairs, rows counted within the block.

    Returns:
        (M,) int64 ranks from 1, query after query, ascending within each.
    """
    height, width = block.shape
    row, column = (torch.from_numpy(index).to(block.device) for index in positives)
    distance = block[row, column]
    keys = _pack(row, distance, column, width).sort().values

    farthest = block.new_full((height,), -torch.inf).scatter_reduce_(0, row, distance, "amax")
    near_row, near_column = (block <= farthest[:, None]).nonzero(as_tuple=True)
    near_keys = _pack(near_row, block[near_row, near_column], near_column, width)

    landed = torch.bincount(torch.searchsorted(keys, near_keys), minlength=len(keys) + 1)
    of_earlier_queries = torch.searchsorted(near_row, torch.arange(height, device=block.device))
    return landed.cumsum(0)[: len(keys)] - of_earlier_queries[row]


def _pack(row: Tensor, distance: Tensor, column: Tensor, width: int) -> Tensor:
    """(C,) int64 keys in the order of (row, distance, column).

    The bits of a float of at least 0, read as an integer, grow with it; they take the middle 32 bits of the key.
    """
    return (row << 32 | distance.view(torch.int32)) << width.bit_length() | column


def nearest_images(block: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The first k columns of every row by (distance, index).

    Args:
        block: (n, G) distances.
        k: at most G.

    Returns:
        (n, k) distances, ascending, and (n, k) int64 columns.
    """
    distances, columns = block.topk(min(k + 1, block.shape[1]), dim=1, largest=False)
    columns, order = columns.sort(dim=1)
    distances, order = distances.gather(1, order).sort(dim=1, stable=True)
    columns = columns.gather(1, order)
    if distances.shape[1] > k:  # where the cut goes through a tie, topk has chosen at random
        tied = (distances[:, k - 1] == distances[:, k]).nonzero().flatten()
        for rows in tied.split(max(1, _CHUNK_PAIRS // block.shape[1])):
            columns[rows] = block[rows].sort(dim=1, stable=True).indices[:, : k + 1]
    return distances[:, :k], columns[:, :k]


def rank(
    query: FeatureSet,
    gallery: FeatureSet,
    *,
    k: int = 100,
    metric: str = "cosine",
    memory_mb: float = 256,
    device: torch.device | str | None = None,
) -> Ranking:
    """The k nearest gallery images of every query.

    Args:
        query, gallery: Q and G descriptors. Where both have identities, junk is left out and ``matches`` filled; where
            both have cameras besides, images of the query's person by the query's camera are left out.
        k: ranks to keep; those beyond the gallery are -1. At most 1,000, or G where the gallery has more.
        metric, memory_mb, device: as for :func:`regard.metrics.distance_blocks`.

    Returns:
        A :class:`regard.Ranking`; indices count in ``gallery`` as given.

    Raises:
        ConfigError: an option is wrong.
        DataError: the arrays do not fit each other or are not finite, or one side alone has identities or cameras.
    """
    order = ordering(metric)
    check_sets(query, gallery)
    check_ranks(k, len(gallery))
    queries, targets = comparable(query.embeddings, gallery.embeddings, metric, device)
    protocol, kept = None, np.arange(len(targets))
    if query.pids is not None or gallery.pids is not None:
        protocol = read_protocol(query, gallery)
        targets, kept = protocol.without_junk(targets), protocol.kept
    blocks = distance_blocks(queries, targets, metric=order, memory_mb=memory_mb)
    found = keep_nearest(blocks, (len(queries), k), kept, protocol, memory_mb)
    if order != metric:
        np.sqrt(found.distances, out=found.distances)
    return replace(found, query_names=query.names, gallery_names=gallery.names)


def check_ranks(k: int, size: int) -> None:
    """Raise ConfigError unless ``k`` is a number of ranks to keep of a gallery of ``size`` images."""
    most = max(size, _MOST_FILLED)
    if not is_whole(k) or not 1 <= k <= most:
        raise ConfigError(f"k is {shown(k)}, wanted 1 to {most:,} ranks; the gallery has {count(size, 'image')}")


def keep_nearest(
    blocks: Iterable[tuple[slice, Tensor]],
    shape: tuple[int, int],
    kept: np.ndarray,
    protocol: Protocol | None = None,
    memory_mb: float = 256,
) -> Ranking:
    """The first images of every query, from its distances to all that are kept.

    Args:
        blocks: consecutive query rows and their (n, G') distances. They are overwritten.
        shape: (Q, K) queries, and ranks to keep; more than G' are filled with -1.
        kept: (G',) rows of the gallery as given that the columns are of.
        protocol: says which pairs are removed and which are right; its columns are those of the blocks. None removes
            nothing, and the matches are unknown.
        memory_mb: as for :func:`positive_ranks`.
    """
    indices = np.full(shape, -1, np.int64)
    distances = np.full(shape, np.inf, np.float32)
    width = min(shape[1], len(kept))
    for rows, block in thin_blocks(blocks, memory_mb):
        if protocol is not None:
            mask_pairs(block, protocol.pairs(rows)[1])
        nearest, columns = nearest_images(block, width)
        distances[rows, :width] = nearest.cpu().numpy()
        indices[rows, :width] = kept[columns.cpu().numpy()]
    indices[np.isinf(distances)] = -1
    return Ranking(indices, distances, None if protocol is None else protocol.is_match(indices))
