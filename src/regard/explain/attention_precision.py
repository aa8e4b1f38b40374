"""Attention precision: how much of a network's attention lies on the person.

Shapes: B images, N in all, h x w positions of a map, H x W pixels.

With a map a of numbers that are not negative and a person mask, the precision is the share of the map's mass on the
person: Σ a · m / Σ a, where m is the part of a position's cell that the mask covers. A map that is the same everywhere
has the share of the picture that the person fills: that is chance, and every figure stands beside it. Negative values,
which only predicted maps have, count as 0; a map of zeros has no precision.

Measured is everything a system says about positions (its own gates and branches), the mean size of the last map's
numbers over channels ("last map"; sizes, as maps behind a normalization have both signs), and Grad-CAM of the
similarity to another picture of the same person ("Grad-CAM P1"), so that systems without spatial attention have figures
too. A gate that never closes has a floor, and the floor lies everywhere: its precision stays near chance however well
it is aimed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from regard.data.labels import has_label, read_labels
from regard.data.labels.labeled import person_of
from regard.data.transforms import network_input
from regard.errors import DataError
from regard.explain.attention import attention_of, holistic_map, spatial_map
from regard.explain.figures.draw import DOTTED, plain_axes
from regard.explain.figures.map_figures import FONT, SMALL, canvas
from regard.explain.figures.svg import INK, MUTED, SERIES
from regard.explain.gradcam import attention_layers, similarity_cam
from regard.input_spec import InputSpec
from regard.models import ReIDModel
from regard.models.checked import weight_of
from regard.structures import DISTRACTOR, Sample
from regard.wording import table

__all__ = [
    "PrecisionRow",
    "attention_mass",
    "dose_precision",
    "measure_precision",
    "pair_up",
    "precision_figure",
    "precision_row",
    "precision_table",
]

RESAMPLES = 2000
"""Bootstrap resamples of people behind every interval."""


class PrecisionRow(NamedTuple):
    """The precision of one map of one system, before and after training; all fractions.

    Attributes:
        system: whose map it is.
        map: which map.
        untrained, trained: mean over pictures; NaN where every map is zero throughout.
        low, high: ends of the 95 % interval of the trained one, by bootstrap over people.
        gain: trained minus untrained, mean over the pictures that have both.
        gain_low, gain_high: ends of its interval.
        chance: share of the pictures that the person fills.
        images: pictures whose trained map is not zero throughout.
    """

    system: str
    map: str
    untrained: float
    trained: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float
    chance: float
    images: int


def attention_mass(maps: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
    """The share of each map's mass that lies inside its mask.

    Args:
        maps: (B, h, w); negative values count as 0.
        masks: (H, W) each, of any size, as :func:`~regard.data.labels.labeled.person_of` takes them.

    Returns:
        (B,) float64 in [0, 1], NaN where a map is zero throughout.

    Raises:
        DataError: there is not one mask for each map, or a mask holds gray levels.
    """
    if len(maps) != len(masks):
        raise DataError(f"got {len(maps)} maps and {len(masks)} masks; give every map one mask")
    cells = np.stack([_coverage(mask, (maps.shape[1], maps.shape[2])) for mask in masks])
    mass = np.clip(maps, 0, None).astype(np.float64)
    total = mass.sum((1, 2))
    return np.divide((mass * cells).sum((1, 2)), total, out=np.full(len(maps), np.nan), where=total > 0)


def pair_up(
    samples: Sequence[Sample], others: Sequence[Sample], most: int, *, masked: bool = True
) -> list[tuple[Sample, Sample]]:
    """Pictures with a mask and another picture of the same person by another camera, spread evenly over the samples.

    Args:
        samples: to look at.
        others: to find the partners in; the first that fits is taken.
        most: pairs at most.
        masked: False takes pictures without a mask, too.

    Raises:
        DataError: there is no such pair.
    """
    whole = []
    for sample in samples:
        if sample.pid > DISTRACTOR and (not masked or has_label(sample, "mask")):
            fitting = (other for other in others if other.pid == sample.pid and other.camid != sample.camid)
            whole += [(sample, other) for other in islice(fitting, 1)]
    if not whole and not masked:
        raise DataError(
            f"none of {len(samples)} pictures has a partner from another camera; there is nothing to compare"
        )
    if not whole:
        raise DataError(
            f"none of {len(samples)} pictures has a person mask and a partner from another camera; say where masks "
            "are with --masks FOLDER, or use a data set with its own, such as one that 'regard data make' writes"
        )
    if len(whole) <= most:
        return whole
    return [whole[i] for i in np.linspace(0, len(whole) - 1, most).astype(int)]


def measure_precision(
    model: ReIDModel,
    pairs: Sequence[tuple[Sample, Sample]],
    seen: InputSpec,
    progress: Callable[[int], object] | None = None,
    *,
    cams: bool = True,
) -> dict[str, np.ndarray]:
    """The precision of everything a network says about positions.

    Args:
        model: evaluated in evaluation mode, left in its own.
        pairs: as :func:`pair_up` gives them.
        seen: what the network sees.
        progress: told the number of pictures after each batch.
        cams: also of Grad-CAM, which costs a backward pass for every layer.

    Returns:
        Name of a map -> (N,), NaN where a map is zero throughout; under ``"chance"`` the share the person fills.

    Raises:
        DataError: a picture or mask cannot be read.
    """
    device = weight_of(model).device
    parts = defaultdict[str, list[np.ndarray]](list)
    for start in range(0, len(pairs), 32):
        batch = pairs[start : start + 32]
        images, partners = (network_input([pair[side].path for pair in batch], seen, device) for side in (0, 1))
        masks = [_mask(sample) for sample, _ in batch]
        parts["chance"].append(np.array([float(person_of(mask).mean()) for mask in masks]))
        for name, maps in _maps(model, images, partners if cams else None).items():
            parts[name].append(attention_mass(maps, masks))
        if progress:
            progress(len(batch))
    return {name: np.concatenate(values) for name, values in parts.items()}


def dose_precision(
    model: ReIDModel, query: Sequence[Sample], gallery: Sequence[Sample], seen: InputSpec, most: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What is compared over doses: "attention", the mean of the network's own maps if any, "last map" and "chance".

    Args:
        model, seen: as for :func:`measure_precision`.
        query, gallery: to take pictures from, as :func:`pair_up` takes them; the same ones whatever is in them.
        most: pictures at most.

    Returns:
        Name -> (N,), NaN where a map is zero throughout, and (N,) whom the pictures show.

    Raises:
        DataError: no picture has a mask, or one cannot be read.
    """
    pairs = pair_up(query, gallery, most)
    found = measure_precision(model, pairs, seen, cams=False)
    chosen = {name: found[name] for name in ("last map", "chance")}
    if own := [values for name, values in found.items() if name not in chosen]:
        chosen = {"attention": np.mean(own, 0), **chosen}
    return chosen, np.array([sample.pid for sample, _ in pairs], np.int64)


