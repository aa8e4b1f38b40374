"""Ranked lists: which queries to look at, and what a search answered them, ready to be shown.

Two kinds of failures are worth looking at. A query is *buried* where its right answers come late: its average precision
is low. It is *fooled* where somebody else comes first at a small distance: the network is wrong and sure of it, which
is what hurts where a threshold decides.

Shapes: Q queries, K ranks kept per query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from regard.errors import ConfigError, DataError, nearest
from regard.metrics import RankingReport
from regard.structures import DISTRACTOR, JUNK, Ranking, Sample

__all__ = [
    "Failure", "FailureKind", "Hit", "HitKind", "RankedList", "distance_text", "find_queries", "hardest",
    "pick_queries", "pictures_of", "random_queries", "ranked_lists", "titled_queries",
]  # fmt: skip

HitKind = Literal["right", "wrong", "junk", "unknown"]
FailureKind = Literal["buried", "fooled"]


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer.

    Attributes:
        sample: the gallery picture.
        rank: its place, 1 is the nearest; None of junk, which has none.
        distance: from the query, in the metric of the search.
        match: whether it shows the query's person; None where identities are unknown.
        junk: whether an evaluation leaves it out: nobody's picture, or the query's person by the query's own camera.
    """

    sample: Sample
    rank: int | None
    distance: float
    match: bool | None
    junk: bool = False

    @property
    def kind(self) -> HitKind:
        """What it is, in a word."""
        if self.junk:
            return "junk"
        return "unknown" if self.match is None else "right" if self.match else "wrong"


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

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain Python types, ready for JSON."""
        hits = [
            {"rank": hit.rank, "kind": hit.kind, "distance": hit.distance, **_described(hit.sample)}
            for hit in self.hits
        ]
        return {"title": self.title, "ap": self.ap, "query": _described(self.query), "hits": hits}


@dataclass(frozen=True, slots=True)
class Failure:
    """A query that went wrong, and how.

    Attributes:
        query: its index.
        kinds: in which ways it is among the hardest: ``"buried"`` (low average precision), ``"fooled"`` (a wrong
            answer at a small distance comes first), or both.
        ap: average precision, a fraction.
        first_right: rank of the first right answer, from 1.
        wrong: gallery index of the wrong answer that comes first; None where the first answer is right.
        wrong_distance: its distance; None where the first answer is right.
        right_distance: of the first right answer; None where the ranking ends before it.
    """

    query: int
    kinds: tuple[FailureKind, ...]
    ap: float
    first_right: int
    wrong: int | None
    wrong_distance: float | None
    right_distance: float | None

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain Python types, ready for JSON."""
        return asdict(self) | {"kinds": list(self.kinds)}

    def __str__(self) -> str:
        buried = f"average precision {100 * self.ap:.1f} %, first right answer at rank {self.first_right:,}"
        if self.wrong_distance is None:
            return buried
        right = "" if self.right_distance is None else f", the right one at {self.right_distance:.2f}"
        return f"somebody else comes first at distance {self.wrong_distance:.2f}{right}; {buried}"


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


def titled_queries(ap: np.ndarray, count: int = 3) -> dict[int, str]:
    """The queries of :func:`pick_queries`, and what each is an example of: ``"easy"``, ``"median"``, ``"hard"``."""
    chosen = pick_queries(ap, count)
    return dict(zip(chosen, _titles(len(chosen))))


def random_queries(ap: np.ndarray, count: int, seed: int = 0) -> list[int]:
    """Queries drawn at random among those with a right answer, none twice, in their own order.

    Args:
        ap: (Q,) average precision, NaN where a query has no right answer.
        count: how many; all of them if there are not as many.
        seed: of the drawing.

    Raises:
        ConfigError: ``count`` is less than one.
    """
    if count < 1:
        raise ConfigError(f"got count={count}, wanted at least one query to draw")
    valid = np.flatnonzero(~np.isnan(ap))
    return sorted(np.random.default_rng(seed).permutation(valid)[:count].tolist())


