from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data.samplers import Draw, PKBatchSampler, cut_groups, pick_groups
from regard.errors import ConfigError


@st.composite
def problems(draw):
    """Identities of a few images each in any order, P a multiple of the number of ranks, K, seed, epoch."""
    ranks = draw(st.integers(1, 3))
    p = ranks * draw(st.integers(1, 3))
    sizes = draw(st.lists(st.integers(1, 13), min_size=p, max_size=12))
    names = draw(st.lists(st.integers(0, 5000), min_size=len(sizes), max_size=len(sizes), unique=True))
    pids = draw(st.permutations([pid for pid, size in zip(names, sizes) for _ in range(size)]))
    return pids, p, draw(st.integers(1, 5)), draw(st.integers(0, 2**40)), ranks, draw(st.integers(0, 50))


def naive_epoch(pids: list[int], p: int, k: int, seed: int, epoch: int) -> list[list[int]]:
    """The sampler once more with lists and loops, drawing from the generator in the same order."""
    rng = np.random.default_rng((seed, epoch, 0))
    keys = rng.random(len(pids))
    images = defaultdict(list)
    for index in sorted(range(len(pids)), key=lambda index: keys[index]):
        images[pids[index]].append(index)
    groups = {}
    for pid in sorted(images):
        own = images[pid]
        if len(own) < k:
            own = [own[rng.integers(len(own))] for _ in range(k)]
        groups[pid] = [own[start : start + k] for start in range(0, len(own) - k + 1, k)]
    batches = []
    while sum(bool(left) for left in groups.values()) >= p:
        alive = [pid for pid in sorted(groups) if groups[pid]]
        batch = []
        for pid in rng.choice(alive, p, replace=False).tolist():
            batch += groups[pid].pop(0)
        batches.append(batch)
    return batches


def indices(batches) -> list[list[int]]:
    return [[draw.index for draw in batch] for batch in batches]


@settings(max_examples=50, deadline=None)
@given(problems())
def test_equals_the_naive_twin(problem):
    pids, p, k, seed, _, epoch = problem
    sampler = PKBatchSampler(pids, p, k, seed=seed)
    sampler.set_epoch(epoch)
    assert indices(sampler) == naive_epoch(pids, p, k, seed, epoch)


@settings(max_examples=50, deadline=None)
@given(problems())
def test_batches_are_full_and_identities_contiguous(problem):
    pids, p, k, seed, _, epoch = problem
    sampler = PKBatchSampler(pids, p, k, seed=seed)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(sampler) == len(batches) >= 1
    for batch in batches:
        assert len(batch) == p * k
        owners = np.array([pids[draw.index] for draw in batch]).reshape(p, k)
        assert (owners == owners[:, :1]).all()
        assert len(set(owners[:, 0].tolist())) == p


