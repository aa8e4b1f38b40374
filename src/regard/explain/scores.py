"""Explanations that are scored: of one network every method, by what its heat does and where it lies, with intervals.

Shapes: B pairs, S + 1 fractions, M methods.

Figures, all of them above zero (or chance) where heat is good:

- ``insertion``, ``deletion``: area between the curve of the pair's similarity and that of random orders
  (:mod:`regard.explain.perturbation`), by fill (``insertion blur``) and the mean of both fills;
- ``rank insertion``, ``rank deletion``: the same of 1 / rank of the true match in the gallery;
- ``hit``, ``share``: the hottest pixel, and the share of the heat, on the person;
- ``twins hit``, ``twins share``: the same of the heat of the difference, on what twins differ in; by part, too
  (``twins hit bag``).

Intervals are 95 % percentile bootstraps over people.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from regard.data.labels import has_label, read_labels
from regard.data.transforms import network_input
from regard.errors import ConfigError, DataError, nearest
from regard.explain.heat_methods import EVERY, Heat, on_pixels, usable_methods
from regard.explain.perturbation import (
    DRAWS,
    FILLS,
    FRACTIONS,
    Curves,
    Search,
    area,
    curves,
    pixel_order,
    random_heat,
)
from regard.explain.sanity import ORDER, SAME, Sanity, agreement, check_methods, layers_from_the_top
from regard.explain.twins import Twin, point_at, read_difference
from regard.input_spec import InputSpec
from regard.metrics import FeatureSet
from regard.metrics.significance import Interval, intervals
from regard.models import ReIDModel
from regard.models.checked import weight_of
from regard.structures import JUNK, Sample

__all__ = ["ExplanationScores", "Pair", "ScoredMethod", "known_methods", "score_explanations"]

RESAMPLES = 2000
"""Bootstrap resamples of people behind every interval."""

BATCH = 16
"""Pictures whose heat is drawn at a time."""

Pair = tuple[Sample, Sample]
"""A picture and another of the same person by another camera."""


class ScoredMethod(NamedTuple):
    """What was found of one method.

    Attributes:
        figures: name -> figure with its interval.
        curves: ``inserted mean`` and the like -> (S + 1,) mean similarity; with ``random`` in front that of random
            orders; with ``rank`` at the end the median place of the true match.
        sanity: what the checks found; None where they were left out.
    """

    figures: Mapping[str, Interval]
    curves: Mapping[str, np.ndarray]
    sanity: Sanity | None

    @property
    def faults(self) -> list[str]:
        """Why it fails the sanity checks; empty where it passes, or was not checked."""
        return self.sanity.faults if self.sanity else []


class ExplanationScores(NamedTuple):
    """What was found of one network.

    Attributes:
        label: what the network is called.
        pairs, people: how many were looked at.
        twins: pairs of twins that were looked at.
        chance: ``person`` and ``twins``, ``twins bag`` -> share of the picture that the mask fills.
        methods: name -> what was found.
        agreement: (M, M) mean rank correlation of every two methods.
        missing: name of a method that does not apply -> why.
    """

    label: str
    pairs: int
    people: int
    twins: int
    chance: Mapping[str, Interval]
    methods: Mapping[str, ScoredMethod]
    agreement: np.ndarray
    missing: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain Python types, ready for JSON."""
        return {
            "label": self.label, "pairs": self.pairs, "people": self.people, "twins": self.twins,
            "fractions": list(FRACTIONS), "fills": list(FILLS), "random_orders": DRAWS,
            "sanity_rule": {"rank_correlation_below": SAME, "order_at_most": ORDER},
            "chance": {name: one._asdict() for name, one in self.chance.items()},
            "methods": {name: _plain(name, one) for name, one in self.methods.items()},
            "agreement": {"methods": list(self.methods), "rank_correlation": self.agreement.tolist()},
            "missing": dict(self.missing),
        }  # fmt: skip


