"""Epochs of rounds over all identities, and epochs of plainly shuffled images, against loops one can read."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data.samplers import PKBatchSampler, PlannedBatchSampler, ShuffleBatchSampler, SortedBatchSampler
from regard.errors import ConfigError
from regard.recipes import read_recipe


@st.composite
def problems(draw):
    """Identities of a few images each in any order, P a multiple of the number of ranks, K, rounds, seed, epoch."""
    ranks = draw(st.integers(1, 3))
    p = ranks * draw(st.integers(1, 3))
    sizes = draw(st.lists(st.integers(1, 9), min_size=p, max_size=12))
    names = draw(st.lists(st.integers(0, 5000), min_size=len(sizes), max_size=len(sizes), unique=True))
    pids = draw(st.permutations([pid for pid, size in zip(names, sizes) for _ in range(size)]))
    k, rounds = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    return pids, p, k, rounds, draw(st.integers(0, 2**40)), ranks, draw(st.integers(0, 50))


def naive_group(own: list[int], k: int, scarce: str, rng: np.random.Generator) -> list[int]:
    """K pictures of one person, who has them in random order."""
    if len(own) >= k:
        return own[:k]
    if scarce == "draw":
        return [own[rng.integers(len(own))] for _ in range(k)]
    keys = [rng.random() for _ in range(2 * k)]
    repeated = own * math.ceil(k / len(own))
    return [repeated[place] for place in sorted(range(len(repeated)), key=lambda place: keys[place])[:k]]


def naive_rounds(problem, scarce: str, distinct: bool) -> list[list[int]]:
    """MuDeep's and TriNet's released samplers with lists and loops, drawing from the generator in the same order."""
    pids, p, k, rounds, seed, _, epoch = problem
    rng = np.random.default_rng((seed, epoch, 0))
    ids = sorted(set(pids))
    groups: list[tuple[int, list[int]]] = []
    for _ in range(rounds):
        keys = rng.random(len(pids))
        images = defaultdict(list)
        for index in sorted(range(len(pids)), key=lambda index: keys[index]):
            images[pids[index]].append(index)
        chosen = {pid: naive_group(images[pid], k, scarce, rng) for pid in ids}
        waiting = [ids[number] for number in rng.permutation(len(ids))]
        while distinct and len(groups) % p:
            begun = {pid for pid, _ in groups[len(groups) // p * p :]}
            pid = next(pid for pid in waiting if pid not in begun)
            waiting.remove(pid)
            groups.append((pid, chosen[pid]))
            if not waiting:
                break
        groups += [(pid, chosen[pid]) for pid in waiting]
    batches = [groups[start : start + p] for start in range(0, len(groups) - p + 1, p)]
    return [[index for _, group in batch for index in group] for batch in batches]


def indices(batches) -> list[list[int]]:
    return [[draw.index for draw in batch] for batch in batches]


def rounds_of(problem, rank: int = 0, ranks: int = 1, keep_last: bool = False, **options) -> PKBatchSampler:
    pids, p, k, rounds, seed, _, epoch = problem
    sampler = PKBatchSampler(
        pids, p, k, seed=seed, rank=rank, world_size=ranks, rounds=rounds, keep_last=keep_last, **options
    )
    sampler.set_epoch(epoch)
    return sampler


@st.composite
def shuffles(draw):
    ranks = draw(st.integers(1, 3))
    batch = ranks * draw(st.integers(1, 4))
    return draw(st.integers(batch, 60)), batch, draw(st.integers(0, 2**40)), ranks, draw(st.integers(0, 50))


def shuffle_of(problem, rank: int = 0, ranks: int = 1, keep_last: bool = False) -> ShuffleBatchSampler:
    length, batch, seed, _, epoch = problem
    sampler = ShuffleBatchSampler(length, batch, seed=seed, rank=rank, world_size=ranks, keep_last=keep_last)
    sampler.set_epoch(epoch)
    return sampler


@settings(max_examples=60, deadline=None)
@given(problems(), st.sampled_from(["draw", "repeat"]), st.booleans())
def test_rounds_equal_the_naive_twin(problem, scarce, distinct):
    sampler = rounds_of(problem, scarce=scarce, distinct_ids=distinct)
    assert indices(sampler) == naive_rounds(problem, scarce, distinct)


@pytest.mark.parametrize("rounds", [None, 2])
def test_few_pictures_repeated_come_about_equally_often(rounds):
    """Of 3 pictures, 5 drawn are two of each but one; and each of them is the one as often."""
    pids, missed = [1] * 3 + [2] * 5, Counter()
    for seed in range(300):
        sampler = PKBatchSampler(pids, 2, 5, seed=seed, rounds=rounds, scarce="repeat")
        for batch in indices(sampler):
            drawn = Counter(index for index in batch if index < 3)
            assert sorted(drawn.values()) == [1, 2, 2]
            missed[min(drawn, key=drawn.__getitem__)] += 1
    assert min(missed.values()) > 0.7 * max(missed.values())


@pytest.mark.slow
def test_mudeep_s_own_batches_hold_a_person_twice_once_in_14_epochs():
    pids, found = np.repeat(np.arange(751), 6), 0
    for seed in range(140):
        batches = indices(PKBatchSampler(pids, 12, 6, seed=seed, rounds=3, distinct_ids=False))
        assert len(batches) == 187
        found += sum(len(set(pids[batch])) < 12 for batch in batches)
    assert 4 <= found <= 18


@settings(max_examples=60, deadline=None)
@given(problems())
def test_rounds_meet_everyone_equally_often_and_nobody_twice_in_a_batch(problem):
    pids, p, k, rounds, *_ = problem
    sampler = rounds_of(problem)
    batches = indices(sampler)
    images = Counter(pids)
    assert len(batches) == len(sampler) == rounds * len(images) // p
    groups = Counter()
    for batch in batches:
        owners = np.array([pids[index] for index in batch]).reshape(p, k)
        assert (owners == owners[:, :1]).all()
        assert len(set(owners[:, 0].tolist())) == p
        groups.update(owners[:, 0].tolist())
        for start in range(0, p * k, k):
            group = batch[start : start + k]
            assert len(set(group)) == k or images[pids[group[0]]] < k
    assert max(groups.values()) <= rounds
    assert sum(rounds - groups[pid] for pid in images) == rounds * len(images) % p


@settings(max_examples=60, deadline=None)
@given(problems() | shuffles(), st.data())
def test_the_last_batch_is_kept(problem, data):
    """The batches are those that dropping gives, then what is left over, as much as the ranks can share evenly."""
    ranks = problem[-2]
    if len(problem) == 7:
        pids, p, k, rounds, *_ = problem
        batch, images, make, k_last = p * k, rounds * len(set(pids)) * k, rounds_of, ranks * k
    else:
        images, batch, *_ = problem
        make, k_last = shuffle_of, ranks
    kept = images % batch // k_last * k_last
    if kept == ranks:
        with pytest.raises(ConfigError, match="a last batch of one image a process"):
            make(problem, 0, ranks, keep_last=True)
        return
    shares = [list(make(problem, rank, ranks, keep_last=True)) for rank in range(ranks)]
    whole = [[draw for part in parts for draw in part] for parts in zip(*shares, strict=True)]
    assert indices(whole[: images // batch]) == indices(make(problem))
    assert [len(found) for found in whole[images // batch :]] == ([kept] if kept else [])
    assert len({len(share[-1]) for share in shares}) == 1
    if len(problem) == 7 and kept:
        owners = [pids[draw.index] for draw in whole[-1]]
        assert [len(set(owners[start : start + k])) for start in range(0, kept, k)] == [1] * (kept // k)
        assert len(set(owners)) == kept // k
    drawn = [draw.seed for found in whole for draw in found]
    assert len(set(drawn)) == len(drawn)
    skip = data.draw(st.integers(0, len(shares[0])))
    resumed = make(problem, 0, ranks, keep_last=True)
    resumed.set_epoch(problem[-1], skip)
    assert list(resumed) == shares[0][skip:]


@pytest.mark.parametrize(("p", "ranks", "steps", "last"), [(12, 1, 63, 28), (48, 8, 16, 12)])
def test_the_mindspore_form_s_epoch_on_market1501_has_the_published_length(p, ranks, steps, last):
    """Alone 62 batches of 12 people and one of 7; on 8 devices 93 people each, 15 batches of 6 and one of 3."""
    sampler = PKBatchSampler(
        np.repeat(np.arange(751), 17), p, 4, seed=0, rank=ranks - 1, world_size=ranks, rounds=1, keep_last=True
    )
    assert [len(batch) for batch in sampler] == [p * 4 // ranks] * (steps - 1) + [last]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["data.keep_last=true"], "keep_last is true, but an epoch of sampler pk has a last batch only where it has"),
        (["data.keep_last=true", "data.rounds=1", "train.accumulate=2"], "train.accumulate is 2, and a smaller last"),
        (["data.keep_last=true", "data.rounds=1", "train.bn_share=2"], "train.bn_share is 2, and a smaller last"),
        (["data.scarce=repeat", "data.sampler=shuffle"], "scarce is repeat, but sampler shuffle takes every image"),
        (["data.distinct_ids=false"], "distinct_ids is false, but .* set rounds"),
        (["losses.triplet.group=6"], "losses.triplet.group is 6, but a batch shows its people in rows of 4"),
        (["losses.triplet.group=4", "data.sampler=shuffle"], "losses.triplet.group is 4, but .* rows of 1 "),
    ],
)
def test_an_epoch_that_cannot_be_planned(changes, words):
    with pytest.raises(ConfigError, match=words):
        read_recipe("baseline_market1501").config(changes)


def test_mudeep_s_epoch_on_market1501_has_the_published_length():
    """751 identities x 3 rounds x 6 images = 13,518 images: 187 batches of 72, 54 left over."""
    data = read_recipe("mudeep_market1501").config().data
    assert data.rounds
    sampler = PKBatchSampler(
        np.repeat(np.arange(751), 17), data.ids_per_batch, data.images_per_id, rounds=data.rounds
    )  # fmt: skip
    assert {len(batch) for batch in sampler} == {72}
    assert len(sampler) == 187


@pytest.mark.parametrize(("name", "ids"), [("market1501", 751), ("dukemtmc", 702), ("cuhk03", 767)])
def test_trinet_s_schedule_is_80000_steps_constant_to_15000(name, ids):
    config = read_recipe(f"daaf_trinet_{name}").config()
    data = config.data
    epoch = len(PKBatchSampler(np.arange(ids), data.ids_per_batch, data.images_per_id, rounds=data.rounds))
    assert epoch == ids // 16
    assert config.train.epochs * epoch == pytest.approx(80_000, abs=epoch / 2)
    assert config.schedule.start * epoch == pytest.approx(15_000, abs=epoch / 2)


@pytest.mark.slow
def test_the_ends_of_rounds_are_still_random():
    """Whoever is put first for not being in the batch begun: every order of the others comes up."""
    pids = np.arange(5)
    followers = Counter()
    for seed in range(2000):
        batches = indices(PKBatchSampler(pids, 3, 1, seed=seed, rounds=2))
        begun, joined = batches[1][:2], batches[1][2]
        assert joined not in begun
        followers[joined] += 1
    assert set(followers) == {0, 1, 2, 3, 4}
    assert max(followers.values()) < 1.25 * min(followers.values())


@settings(max_examples=60, deadline=None)
@given(shuffles())
def test_shuffle_equals_the_naive_twin(problem):
    length, batch, seed, _, epoch = problem
    order = np.random.default_rng((seed, epoch, 0)).permutation(length).tolist()
    expected = []
    while len(order) >= batch:
        expected.append([order.pop(0) for _ in range(batch)])
    sampler = shuffle_of(problem)
    assert indices(sampler) == expected
    assert len(sampler) == length // batch
    drawn = [index for found in indices(sampler) for index in found]
    assert len(set(drawn)) == len(drawn) == length // batch * batch


@pytest.mark.parametrize(("kind", "make"), [(problems(), rounds_of), (shuffles(), shuffle_of)], ids=["rounds", "all"])
def test_ranks_and_skipping_cut_the_same_epoch(kind, make):
    @settings(max_examples=40, deadline=None)
    @given(kind, st.data())
    def check(problem, data):
        *_, ranks, epoch = problem
        whole = list(make(problem))
        shares = [list(make(problem, rank, ranks)) for rank in range(ranks)]
        assert [[draw for part in parts for draw in part] for parts in zip(*shares, strict=True)] == whole
        assert len({len(part) for share in shares for part in share}) == 1
        skip = data.draw(st.integers(0, len(whole)))
        resumed: PlannedBatchSampler = make(problem)
        resumed.set_epoch(epoch, skip)
        assert list(resumed) == whole[skip:]
        assert len(resumed) == len(whole) - skip
        resumed.set_epoch(epoch + 1)
        resumed.set_epoch(epoch)
        assert list(resumed) == whole

    check()


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: PKBatchSampler(np.arange(40) // 4, 4, 2, seed=seed, rounds=2),
        lambda s: ShuffleBatchSampler(40, 8, seed=s),
    ],
)
def test_epochs_and_seeds_differ_and_repeat(make, random_states):
    before = random_states()
    sampler, again, other = make(0), make(0), make(1)
    first = list(sampler)
    assert list(again) == first != list(other)
    seeds = [draw.seed for batch in first for draw in batch]
    assert len(set(seeds)) == len(seeds)
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert random_states() == before


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PKBatchSampler([1, 1, 2], 2, 2, rounds=0), ["0 rounds", "1 or more"]),
        (lambda: PKBatchSampler([1, 1, 2], 3, 2, rounds=1), ["3 identities", "has 2"]),
        (lambda: ShuffleBatchSampler(5, 6), ["6 images", "has 5", "lower"]),
        (lambda: ShuffleBatchSampler(9, 3, world_size=2), ["3 images", "2 processes", "multiple"]),
        (lambda: ShuffleBatchSampler(9, 0), ["0 images"]),
        (lambda: SortedBatchSampler([1] * 5, 6), ["6 images", "has 5", "lower"]),
        (lambda: ShuffleBatchSampler(9, 4, rank=2, world_size=2), ["rank 2", "0 to 1"]),
        (lambda: ShuffleBatchSampler(9, 4, seed=-1), ["seed is -1"]),
    ],
)
def test_bad_numbers_are_told_in_one_line(make: Any, words):
    with pytest.raises(ConfigError) as error:
        make()
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_nobody_can_skip_more_than_there_is():
    sampler = ShuffleBatchSampler(9, 4)
    with pytest.raises(ConfigError, match="cannot skip 3 batches of epoch 0, it has 2"):
        sampler.set_epoch(0, skip=3)


@settings(max_examples=30, deadline=None)
@given(problems())
def test_sorted_batches_follow_the_list_by_identity(problem):
    """What a loader without a shuffle reads of a list that is sorted by identity: always the same, the rest never."""
    pids, p, k, _, seed, ranks, epoch = problem
    wanted = [index for _, index in sorted(zip(pids, range(len(pids))))]
    size = p * k
    if len(pids) < size:
        return
    share = size // ranks
    for rank in range(ranks):
        sampler = SortedBatchSampler(pids, size, seed=seed, rank=rank, world_size=ranks)
        sampler.set_epoch(epoch)
        found = indices(sampler)
        assert len(found) == len(pids) // size
        for number, batch in enumerate(found):
            start = number * size + rank * share
            assert batch == wanted[start : start + share]


def test_sorted_batches_are_augmented_anew_in_every_epoch():
    sampler = SortedBatchSampler([4, 4, 2, 2], 2)
    first = list(sampler)
    sampler.set_epoch(1)
    again = list(sampler)
    assert indices(first) == indices(again) == [[2, 3], [0, 1]]
    assert {draw.seed for batch in first for draw in batch}.isdisjoint(draw.seed for batch in again for draw in batch)