@settings(max_examples=50, deadline=None)
@given(problems())
def test_an_image_comes_once_unless_its_identity_has_fewer_than_k(problem):
    pids, p, k, seed, _, epoch = problem
    sampler = PKBatchSampler(pids, p, k, seed=seed)
    sampler.set_epoch(epoch)
    images = Counter(pids)
    drawn = Counter(draw.index for batch in sampler for draw in batch)
    for index, times in drawn.items():
        assert times == 1 or images[pids[index]] < k
    groups = Counter(pids[index] for batch in indices(sampler) for index in batch[::k])
    assert all(number <= max(images[pid] // k, 1) for pid, number in groups.items())
    left = [pid for pid in images if groups[pid] < max(images[pid] // k, 1)]
    assert len(left) < p


@settings(max_examples=50, deadline=None)
@given(problems())
def test_ranks_side_by_side_are_the_batch_of_one_process(problem):
    pids, p, k, seed, ranks, epoch = problem
    alone = PKBatchSampler(pids, p, k, seed=seed)
    shares = [PKBatchSampler(pids, p, k, seed=seed, rank=rank, world_size=ranks) for rank in range(ranks)]
    for sampler in (alone, *shares):
        sampler.set_epoch(epoch)
    assert {len(share) for share in shares} == {len(alone)}
    for whole, *parts in zip(alone, *shares):
        assert {len(part) for part in parts} == {p * k // ranks}
        assert [draw for part in parts for draw in part] == whole


@settings(max_examples=50, deadline=None)
@given(problems(), st.data())
def test_skip_drops_the_first_batches(problem, data):
    pids, p, k, seed, _, epoch = problem
    sampler = PKBatchSampler(pids, p, k, seed=seed)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    skip = data.draw(st.integers(0, len(batches)))
    resumed = PKBatchSampler(pids, p, k, seed=seed)
    resumed.set_epoch(epoch, skip)
    assert list(resumed) == batches[skip:]
    assert len(resumed) == len(batches) - skip
    assert resumed.num_batches == len(batches)
    resumed.set_epoch(epoch)
    assert list(resumed) == batches


def test_scarce_identity_is_drawn_with_replacement():
    sampler = PKBatchSampler([3, 8, 8, 8, 8], 2, 4)
    seen = set()
    for epoch in range(20):
        sampler.set_epoch(epoch)
        (batch,) = sampler
        assert sorted(draw.index for draw in batch if draw.index) == [1, 2, 3, 4]
        assert sum(draw.index == 0 for draw in batch) == 4
        seen.add(tuple(draw.index for draw in batch))
    assert len(seen) > 1


def test_every_image_gets_its_turn():
    pids = np.repeat(np.arange(5), 7)
    sampler = PKBatchSampler(pids, 2, 3)
    drawn = set()
    for epoch in range(40):
        sampler.set_epoch(epoch)
        drawn |= {draw.index for batch in sampler for draw in batch}
    assert drawn == set(range(len(pids)))


def test_epochs_and_seeds_differ_and_repeat():
    pids = np.repeat(np.arange(10), 8)
    sampler, again, other = (PKBatchSampler(pids, 4, 2, seed=seed) for seed in (0, 0, 1))
    first = list(sampler)
    assert list(sampler) == first == list(again)
    assert list(other) != first
    sampler.set_epoch(1)
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_augmentation_seeds_are_63_bits_and_all_different():
    sampler = PKBatchSampler(np.repeat(np.arange(40), 8), 4, 4)
    seeds = []
    for epoch in range(5):
        sampler.set_epoch(epoch)
        seeds += [draw.seed for batch in sampler for draw in batch]
    assert len(set(seeds)) == len(seeds)
    assert 2**62 < max(seeds) < 2**63
    assert min(seeds) >= 0
    assert all(type(value) is int for value in Draw(*next(iter(sampler))[0]))


def test_leaves_the_global_generators_alone(random_states):
    before = random_states()
    list(PKBatchSampler(np.repeat(np.arange(10), 8), 4, 2))
    assert random_states() == before


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000))
def test_identities_are_picked_evenly(p, seed):
    first, size = np.arange(0, 600, 100), np.full(6, 100)
    batches = pick_groups(first, size, p, np.random.default_rng(seed))
    assert len(np.unique(batches)) == batches.size
    early = Counter((batches[:50] // 100).ravel().tolist())
    expected = 50 * p / 6
    assert all(abs(early[pid] - expected) < 25 for pid in range(6))


def test_groups_shuffle_within_the_identity():
    pids = np.array([4] * 6 + [2] * 6)
    positions = np.zeros((12, 6), int)
    for seed in range(600):
        groups, first, size = cut_groups(pids, 3, np.random.default_rng(seed))
        assert first.tolist() == [0, 2]
        assert size.tolist() == [2, 2]
        assert set(groups[:2].ravel()) == set(range(6, 12))
        for place, index in enumerate(groups[2:].ravel()):
            positions[index, place] += 1
    assert (positions[:6] > 50).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ids_per_batch": 4}, ["4 identities", "has 3", "lower data.ids_per_batch"]),
        ({"ids_per_batch": 3, "world_size": 2}, ["3 identities", "2 processes", "multiple"]),
        ({"ids_per_batch": 0}, ["0 identities", "1 or more"]),
        ({"images_per_id": 0}, ["0 images", "1 or more"]),
        ({"rank": 2, "world_size": 2}, ["rank 2", "0 to 1"]),
        ({"seed": -1}, ["seed is -1", "0 or more"]),
        ({"scarce": "again"}, ["scarce is 'again'", "draw or repeat"]),
    ],
)
def test_bad_numbers_are_told_in_one_line(options, words):
    arguments: dict[str, Any] = {"ids_per_batch": 2, "images_per_id": 2, **options}
    with pytest.raises(ConfigError) as error:
        PKBatchSampler([1, 1, 2, 2, 3], **arguments)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_bad_epochs_are_told():
    sampler = PKBatchSampler([1, 1, 2, 2], 2, 2)
    with pytest.raises(ConfigError, match="cannot skip 2 batches of epoch 0, it has 1"):
        sampler.set_epoch(0, skip=2)
    with pytest.raises(ConfigError, match="epoch -1"):
        sampler.set_epoch(-1)
