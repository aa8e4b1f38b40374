"""Open-set figures: is this the same person at all, and is the person asked for in the gallery?

Shapes: Q queries, G gallery images, n queries of one block.

Verification takes every (query, gallery) pair that the protocol leaves, and asks at a false positive rate which share
of the right pairs lies below the threshold (a point of the ROC). Identification takes every query: an alarm is raised
when its nearest image lies below the threshold. The false alarm rate is the share of alarms among queries without a
match, the detection and identification rate (DIR) the share of queries with one whose nearest image is right and below
the threshold.

Distances are counted, not kept. Pairs are counted in bins of the leading 21 bits of a float32, so that thresholds of
the ROC stand in steps of 1 in 8,192; both rates are exact counts at the threshold that is reported, the lowest step
above which the false positive rate would exceed the wish. Those of identification are exact distances.

Source: Grother et al., Face Recognition Vendor Test, NISTIR 8271 (DIR is 1 - FNIR at rank 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from regard.errors import ConfigError
from regard.metrics.distance import comparable, distance_blocks, ordering
from regard.metrics.feature_set import FeatureSet, check_sets
from regard.metrics.protocol import read_protocol
from regard.metrics.ranking import mask_pairs, thin_blocks
from regard.wording import count, table

__all__ = ["OpenSet", "OperatingPoint", "evaluate_open_set"]

FALSE_ALARM_RATES = (0.001, 0.01, 0.1)
_BITS = 10  # of the mantissa that the bins leave out
_REMOVED = 0x7F800000 >> _BITS  # the bin of infinity, where removed pairs are


class OperatingPoint(NamedTuple):
    """What one threshold gives.

    Attributes:
        wanted: false alarm rate asked for.
        false_rate: the rate reached, at most ``wanted``.
        true_rate: share found: TPR for pairs, DIR for queries. NaN where there is none to find.
        threshold: distances below it count as the same person.
    """

    wanted: float
    false_rate: float
    true_rate: float
    threshold: float


class OpenSet(NamedTuple):
    """Open-set figures of an evaluation; every rate is a fraction.

    Attributes:
        verification: points of the ROC, one per rate asked for. Empty without a wrong pair.
        identification: DIR at each rate. Empty where every query has a match.
        num_right, num_wrong: pairs counted.
        num_known, num_unknown: queries with and without a match.
        metric: the distance that thresholds are in.
    """

    verification: tuple[OperatingPoint, ...]
    identification: tuple[OperatingPoint, ...]
    num_right: int
    num_wrong: int
    num_known: int
    num_unknown: int
    metric: str

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain Python types, ready for JSON; rates of nothing are None."""
        content: dict[str, Any] = self._asdict()
        for name in ("verification", "identification"):
            rows = [point._asdict() for point in getattr(self, name)]
            content[name] = [{key: None if np.isnan(value) else value for key, value in row.items()} for row in rows]
        return content

    def __str__(self) -> str:
        rows = [("  false alarms", "TPR, pairs", "threshold", "DIR, queries", "threshold")]
        found: dict[float, list[OperatingPoint | None]] = {}
        for place, points in enumerate((self.verification, self.identification)):
            for point in points:
                found.setdefault(point.wanted, [None, None])[place] = point
        for wanted, points in found.items():
            cells = [(f"{100 * p.true_rate:.2f}", f"{p.threshold:.4f}") if p else ("-", "-") for p in points]
            rows.append((f"{100 * wanted:g}", *cells[0], *cells[1]))
        pairs = f"{self.num_right:,} right and {self.num_wrong:,} wrong pairs"
        queries = f"{count(self.num_known, 'query')} with a match and {self.num_unknown:,} without"
        return "\n".join([*table(rows, left=()), f"  in %; {pairs}; {queries}; metric {self.metric}"])


