"""How far a model's descriptors hold when pictures get worse: corruptions, lower resolution, occlusion.

After Chen, Wang and Zheng, "Benchmarks for Corruption Invariant Person Re-identification" (NeurIPS 2021 Datasets and
Benchmarks): corrupted are the queries, the gallery, or both. Their test set draws kind and severity for every picture
(``mixed``); the table of kinds by severities says besides what hurts.

Shapes: N images embedded under a condition, D descriptor length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from regard.data.corruptions import (
    FAMILIES,
    KINDS,
    SEVERITIES,
    Corruption,
    Mixed,
    Occlusion,
    Resolution,
    choose_kinds,
)
from regard.data.loaders import Corrupt, test_loader
from regard.errors import ConfigError
from regard.evaluation.embed import embed_batch, evaluate_splits, loader_workers, products_of, view_transform
from regard.evaluation.run import Run
from regard.metrics.ranking_report import in_words
from regard.models.checked import weight_of
from regard.progress import progress_bar
from regard.structures import Sample, Splits
from regard.wording import count, table

__all__ = ["SIDES", "Condition", "Measured", "Plan", "RobustnessReport", "measure_robustness", "some_people"]

SIDES = {"query": "query", "gallery": "gallery", "both": "query and gallery"}
"""What can be made worse -> how to say it."""

UNITS = {"resolution": (1, "{:.12g} px high"), "occlusion": (100, "{:.12g}% covered")}


class Condition(NamedTuple):
    """One way in which all pictures are made worse.

    Attributes:
        sweep: corruptions, mixed, resolution or occlusion.
        kind: of corruption; the sweep's name in the others.
        level: severity, number of the draw, pixels, or share covered.
        corrupt: does it to one picture.
    """

    sweep: str
    kind: str
    level: float
    corrupt: Corrupt


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        kinds: corruptions by kind or family; none for no corruptions, see :func:`choose_kinds` for all.
        severities: of the corruptions, 1 to 5.
        mixed: how often to draw a kind (of ``kinds``) and a severity for every picture.
        resolutions: heights in pixels to shrink pictures to.
        occlusions: shares to cover.
        sides: what is made worse: query, gallery, both.
        images: keep random people with about that many pictures; None keeps all.
        seed: of all draws.
        published_lengths: as for :class:`~regard.data.corruptions.Corruption`.

    Raises:
        ConfigError: nothing to measure, or something that does not exist.
    """

    kinds: tuple[str, ...] = ()
    severities: tuple[int, ...] = SEVERITIES
    mixed: int = 0
    resolutions: tuple[int, ...] = ()
    occlusions: tuple[float, ...] = ()
    sides: tuple[str, ...] = ("both",)
    images: int | None = None
    seed: int = 0
    published_lengths: bool = False

    def __post_init__(self):
        for name, chosen, known in (("side", self.sides, SIDES), ("severity", self.severities, SEVERITIES)):
            if not chosen or not set(chosen) <= set(known):
                raise ConfigError(f"{name} is {', '.join(map(str, chosen))}; choose among {', '.join(map(str, known))}")
        if not self.conditions():
            raise ConfigError("nothing to measure; ask for --corruptions, --resolution or --occlusion")
        if self.images is not None and self.images < 2:
            raise ConfigError(f"images is {self.images}, too few for a query and its match; keep some hundreds")

    def conditions(self) -> list[Condition]:
        """All conditions in the order they are measured in."""
        kinds = tuple(choose_kinds(self.kinds)) if self.kinds else ()
        severities = tuple(sorted(set(self.severities)))
        how: dict[str, Any] = {"published_lengths": self.published_lengths}
        found = [
            Condition("corruptions", kind, severity, Corruption(kind, severity, self.seed, **how))
            for kind in kinds
            for severity in severities
        ]
        found += [
            Condition("mixed", "mixed", draw, Mixed(kinds, severities, self.seed + draw, **how))
            for draw in range(1, self.mixed + 1 if kinds else 1)
        ]
        heights, shares = sorted(set(self.resolutions), reverse=True), sorted(set(self.occlusions))
        found += [Condition("resolution", "resolution", height, Resolution(height)) for height in heights]
        return found + [Condition("occlusion", "occlusion", share, Occlusion(share, self.seed)) for share in shares]

    def __str__(self) -> str:
        kinds = sorted({one.kind for one in self.conditions() if one.sweep == "corruptions"}, key=list(KINDS).index)
        parts = [f"seed {self.seed}"]
        if kinds:
            lengths = "as published" if self.published_lengths else "scaled to the picture"
            severities = ", ".join(map(str, sorted(set(self.severities))))
            parts = [f"{len(kinds)} kinds", f"severities {severities}", f"lengths {lengths}", *parts]
        return "; ".join(parts)