def _plain(name: str, method: ScoredMethod) -> dict[str, Any]:
    """A method in plain types."""
    found: dict[str, Any] = {
        "meaning": EVERY[name].meaning,
        "figures": {figure: one._asdict() for figure, one in method.figures.items()},
        "curves": {curve: values.tolist() for curve, values in method.curves.items()},
    }
    if method.sanity:
        steps = {"rank_correlation": method.sanity.correlation, "ssim": method.sanity.ssim}
        found["sanity"] = {
            "passes": not method.faults, "faults": method.faults, "order": method.sanity.order,
            **{key: [float(np.nanmean(row)) if np.isfinite(row).any() else None for row in rows]
               for key, rows in steps.items()},
        }  # fmt: skip
    return found


def known_methods(names: Sequence[str] | None) -> list[str] | None:
    """Names of methods, as they were asked for.

    Raises:
        ConfigError: there is no such method.
    """
    known = EVERY
    for name in names or ():
        if name not in known:
            raise ConfigError(f"there is no method {name!r}{nearest(name, known)}; methods: {', '.join(known)}")
    return list(names) if names else None


def score_explanations(
    model: ReIDModel,
    pairs: Sequence[Pair],
    seen: InputSpec,
    *,
    label: str = "",
    gallery: tuple[FeatureSet, Sequence[Sample]] | None = None,
    twins: Sequence[Twin] = (),
    wanted: Sequence[str] | None = None,
    checked: int = 8,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> ExplanationScores:
    """Score every method on a network.

    Args:
        model: evaluated in evaluation mode, left in its own.
        pairs: as :func:`~regard.explain.attention_precision.pair_up` gives them, the second ones in the gallery.
        seen: what the network sees.
        label: what the network is called.
        gallery: descriptors to search in, and the pictures they are of; None searches among the second pictures.
        twins: as :func:`~regard.explain.twins.read_twins` gives them.
        wanted: names of methods; all that apply unless told.
        checked: pairs that sanity is checked on; 0 leaves the checks out.
        seed: of random orders and random weights.
        progress: told the number of pictures after each step.

    Raises:
        ConfigError: no method applies, there is none of that name, or sanity cannot be checked.
        DataError: a picture cannot be read, or fewer than two people are shown.
    """
    names = known_methods(wanted)
    if len({pair[0].pid for pair in pairs}) < 2:
        raise DataError(f"got {len(pairs)} pairs of one person, wanted two people or more; take more pairs")
    tell, device = progress or (lambda _: None), weight_of(model).device
    first = network_input([pairs[0][0].path], seen, device)
    usable, missing = usable_methods(model, first, names)
    if not usable:
        raise ConfigError(f"{label or 'the network'} can be looked at by none of {', '.join(missing)}: {missing}")
    if checked:
        layers_from_the_top(model, first)  # which is refused before the work where there are none
    heat = {name: EVERY[name].heat for name in usable}
    scorer = _Scorer(model, seen, heat, seed, tell)
    found, maps, kept = scorer.of_pairs(pairs, gallery)
    pids = np.array([pair[0].pid for pair in pairs])
    figures = {name: _intervals(found[name], pids) for name in usable}
    chance = _intervals(found[""], pids)
    if twins:
        of_twins = scorer.of_twins(twins)
        whose = np.array([twin.pid for twin in twins])
        chance |= _intervals(of_twins.pop(""), whose)
        figures = {name: figures[name] | _intervals(of_twins[name], whose) for name in usable}
    chosen = np.linspace(0, len(pairs) - 1, min(checked, len(pairs))).astype(int)
    sane: Mapping[str, Sanity] = {}
    if checked:
        images, partners = (network_input([pairs[i][side].path for i in chosen], seen, device) for side in (0, 1))
        sane = check_methods(model, heat, images, partners, seed)
        tell(len(chosen))
    methods = {name: ScoredMethod(figures[name], kept[name], sane.get(name)) for name in usable}
    people = len({pair[0].pid for pair in pairs})
    return ExplanationScores(
        label, len(pairs), people, len(twins), chance, methods, agreement(maps), missing,
    )  # fmt: skip


class _Scorer(NamedTuple):
    """Looks at one network."""

    model: ReIDModel
    seen: InputSpec
    heat: Mapping[str, Heat]
    seed: int
    tell: Callable[[int], object]

    def of_pairs(
        self, pairs: Sequence[Pair], gallery: tuple[FeatureSet, Sequence[Sample]] | None
    ) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
        """Figures of every method pair by pair (chance under ""), its maps, and its mean curves."""
        device = weight_of(self.model).device
        searches = self._searches(pairs, gallery)
        values: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in ("", *self.heat)}
        maps: dict[str, list[np.ndarray]] = {name: [] for name in self.heat}
        drawn: dict[str, dict[str, list[np.ndarray]]] = {name: defaultdict(list) for name in self.heat}
        for start in range(0, len(pairs), BATCH):
            part = pairs[start : start + BATCH]
            images, partners = (network_input([pair[side].path for pair in part], self.seen, device) for side in (0, 1))
            found = {name: heat(self.model, images, partners, against=False).cpu() for name, heat in self.heat.items()}
            for name in found:
                maps[name].append(found[name].numpy())
            for place, image in enumerate(images):
                heats = {name: one[place] for name, one in found.items()}
                perturbed = self._perturb(image, heats, searches[start + place], start + place)
                for name, (own, by_chance) in perturbed.items():
                    for figure, value in _areas(own, by_chance).items():
                        values[name][figure].append(value)
                    for curve, row in _rows(own, by_chance).items():
                        drawn[name][curve].append(row)
                self.tell(1)
            self._point([pair[0] for pair in part], found, values)
        means = {name: {curve: _typical(curve, rows) for curve, rows in own.items()} for name, own in drawn.items()}
        return (
            {name: {figure: np.array(row) for figure, row in own.items()} for name, own in values.items()},
            {name: np.concatenate(parts) for name, parts in maps.items()},
            means,
        )

    def of_twins(self, twins: Sequence[Twin]) -> dict[str, dict[str, np.ndarray]]:
        """Figures of every method twin by twin, chance under "": heat of the difference, the mean over both sides."""
        device = weight_of(self.model).device
        values: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in ("", *self.heat)}
        parts = dict.fromkeys(twin.part for twin in twins)

        def add(name: str, figure: str, twin: Twin, value: float) -> None:
            values[name][figure].append(value)
            for part in parts:
                values[name][f"{figure} {part}"].append(value if part == twin.part else np.nan)

        for start in range(0, len(twins), BATCH):
            batch = twins[start : start + BATCH]
            masks = [read_difference(twin) for twin in batch]
            sides = [
                network_input([getattr(twin, side) for twin in batch], self.seen, device)
                for side in ("first", "second")
            ]
            images, others = torch.cat(sides), torch.cat(sides[::-1])
            for name, heat in self.heat.items():
                found = point_at(heat(self.model, images, others, against=True).cpu().numpy(), masks * 2)
                for figure, row in (("twins hit", found.hit), ("twins share", found.share)):
                    both = row.reshape(2, -1)
                    there = np.isfinite(both)
                    sums = np.where(there, both, 0).sum(0)
                    mean = np.divide(sums, there.sum(0), out=np.full(len(batch), np.nan), where=there.any(0))
                    for twin, value in zip(batch, mean):
                        add(name, figure, twin, float(value))
            for twin, mask in zip(batch, masks):
                add("", "twins", twin, float((mask > 0).mean()))
            self.tell(len(batch))
        return {name: {figure: np.array(row) for figure, row in own.items()} for name, own in values.items()}

    def _searches(self, pairs: Sequence[Pair], gallery: tuple[FeatureSet, Sequence[Sample]] | None) -> list[Search]:
        """What each first picture is looked for in."""
        if gallery is None:
            device, others = weight_of(self.model).device, [pair[1] for pair in pairs]
            vectors = np.concatenate([
                self._embed(network_input([one.path for one in others[start : start + BATCH]], self.seen, device))
                for start in range(0, len(others), BATCH)
            ])  # fmt: skip
            samples: Sequence[Sample] = others
        else:
            vectors, samples = _unit(np.asarray(gallery[0].embeddings, np.float64)), gallery[1]
        pids, rows = np.array([one.pid for one in samples]), {one.path: row for row, one in enumerate(samples)}
        return [
            Search(vectors[rows[second.path]], vectors[(pids != first.pid) & (pids != JUNK)]) for first, second in pairs
        ]

    def _embed(self, images: Tensor) -> np.ndarray:
        """Descriptors of length 1, as a search has them."""
        parts = [self.model.embed_views([part], flip=self.seen.flip).cpu().numpy() for part in images.split(64)]
        return _unit(np.concatenate(parts).astype(np.float64))

    def _perturb(
        self, image: Tensor, heats: Mapping[str, Tensor], search: Search, place: int
    ) -> dict[str, tuple[Curves, list[Curves]]]:
        """The curves of one picture by every method, and those of random orders of as many rows and columns."""
        size = (image.shape[1], image.shape[2])
        grids = {name: (heat.shape[0], heat.shape[1]) for name, heat in heats.items()}
        orders = [
            pixel_order(on_pixels(heat[None], size)[0].numpy(), np.random.default_rng([self.seed, place]))
            for heat in heats.values()
        ]
        draws = [(grid, draw) for grid in dict.fromkeys(grids.values()) for draw in range(DRAWS)]
        for grid, draw in draws:
            rng = np.random.default_rng([self.seed, place, *grid, draw])
            orders.append(pixel_order(random_heat(grid, size, rng), rng))
        found = curves(image, orders, self._embed, search)
        by_chance = {
            grid: [one for (other, _), one in zip(draws, found[len(heats) :]) if other == grid]
            for grid in grids.values()
        }
        return {name: (own, by_chance[grid]) for (name, grid), own in zip(grids.items(), found)}

    def _point(
        self, samples: Sequence[Sample], found: Mapping[str, Tensor], values: Mapping[str, Mapping[str, list[float]]]
    ) -> None:
        """Put where the heat of some pictures lies where it is collected; nothing of pictures without a mask."""
        masks = [read_labels(one, ("mask",)).mask if has_label(one, "mask") else None for one in samples]
        there = [place for place, mask in enumerate(masks) if mask is not None]
        empty = np.full(len(samples), np.nan)
        inside = [mask for mask in masks if mask is not None]
        for name, maps in found.items():
            hit, share, chance = empty.copy(), empty.copy(), empty.copy()
            if there:
                hit[there], share[there], chance[there] = point_at(maps[there].numpy(), inside)
            values[name]["hit"].extend(hit.tolist())
            values[name]["share"].extend(share.tolist())
        values[""]["person"].extend(chance.tolist())


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float64).tiny)


