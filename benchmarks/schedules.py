"""Steps of every published training: batches of an epoch, milestones and length in steps, beside the authors'.

    python benchmarks/schedules.py                          # all recipes for published data sets: half a minute
    python benchmarks/schedules.py --recipes mudeep_market1501

Batches are counted on regard's own training loader. It gets lists of samples without pictures: the published numbers of
people and pictures of each data set, spread over its people by a fixed draw, since the numbers of each person are not
published. Where an epoch is rounds or every picture once, that spread changes nothing. Where an epoch lasts until the
images run out, both sides are counted on the same lists, the authors' by their sampler in plain Python. Prints a table
and writes benchmarks/results/schedules.json, with the place in the authors' code that each figure comes from.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import results_file

from regard.config import Config
from regard.data.datasets import published_counts
from regard.engine.build import build_loader
from regard.recipes import list_recipes, read_recipe
from regard.runtime.fabric import Runtime
from regard.structures import Sample, Splits

PLAIN = ("data.labels=[]", "data.workers=0", "train.accelerator=cpu", "train.precision=fp32", "train.devices=1")

EPOCHS = 5
"""Epochs whose batches are counted, where their number varies."""


class Bounds(NamedTuple):
    """Fewest and most pictures of a person in training, which the simulated spread keeps to."""

    least: int
    most: int


BOUNDS = {
    "market1501": Bounds(2, 72),
    "dukemtmc": Bounds(6, 200),
    "cuhk03": Bounds(8, 10),
    "msmt17": Bounds(4, 200),
}


@dataclass(frozen=True)
class Authors:
    """A released training.

    Attributes:
        source: repository, file and line.
        people, each: P and K.
        draws: "groups" until fewer than P people have K pictures left, a number of rounds of K pictures of everybody,
            or "pictures", each once.
        epochs: in all; 0 where a number of ``steps`` is given instead.
        milestones: epochs, or steps, at which the rate falls or begins to.
        warmup: epochs.
        keeps_rest: whether a last batch that is not full counts.
        on: data sets it was released for; others get the training of the first.
        note: what has to be known.
    """

    source: str
    people: int
    each: int
    draws: str | int
    epochs: int = 0
    milestones: tuple[int, ...] = ()
    warmup: int = 0
    steps: int = 0
    keeps_rest: bool = False
    on: tuple[str, ...] = ("market1501",)
    note: str = ""


STRONG = "reid-strong-baseline 3da7e6f: yml:28-29,47-52; the same sampler as APNet"
PYRAMID = "APNet 95fc5b5: configs/default.yml:20,31; triplet_sampler.py:40-66; lr_scheduler.py:39-52; trainer.py:137"
RGA = "RGA cdc9965: sampler.py:13-36; main_imgreid.py:165"
TRINET = "DAAF_re-id 7be5e33: train.py:527-581"
MSEA = "person_reid_multi_scale"
MUDEEP = "MuDeep_v2"
BOTH = ("market1501", "dukemtmc")
TENTHS = (40, 80, 120)
HALVES = tuple(range(80, 361, 40))

AUTHORS: tuple[tuple[str, Authors | None], ...] = (
    ("apnet_s_*", None),
    ("apnet_rga_*", Authors(RGA, 16, 4, 1, 600, HALVES, 20, on=("cuhk03",))),
    ("rga_*", Authors(RGA, 16, 4, 1, 600, HALVES, 20, on=("cuhk03",))),
    ("apnet_*", Authors(PYRAMID, 20, 4, "groups", 160, TENTHS, 10, on=("market1501", "dukemtmc", "msmt17"))),
    ("msea_head_*", Authors(f"{MSEA} 29ff59b: default.yml:31", 15, 4, "groups", 160, TENTHS, 10)),
    ("msea_2023_*", Authors(f"{MSEA} 21936d9: default.yml, train.sh", 20, 4, "groups", 160, TENTHS, 10)),
    ("msea_*", Authors(f"{MSEA} 21936d9", 20, 4, "groups", 160, TENTHS, 10, note="trained as msea_2023")),
    ("mudeep_*_2020*", Authors(f"{MUDEEP} d95e2fb, 154f91b (history)", 12, 4, 3, 100, (39, 79))),
    ("mudeep_*", Authors(f"{MUDEEP} 1b98871: dataloader.py:173-187; train.py:72-74,86,340", 12, 6, 3, 160, (79, 159))),
    ("baseline_*", Authors(STRONG, 16, 4, "groups", 120, (40, 70), 10, on=BOTH)),
    (
        "daaf_mindspore_8_*",
        Authors("DAAF-Mindspore 39cae57: run_distribute_train", 48, 4, 1, 800, (640, 760), keeps_rest=True),
    ),
    (
        "daaf_mindspore_*",
        Authors(
            "DAAF-Mindspore 39cae57: configs/market1501_config.yml:17-36", 12, 4, 1, 400, (320, 380), keeps_rest=True
        ),
    ),
    ("daaf_trinet_*", Authors(TRINET, 16, 4, 1, milestones=(15_000,), steps=80_000)),
    ("trinet_*", Authors(TRINET, 16, 4, 1, milestones=(15_000,), steps=80_000)),
    ("daaf_*", Authors("PAAM_on_reid-strong-baseline d92acd2: yml:21-52", 16, 4, "groups", 480, (40, 70), 10)),
    ("sa_*", Authors("Spatial-Attention 227916a: main.py:51,125-146", 48, 1, "pictures", 100, (40, 80), on=BOTH)),
    ("dsp_*", Authors("DSP_Person_ReID e003b01: main.py:55, README", 48, 1, "pictures", 50, (40,), on=BOTH)),
    ("transreid_*", Authors("TransReID 6227ebd: vit_transreid_stride.yml", 16, 4, "groups", 120, warmup=5)),
    ("pcb_*", Authors("PCB as in the family of SA: README", 64, 1, "pictures", 60, (40,), on=BOTH)),
)
"""Pattern of recipe names -> what was released; the first that fits. None: never released."""


def released(recipe: str) -> Authors | None:
    """What the authors released for a recipe."""
    return next((authors for pattern, authors in AUTHORS if fnmatchcase(recipe, pattern)), None)


def spread(data: str, **options: Any) -> list[int]:
    """Pictures of every person, by a fixed draw: as many people and pictures as published, few people with many."""
    published, (least, most) = published_counts(data, **options), BOUNDS[data]
    assert published is not None
    draw = random.Random(7)
    extra = published.train_images / published.train_ids - least
    found = [min(most, least + round(draw.expovariate(1 / extra))) for _ in range(published.train_ids)]
    while (missing := published.train_images - sum(found)) != 0:
        person = draw.randrange(len(found))
        found[person] = min(most, max(least, found[person] + (1 if missing > 0 else -1)))
    return found


def count_batches(config: Config, counts: Sequence[int]) -> list[int]:
    """Batches of some epochs of regard's training loader."""
    pids = [pid for pid, count in enumerate(counts) for _ in range(count)]
    samples = [Sample(Path(f"{number}.jpg"), pid, 1) for number, pid in enumerate(pids)]
    with tempfile.TemporaryDirectory() as folder:
        splits = Splits("", Path(folder), samples, [], [])
        loader = build_loader(config, splits, Path(folder), Runtime(config.train))
        found = []
        for epoch in range(EPOCHS):
            loader.batch_sampler.set_epoch(epoch)
            found.append(loader.batch_sampler.num_batches)
    return found