def evaluate_open_set(
    query: FeatureSet,
    gallery: FeatureSet,
    *,
    metric: str = "cosine",
    rates: Sequence[float] = FALSE_ALARM_RATES,
    memory_mb: float = 256,
    device: torch.device | str | None = None,
    ignore_cameras: bool = False,
    leave_one_out: bool = False,
) -> OpenSet:
    """ROC over all pairs and DIR over all queries, at fixed false alarm rates.

    Args:
        query, gallery: Q and G descriptors. Queries of a pid that the gallery lacks, and distractors (0), are the
            unknown ones; junk queries (-1) are left out.
        metric, memory_mb, device, ignore_cameras, leave_one_out: as for :func:`regard.evaluate_ranking`.
        rates: false alarm rates wanted, each from 0 to 1.

    Raises:
        ConfigError: an option is wrong.
        DataError: the arrays do not fit each other or are not finite.
    """
    if not rates or not all(0 <= rate <= 1 for rate in rates):
        raise ConfigError(f"false alarm rates are {list(rates)}: give fractions from 0 to 1, for example 0.01")
    order = ordering(metric)
    check_sets(query, gallery)
    queries, targets = comparable(query.embeddings, gallery.embeddings, metric, device)
    protocol = read_protocol(query, gallery, ignore_cameras=ignore_cameras, leave_one_out=leave_one_out)
    asked = np.flatnonzero(protocol.query_pids != -1)
    protocol = protocol.of_queries(asked)
    queries, targets = queries[torch.from_numpy(asked).to(targets.device)], protocol.without_junk(targets)

    right = torch.zeros(2 ** (31 - _BITS), dtype=torch.int64, device=targets.device)
    every = right.clone()
    nearest, correct, known = np.empty(len(asked), np.float32), np.zeros(len(asked), bool), np.zeros(len(asked), bool)
    blocks = distance_blocks(queries, targets, metric=order, memory_mb=memory_mb) if len(asked) else ()
    for rows, block in thin_blocks(blocks, memory_mb):
        positives, removed = protocol.pairs(rows)
        mask_pairs(block, removed)
        row, column = (torch.from_numpy(index).to(block.device) for index in positives)
        for counts, values in ((every, block.flatten()), (right, block[row, column])):
            bins = (values.view(torch.int32) >> _BITS).long()  # grow with the distance, which is at least 0
            counts.scatter_add_(0, bins, torch.ones_like(bins))
        least, first = block.min(1)
        nearest[rows] = least.cpu().numpy()
        pids = protocol.gallery_pids[protocol.kept[first_of_ties(block, least, first).cpu().numpy()]]
        known[rows] = np.bincount(positives.rows, minlength=len(block)) > 0
        correct[rows] = known[rows] & np.isfinite(nearest[rows]) & (pids == protocol.query_pids[rows])
    every[_REMOVED] = 0
    wrong, right = (every - right).cpu().numpy(), right.cpu().numpy()
    root = order != metric
    return OpenSet(
        _verification(right, wrong, rates, root=root),
        _identification(nearest, correct, known, rates, root=root),
        int(right.sum()),
        int(wrong.sum()),
        int(known.sum()),
        int((~known).sum()),
        metric,
    )


def first_of_ties(block: torch.Tensor, least: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
    """(n,) first column of each row that holds its least value."""
    tied = (block == least[:, None]).sum(1) > 1
    if tied.any():
        column[tied] = (block[tied] == least[tied, None]).int().argmax(1)
    return column


def _edge(number: int) -> float:
    """The least distance of a bin."""
    return float(np.array(number << _BITS, np.int32).view(np.float32))


def _verification(
    right: np.ndarray, wrong: np.ndarray, rates: Sequence[float], *, root: bool
) -> tuple[OperatingPoint, ...]:
    """TPR at the highest bin edge below which no more than the wished share of wrong pairs lies."""
    below, found = (np.concatenate([[0], counts.cumsum()]) for counts in (wrong, right))
    if not below[-1]:
        return ()
    points = []
    last = np.flatnonzero(right + wrong)[-1] + 1
    for rate in rates:
        edge = min(int(np.searchsorted(below, rate * below[-1], side="right")) - 1, last)
        threshold = _edge(edge) ** (0.5 if root else 1)
        true_rate = found[edge] / found[-1] if found[-1] else float("nan")
        points.append(OperatingPoint(rate, float(below[edge] / below[-1]), float(true_rate), threshold))
    return tuple(points)


def _identification(
    nearest: np.ndarray, correct: np.ndarray, known: np.ndarray, rates: Sequence[float], *, root: bool
) -> tuple[OperatingPoint, ...]:
    """DIR at the highest threshold that alarms for no more than the wished share of unknown queries."""
    alarms = np.sort(nearest[~known])
    if not len(alarms):
        return ()
    points = []
    for rate in rates:
        allowed = int(np.floor(rate * len(alarms) + 1e-9))
        threshold = alarms[allowed] if allowed < len(alarms) else np.float32(np.inf)
        false_rate = (alarms < threshold).mean()
        true_rate = (correct & (nearest < threshold))[known].mean() if known.any() else float("nan")
        value = float(threshold) ** (0.5 if root else 1)
        points.append(OperatingPoint(rate, float(false_rate), float(true_rate), value))
    return tuple(points)
