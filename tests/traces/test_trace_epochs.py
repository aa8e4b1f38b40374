"""What an epoch draws: batches, people and pictures, counted, against the authors' samplers in plain Python.

Both draw from one list of Market-1501's size. What is certain is compared exactly, what is drawn by its mean over some
epochs, within four standard deviations of what the authors' sampler scatters.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import cache
from pathlib import Path
from statistics import mean, stdev

import pytest
from plain_epochs import Epoch, by_person, in_rounds, shuffled, until_exhausted
from plain_training import Drawn
from published import TRAININGS, VARIANTS
from traced import configuration

from regard.engine.build import build_loader
from regard.runtime.fabric import Runtime
from regard.structures import Sample, Splits

PEOPLE, PICTURES = 751, 12_936
EPOCHS, TWIN = 4, 12
DRAWN = {recipe: training.drawn for recipe, training in TRAININGS.items()}
DRAWN |= {
    recipe: VARIANTS[recipe].drawn for recipe in ("daaf_trinet_market1501_released", "mudeep_market1501_released")
}


def counts() -> list[int]:
    """Pictures of 751 people, 12,936 in all, 2 at least and most far fewer than the most."""
    draw = random.Random(3)
    found = [min(72, 2 + int(draw.expovariate(1 / 15.3))) for _ in range(PEOPLE)]
    while sum(found) != PICTURES:
        person = draw.randrange(PEOPLE)
        found[person] = max(2, min(72, found[person] + (1 if sum(found) < PICTURES else -1)))
    return found


OWN = counts()
PIDS = [pid for pid, count in enumerate(OWN) for _ in range(count)]


def epochs_of(recipe: str, overrides: list[str], folder: Path) -> list[Epoch]:
    """What regard's loader draws in the first epochs of a training by the recipe."""
    config = configuration(recipe, ["data.labels=[]", "data.workers=0", *overrides], (64, 32))
    samples = [Sample(Path(f"{index}.jpg"), pid, 1) for index, pid in enumerate(PIDS)]
    loader = build_loader(config, Splits("market1501", folder, samples, [], []), folder, Runtime(config.train))
    found = []
    for epoch in range(EPOCHS):
        loader.batch_sampler.set_epoch(epoch)
        found.append([[draw.index for draw in batch] for batch in loader.batch_sampler])
        assert len(found[-1]) == len(loader)
    return found


@cache
def twins_of(drawn: Drawn) -> list[dict[str, float]]:
    """What the authors' sampler draws, counted."""
    found = []
    for seed in range(TWIN):
        draw = random.Random(seed)
        if drawn.fixed:
            found.append(by_person(PIDS, drawn.people * drawn.each))
        elif drawn.rounds is None:
            found.append(shuffled(PIDS, drawn.people * drawn.each, draw))
        elif drawn.rounds:
            found.append(in_rounds(PIDS, drawn.people, drawn.each, drawn.rounds, draw, drawn.scarce))
        else:
            found.append(until_exhausted(PIDS, drawn.people, drawn.each, draw))
    return [statistics(epoch) for epoch in found]


def statistics(epoch: Epoch) -> dict[str, float]:
    """Numbers that tell samplers apart.

    Batches; different pictures and people seen; draws of those with few pictures, of those with many, and of the one
    with the most; pictures drawn twice and more often.
    """
    counts, drawn = Counter(PIDS), Counter(index for batch in epoch for index in batch)
    people = Counter(PIDS[index] for batch in epoch for index in batch)
    few = {pid for pid, count in counts.items() if count < 4}
    many = {pid for pid, count in counts.items() if count > 30}
    return {
        "batches": len(epoch),
        "pictures": len(drawn),
        "people": len(people),
        "of few": sum(people[pid] for pid in few),
        "of many": sum(people[pid] for pid in many),
        "of one": max(people.values()),
        "twice": sum(count == 2 for count in drawn.values()),
        "oftener": sum(count > 2 for count in drawn.values()),
    }


def check_batches(epoch: Epoch, drawn: Drawn) -> None:
    """Every batch is full; with identities sampled, it is P different people, each with K pictures in a row."""
    for batch in epoch:
        assert len(batch) == drawn.people * drawn.each
        if drawn.rounds is not None:
            rows = [batch[at : at + drawn.each] for at in range(0, len(batch), drawn.each)]
            people = [{PIDS[index] for index in row} for row in rows]
            assert all(len(person) == 1 for person in people)
            assert len(set.union(*people)) == drawn.people or not drawn.distinct
        if drawn.scarce == "repeat":
            pictures = Counter(batch)
            assert all(count <= -(-drawn.each // OWN[PIDS[index]]) for index, count in pictures.items())


def check(recipe: str, overrides: list[str], folder: Path) -> None:
    """Compare a recipe's epochs with the authors'.

    Raises:
        AssertionError: they differ.
    """
    drawn = DRAWN[recipe]
    found, twins = epochs_of(recipe, overrides, folder), twins_of(drawn)
    assert (found[0] == found[1]) == drawn.fixed, "whether every epoch draws the same"
    assert not drawn.fixed or found[0] == by_person(PIDS, drawn.people * drawn.each)
    for epoch in found:
        check_batches(epoch, drawn)
    counted = [statistics(epoch) for epoch in found]
    for name in twins[0]:
        wanted = [twin[name] for twin in twins]
        ours = mean(epoch[name] for epoch in counted)
        scatter = 4 * stdev(wanted) * (1 / EPOCHS + 1 / TWIN) ** 0.5
        assert abs(ours - mean(wanted)) <= scatter + 1e-9, f"{name}: {ours}, the authors' {mean(wanted)}"


@pytest.mark.parametrize("recipe", DRAWN)
def test_an_epoch_draws_what_the_authors_draw(recipe, tmp_path):
    check(recipe, [], tmp_path)


@pytest.mark.parametrize(
    ("recipe", "batches"),
    [
        ("mudeep_market1501", 187),
        ("daaf_trinet_market1501", 46),
        ("rga_sc_market1501", 46),
        ("sa_market1501", 269),
        ("pcb_market1501", 202),
    ],
)
def test_known_numbers_of_batches(recipe, batches, tmp_path):
    """As the authors' code counts them on Market-1501, however its pictures are spread over its people."""
    assert {len(epoch) for epoch in epochs_of(recipe, [], tmp_path)} == {batches}
