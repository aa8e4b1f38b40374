"""Ranked lists: what a search answered, ready to be shown.

Shapes: Q queries, K ranks kept per query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regard.errors import ConfigError
from regard.structures import Ranking, Sample

__all__ = ["Hit", "RankedList", "pick_queries", "ranked_lists"]


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer.

    Attributes:
        sample: the gallery picture.
        rank: its place, 1 is the nearest.
        distance: from the query, in the metric of the search.
        match: whether it shows the query's person; None where identities are unknown.
    """

    sample: Sample
    rank: int
    distance: float
    match: bool | None


@dataclass(frozen=True, slots=True)
class RankedList:
    """A query and its answers, nearest first.

    Attributes:
        title: what the list is an example of ("easy").
        query: the picture asked for.
        hits: the answers.
        ap: average precision of the query as a fraction; None where identities are unknown.
    """

    title: str
    query: Sample
    hits: tuple[Hit, ...]
    ap: float | None = None


def pick_queries(ap: np.ndarray, count: int = 3) -> list[int]:
    """Queries from the easiest to the hardest, evenly spaced in the order of their average precision.

    Args:
        ap: (Q,) average precision, NaN where a query has no right answer; those are never picked.
        count: how many; three are the easiest, the median and the hardest, one is the median.

    Returns:
        Indices into ``ap``, highest precision first, no index twice; fewer than ``count`` if there are not as many
        queries. Equal precisions are ordered by index, so the same scores give the same picks.

    Raises:
        ConfigError: ``count`` is less than one.
    """
    if count < 1:
        raise ConfigError(f"got count={count}, wanted at least one query to pick")
    ap = np.asarray(ap, dtype=np.float64)
    order = np.argsort(-ap, kind="stable")  # NaN goes last
    order = order[: np.count_nonzero(~np.isnan(ap))]
    if len(order) <= count:
        return order.tolist()
    if count == 1:
        return [int(order[(len(order) - 1) // 2])]
    places = [round(i * (len(order) - 1) / (count - 1)) for i in range(count)]
    return order[places].tolist()


def ranked_lists(
    ranking: Ranking,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    ap: np.ndarray,
    count: int = 3,
    depth: int = 10,
) -> list[RankedList]:
    """The ranked lists of an easy, a median and a hard query.

    Args:
        ranking: of ``query`` in ``gallery``; lists get shorter where the gallery ran out.
        query, gallery: the samples the ranking speaks of, in its order.
        ap: (Q,) average precision per query, NaN where there is no right answer.
        count: number of lists, see :func:`pick_queries`.
        depth: answers per list.

    Returns:
        One list per picked query, easiest first.

    Raises:
        ConfigError: the ranking, the samples and the precisions do not belong together.
    """
    if not len(ranking) == len(query) == len(ap):
        raise ConfigError(
            f"got a ranking of {len(ranking)} queries, {len(query)} query samples and {len(ap)} average precisions; "
            "pass all three from the same evaluation"
        )
    if ranking.indices.size and ranking.indices.max() >= len(gallery):
        raise ConfigError(
            f"the ranking names gallery image {ranking.indices.max()}, the gallery has {len(gallery)}; "
            "pass the gallery it was made from"
        )
    picks = pick_queries(ap, count)
    return [
        RankedList(title, query[q], _hits(ranking, q, gallery, depth), float(ap[q]))
        for title, q in zip(_titles(len(picks)), picks)
    ]


def _hits(ranking: Ranking, q: int, gallery: Sequence[Sample], depth: int) -> tuple[Hit, ...]:
    return tuple(
        Hit(
            sample=gallery[index],
            rank=rank + 1,
            distance=float(ranking.distances[q, rank]),
            match=None if ranking.matches is None else bool(ranking.matches[q, rank]),
        )
        for rank, index in enumerate(ranking.indices[q, :depth].tolist())
        if index >= 0
    )


def _titles(count: int) -> list[str]:
    """Names of ``count`` evenly spaced difficulties."""
    if count == 1:
        return ["median"]
    titles = [f"{round(100 * i / (count - 1))} % down the list" for i in range(count)]
    if count % 2:
        titles[count // 2] = "median"
    return ["easy", *titles[1:-1], "hard"] if count else []
