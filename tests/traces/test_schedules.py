"""The command that counts steps beside the authors': figures that are known, and recipes that differ say where."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def schedules():
    sys.path.insert(0, str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("schedules", BENCHMARKS / "schedules.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["schedules"] = module
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(BENCHMARKS))


KNOWN = {
    "mudeep_market1501": (187, [14_773, 29_733], 29_920),
    "mudeep_market1501_2020": (187, [7_293, 14_773], 18_700),
    "sa_market1501": (269, [10_760, 21_520], 26_900),
    "dsp_market1501": (269, [10_760], 13_450),
    "apnet_rga_cuhk03": (47, [47 * epoch for epoch in range(80, 361, 40)], 28_200),
}
"""Batches of an epoch, milestones in steps, steps in all, as the authors' code has them."""


@pytest.mark.parametrize("recipe", KNOWN)
def test_known_steps(schedules, recipe):
    row = schedules.row_of(recipe)
    assert (row["batches"], row["milestones"], row["steps"]) == KNOWN[recipe]
    assert (row["theirs"], row["their milestones"], row["their steps"]) == KNOWN[recipe]
    assert row["equal"] is True, row["why"]


@pytest.mark.parametrize(("data", "batches"), [("market1501", 46), ("dukemtmc", 43), ("cuhk03", 47)])
def test_trinets_epochs_are_its_steps_to_less_than_an_epoch(schedules, data, batches):
    row = schedules.row_of(f"daaf_trinet_{data}")
    assert (row["batches"], row["their milestones"], row["their steps"]) == (batches, [15_000], 80_000)
    assert row["equal"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("train.epochs=161", "161 epochs for 160"),
        ("schedule.milestones=[40, 80]", "milestones [40.0, 80.0] for [40, 80, 120]"),
        ("schedule.warmup_epochs=5", "5 epochs of warm-up for 10"),
        ("data.images_per_id=8", "batches of 20 x 8 for 20 x 4"),
        ("data.rounds=1", "batches an epoch for"),
    ],
)
def test_a_recipe_that_differs_says_in_what(schedules, change, why):
    row = schedules.row_of("apnet_market1501", [change])
    assert row["equal"] is False
    assert why in row["why"]


def test_the_table_written_down_is_todays(schedules):
    """benchmarks/results/schedules.json holds every recipe for a published data set, and what counting gives."""
    written = json.loads((BENCHMARKS / "results" / "schedules.json").read_text(encoding="utf-8"))["recipes"]
    assert set(written) == set(schedules.recipes_counted()), "write it anew: python benchmarks/schedules.py"
    for recipe in ("apnet_market1501", "daaf_trinet_dukemtmc", "sa_cuhk03"):
        row = json.loads(json.dumps(schedules.row_of(recipe)))
        assert written[recipe] == {key: value for key, value in row.items() if key != "recipe"}
