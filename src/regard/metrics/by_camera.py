"""Where an evaluation is good and where it is not: by camera pair, and averaged over persons or cameras.

Shapes: Q queries, G gallery images, A query cameras, B gallery cameras.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from regard.errors import DataError
from regard.metrics.average_precision import Scores, score_ranks
from regard.metrics.distance import comparable, distance_blocks, ordering
from regard.metrics.feature_set import FeatureSet, Ids, as_ids, as_pids, check_sets
from regard.metrics.protocol import Protocol, read_protocol
from regard.metrics.ranking import positive_ranks
from regard.metrics.ranking_report import RankingReport
from regard.structures import JUNK
from regard.wording import table

__all__ = ["Averages", "CameraPairs", "average", "evaluate_camera_pairs"]


class CameraPairs(NamedTuple):
    """Figures of every query camera in the gallery of every other one alone; NaN where no query has a match.

    Attributes:
        query_cameras, gallery_cameras: (A,) and (B,) camera numbers, ascending.
        mAP, rank1: (A, B) fractions over the queries with a match.
        num_queries: (A, B) int64 of those.
    """

    query_cameras: np.ndarray
    gallery_cameras: np.ndarray
    mAP: np.ndarray
    rank1: np.ndarray
    num_queries: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """One row per camera pair that has queries, in plain Python types."""
        rows = []
        for a, b in zip(*np.nonzero(self.num_queries)):
            cell = {"query_camera": self.query_cameras[a], "gallery_camera": self.gallery_cameras[b]}
            cell |= {name: getattr(self, name)[a, b] for name in ("mAP", "rank1", "num_queries")}
            rows.append({key: value.item() for key, value in cell.items()})
        return {"pairs": rows}

    def __str__(self) -> str:
        rows = [["query camera", *(f"in {camera}" for camera in self.gallery_cameras)]]
        for camera, *row in zip(self.query_cameras, self.mAP, self.rank1, self.num_queries):
            cells = [f"{100 * a:.1f} {100 * r:.1f} ({n})" if n else "-" for a, r, n in zip(*row)]
            rows.append([str(camera), *cells])
        return "\n".join([*table(rows, left=()), "  mAP and rank-1 in % (queries)"])


class Averages(NamedTuple):
    """The same figures averaged three ways; every one is a fraction over the queries that the report counts.

    Attributes:
        micro: mAP, mINP and rank1 over queries.
        per_identity: over persons, each the mean of its queries.
        per_camera: over query cameras, each the mean of its queries; None if there are no cameras.
    """

    micro: dict[str, float]
    per_identity: dict[str, float]
    per_camera: dict[str, float] | None

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain Python types, ready for JSON."""
        return self._asdict()

    def __str__(self) -> str:
        means = {"queries": self.micro, "people": self.per_identity, "query cameras": self.per_camera}
        rows = [[label, *(f"{100 * value:.2f}" for value in row.values())] for label, row in means.items() if row]
        return "\n".join([*table([["mean over", *self.micro], *rows]), "  in %"])


def average(report: RankingReport, query_pids: Ids, query_camids: Ids | None = None) -> Averages:
    """Micro and macro averages of an evaluation.

    Args:
        report: of Q queries.
        query_pids, query_camids: (Q,) as given to the evaluation.

    Raises:
        DataError: the arrays do not fit the report.
    """
    count = report.num_queries
    valid = (report.first_hit > 0) | (report.options.get("unmatched") == "zero")
    figures = {"mAP": report.ap, "mINP": report.inp, "rank1": report.first_hit == 1}
    figures = {name: np.nan_to_num(values.astype(float)) for name, values in figures.items()}
    groups = [np.arange(count), as_pids(query_pids, count, "query_pids")]
    groups += [] if query_camids is None else [as_ids(query_camids, count, "query_camids")]
    means = [{name: _macro(values[valid], group[valid]) for name, values in figures.items()} for group in groups]
    return Averages(means[0], means[1], means[2] if query_camids is not None else None)


def _macro(values: np.ndarray, groups: np.ndarray) -> float:
    """Mean over groups of the mean within each."""
    _, index = np.unique(groups, return_inverse=True)
    return float((np.bincount(index, values) / np.bincount(index)).mean())


def evaluate_camera_pairs(
    query: FeatureSet,
    gallery: FeatureSet,
    *,
    metric: str = "cosine",
    ap: str = "step",
    memory_mb: float = 256,
    device: torch.device | str | None = None,
) -> CameraPairs:
    """mAP and rank-1 of each query camera in the gallery of each camera alone, by the same protocol.

    Args:
        query, gallery: Q and G descriptors with cameras.
        metric, ap, memory_mb, device: as for :func:`regard.evaluate_ranking`.

    Raises:
        ConfigError: an option is wrong.
        DataError: the arrays do not fit each other, are not finite, or there are no cameras.
    """
    check_sets(query, gallery)
    if query.camids is None or gallery.camids is None:
        raise DataError("a table by cameras needs query_camids and gallery_camids: give the cameras of both sides")
    order = ordering(metric)
    queries, targets = comparable(query.embeddings, gallery.embeddings, metric, device)
    whole = read_protocol(query, gallery)
    assert whole.query_camids is not None
    assert whole.gallery_camids is not None
    asked, by_query = np.unique(whole.query_camids, return_inverse=True)
    cameras = np.unique(whole.gallery_camids[whole.kept])
    size = len(asked), len(cameras)
    table = CameraPairs(asked, cameras, np.full(size, np.nan), np.full(size, np.nan), np.zeros(size, np.int64))
    for number, camera in enumerate(cameras):
        shown = np.flatnonzero((whole.gallery_camids == camera) & (whole.gallery_pids != JUNK))
        part = Protocol(whole.query_pids, whole.gallery_pids[shown], whole.query_camids, whole.gallery_camids[shown])
        blocks = distance_blocks(
            queries, targets[torch.from_numpy(shown).to(targets.device)], metric=order, memory_mb=memory_mb
        )
        scores = Scores.unmatched(len(queries))
        for rows, ranks, counts in positive_ranks(blocks, part, memory_mb):
            scores.fill(rows, score_ranks(ranks, counts, ap))
        for row in range(len(asked)):
            valid = (by_query == row) & (scores.first_hit > 0)
            table.num_queries[row, number] = valid.sum()
            if valid.any():
                table.mAP[row, number] = scores.ap[valid].mean()
                table.rank1[row, number] = (scores.first_hit[valid] == 1).mean()
    return table