def precision_row(
    system: str, name: str, untrained: Mapping[str, np.ndarray], trained: Mapping[str, np.ndarray], pids: np.ndarray
) -> PrecisionRow:
    """Compare two measurements of the same pictures.

    Args:
        system: whose map it is.
        name: which map.
        untrained, trained: as :func:`measure_precision` gives them.
        pids: (N,) who the pictures show.
    """
    before, after = untrained[name], trained[name]
    trained_part = _mean(after), *_interval(after, pids)
    gained = _mean(after - before), *_interval(after - before, pids)
    chance, images = float(trained["chance"].mean()), int(np.isfinite(after).sum())
    return PrecisionRow(system, name, _mean(before), *trained_part, *gained, chance, images)


def precision_table(rows: Sequence[PrecisionRow]) -> str:
    """The rows as aligned text, in percent."""
    lines = [("system", "map", "chance", "untrained", "trained", "gain", "images")]
    for row in rows:
        before = "-" if np.isnan(row.untrained) else f"{100 * row.untrained:.1f}"
        trained = _with_interval(row.trained, row.low, row.high)
        gain = _with_interval(row.gain, row.gain_low, row.gain_high, "+")
        lines.append((row.system, row.map, f"{100 * row.chance:.1f}", before, trained, gain, str(row.images)))
    aligned = table(lines, left=(0, 1))
    note = "in % of the map's mass on the person; 95 % percentile bootstrap over people, 2,000 resamples"
    return "\n".join([*aligned, "", f"  {note}"])


