"""Whether heat depends on the network at all, whether it depends on nothing else, and how far methods agree.

Shapes: B pictures, h x w positions of a map.

Two sanity checks (the first is that of Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, section 3):

- Weights are made random layer by layer from the top, in ``STEPS`` steps of equally many layers, each step on top of
  those before it; in the end the network is a fresh one of its architecture. Heat that stays what it was is of the
  picture and not of the network. Measured is Spearman's rank correlation with the heat of the trained network, and the
  structural similarity (SSIM) of the two; a method fails whose mean rank correlation is ``SAME`` or more when all
  weights are random. Heat that is gone (all zero) has changed, and counts as 0.
- The heat of a pair may not depend on the order in which the two are given, and of a picture with itself it is the same
  on both sides: a method fails where any position differs by ``ORDER`` of the highest heat.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata
from torch import Tensor, nn

from regard.errors import ConfigError
from regard.explain.gradcam import frozen
from regard.explain.heat_methods import Heat
from regard.models import ReIDModel
from regard.models.build import from_config
from regard.models.saved import model_config

__all__ = [
    "ORDER", "SAME", "STEPS", "Sanity", "agreement", "check_methods", "layers_from_the_top", "order_gap", "randomized",
    "rank_correlation", "structural_similarity",
]  # fmt: skip

STEPS = 5
"""Steps in which all weights become random."""

SAME = 0.5
"""Mean rank correlation with the trained network's heat from which a method fails."""

OTHER = 24_301
"""Added to the seed of random weights, so that they are not those that a network started from by the same seed."""

SWAPPED = 2
"""Pairs that are given in both orders."""

ORDER = 0.01
"""Share of the highest heat by which a pair's heat may depend on the order of the two."""

GRID = (32, 16)
"""Rows and columns on which maps of different sizes are compared."""


class Sanity(NamedTuple):
    """What the checks found of one method.

    Attributes:
        correlation: (STEPS, B) rank correlation with the trained network's heat, step by step; NaN of a picture that
            the trained network has no heat on.
        ssim: (STEPS, B) structural similarity.
        order: by how much of the highest heat the order of a pair matters.
    """

    correlation: np.ndarray
    ssim: np.ndarray
    order: float

    @property
    def left(self) -> float:
        """Mean rank correlation with the trained network's heat when all weights are random; NaN where it had none."""
        last = self.correlation[-1]
        return float(np.nanmean(last)) if np.isfinite(last).any() else float("nan")

    @property
    def faults(self) -> list[str]:
        """Why the method fails, a sentence each; empty where it passes."""
        found, left = [], self.left
        if not left < SAME:
            told = "there is no heat to compare" if np.isnan(left) else f"rank correlation {left:.2f}, {SAME:g} fails"
            found.append(f"its heat stays what it is when all weights are random ({told})")
        if not self.order <= ORDER:
            found.append(f"its heat depends on the order of the pair (by {100 * self.order:.0f} % of the highest)")
        return found


def check_methods(
    model: ReIDModel, methods: Mapping[str, Heat], images: Tensor, partners: Tensor, seed: int = 0
) -> dict[str, Sanity]:
    """Check several methods on some pairs.

    Args:
        model: trained.
        methods: name -> method.
        images, partners: (B, 3, H, W) normalized pictures.
        seed: of the random weights.
    """
    trained = {name: heat(model, images, partners, against=False).cpu().numpy() for name, heat in methods.items()}
    alike: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in methods}
    for other in randomized(model, images, seed=seed):
        for name, heat in methods.items():
            maps = heat(other, images, partners, against=False).cpu().numpy()
            alike[name].append((rank_correlation(trained[name], maps), structural_similarity(trained[name], maps)))
    found = {}
    for name, heat in methods.items():
        correlation, ssim = (np.stack([step[which] for step in alike[name]]) for which in (0, 1))
        found[name] = Sanity(correlation, ssim, order_gap(model, heat, images, partners))
    return found


def layers_from_the_top(model: ReIDModel, images: Tensor) -> list[str]:
    """Paths of the modules with weights of their own that the descriptor depends on, the last one called first.

    Raises:
        ConfigError: there is none.
    """
    owners = {path: own for path, one in model.named_modules() if (own := list(one.parameters(recurse=False)))}
    called: dict[str, None] = {}

    def note(path: str) -> None:
        called.pop(path, None)
        called[path] = None

    hooks = [model.get_submodule(path).register_forward_hook(lambda *_, path=path: note(path)) for path in owners]
    try:
        with frozen(model):
            wanted = [p.requires_grad for p in model.parameters()]
            model.requires_grad_(True)
            answer = model(images[:1]).embedding.sum()
            weights = list(model.parameters())
            moved = torch.autograd.grad(answer, weights, allow_unused=True) if answer.requires_grad else ()
            for weight, before in zip(weights, wanted):
                weight.requires_grad_(before)
    finally:
        for hook in hooks:
            hook.remove()
    used = {id(weight) for weight, gradient in zip(weights, moved) if gradient is not None}
    on_the_way = [path for path, own in owners.items() if any(id(weight) in used for weight in own)]
    if not on_the_way:
        raise ConfigError(
            f"{type(model).__name__} has no weights that could be made random, so sanity cannot be checked; leave that "
            "out with --checked 0"
        )
    order = {path: place for place, path in enumerate(called)}
    return sorted(on_the_way, key=lambda path: -order.get(path, -1))