def count_theirs(authors: Authors, counts: Sequence[int]) -> list[int]:
    """Batches of some epochs by the authors' sampler."""
    size = authors.people * authors.each
    if authors.draws == "pictures":
        return [sum(counts) // size] * EPOCHS
    if authors.draws != "groups":
        groups = int(authors.draws) * len(counts)
        return [-(-groups // authors.people) if authors.keeps_rest else groups // authors.people] * EPOCHS
    found = []
    for seed in range(EPOCHS):
        draw = random.Random(seed)
        left = {person: max(count // authors.each, 1) for person, count in enumerate(counts)}
        batches = 0
        while len(left) >= authors.people:
            for person in draw.sample(sorted(left), authors.people):
                left[person] -= 1
                if not left[person]:
                    del left[person]
            batches += 1
        found.append(batches)
    return found


def milestones(config: Config) -> tuple[float, ...]:
    """Epochs at which the rate falls, or begins to."""
    schedule = config.schedule
    return {"step": schedule.milestones, "exponential": (schedule.start,)}.get(schedule.name, ())


def row_of(recipe: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Count one recipe."""
    config = read_recipe(recipe).config([*PLAIN, *overrides])
    assert isinstance(config.data.name, str)
    counts = spread(config.data.name, **config.data.options.get(config.data.name, {}))
    ours, authors = count_batches(config, counts), released(recipe)
    batches = mean(ours)
    row: dict[str, Any] = {
        "recipe": recipe,
        "batches": batches,
        "theirs": None,
        "warm-up": round(config.schedule.warmup_epochs * batches),
        "milestones": [round(epoch * batches) for epoch in milestones(config)],
        "their milestones": None,
        "steps": round(config.train.epochs * batches),
        "their steps": None,
        "equal": None,
        "why": "never released" if authors is None else authors.note,
        "source": None if authors is None else authors.source,
        "batch": f"{config.data.ids_per_batch} x {config.data.images_per_id}",
        "epochs": config.train.epochs,
        "epochs of milestones": list(milestones(config)),
        "batches of epochs": ours,
    }
    if authors is None:
        return row
    row |= beside(row, authors, counts, config.schedule.warmup_epochs)
    if config.data.name not in authors.on:
        row["why"] = "; ".join(filter(None, [row["why"], f"released for {authors.on[0]}, carried over"]))
    return row


def beside(row: dict[str, Any], authors: Authors, counts: Sequence[int], warmup: float) -> dict[str, Any]:
    """The authors' side of a row, and whether both are the same."""
    theirs = count_theirs(authors, counts)
    batches = mean(theirs)
    stride = 1 if authors.steps else batches
    their_milestones = [round(at * stride) for at in authors.milestones]
    steps = authors.steps or round(authors.epochs * batches)
    sizes = f"{authors.people} x {authors.each}"
    faults = []
    if abs(row["batches"] - batches) > (2 if authors.draws == "groups" else 0):
        faults.append(f"{row['batches']:g} batches an epoch for {batches:g}")
    if row["batch"] != sizes:
        faults.append(f"batches of {row['batch']} for {sizes}")
    if warmup != authors.warmup:
        faults.append(f"{warmup:g} epochs of warm-up for {authors.warmup}")
    if authors.epochs:
        if row["epochs"] != authors.epochs:
            faults.append(f"{row['epochs']} epochs for {authors.epochs}")
        if row["epochs of milestones"] != list(authors.milestones):
            faults.append(f"milestones {row['epochs of milestones']} for {list(authors.milestones)}")
    else:  # their rate follows steps, ours whole epochs of about as many
        pairs = zip([*row["milestones"], row["steps"]], [*their_milestones, steps])
        faults += [f"{ours} steps for {wanted}" for ours, wanted in pairs if abs(ours - wanted) >= batches]
    return {
        "theirs": batches,
        "their milestones": their_milestones,
        "their steps": steps,
        "equal": not faults,
        "why": "; ".join([*faults, *([authors.note] if authors.note else [])]),
        "their batches of epochs": theirs,
    }


def printed(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the table shows it."""
    shown = {key: row[key] for key in ("recipe", "batches", "theirs", "warm-up", "milestones", "their milestones")}
    shown |= {key: row[key] for key in ("steps", "their steps", "equal", "why")}
    for key in ("milestones", "their milestones"):
        values = row[key]
        few = values if values is None or len(values) < 4 else [*values[:2], "...", values[-1]]
        shown[key] = None if few is None else ", ".join(map(str, few))
    for key in ("batches", "theirs"):
        shown[key] = None if row[key] is None else f"{row[key]:g}"
    shown["equal"] = {None: "-", True: "yes", False: "no"}[row["equal"]]
    return shown


def recipes_counted() -> list[str]:
    """Recipes for a published data set."""
    return [name for name in list_recipes() if read_recipe(name).config().data.name in BOUNDS]


def main() -> None:
    """Count, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", help="only these, and write no file")
    options = parser.parse_args()
    recipes = options.recipes or recipes_counted()
    rows = [row_of(recipe) for recipe in recipes]
    print(results_file.table([printed(row) for row in rows]))
    if not options.recipes:
        bounds = {name: limits._asdict() for name, limits in BOUNDS.items()}
        print(
            results_file.write(
                "schedules", {"pictures of a person": bounds, "recipes": {row.pop("recipe"): row for row in rows}}
            )
        )


if __name__ == "__main__":
    main()
