"""Insertion and deletion: what a pair's similarity does as pixels of one picture come and go by rank of heat.

Shapes: H x W pixels, S + 1 fractions from 0 to 1, G gallery pictures, D descriptor length.

Deletion takes the hottest pixels away first and fills them; insertion starts from the fill and brings the hottest
pixels back first (Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC
2018, section 4.1, there for a class's probability). The area under a curve over the fraction of pixels is by the
trapezoid rule. What counts is the area between it and the curve of a random order: heat at random of as many rows and
columns, interpolated in the same way, the mean over ``DRAWS`` of them; else coarse maps, which take whole patches,
would be compared with salt and pepper. Both scores are above zero where heat does better: similarity comes back sooner
than by chance, and goes sooner.

What is filled in decides much, so there are two: the picture's own mean color, and the picture blurred.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from regard.explain.heat_methods import on_pixels

__all__ = ["FILLS", "FRACTIONS", "Curves", "Search", "area", "curves", "fills", "pixel_order", "random_heat"]

FILLS = ("mean", "blur")

FRACTIONS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
"""Shares of the pixels that are gone, or back; closer where curves bend."""

DRAWS = 2
"""Random orders behind every random curve."""

BLUR = 16
"""A picture's height over the standard deviation of the blur."""


class Search(NamedTuple):
    """What one picture is looked for in.

    Attributes:
        partner: (D,) descriptor of the true match, of length 1.
        wrong: (N, D) descriptors, of length 1, of the gallery pictures that are of somebody else.
    """

    partner: np.ndarray
    wrong: np.ndarray

    def similarity(self, vectors: np.ndarray) -> np.ndarray:
        """Cosine of descriptors (N, D) of length 1 with the true match's, (N,)."""
        return vectors @ self.partner

    def rank(self, vectors: np.ndarray) -> np.ndarray:
        """At which place the true match is found by descriptors (N, D): 1 and how many wrong ones are nearer."""
        return 1 + (vectors @ self.wrong.T > self.similarity(vectors)[:, None]).sum(1)


class Curves(NamedTuple):
    """What follows from one order of pixels, by fill; all (S + 1,).

    Attributes:
        inserted, deleted: fill -> similarity to the true match.
        inserted_rank, deleted_rank: fill -> place of the true match in the gallery, from 1.
    """

    inserted: Mapping[str, np.ndarray]
    deleted: Mapping[str, np.ndarray]
    inserted_rank: Mapping[str, np.ndarray]
    deleted_rank: Mapping[str, np.ndarray]


def pixel_order(heat: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The place of each pixel in the order of heat, 0 the hottest; equal ones in an order that is drawn.

    Args:
        heat: (H, W).
        rng: draws.

    Returns:
        (H, W) int64.
    """
    order = np.lexsort((rng.random(heat.size), -heat.ravel()))
    places = np.empty(heat.size, np.int64)
    places[order] = np.arange(heat.size)
    return places.reshape(heat.shape)


def random_heat(grid: tuple[int, int], size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Heat of so many rows and columns that means nothing, on the pixels of a picture, (H, W)."""
    return on_pixels(torch.from_numpy(rng.random((1, *grid))), size)[0].numpy()


def fills(image: Tensor) -> dict[str, Tensor]:
    """What stands where there is nothing of a picture (3, H, W), by name."""
    deviation = image.shape[1] / BLUR
    reach = max(1, round(3 * deviation))
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=image.device) / deviation) ** 2)
    weights = (weights / weights.sum()).to(image.dtype)
    blurred = image[:, None]
    for kernel, sides in ((weights[:, None], (0, 0, reach, reach)), (weights[None], (reach, reach, 0, 0))):
        blurred = F.conv2d(F.pad(blurred, sides, mode="replicate"), kernel[None, None])
    return {"mean": image.mean((1, 2), keepdim=True).expand_as(image), "blur": blurred[:, 0]}


def curves(
    image: Tensor,
    orders: Sequence[np.ndarray],
    embed: Callable[[Tensor], np.ndarray],
    search: Search,
    fractions: Sequence[float] = FRACTIONS,
) -> list[Curves]:
    """What several orders of a picture's pixels do to its similarity and to its search.

    Args:
        image: (3, H, W) normalized.
        orders: (H, W) each, as :func:`pixel_order` gives them.
        embed: from pictures (N, 3, H, W) to descriptors (N, D) of length 1.
        search: what it is compared with.
        fractions: shares of the pixels, from 0 to 1, ascending.
    """
    filled = fills(image)
    ends = embed(torch.stack([image, *filled.values()]))
    whole, empty = ends[0], dict(zip(filled, ends[1:]))
    within = [fraction for fraction in fractions if 0 < fraction < 1]
    found = []
    for order in orders:
        places = torch.from_numpy(order).to(image.device)
        taken = torch.stack([places < round(fraction * order.size) for fraction in within])[:, None]
        parts: dict[str, dict[str, np.ndarray]] = {name: {} for name in Curves._fields}
        for name, fill in filled.items():
            vectors = embed(torch.cat([torch.where(taken, image, fill), torch.where(taken, fill, image)]))
            for side, middle in (("inserted", vectors[: len(within)]), ("deleted", vectors[len(within) :])):
                first, last = (empty[name], whole) if side == "inserted" else (whole, empty[name])
                row = np.stack([first, *middle, last])
                parts[side][name], parts[f"{side}_rank"][name] = search.similarity(row), search.rank(row)
        found.append(Curves(**parts))
    return found


def area(values: np.ndarray, fractions: Sequence[float] = FRACTIONS) -> float:
    """The area under a curve (S + 1,) over fractions from 0 to 1, by the trapezoid rule."""
    return float(np.trapezoid(values, fractions))