def randomized(model: ReIDModel, images: Tensor, steps: int = STEPS, seed: int = 0) -> Iterator[ReIDModel]:
    """Yield the network with ever more of its weights those of a fresh one, from the top; the last has none it had.

    Args:
        model: left as it is.
        images: (B, 3, H, W) to run it on once, for the order of its layers.
        steps: how many networks.
        seed: of the fresh weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(OTHER + seed)
        fresh = from_config(model_config(model))
    changed = copy.deepcopy(model)
    for names in np.array_split(np.array(layers_from_the_top(model, images), object), steps):
        for name in names:
            _take(changed.get_submodule(name), fresh.get_submodule(name))
        yield changed


@torch.no_grad()
def _take(module: nn.Module, fresh: nn.Module) -> None:
    """Copy what a module has of its own, not what its parts have."""
    for mine, theirs in (
        (module.named_parameters(recurse=False), dict(fresh.named_parameters(recurse=False))),
        (module.named_buffers(recurse=False), dict(fresh.named_buffers(recurse=False))),
    ):
        for name, value in mine:
            value.copy_(theirs[name])


def order_gap(model: ReIDModel, heat: Heat, images: Tensor, partners: Tensor) -> float:
    """By how much of the highest heat the order of a pair matters, at most; and in a picture with itself."""
    worst = 0.0
    for first, second in zip(images[:SWAPPED], partners[:SWAPPED]):
        one, other = torch.stack([first, second]), torch.stack([second, first])
        forth, back = (heat(model, *pair, against=False) for pair in ((one, other), (other, one)))
        same = torch.stack([first, first])
        alone = heat(model, same, same, against=False)
        for left, right in ((forth, back.flip(0)), (alone[:1], alone[1:])):
            top = left.abs().amax().clamp_min(torch.finfo(torch.float32).tiny)
            worst = max(worst, float((left - right).abs().amax() / top))
    return worst


def rank_correlation(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of maps (B, h, w), picture by picture, (B,).

    NaN where the first one is the same all over; 0 where only the other is.
    """
    found = np.empty(len(maps))
    for place, (one, other) in enumerate(zip(maps, others)):
        first, second = (rankdata(values.ravel()) for values in (one, other))
        first, second = first - first.mean(), second - second.mean()
        sizes = np.sqrt((first**2).sum()), np.sqrt((second**2).sum())
        found[place] = np.nan if not sizes[0] else 0.0 if not sizes[1] else first @ second / (sizes[0] * sizes[1])
    return found


def structural_similarity(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """SSIM of maps (B, h, w) picture by picture, (B,): each from its lowest to its highest value, on a common grid.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004, with its Gaussian
    window of 1.5 and constants for numbers from 0 to 1.
    """
    first, second = (_leveled(_on_grid(each)) for each in (maps, others))
    blur = [
        gaussian_filter(x, (0, 1.5, 1.5), truncate=3.5) for x in (first, second, first**2, second**2, first * second)
    ]
    means = blur[0], blur[1]
    spread, other, both = blur[2] - means[0] ** 2, blur[3] - means[1] ** 2, blur[4] - means[0] * means[1]
    above = (2 * means[0] * means[1] + 1e-4) * (2 * both + 9e-4)
    return (above / ((means[0] ** 2 + means[1] ** 2 + 1e-4) * (spread + other + 9e-4))).mean((1, 2))


def agreement(maps: Mapping[str, np.ndarray]) -> np.ndarray:
    """Mean rank correlation of every two methods (M, M) over pictures, NaN where one is the same all over everywhere.

    Args:
        maps: method -> (B, h, w), of any size each.
    """
    fine = [_on_grid(each) for each in maps.values()]
    found = np.full((len(fine), len(fine)), np.nan)
    for row, one in enumerate(fine):
        for column, other in enumerate(fine):
            values = rank_correlation(one, other)
            values[np.isnan(rank_correlation(other, one))] = np.nan
            found[row, column] = np.nanmean(values) if np.isfinite(values).any() else np.nan
    return found


def _on_grid(maps: np.ndarray) -> np.ndarray:
    """Maps (B, h, w) on the common grid: larger ones averaged, smaller ones interpolated."""
    given = torch.from_numpy(np.ascontiguousarray(maps)).double()[:, None]
    larger = given.shape[2] >= GRID[0] and given.shape[3] >= GRID[1]
    return (F.adaptive_avg_pool2d(given, GRID) if larger else F.interpolate(given, GRID, mode="bilinear"))[:, 0].numpy()


def _leveled(maps: np.ndarray) -> np.ndarray:
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    return np.divide(maps - low, high - low, out=np.zeros_like(maps), where=high > low)