def precision_figure(rows: Sequence[PrecisionRow]) -> Figure:
    """From untrained to trained, one line per system and map; dotted, chance."""
    rows = [row for row in rows if np.isfinite(row.trained)]
    figure = canvas(6.4, 0.75 + 0.21 * len(rows))
    height = figure.get_figheight()
    axes = figure.add_axes((0.34, 0.42 / height, 0.63, 1 - 0.72 / height))
    for line, row in enumerate(rows):
        color = SERIES[1] if row.gain < 0 else SERIES[0]
        axes.plot([100 * row.untrained, 100 * row.trained], [line, line], color=color, lw=1.6)
        axes.plot(100 * row.untrained, line, "o", ms=4.5, color=color, mfc="white")
        axes.plot(100 * row.trained, line, "o", ms=4.5, color=color)
        axes.plot([100 * row.low, 100 * row.high], [line, line], color=color, lw=4, alpha=0.25, solid_capstyle="butt")
        axes.plot([100 * row.chance] * 2, [line - 0.5, line + 0.5], color=MUTED, lw=1, ls=DOTTED)
    chances = sorted({f"{100 * row.chance:.1f}" for row in rows}, key=float) or ["0.0"]
    chance = chances[0] if len(chances) == 1 else f"{chances[0]} to {chances[-1]}"
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [f"{row.system}  {row.map}" for row in rows])
    plain_axes(axes, "x", SMALL)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_xlabel("% of the map's mass on the person", fontsize=FONT, color=MUTED)
    title = f"○ untrained   ● trained, with its 95 % interval   dotted: chance {chance} %"
    axes.set_title(title, loc="left", fontsize=FONT, color=MUTED, pad=6)
    return figure


def _maps(model: ReIDModel, images: Tensor, partners: Tensor | None) -> dict[str, np.ndarray]:
    """Everything that is said about positions, (B, h, w) each."""
    shown = {name: spatial_map(attention) for name, attention in attention_of(model, images).items()}
    found = {name: values for name, values in shown.items() if values is not None and name != "holistic"}
    found["last map"] = holistic_map(model, images).values
    if partners is not None:
        for name, layer in attention_layers(model).items():
            found[f"Grad-CAM {name}"] = similarity_cam(model, layer, images, partners).cpu().numpy()
    return found


def _mask(sample: Sample) -> np.ndarray:
    mask = read_labels(sample, ("mask",)).mask
    assert mask is not None
    return mask


def _coverage(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Part of each cell that the mask covers, (h, w)."""
    pixels = torch.from_numpy(person_of(mask).astype(np.float64))[None, None]
    return F.adaptive_avg_pool2d(pixels, size)[0, 0].numpy()


def _mean(values: np.ndarray) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else float("nan")


def _interval(values: np.ndarray, pids: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of the mean over pictures; people are drawn, each with all their pictures."""
    there = np.isfinite(values)
    if not there.any():
        return float("nan"), float("nan")
    people, index = np.unique(pids[there], return_inverse=True)
    sums, counts = np.bincount(index, values[there]), np.bincount(index)
    drawn = np.random.default_rng(0).integers(0, len(people), (RESAMPLES, len(people)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _with_interval(value: float, low: float, high: float, sign: str = "") -> str:
    """A fraction in percent with the ends of its interval."""
    if np.isnan(value):
        return "-"
    return f"{100 * value:{sign}.1f} [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"
