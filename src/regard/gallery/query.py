"""From descriptors of one person to ranked matches.

Shapes: P pictures of one person, N rows, D descriptor length.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from regard.calibration.similarity import check_prior
from regard.errors import ConfigError, DataError, check_kind
from regard.gallery.engine_protocol import Engine
from regard.gallery.record import Filter, Hit, Record
from regard.metrics import KReciprocal, rerank_blocks

__all__ = ["Answer", "Match", "combine", "count_people", "probabilities", "search", "unit_rows"]

CANDIDATES = 100
"""Re-ranking looks at this many, or at five times the matches asked for."""

MOST = 1000
"""Matches a search may be asked for, and records a grouped one may look at for each of them."""


@dataclass(frozen=True, slots=True)
class Match:
    """One answer.

    Attributes:
        rank: its place, from 1.
        record: what was found.
        score: cosine similarity, -1 to 1.
        probability: that it shows the same person, where the model is calibrated.
        track: the other records of its tracklet that were found, where matches are grouped.
    """

    rank: int
    record: Record
    score: float
    probability: float | None = None
    track: tuple[Record, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "rank": self.rank,
            "score": round(self.score, 6),
            "probability": None if self.probability is None else round(self.probability, 6),
            "record": self.record.to_dict(),
            "track": [record.to_dict() for record in self.track],
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search found.

    Attributes:
        matches: best first.
        searched: records the filter accepted.
        exact: whether all of them were compared.
        seconds: how long it took.
        prior: how probable each match was before looking; None where there are no probabilities.
    """

    matches: tuple[Match, ...]
    searched: int
    exact: bool
    seconds: float
    prior: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "matches": [match.to_dict() for match in self.matches],
            "searched": self.searched,
            "exact": self.exact,
            "seconds": round(self.seconds, 4),
            "prior": self.prior,
        }


def search(
    engine: Engine,
    query: np.ndarray,
    k: int,
    filter: Filter,
    *,
    exact: bool = True,
    rerank: bool = False,
    group: bool = False,
    calibration: Any = None,
    prior: float | None = None,
) -> Answer:
    """The k best matches of one person.

    Args:
        engine: where to look.
        query: (D,) or (P, D) descriptors of pictures of one person.
        k: matches wanted, 1 to 1000.
        filter: what may be seen.
        exact: compare with everything.
        rerank: order the best candidates by k-reciprocal re-ranking; scores stay the cosines.
        group: one match per tracklet, its best picture.
        calibration: what turns cosines into probabilities; None for none.
        prior: how probable a match is before one looks, 0 to 1; None takes the calibration's.

    Raises:
        ConfigError: k or the prior is out of range, or an option is of another kind.
        DataError: the descriptors do not fit the gallery.
    """
    if isinstance(k, bool) or not hasattr(k, "__index__") or not 1 <= k <= MOST:
        raise ConfigError(f"got k={k}, wanted 1 to {MOST} matches")
    check_kind("filter", filter, Filter, "Filter(...), or None for all")
    check_kind("rerank", rerank, bool, "true or false")
    if prior is not None:
        check_prior(prior)
    started = time.perf_counter()
    vector = combine(query, engine.dim)
    hits = candidates(
        engine, vector, max(CANDIDATES, 5 * k) if rerank else k, filter, exact=exact, groups=k if group else 0
    )
    if rerank and len(hits) > 2:
        hits = reranked(engine, vector, hits)
    matches = grouped(hits)[:k] if group else [Match(0, hit.record, hit.score) for hit in hits[:k]]
    if calibration is None:
        prior = None
    elif prior is None:
        prior = float(calibration.prior)
    chances = probabilities(calibration, np.array([match.score for match in matches]), prior)
    found = tuple(
        replace(m, rank=rank, probability=chance) for rank, (m, chance) in enumerate(zip(matches, chances), 1)
    )
    return Answer(found, engine.count(filter), exact, time.perf_counter() - started, prior)


def count_people(engine: Engine) -> int:
    """How many people a gallery may show: its named people or its tracklets, whichever are fewer.

    Pictures without a name count as one person each, so do pictures without a tracklet. A person seen in several
    tracklets counts several times: without names this is rather too many than too few.
    """
    pictures = engine.count(Filter())
    counts = [engine.values(name, max(pictures, 1)) for name in ("person", "track")]
    return min(len(known) + pictures - sum(known.values()) for known in counts)


def unit_rows(vectors: np.ndarray, dim: int) -> np.ndarray:
    """(N, D) float32 rows of length 1.

    Raises:
        DataError: another shape, a row that is not finite, or one that is zero.
    """
    vectors = np.atleast_2d(np.asarray(vectors, np.float32))
    if vectors.ndim != 2 or vectors.shape[1] != dim or not len(vectors):
        raise DataError(f"got descriptors of shape {vectors.shape}, the gallery has (N, {dim}); use its model")
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise DataError("got a descriptor that is zero or not finite; check the picture and the model")
    return (vectors / lengths).astype(np.float32)


def combine(query: np.ndarray, dim: int) -> np.ndarray:
    """(D,) descriptor of a person: the direction of the mean of its pictures' directions."""
    return unit_rows(unit_rows(query, dim).mean(0), dim)[0]


def candidates(
    engine: Engine, vector: np.ndarray, want: int, filter: Filter, *, exact: bool, groups: int = 0
) -> list[Hit]:
    """At least the ``want`` best hits, by score and at equal scores by id; more where a tie or a group needs them."""
    fetch = want
    while True:
        hits = engine.search(vector[None], fetch + 1, filter, exact=exact)[0]
        tied = len(hits) > fetch and hits[fetch].score == hits[want - 1].score
        few = groups and len(grouped(hits[:fetch])) < groups
        if len(hits) <= fetch or fetch >= MOST * max(want, 1) or not (tied or few):
            return sorted(hits, key=lambda hit: (-hit.score, hit.record.id))
        fetch *= 2


def reranked(engine: Engine, vector: np.ndarray, hits: Sequence[Hit]) -> list[Hit]:
    """The hits in the order of their k-reciprocal distance to the query."""
    vectors = np.stack([item.vector for item in engine.get([hit.record.id for hit in hits])])
    ((_, distances),) = rerank_blocks(vector[None], vectors, KReciprocal(k1=min(20, len(hits) - 1)))
    return [hits[index] for index in np.argsort(distances[0].numpy(), kind="stable")]


def grouped(hits: Sequence[Hit]) -> list[Match]:
    """One match per tracklet of a camera, in the order of its best hit; hits without a track stand alone."""
    groups: dict[Any, list[Hit]] = {}
    for hit in hits:
        record = hit.record
        groups.setdefault((record.camera, record.track) if record.track else record.id, []).append(hit)
    return [
        Match(0, best.record, best.score, track=tuple(hit.record for hit in others))
        for best, *others in groups.values()
    ]


def probabilities(calibration: Any, scores: np.ndarray, prior: float | None = None) -> list[float | None]:
    """Probability of the same person for each cosine; None for each where there is no calibration."""
    if calibration is None or not len(scores):
        return [None] * len(scores)
    chances = np.asarray(calibration.probability(scores, **({} if prior is None else {"prior": prior})), np.float64)
    return [float(chance) for chance in chances]
