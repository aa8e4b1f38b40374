"""How far a model's descriptors hold when pictures get worse: corruptions, lower resolution, occlusion.

After Chen, Wang and Zheng, "Benchmarks for Corruption Invariant Person Re-identification" (NeurIPS 2021 Datasets and
Benchmarks): corrupted are the queries, the gallery, or both. Their test set draws kind and severity for every picture
(``mixed``); the table of kinds by severities says besides what hurts.

Shapes: N images embedded under a condition, D descriptor length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from regard.config import EvalConfig
from regard.data.corruptions import KINDS, SEVERITIES, Corruption, Mixed, Occlusion, Resolution, choose_kinds
from regard.data.loaders import Corrupt, test_loader
from regard.errors import ConfigError, DataError
from regard.evaluation.embed import (
    embed_batch,
    evaluate_splits,
    extract,
    loader_workers,
    precision_in,
    products_of,
    run_options,
    view_transform,
)
from regard.evaluation.robustness.means import SIDES, Measured, RobustnessReport
from regard.evaluation.run import open_run
from regard.evaluation.scoring import embedding_options
from regard.input_spec import InputSpec
from regard.models import ReIDModel
from regard.structures import Sample, Splits
from regard.wording import count

__all__ = ["Condition", "Plan", "measure_robustness", "robustness_of", "some_people"]


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
        if not self.conditions():
            raise ConfigError("nothing to measure; ask for --corruptions, --resolution or --occlusion")
        for name, chosen, known in (("side", self.sides, SIDES), ("severity", self.severities, SEVERITIES)):
            if not chosen or not set(chosen) <= set(known):
                raise ConfigError(f"{name} is {', '.join(map(str, chosen))}; choose among {', '.join(map(str, known))}")
        if self.images is not None and self.images < 2:
            raise ConfigError(f"images is {self.images}, too few for a query and its match; keep some hundreds")

    def conditions(self) -> list[Condition]:
        """All conditions in the order they are measured in."""
        kinds = tuple(choose_kinds(self.kinds)) if self.kinds else ()
        how: dict[str, Any] = {"published_lengths": self.published_lengths}
        found = [
            Condition("corruptions", kind, severity, Corruption(kind, severity, self.seed, **how))
            for kind in kinds
            for severity in sorted(set(self.severities))
        ]
        if kinds:
            severities = tuple(sorted(set(self.severities)))
            found += [
                Condition("mixed", "mixed", draw, Mixed(kinds, severities, self.seed + draw, **how))
                for draw in range(1, self.mixed + 1)
            ]
        found += [
            Condition("resolution", "resolution", height, Resolution(height))
            for height in sorted(set(self.resolutions), reverse=True)
        ]
        shares = sorted(set(self.occlusions))
        return found + [Condition("occlusion", "occlusion", share, Occlusion(share, self.seed)) for share in shares]

    def __str__(self) -> str:
        kinds = sorted({one.kind for one in self.conditions() if one.sweep == "corruptions"}, key=list(KINDS).index)
        parts = [f"seed {self.seed}"]
        if kinds:
            lengths = "as published" if self.published_lengths else "scaled to the picture"
            severities = ", ".join(map(str, sorted(set(self.severities))))
            parts = [f"{len(kinds)} kinds", f"severities {severities}", f"lengths {lengths}", *parts]
        return "; ".join(parts)


def robustness_of(
    folder: Path,
    plan: Plan,
    *,
    name: str | None = None,
    root: Path | None = None,
    changes: dict[str, Any] | None = None,
    quiet: bool = False,
    size: tuple[int, int] | None = None,
) -> RobustnessReport:
    """Measure a run, or a saved model, on its own data set or another.

    Args:
        folder: run folder or model folder.
        plan: what to measure.
        name, root: data set; both None takes the run's own.
        changes: settings of the ``eval`` section that differ from the run's.
        quiet: no progress bar.
        size: height and width of the network's input, where they differ from the run's.

    Raises:
        CheckpointError: no such run or model.
        ConfigError: it does not say which data to use.
        DataError: the data set is not there or not complete.
    """
    run = open_run(folder, name, root, changes, size=size, quiet=quiet)
    found = measure_robustness(
        run.model, run.splits, run.config.eval, plan, seen=run.input, workers=run.config.data.workers,
        autocast=products_of(run.config, run.runtime.device), quiet=quiet,
    )  # fmt: skip
    return replace(found, options=found.options | run_options(run.config, run.runtime))


def measure_robustness(
    model: ReIDModel,
    splits: Splits,
    config: EvalConfig,
    plan: Plan,
    *,
    seen: InputSpec,
    workers: int | None = None,
    autocast: Any = None,
    quiet: bool = False,
) -> RobustnessReport:
    """Embed query and gallery as they are, then under every condition, and score each combination asked for.

    Args:
        model: on the device to compute on.
        splits: whose query and gallery are used.
        config: how descriptors are made and compared.
        plan: what to measure.
        seen: what the network sees.
        workers: loader processes, in which pictures are made worse; None decides by core count.
        autocast: context manager to compute in, for mixed precision.
        quiet: no progress bar.

    Raises:
        DataError: the data set has no query or no gallery.
    """
    kept = splits if plan.images is None else some_people(splits, plan.images, plan.seed)
    for part in ("query", "gallery"):
        if not getattr(kept, part):
            raise DataError(f"the {part} of {splits.root} is empty, so there is nothing to measure; add images to it")
    everything = [*kept.query, *kept.gallery]
    worse = {"query": kept.query, "gallery": kept.gallery}.get("".join(plan.sides), everything)
    conditions = plan.conditions()
    how: dict[str, Any] = {
        "seen": seen, "five_crops": config.five_crops, "batch_size": config.batch_size, "workers": workers,
        "autocast": autocast,
    }  # fmt: skip
    with torch.inference_mode():
        title = None if quiet else "embedding as they are"
        query, gallery = np.split(extract(model, everything, progress=title, **how), [len(kept.query)])
    clean = evaluate_splits(query, gallery, kept, config)
    measured = []
    with tqdm(total=len(conditions) * len(worse), unit="image", disable=quiet, leave=False) as bar:
        rounds = extract_corrupted(model, worse, [one.corrupt for one in conditions], bar, **how)
        for one, features in zip(conditions, rounds):
            bar.set_description(f"{one.kind.replace('_', ' ')} {one.level:g}")
            for side in plan.sides:
                bad_query = query if side == "gallery" else features[: len(query)]
                bad_gallery = gallery if side == "query" else features[-len(gallery) :]
                report = evaluate_splits(bad_query, bad_gallery, kept, config)
                measured.append(Measured(one.sweep, one.kind, one.level, side, report.figures()))
    part = f"{count(len(everything), 'image')} of {count(len({sample.pid for sample in kept.query}), 'random id')}"
    note = "" if len(everything) == len(splits.query) + len(splits.gallery) else f"{part}, no distractors"
    reference = Measured("clean", "clean", 0, "", clean.figures())
    made = embedding_options(config, seen, precision_in(autocast))
    data = f"{splits}; {splits.root}"
    return RobustnessReport(data, note, str(plan), reference, measured, {**made, **clean.options})


def some_people(splits: Splits, images: int, seed: int) -> Splits:
    """Query and gallery of random people, one after another until there are ``images`` pictures.

    Distractors and junk are left out, so figures are higher than on everything; a data set that has no more pictures
    stays as it is.
    """
    if images >= len(splits.query) + len(splits.gallery):
        return splits
    pids = sorted({sample.pid for sample in splits.query if sample.pid > 0})
    counts = dict.fromkeys(pids, 0)
    for sample in (*splits.query, *splits.gallery):
        if sample.pid in counts:
            counts[sample.pid] += 1
    chosen: set[int] = set()
    for pid in np.random.default_rng(seed).permutation(pids).tolist():
        if sum(counts[one] for one in chosen) >= images:
            break
        chosen.add(pid)
    query, gallery = ([one for one in part if one.pid in chosen] for part in (splits.query, splits.gallery))
    return replace(splits, query=query, gallery=gallery)


def extract_corrupted(
    model: ReIDModel,
    samples: Sequence[Sample],
    corruptions: Sequence[Corrupt],
    bar: Any,
    *,
    seen: InputSpec,
    five_crops: bool,
    batch_size: int,
    workers: int | None,
    autocast: Any,
) -> Iterator[np.ndarray]:
    """Descriptors of all samples under every corruption; arguments as of :func:`regard.evaluation.embed.extract`.

    Yields:
        (N, D) float32 per corruption, in order.
    """
    device = next(model.parameters()).device
    loader = test_loader(
        samples, view_transform(seen, five_crops=five_crops), corruptions=corruptions, batch_size=batch_size,
        workers=loader_workers(workers), pin_memory=device.type == "cuda",
    )  # fmt: skip
    waiting = torch.empty(0, model.embed_dim)
    for batch in loader:
        with torch.inference_mode(), autocast or nullcontext():
            embedding = embed_batch(model, batch.images, seen, five_crops=five_crops)
        waiting = torch.cat([waiting, embedding.float().cpu()])
        bar.update(len(embedding))
        while len(waiting) >= len(samples):
            yield waiting[: len(samples)].numpy()
            waiting = waiting[len(samples) :]
