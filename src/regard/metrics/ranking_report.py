"""One call from descriptors to the figures papers report.

Shapes: Q queries, G gallery images, D descriptor length, R ranks of the CMC curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from regard.errors import ConfigError, DataError, check_kind, is_whole, nearest
from regard.metrics.average_precision import (
    AP_FORMS,
    CMC_FLAVORS,
    RANKS,
    Scores,
    SingleShot,
    all_shots,
    cmc_curve,
    score_ranks,
)
from regard.metrics.distance import Array, comparable, distance_blocks, ordering
from regard.metrics.expansion import QueryExpansion, expand_queries
from regard.metrics.feature_set import Ids, side_of
from regard.metrics.protocol import ONE_LIST, read_protocol
from regard.metrics.ranking import positive_ranks
from regard.metrics.rerank import KReciprocal, rerank_blocks
from regard.progress import progress_bar
from regard.structures import MatchLists
from regard.wording import table

__all__ = ["RankingReport", "evaluate_ranking", "in_words", "option_lines"]

UNMATCHED = ("skip", "zero")
JUNK_RULES = ("before", "query")


@dataclass(frozen=True, eq=False)
class RankingReport:
    """What an evaluation found; every figure is a fraction.

    Attributes:
        mAP: mean average precision.
        mINP: mean inverse negative penalty.
        cmc: (R,) share of queries with a right image among the first 1, 2, ..., R (of the flavor in ``options``).
        ap, inp: (Q,) float64 per query, NaN where it has no match.
        first_hit: (Q,) int64 rank of the first right image per query, from 1; -1 where it has no match.
        options: what was chosen where toolkits differ, by name.
    """

    mAP: float
    mINP: float
    cmc: np.ndarray
    ap: np.ndarray
    inp: np.ndarray
    first_hit: np.ndarray
    options: dict[str, str]

    @property
    def num_queries(self) -> int:
        """Queries asked."""
        return len(self.first_hit)

    @property
    def num_valid(self) -> int:
        """Queries that have a match in the gallery."""
        return int((self.first_hit > 0).sum())

    def rank(self, k: int) -> float:
        """Share of queries with a right image among the first ``k``.

        Raises:
            ConfigError: k is not on the curve.
        """
        if not 1 <= k <= len(self.cmc):
            raise ConfigError(f"rank-{k} asked of a curve of {len(self.cmc)} ranks: evaluate with max_rank={max(k, 1)}")
        return float(self.cmc[k - 1])

    def figures(self) -> dict[str, float]:
        """mAP, mINP and the CMC at those of :data:`~regard.metrics.average_precision.RANKS` on the curve, by name."""
        ranks = {f"rank-{k}": self.rank(k) for k in RANKS if k <= len(self.cmc)}
        return {"mAP": self.mAP, "mINP": self.mINP, **ranks}

    def to_dict(self, *, per_query: bool = False) -> dict[str, Any]:
        """All of it in plain Python types, ready for JSON; with ``per_query`` also ap, inp and first_hit."""
        content: dict[str, Any] = {
            "mAP": self.mAP,
            "mINP": self.mINP,
            "cmc": self.cmc.tolist(),
            "num_queries": self.num_queries,
            "num_valid": self.num_valid,
            "options": dict(self.options),
        }
        if per_query:
            for name in ("ap", "inp", "first_hit"):
                values = getattr(self, name).tolist()
                content[name] = [value if hit > 0 else None for value, hit in zip(values, self.first_hit)]
        return content

    def __str__(self) -> str:
        cells = {name: f"{100 * value:.2f}" for name, value in self.figures().items()}
        cells |= {"queries": f"{self.num_queries:,}", "unmatched": f"{self.num_queries - self.num_valid:,}"}
        return "\n".join([*table((cells, cells.values()), left=()), f"  in %; {in_words(self.options)}"])


def evaluate_ranking(  # noqa: PLR0917
    query: Array,
    gallery: Array,
    query_pids: Ids,
    gallery_pids: Ids,
    query_camids: Ids | None = None,
    gallery_camids: Ids | None = None,
    *,
    metric: str = "cosine",
    rerank: bool | KReciprocal = False,
    expansion: bool | QueryExpansion = False,
    cmc: str = "market1501",
    ap: str = "step",
    unmatched: str = "skip",
    junk: str = "before",
    max_rank: int = 50,
    draws: int = 100,
    seed: int = 0,
    memory_mb: float = 256,
    device: torch.device | str | None = None,
    progress: bool = False,
    ignore_cameras: bool = False,
    leave_one_out: bool = False,
    lists: MatchLists | None = None,
) -> RankingReport:
    """CMC, mAP and mINP under the Market-1501 protocol (see :mod:`regard.metrics.protocol`).

    Args:
        query: (Q, D) descriptors.
        gallery: (G, D) descriptors.
        query_pids, gallery_pids: (Q,) and (G,) identities; -1 in the gallery is junk, 0 a distractor.
        query_camids, gallery_camids: (Q,) and (G,) cameras; None for both if there are none.
        metric: "cosine" or "euclidean".
        rerank: True for k-reciprocal re-ranking as published, or its options.
        expansion: True averages every query with its five nearest gallery images first, or its options.
        cmc: "market1501" (a query is found at its first right image), "cuhk03" (one image of each person by other
            cameras, drawn at random) or "allshots" (every right image counts, by the wrong ones before it); see
            :mod:`regard.metrics.average_precision`. AP, INP and ``first_hit`` are the same with all three.
        ap: "step" (mean of precision at the hits) or "trapezoid" (see :mod:`regard.metrics.average_precision`).
        unmatched: a query without a match is left out of all means ("skip") or counts as a failure ("zero").
        junk: left out of the gallery "before" anything is compared, or "query" by query from the finished distances:
            the same but for expansion and re-ranking, where junk then takes part.
        max_rank: length of the CMC curve; may exceed G.
        draws, seed: of cmc="cuhk03".
        memory_mb: budget for distances and for ranking them, in MiB; features and re-ranking's sets come on top.
        device: where to compute; None stays where the gallery lies.
        progress: show a progress bar on stderr.
        ignore_cameras: images of a query's person by its own camera are right ones instead of being removed.
        leave_one_out: query and gallery are one list, given twice, and every image is asked of all others in it. Not
            together with re-ranking and expansion, which would meet each image twice, nor, without cameras, with
            cmc="cuhk03".
        lists: what is right and what is junk for every query, gallery row by gallery row, in place of what identities
            and cameras say. Not together with ``ignore_cameras``, ``leave_one_out`` and cmc="cuhk03".

    Raises:
        ConfigError: an option is wrong, or two do not go together.
        DataError: the arrays do not fit each other, are not finite, or no query has a match.
    """
    order = ordering(metric)
    asked: dict[str, Any] = {"ignore_cameras": ignore_cameras, "leave_one_out": leave_one_out}
    _check_kinds(rerank, expansion, {**asked, "progress": progress})
    _check_options({"cmc": cmc, "ap": ap, "unmatched": unmatched, "junk": junk}, max_rank, draws, lists)
    if leave_one_out:
        drawn = cmc == "cuhk03" and (query_camids is None or ignore_cameras)
        _check_one_list({"re-ranking": rerank, "query expansion": expansion, "cmc 'cuhk03'": drawn})
    queries, targets = comparable(query, gallery, metric, device)
    sides = side_of("query", query, query_pids, query_camids), side_of("gallery", gallery, gallery_pids, gallery_camids)
    protocol = read_protocol(*sides, **asked, lists=lists)
    if leave_one_out and not torch.equal(queries, targets):
        raise DataError(ONE_LIST)
    if not protocol.any_match():
        raise DataError(protocol.explain_no_match())
    if junk == "before":
        targets = protocol.without_junk(targets)

    expanding = QueryExpansion() if expansion is True else expansion or None
    if expanding:
        queries = expand_queries(queries, targets, expanding, metric=order, memory_mb=memory_mb)
    reranking = KReciprocal() if rerank is True else rerank or None
    if reranking:
        blocks = rerank_blocks(queries, targets, reranking, metric=order, memory_mb=memory_mb, progress=progress)
    else:
        blocks = distance_blocks(queries, targets, metric=order, memory_mb=memory_mb)
    if junk == "query":
        kept = torch.from_numpy(protocol.kept).to(targets.device)
        blocks = ((rows, block[:, kept]) for rows, block in blocks)
    single = SingleShot(protocol, draws, seed) if cmc == "cuhk03" else None
    blocks = single.watch(blocks) if single else blocks

    scores, curve = Scores.unmatched(len(queries)), np.zeros(max_rank)
    with progress_bar(total=len(queries), title="ranking", unit="query", quiet=not progress, leave=True) as bar:
        for rows, ranks, counts in positive_ranks(blocks, protocol, memory_mb):
            scores.fill(rows, score_ranks(ranks, counts, ap))
            if cmc == "allshots":
                curve += all_shots(ranks, counts, max_rank)
            bar.update(len(counts))
    counted = scores.first_hit > 0 if unmatched == "skip" else np.ones(len(queries), bool)
    if cmc == "market1501":
        curve = cmc_curve(scores.first_hit[counted], max_rank)
    else:
        curve = single.curve(max_rank, unmatched) if single else curve / counted.sum()
    options = {
        "metric": metric,
        "expansion": str(expanding) if expanding else "none",
        "re-ranking": str(reranking) if reranking else "none",
        "CMC": f"{cmc} ({draws} draws, seed {seed})" if single else cmc,
        "AP": ap,
        "unmatched": unmatched,
        "junk": f"{'as listed, ' if lists else ''}dropped {'before' if junk == 'before' else 'per query'}",
        "distractors": "wrong",
        "protocol": "identity and camera" if lists is None else "good and junk lists",
        "same camera": "as listed" if lists else "ignored" if protocol.query_camids is None else "removed",
        "gallery": "the queries' own list, each without itself" if leave_one_out else "as given",
        "ties": "by gallery index",
    }
    mAP, mINP = (float(np.nan_to_num(values[counted]).mean()) for values in (scores.ap, scores.inp))
    return RankingReport(mAP, mINP, curve, **scores._asdict(), options=options)


def _check_one_list(others: Mapping[str, object]) -> None:
    """Raise ConfigError for a chosen option that leaving one out within a list does not go with."""
    for name in (name for name, chosen in others.items() if chosen):
        raise ConfigError(
            f"leave-one-out does not go with {name}, where every image would find itself; leave one of them out"
        )


def _check_kinds(rerank: object, expansion: object, switches: Mapping[str, object]) -> None:
    """Raise ConfigError for an option that is something else than it can be."""
    check_kind("rerank", rerank, (bool, KReciprocal), "true, false or KReciprocal(...)")
    check_kind("expansion", expansion, (bool, QueryExpansion), "true, false or QueryExpansion(...)")
    for name, switch in switches.items():
        check_kind(name, switch, (bool, np.bool_), "true or false")


def _check_options(chosen: dict[str, str], max_rank: int, draws: int, lists: object) -> None:
    """Raise ConfigError for an option that is not known or not possible."""
    choices = {"cmc": CMC_FLAVORS, "ap": AP_FORMS, "unmatched": UNMATCHED, "junk": JUNK_RULES}
    for name, value in chosen.items():
        known = choices[name]
        if value not in known:
            raise ConfigError(f"unknown {name} option {value!r}{nearest(value, known)}; known: {', '.join(known)}")
    if not is_whole(max_rank) or max_rank < 1:
        raise ConfigError(f"max_rank is {max_rank}: ask for at least one rank")
    if not is_whole(draws) or draws < 1:
        raise ConfigError(f"draws is {draws}: draw the gallery at least once, usually 100 times")
    if lists is not None and chosen["cmc"] == "cuhk03":
        raise ConfigError("lists of right images do not go with cmc 'cuhk03', which draws by identity; drop one")


def in_words(options: Mapping[str, str]) -> str:
    """What changes a score, such as the options of a report, on one line."""
    return ", ".join(f"{name} {value}" for name, value in options.items())


def option_lines(labels: Sequence[str], rows: Sequence[Mapping[str, str]]) -> list[str]:
    """A line with what all rows of options have in common, and one for every row with what it alone has."""
    common = {name: value for name, value in rows[0].items() if all(row.get(name) == value for row in rows)}
    own = [{name: value for name, value in row.items() if name not in common} for row in rows]
    return [in_words(common), *(f"{label}: {in_words(found)}" for label, found in zip(labels, own) if found)]