def hardest(
    ranking: Ranking, report: RankingReport, count: int = 5, kinds: tuple[FailureKind, ...] = ("buried", "fooled")
) -> list[Failure]:
    """The hardest failures of an evaluation.

    Queries without a match did not fail and are never among them, nor are those whose average precision is 1. Equal
    ones are ordered by index, so the same scores give the same failures.

    Args:
        ranking: of the Q queries, with matches.
        report: of the same evaluation.
        count: failures of each kind at most.
        kinds: which of them, the first kind first; a query that is in both is listed once, where it comes first.

    Returns:
        Worst first within each kind; empty where nothing failed.

    Raises:
        ConfigError: ``count`` is less than one, or ranking and report do not belong together.
    """
    if count < 1:
        raise ConfigError(f"got count={count}, wanted at least one failure to look for")
    if ranking.matches is None or len(ranking) != report.num_queries:
        known = "no matches" if ranking.matches is None else f"{len(ranking)} queries"
        raise ConfigError(
            f"got a ranking with {known} and a report of {report.num_queries} queries; pass both of one evaluation"
        )
    buried, fooled = np.flatnonzero(report.ap < 1), np.flatnonzero(report.first_hit > 1)  # NaN is not below 1
    orders = {
        "buried": buried[np.argsort(report.ap[buried], kind="stable")],
        "fooled": fooled[np.argsort(ranking.distances[fooled, 0], kind="stable")],
    }
    chosen: dict[int, list[FailureKind]] = {}
    for kind in kinds:
        for query in orders[kind][:count].tolist():
            chosen.setdefault(query, []).append(kind)
    return [_failure(ranking, report, query, tuple(found)) for query, found in chosen.items()]


def _failure(ranking: Ranking, report: RankingReport, query: int, kinds: tuple[FailureKind, ...]) -> Failure:
    first = int(report.first_hit[query])
    distances = ranking.distances[query]
    wrong = first > 1
    return Failure(
        query=query,
        kinds=kinds,
        ap=float(report.ap[query]),
        first_right=first,
        wrong=int(ranking.indices[query, 0]) if wrong else None,
        wrong_distance=float(distances[0]) if wrong else None,
        right_distance=float(distances[first - 1]) if first <= len(distances) else None,
    )


def find_queries(texts: Sequence[str], query: Sequence[Sample]) -> list[int]:
    """Queries by what people call them.

    Args:
        texts: each a number from 0 in the order of the data set, ``pid=N`` for all queries of a person, or a picture's
            path or file name.
        query: the query samples.

    Returns:
        Indices into ``query``, in the order asked for, none twice.

    Raises:
        DataError: there is no such query.
    """
    return list(dict.fromkeys(index for text in texts for index in _called(text, query)))


def pictures_of(
    names: Sequence[str] | None, samples: Sequence[Sample], side: str, others: Sequence[Sample] = ()
) -> Sequence[Sample]:
    """The pictures that one side of a ranking speaks of, in its order.

    Args:
        names: what they are called there, by path or, where no other picture of that side has it, by file name; None:
            they are ``samples``.
        samples: the pictures of that side, which come first where a picture is also among the others.
        side: its name, "query" or "gallery".
        others: pictures that may be asked for by path besides.

    Raises:
        ConfigError: there is no such picture, or several of them.
    """
    asked = None if names is None else [str(name) for name in names]
    if asked is None or asked == [str(sample.path) for sample in samples]:
        return samples
    by_path = {sample.path.absolute(): sample for sample in (*others, *samples)}
    by_file: dict[str, set[Path]] = {}
    for sample in samples:
        by_file.setdefault(sample.path.name, set()).add(sample.path)
    found = []
    for name in asked:
        paths = by_file.get(name, set())
        picture = by_path.get((next(iter(paths)) if len(paths) == 1 else Path(name)).absolute())
        if picture is None:
            said = f"is the file of {len(paths)} pictures" if paths else "is no picture"
            step = "name pictures by their paths" if paths else "pass the data set that was ranked"
            raise ConfigError(f"the ranking's {side} {name!r} {said} of the data set; {step}")
        found.append(picture)
    return found


