"""Recipes of one system for several data sets: one training, told once and traced once.

What differs between them is named here, and nothing else may.
"""

from __future__ import annotations

from typing import Any

import pytest
from published import TRAININGS, VARIANTS

from regard.recipes import list_recipes, read_recipe

FREE = ("data.name", "data.options", "eval.", "train.eval_every", "train.seed")
"""What trains nothing else, or belongs to a data set."""

DATA_SETS = ("market1501", "dukemtmc", "cuhk03", "msmt17")

LENGTHS = {
    "dukemtmc": {"train.epochs": 1860, "schedule.start": 349.0},
    "cuhk03": {"train.epochs": 1702, "schedule.start": 319.0},
}
"""TriNet's 80,000 steps, and the 15,000 before they slow down, are other epochs on other data sets."""

DIFFERENT: dict[str, dict[str, Any]] = {
    "dsp_dukemtmc_released": {"model.num_ids": 751},
    "sa_dukemtmc_released": {"model.num_ids": 751},
    "apnet_msmt17": {"model.descriptor": "logits"},
    "apnet_msmt17_released": {"model.descriptor": "logits", "losses.id.smoothing_ids": 751},
    "apnet_dukemtmc_released": {"losses.id.smoothing_ids": 751},
}
DIFFERENT |= {
    name: own
    for data, own in LENGTHS.items()
    for name in (f"daaf_trinet_{data}", f"daaf_trinet_{data}_released", f"trinet_{data}")
}
"""What a recipe has of its own."""


def twin(recipe: str) -> str | None:
    """The traced recipe of another data set, for one that is not traced itself."""
    data = next((data for data in DATA_SETS if f"_{data}" in recipe), None)
    traced = TRAININGS.keys() | VARIANTS.keys()
    if recipe in traced or data is None:
        return None
    return next((other for home in DATA_SETS if (other := recipe.replace(data, home)) in traced), None)


def settings(recipe: str) -> dict[str, Any]:
    flat = read_recipe(recipe).config().flat()
    return {key: value for key, value in flat.items() if not key.startswith(FREE)}


SISTERS = {recipe: other for recipe in list_recipes() if (other := twin(recipe))}


@pytest.mark.parametrize("recipe", SISTERS)
def test_other_data_sets_get_the_same_training(recipe):
    ours, traced = settings(recipe), settings(SISTERS[recipe])
    differing = {key: ours.get(key) for key in ours | traced if ours.get(key) != traced.get(key)}
    assert differing == DIFFERENT.get(recipe, {})