def _areas(own: Curves, by_chance: Sequence[Curves]) -> dict[str, float]:
    """Areas between one order's curves and those of random orders."""
    found: dict[str, float] = {}
    for figure, side, sign in (("insertion", "inserted", 1), ("deletion", "deleted", -1)):
        for title, field, of in ((figure, side, float), (f"rank {figure}", f"{side}_rank", None)):
            for fill in FILLS:
                rows = [np.asarray(getattr(one, field)[fill], np.float64) for one in (own, *by_chance)]
                mine, *others = (area(row if of else 1 / row) for row in rows)
                found[f"{title} {fill}"] = sign * (mine - float(np.mean(others)))
            found[title] = float(np.mean([found[f"{title} {fill}"] for fill in FILLS]))
    return found


def _rows(own: Curves, by_chance: Sequence[Curves]) -> dict[str, np.ndarray]:
    """Curves of one picture by name, those of random orders as their mean."""
    found = {}
    for side in ("inserted", "deleted"):
        for fill in FILLS:
            for ending, field in (("", side), (" rank", f"{side}_rank")):
                found[f"{side} {fill}{ending}"] = getattr(own, field)[fill]
                chance = np.mean([getattr(one, field)[fill] for one in by_chance], axis=0)
                found[f"random {side} {fill}{ending}"] = chance
    return found


def _typical(curve: str, rows: Sequence[np.ndarray]) -> np.ndarray:
    return np.median(rows, axis=0) if curve.endswith(" rank") else np.mean(rows, axis=0)


def _intervals(values: Mapping[str, np.ndarray], pids: np.ndarray) -> dict[str, Interval]:
    """Every figure that two people or more have, with its interval."""
    found = {}
    for name, row in values.items():
        if len({*pids[np.isfinite(row)].tolist()}) > 1:
            found |= intervals({name: row}, pids, resamples=RESAMPLES)
    return found