def ranked_lists(
    ranking: Ranking,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    ap: np.ndarray,
    *,
    count: int = 3,
    depth: int = 10,
    picks: Mapping[int, str] | None = None,
    junk: bool = False,
) -> list[RankedList]:
    """The ranked lists of an easy, a median and a hard query, or of those picked.

    Args:
        ranking: of ``query`` in ``gallery``; lists get shorter where the gallery ran out.
        query, gallery: the samples the ranking speaks of; in its order where it has no names, else looked up by them.
        ap: (Q,) average precision per query, NaN where there is no right answer.
        count: number of lists, see :func:`pick_queries`.
        depth: pictures per list.
        picks: index of a query -> title of its list, in the order to show them, instead of ``count``.
        junk: the ranking still holds junk, as :func:`~regard.report.answers.answers` keeps it: who is right is read
            off the samples, and junk gets no rank.

    Returns:
        One list per picked query, easiest first unless picked otherwise.

    Raises:
        ConfigError: the ranking, the samples and the precisions do not belong together.
    """
    query = pictures_of(ranking.query_names, query, "query")
    gallery = pictures_of(ranking.gallery_names, gallery, "gallery")
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
    if picks is None:
        picks = titled_queries(ap, count)
    return [
        RankedList(title, query[q], _hits(ranking, q, query[q], gallery, depth, junk=junk), float(ap[q]))
        for q, title in picks.items()
    ]


def _hits(
    ranking: Ranking, q: int, asked: Sample, gallery: Sequence[Sample], depth: int, *, junk: bool
) -> tuple[Hit, ...]:
    hits, rank = [], 0
    for place, index in enumerate(ranking.indices[q, :depth].tolist()):
        if index < 0:
            break
        shown = gallery[index]
        same = shown.pid == asked.pid > DISTRACTOR
        left_out = junk and (shown.pid == JUNK or (same and shown.camid == asked.camid))
        match = same if junk else None if ranking.matches is None else bool(ranking.matches[q, place])
        rank += not left_out
        distance = float(ranking.distances[q, place])
        hits.append(Hit(shown, None if left_out else rank, distance, match, left_out))
    return tuple(hits)


def _called(text: str, query: Sequence[Sample]) -> list[int]:
    """Queries that a text stands for."""
    if text.isdecimal():
        if int(text) >= len(query):
            raise DataError(f"got query {text}, there are {len(query):,}: 0 to {len(query) - 1}; or say pid={text}")
        return [int(text)]
    if text.startswith("pid="):
        if found := [index for index, sample in enumerate(query) if str(sample.pid) == text[4:]]:
            return found
        people = sorted({sample.pid for sample in query})
        raise DataError(
            f"no query shows person {text[4:]!r}; there are {len(people):,}, from {people[0]} to {people[-1]}"
        )
    if found := [index for index, sample in enumerate(query) if text in (str(sample.path), sample.path.name)]:
        return found
    near = nearest(Path(text).name, [sample.path.name for sample in query])
    raise DataError(f"no query is the picture {text!r}{near}; give a number, pid=N or a file name")


def distance_text(value: float, decimals: int = 2) -> str:
    """A distance with that many decimals, or two digits where these would show nothing of it."""
    small = 5e-7 <= abs(value) < 10 ** (1 - decimals)
    return f"{value:.2g}" if small else f"{value:.{decimals}f}"


def _described(sample: Sample) -> dict[str, Any]:
    return {"path": str(sample.path), "pid": sample.pid, "camid": sample.camid}


def _titles(count: int) -> list[str]:
    """Names of ``count`` evenly spaced difficulties."""
    if count == 1:
        return ["median"]
    titles = [f"{round(100 * i / (count - 1))} % down the list" for i in range(count)]
    if count % 2:
        titles[count // 2] = "median"
    return ["easy", *titles[1:-1], "hard"] if count else []
