"""The nearest images of every image within one set, searched in low precision and settled in float32.

Shapes: N images, D descriptor length, B rows of one block, C candidates, M pairs, K neighbors.

Three savings, none of which changes a result:

- The score of two images is that of the two in turn: of N x N products, half are computed.
- They are computed in bfloat16 where the processor has instructions for it. A score then is off by no more than a
  bound that follows from the rounding of the two descriptors (Cauchy-Schwarz), of the sum and of its result. Whatever
  comes within twice that bound of the K-th nearest is a candidate, so no true neighbor is lost; only candidates get
  their float32 distance, and these alone make the order. Where candidates are too many to be worth it (sets full of
  duplicates), the row is computed in float32 as a whole.
- Few blocks hold a neighbor of a given image, so most are dismissed by the largest of 32 scores at a time.

Scores grow with nearness: q.g for unit vectors, q.g - |q|^2 / 2 - |g|^2 / 2 for Euclidean distances. The two lengths
become part of the product: each is appended to the descriptors in three pieces that bfloat16 holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from regard.metrics.distance import (
    common_part,
    distance_blocks,
    inverse_lengths,
    mutual_distances,
    pair_distances,
    plain_float32,
    squared_lengths,
    without,
)
from regard.metrics.ranking import nearest_images
from regard.progress import progress_bar

__all__ = ["Neighbors", "nearest_neighbors"]

_GROUP = 32
_PIECES = 3
_EXTRA = 32  # columns for twice the pieces, and zeros
_BYTES_PER_PAIR = 12
_MOST_ROWS = 2048  # blocks on the diagonal are computed whole, so small ones waste less
_HITS_AT_ONCE = 2**16
_LEAST_CROWD = 256  # candidates of one image up to which settling them is cheaper than a row of float32 distances


class Neighbors(NamedTuple):
    """The surroundings of every image.

    Attributes:
        order: (N, K) int32, the nearest images by (distance, index), the image itself among them.
        farthest: (N,) float32, the largest distance to any image.
    """

    order: np.ndarray
    farthest: np.ndarray


class Candidates(NamedTuple):
    """Pairs that may be wanted, in no order.

    Attributes:
        rows, columns: (C,) int64 images.
        scores: (C,) float32, approximate.
    """

    rows: Tensor
    columns: Tensor
    scores: Tensor


def nearest_neighbors(
    features: Tensor, k: int, *, metric: str = "cosine", memory_mb: float = 256, progress: bool = False
) -> Neighbors:
    """The k nearest images of every image, and how far the farthest is, from float32 distances.

    Args:
        features: (N, D) float32.
        k: neighbors kept, at most N.
        metric: "cosine" or "sqeuclidean".
        memory_mb: bound of a block and the work on it, in MiB; a copy of the features in low precision and about a
            hundred candidates per image come on top.
        progress: show a bar on stderr.
    """
    unit = 1.0
    scale = inverse_lengths(features) if metric == "cosine" else squared_lengths(features)
    if (common := common_part(features, metric, scale)) is not None:
        features = without(common, features, metric)
        metric, unit = ("sqeuclidean", 0.5) if metric == "cosine" else (metric, unit)
    count = len(features)
    near, far = _search(features, k, metric, memory_mb, progress=progress)
    settled = ((near.counts() >= k) & (far.counts() >= 1) & ~near.crowded & ~far.crowded)[:count]
    order = np.empty((count, k), np.int32)
    farthest = np.empty(count, np.float32)
    where = settled.nonzero().flatten().cpu().numpy()
    rows, columns = _by_distance(features, near, settled, k, metric)
    first = torch.searchsorted(rows, settled.nonzero().flatten())
    order[where] = columns[first[:, None] + torch.arange(k, device=rows.device)].cpu().numpy()
    rows, columns, _ = far.chosen(settled)
    reach = features.new_zeros(count).scatter_reduce_(0, rows, pair_distances(features, rows, columns, metric), "amax")
    farthest[where] = reach[settled].cpu().numpy()

    left = (~settled).nonzero().flatten()
    if len(left):
        for part, block in distance_blocks(features[left], features, metric=metric, memory_mb=memory_mb):
            where = left[part].cpu().numpy()
            order[where] = nearest_images(block, k)[1].cpu().numpy()
            farthest[where] = block.amax(1).cpu().numpy()
    return Neighbors(order, farthest * np.float32(unit))


def _by_distance(features: Tensor, near: _Side, settled: Tensor, k: int, metric: str) -> tuple[Tensor, Tensor]:
    """Candidates in the order of (row, float32 distance, column), among them the k nearest of each row.

    The distances of the k best by score come first: the farthest of them is known without error, and leaves fewer of
    the others.
    """
    rows, columns, scores = near.chosen(settled)  # best first
    place = torch.arange(len(rows), device=rows.device) - torch.searchsorted(rows, rows)
    best, rest = (place < k).nonzero().flatten(), (place >= k).nonzero().flatten()
    distances = mutual_distances(features, rows[best], columns[best], metric)
    kth = features.new_zeros(len(features)).scatter_reduce_(0, rows[best], distances, "amax")
    rest = rest[scores[rest] >= near.least_within(1 - kth if metric == "cosine" else -kth / 2)[rows[rest]]]
    chosen = torch.cat([best, rest])
    distances = torch.cat([distances, mutual_distances(features, rows[rest], columns[rest], metric)])
    rows, columns = rows[chosen], columns[chosen]
    by_column = (rows * len(features) + columns).argsort()
    rows, columns, distances = rows[by_column], columns[by_column], distances[by_column]
    order = (rows << 32 | distances.view(torch.int32)).argsort(stable=True)
    return rows[order], columns[order]


class _Scores:
    """Scores of all images with all, computed a block at a time from descriptors in low precision.

    Attributes:
        spans: rows of each block; their number is a multiple of the group, so that the last may reach beyond N.
        error: (N',) bound of the error of a score of each image before its own rounding.
        rounding: relative error of that.
    """

    def __init__(self, features: Tensor, metric: str, memory_mb: float):
        self.device = features.device
        rows = min(_MOST_ROWS, max(_GROUP, int((memory_mb * 2**20 / _BYTES_PER_PAIR) ** 0.5) // _GROUP * _GROUP))
        end = -(-len(features) // _GROUP) * _GROUP
        self.spans = [slice(start, min(start + rows, end)) for start in range(0, end, rows)]
        dtype = torch.bfloat16 if _bfloat16_is_fast(self.device) else torch.float32
        self.rounding = 2.0**-8 if dtype == torch.bfloat16 else 0.0
        self._low = features.new_zeros((end, features.shape[1] + (0 if metric == "cosine" else _EXTRA)), dtype=dtype)
        self._lengths = metric != "cosine"
        self.error = self._fill(features, metric)

    def _fill(self, features: Tensor, metric: str) -> Tensor:
        """Set the descriptors in low precision and return the bound of the error."""
        count, dim = features.shape
        length, lost = features.new_empty(count), features.new_empty(count)
        inverse = inverse_lengths(features) if metric == "cosine" else features.new_ones(count)
        for start in range(0, count, 1024):
            rows = slice(start, start + 1024)
            part = features[rows] * inverse[rows, None]
            self._low[:count][rows, :dim] = part
            length[rows] = torch.linalg.vector_norm(part, dim=1)
            lost[rows] = torch.linalg.vector_norm(part - self._low[:count][rows, :dim], dim=1)
        half = squared_lengths(features) / 2 if self._lengths else features.new_zeros(count)
        if self._lengths:
            self._low[:count, dim + _PIECES : dim + 2 * _PIECES] = 1
            rest = -half
            for piece in range(_PIECES):
                self._low[:count, dim + piece] = rest
                rest = rest - self._low[:count, dim + piece].float()
        sums = (dim + _EXTRA) * 2.0**-22  # of the score here and of the float32 distance
        error = length * lost.max() + lost * (length.max() + lost.max())
        error += sums * (length * length.max() + half + half.max())
        return pad(error * 1.001, (0, len(self._low) - count))

    def square(self, span: slice) -> Tensor:
        """(n, n) scores of some images with one another; a quarter of them is a mirror image."""
        half = span.start + (span.stop - span.start) // (2 * _GROUP) * _GROUP
        block = self._low.new_empty((span.stop - span.start, span.stop - span.start))
        upper, lower = block.split([half - span.start, span.stop - half])
        upper.copy_(self.block(slice(span.start, half), span))
        lower[:, : half - span.start] = upper[:, half - span.start :].T
        lower[:, half - span.start :] = self.block(slice(half, span.stop), slice(half, span.stop))
        return block

    def block(self, a: slice, b: slice) -> Tensor:
        """(n, m) scores of the images ``a`` with the images ``b``."""
        right = self._low[b]
        if self._lengths:
            dim = right.shape[1] - _EXTRA
            right = right.clone()
            right[:, dim : dim + 2 * _PIECES] = right[:, dim : dim + 2 * _PIECES].roll(_PIECES, 1)
        with plain_float32(self.device), _sums_in_float32():
            return self._low[a] @ right.T


class _Side:
    """Candidates for the ``k`` best by scores times ``sign``: 1 for the nearest images, -1 for the farthest.

    Attributes:
        crowded: (N',) images with more candidates than it is worth to settle.
    """

    def __init__(self, scores: _Scores, count: int, k: int, sign: int):
        self._scores, self._count, self._k, self._sign = scores, count, k, sign
        end = scores.spans[-1].stop
        self.crowded = torch.zeros(end, dtype=torch.bool, device=scores.device)
        self._least = torch.full((end,), torch.inf, device=scores.device)  # score from which an image is a candidate
        self._crowd = max(_LEAST_CROWD, 8 * k)
        self._found: dict[int, Candidates] = {}
        self._tight: dict[int, int] = {}

    def begin(self, span: slice, block: Tensor) -> None:
        """Take the first bounds, and candidates, from the (n, n) scores of some images with one another."""
        best = self._best_of_groups(block, transposed=False)
        beyond = max(0, span.stop - self._count)
        if beyond:  # a group holds every (n / 32)-th column
            padded = torch.arange(block.shape[1] - beyond, block.shape[1], device=best.device)
            best[:, padded % best.shape[1]] = -torch.inf
        rows = slice(span.start, min(span.stop, self._count))
        best = best[: rows.stop - rows.start]
        kth = best.topk(self._k, dim=1).values[:, -1] if best.shape[1] >= self._k else -torch.inf
        self._least[rows] = -torch.inf
        self._raise(rows, kth)
        self._collect(block, span, span, transposed=False)

    def add(self, block: Tensor, a: slice, b: slice) -> None:
        """Take candidates, for both, from the (n, m) scores of the images ``a`` with other images ``b``."""
        self._collect(block, a, b, transposed=False)
        self._collect(block, b, a, transposed=True)

    def finish(self) -> None:
        """Forget the candidates that others have surpassed since they were taken."""
        for span in self._scores.spans:
            if span.start in self._found:
                self._tighten(span)

    def counts(self) -> Tensor:
        """(N',) candidates of each image."""
        rows = torch.cat([part.rows for part in self._found.values()])
        return torch.bincount(rows, minlength=len(self._least))

    def chosen(self, settled: Tensor) -> Candidates:
        """Candidates of the images where (N,) ``settled`` is true."""
        parts = [_where(part, settled[part.rows]) for part in self._found.values()]
        return Candidates(*(torch.cat(columns) for columns in zip(*parts)))

    def least_within(self, exact: Tensor) -> Tensor:
        """(N,) least score that an image of the (N,) true score ``exact`` can have."""
        return exact - self._scores.error[: self._count] - 1.05 * self._scores.rounding * exact.abs()

    def _raise(self, rows: slice, kth: Tensor | float) -> None:
        """Raise the bounds of some images, of whose candidates the k-th best has the score ``kth`` times the sign."""
        kth = torch.as_tensor(kth, device=self._least.device)
        slack = 2 * self._scores.error[rows] + 2.1 * self._scores.rounding * kth.abs().clamp(max=1e38)
        self._least[rows] = self._least[rows].maximum(kth - slack)

    def _best_of_groups(self, block: Tensor, *, transposed: bool) -> Tensor:
        """(n, G) best score, times the sign, of each row's groups of 32 columns; (m, G) if transposed."""
        n, m = block.shape
        grouped = block.view(n // _GROUP, _GROUP, m) if transposed else block.view(n, _GROUP, -1)
        best = (grouped.amax(1) if self._sign > 0 else grouped.amin(1)).float() * self._sign
        return best.T if transposed else best

    def _collect(self, block: Tensor, of: slice, among: slice, *, transposed: bool) -> None:
        """Add candidates of the images ``of`` among others; ``block`` has the former in rows unless transposed."""
        least = self._least[of]
        hit = self._best_of_groups(block, transposed=transposed) >= least[:, None]
        crowded = hit.sum(1) > self._crowd
        self._drop(of, crowded)
        groups, width = hit.shape[1], block.shape[1]
        hits = _true(hit & ~crowded[:, None])
        stride = width if transposed else groups
        member = torch.arange(_GROUP, dtype=torch.int32, device=block.device) * stride
        parts = [self._found[of.start]] if of.start in self._found else []
        for part in hits.split(_HITS_AT_ONCE):
            row, group = part // groups, part % groups
            first = row + group * (_GROUP * width) if transposed else row * width + group
            score = block.view(-1).index_select(0, (first.int()[:, None] + member).view(-1)).float()
            near = _true(score.view(-1, _GROUP) * self._sign >= least[row, None])
            which, place = near // _GROUP, near % _GROUP
            column = group[which] * _GROUP + place if transposed else group[which] + groups * place
            found = Candidates(row[which] + of.start, column + among.start, score[near])
            parts.append(found if among.stop <= self._count else _where(found, found.columns < self._count))
        if parts:
            self._found[of.start] = Candidates(*(torch.cat(columns) for columns in zip(*parts)))
            if len(self._found[of.start].rows) > 2 * self._tight.get(of.start, 0):
                self._tighten(of)

    def _tighten(self, span: slice) -> None:
        """Raise the bounds of some images by what has been found, and forget what falls below."""
        rows, _, scores = found = self._found[span.start]
        bits = (scores * -self._sign).view(torch.int32)
        ordered = (bits ^ (bits >> 31 & 0x7FFFFFFF)).long() + 2**31  # grows with the score, from 0
        order = (rows << 32 | ordered).argsort()
        rows, columns, scores = (column[order] for column in found)
        images = torch.arange(span.start, span.stop, device=rows.device)
        first = torch.searchsorted(rows, images)
        count = torch.searchsorted(rows, images, right=True) - first
        enough = count >= self._k
        kth = torch.full((len(images),), -torch.inf, device=rows.device)
        kth[enough] = scores[first[enough] + self._k - 1] * self._sign
        self._raise(span, kth)
        keep = scores * self._sign >= self._least[rows]
        self._found[span.start] = found = _where(Candidates(rows, columns, scores), keep)
        self._drop(span, torch.bincount(found.rows - span.start, minlength=len(images)) > self._crowd)
        self._tight[span.start] = len(found.rows)

    def _drop(self, span: slice, crowded: Tensor) -> None:
        """Give up on images."""
        if crowded.any():
            self.crowded[span] |= crowded
            self._least[span] = self._least[span].masked_fill(crowded, torch.inf)
            if span.start in self._found:
                found = self._found[span.start]
                self._found[span.start] = _where(found, ~crowded[found.rows - span.start])


def _true(mask: Tensor) -> Tensor:
    """(T,) int64 places of the true values of a flattened mask, ascending; NumPy finds them faster than torch does."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.view(-1).nonzero().flatten()


def _where(found: Candidates, keep: Tensor) -> Candidates:
    """Some of the candidates."""
    return Candidates(*(column[keep] for column in found))


def _search(features: Tensor, k: int, metric: str, memory_mb: float, *, progress: bool) -> tuple[_Side, _Side]:
    """Candidates for the k nearest and for the farthest image of all."""
    scores = _Scores(features, metric, memory_mb)
    sides = _Side(scores, len(features), k, 1), _Side(scores, len(features), 1, -1)
    spans = scores.spans
    with progress_bar(
        total=len(spans) * (len(spans) + 1) // 2, title="neighbors", unit="block", quiet=not progress, leave=True
    ) as bar:
        for span in spans:
            block = scores.square(span)
            for side in sides:
                side.begin(span, block)
            bar.update()
        for number, a in enumerate(spans):
            for b in spans[number + 1 :]:
                block = scores.block(a, b)
                for side in sides:
                    side.add(block, a, b)
                bar.update()
    for side in sides:
        side.finish()
    return sides


@contextmanager
def _sums_in_float32() -> Iterator[None]:
    """Products of bfloat16 whose parts are not rounded before they are added, for the time of the block."""
    setting = torch.backends.cuda.matmul
    before = setting.allow_bf16_reduced_precision_reduction
    try:
        setting.allow_bf16_reduced_precision_reduction = False
        yield
    finally:
        setting.allow_bf16_reduced_precision_reduction = before


def _bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device.type == "cpu":
        able = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