class Measured(NamedTuple):
    """What was found under one condition.

    Attributes:
        sweep, kind, level: of the :class:`Condition`.
        side: what was made worse, a key of ``SIDES``.
        figures: as of :class:`~regard.metrics.RankingReport`, fractions by name.
    """

    sweep: str
    kind: str
    level: float
    side: str
    figures: Mapping[str, float]

    @property
    def mAP(self) -> float:
        """Mean average precision."""
        return self.figures["mAP"]


@dataclass(frozen=True)
class RobustnessReport:
    """What was found.

    Attributes:
        data: the data set in words.
        part: how much of it was used, in words; empty for all of it.
        plan: kinds, severities and draws in words.
        clean: figures of the pictures as they are.
        measured: figures under every condition and side.
        options: what was chosen where toolkits differ, by name.
    """

    data: str
    part: str
    plan: str
    clean: Measured
    measured: list[Measured]
    options: dict[str, str]

    def sides(self) -> list[str]:
        """What was made worse."""
        return list(dict.fromkeys(one.side for one in self.measured))

    def select(self, sweep: str, side: str, kind: str | None = None) -> list[Measured]:
        """What was measured in a sweep, on a side, of one kind or all."""
        chosen = (one for one in self.measured if (one.sweep, one.side) == (sweep, side))
        return [one for one in chosen if kind in (None, one.kind)]

    def mean(self, side: str, family: str | None = None) -> dict[str, float]:
        """Mean corrupted figures over kinds and severities: of one family or all of them, every kind alike."""
        rows = [one for one in self.select("corruptions", side) if family in (None, KINDS[one.kind].family)]
        return _mean(rows)

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain Python types, ready for JSON; figures are fractions."""
        content: dict[str, Any] = {"data": self.data, "part": self.part, "plan": self.plan}
        content |= {"options": dict(self.options), "clean": dict(self.clean.figures), "corrupted": {}}
        for side in self.sides():
            found: dict[str, Any] = {}
            if rows := self.select("corruptions", side):
                found["mean"] = self.mean(side)
                found["families"] = {family: self.mean(side, family) for family in self._families(side)}
                kinds = dict.fromkeys(one.kind for one in rows)
                found["kinds"] = {kind: _by_level(self.select("corruptions", side, kind)) for kind in kinds}
            if rows := self.select("mixed", side):
                found["mixed"] = {"mean": _mean(rows), "draws": [dict(one.figures) for one in rows]}
            for sweep in UNITS:
                if rows := self.select(sweep, side):
                    found[sweep] = _by_level(rows)
            content["corrupted"][side] = found
        return content

    def __str__(self) -> str:
        lines = [f"used: {self.part}"] if self.part else []
        for side in self.sides():
            means = "; mAP in %, at the end means over the line" if self.select("corruptions", side) else ", in %"
            lines += ["", f"{SIDES[side]} made worse{means}", *self._table(side)]
        return "\n".join([*lines, "", f"  {self.plan}", f"  {in_words(self.options)}"]).lstrip("\n")

    def _families(self, side: str) -> list[str]:
        there = {KINDS[one.kind].family for one in self.select("corruptions", side)}
        return [family for family in FAMILIES if family in there]

    def _table(self, side: str) -> list[str]:
        """Lines of a side: clean, kinds by severities with their means, mixed, and the sweeps."""
        rows = self.select("corruptions", side)
        levels = sorted({one.level for one in rows})

        def line(label: str, figures: Mapping[str, float], some: Sequence[Measured] = ()) -> list[str]:
            """Mean AP of some at every level, and figures, in percent."""
            at = [[one for one in some if one.level == level] for level in levels]
            cells = (f"{100 * _mean(found)['mAP']:.2f}" if found else "" for found in at)
            return [label, *cells, *(f"{100 * value:.2f}" for value in figures.values())]

        lines = [["", *(f"{level:g}" for level in levels), *self.clean.figures], line("clean", self.clean.figures)]
        for family in self._families(side):
            members = [one for one in rows if KINDS[one.kind].family == family]
            for kind in dict.fromkeys(one.kind for one in members):
                some = self.select("corruptions", side, kind)
                lines.append(line(f"  {kind.replace('_', ' ')}", _mean(some), some))
            lines.append(line(f"{family}, mean", self.mean(side, family), members))
        if rows:
            mean = self.mean(side)
            lines.append(line(f"mean of {len({one.kind for one in rows})} kinds", mean, rows))
            kept = [f"{mean[name] / value:.1%}" if value else "" for name, value in self.clean.figures.items()]
            lines.append(["kept of clean", *("" for _ in levels), *kept])
        if mixed := self.select("mixed", side):
            lines.append(line(f"mixed, {count(len(mixed), 'draw')}", _mean(mixed)))
            if len(mixed) > 1:
                found = {name: [one.figures[name] for one in mixed] for name in self.clean.figures}
                lines.append(line("  deviation", {name: float(np.std(row, ddof=1)) for name, row in found.items()}))
        for sweep, (factor, unit) in UNITS.items():
            lines += [line(unit.format(factor * one.level), one.figures) for one in self.select(sweep, side)]
        return table(lines)


def _mean(rows: list[Measured]) -> dict[str, float]:
    return {name: float(np.mean([one.figures[name] for one in rows])) for name in rows[0].figures}


def _by_level(rows: list[Measured]) -> dict[str, dict[str, float]]:
    return {f"{one.level:.15g}": dict(one.figures) for one in rows}


def measure_robustness(run: Run, plan: Plan) -> RobustnessReport:
    """Embed query and gallery as they are, then under every condition, and score each combination asked for.

    Args:
        run: an opened run or model, with the data set whose query and gallery are used.
        plan: what to measure.

    Raises:
        CheckpointError: the model is damaged.
        ConfigError: nothing says which data to use.
        DataError: the data set is not there or not complete, or has no query or no gallery.
    """
    run.model.eval()  # what cannot be loaded is said before anything is read
    splits, conditions = run.splits, plan.conditions()
    kept = splits if plan.images is None else some_people(splits, plan.images, plan.seed)
    undisturbed = run.on(kept)
    clean = undisturbed.report()
    query, gallery = undisturbed.features("query").embeddings, undisturbed.features("gallery").embeddings
    everything = [*kept.query, *kept.gallery]
    worse = {"query": kept.query, "gallery": kept.gallery}.get("".join(plan.sides), everything)
    measured = []
    with progress_bar(total=len(conditions) * len(worse), unit="image", quiet=run.quiet) as bar:
        rounds = extract_corrupted(run, worse, [one.corrupt for one in conditions], bar)
        for one, features in zip(conditions, rounds):
            bar.set_description(f"{one.kind.replace('_', ' ')} {one.level:g}")
            for side in plan.sides:
                bad_query = query if side == "gallery" else features[: len(query)]
                bad_gallery = gallery if side == "query" else features[-len(gallery) :]
                figures = evaluate_splits(bad_query, bad_gallery, kept, run.config.eval).figures()
                measured.append(Measured(one.sweep, one.kind, one.level, side, figures))
    part = f"{count(len(everything), 'image')} of {count(len({sample.pid for sample in kept.query}), 'random id')}"
    note = "" if len(everything) == len(splits.query) + len(splits.gallery) else f"{part}, no distractors"
    reference = Measured("clean", "clean", 0, "", clean.figures())
    return RobustnessReport(f"{splits}; {splits.root}", note, str(plan), reference, measured, clean.options)


def some_people(splits: Splits, images: int, seed: int) -> Splits:
    """Query and gallery of random people, one after another until there are ``images`` pictures.

    Distractors and junk are left out, so figures are higher than on everything; a data set that has no more pictures
    stays as it is.
    """
    if images >= len(splits.query) + len(splits.gallery):
        return splits
    pids = sorted({sample.pid for sample in splits.query if sample.pid > 0})
    counts = Counter(sample.pid for sample in (*splits.query, *splits.gallery))
    drawn = np.random.default_rng(seed).permutation(pids).tolist()
    enough = np.searchsorted(np.cumsum([counts[pid] for pid in drawn]), images) + 1
    chosen = set(drawn[:enough])
    query, gallery = ([one for one in part if one.pid in chosen] for part in (splits.query, splits.gallery))
    return replace(splits, query=query, gallery=gallery)


def extract_corrupted(
    run: Run, samples: Sequence[Sample], corruptions: Sequence[Corrupt], bar: Any
) -> Iterator[np.ndarray]:
    """Descriptors of all samples under every corruption.

    Yields:
        (N, D) float32 per corruption, in order.
    """
    model, seen, how = run.model, run.input, run.config.eval
    device = weight_of(model).device
    loader = test_loader(
        samples, view_transform(seen, five_crops=how.five_crops), corruptions=corruptions, batch_size=how.batch_size,
        workers=loader_workers(run.config.data.workers), pin_memory=device.type == "cuda",
    )  # fmt: skip
    waiting, products = torch.empty(0, model.embed_dim), products_of(run.config, device)
    for batch in loader:
        with torch.inference_mode(), products:
            embedding = embed_batch(model, batch.images, seen, batch.camids, five_crops=how.five_crops)
        waiting = torch.cat([waiting, embedding.float().cpu()])
        bar.update(len(embedding))
        while len(waiting) >= len(samples):
            yield waiting[: len(samples)].numpy()
            waiting = waiting[len(samples) :]
