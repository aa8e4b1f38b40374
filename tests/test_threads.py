"""How many cores there are to use, and the choice of the number of threads: from made-up times, on a made-up clock."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import regard.threads
from regard.threads import FastestCount, Threads, allowed_cores, ladder, threads_are_given, usable_threads


def system(root: Path, groups: str, **files: str) -> Path:
    """A root folder in which this process is in the control groups, and ``FOLDER__FILE`` holds what is given."""
    files = {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}}
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V1 = "4:memory:/jobs/a\n3:cpu,cpuacct:/jobs/a\n2:cpuset:/\n"


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/jobs/a\n", {"jobs/a/cpu.max": "200000 100000\n"}, 2),
        ("0::/jobs/a\n", {"jobs/a/cpu.max": "max 100000\n"}, 8),
        ("0::/jobs/a\n", {"jobs/a/cpu.max": "max 100000\n", "jobs/cpu.max": "250000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "9900000 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "gibberish\n"}, 8),
        ("0::/seen/from/the/host\n", {"cpu.max": "400000 100000\n"}, 4),
        (V1, {"cpu,cpuacct/jobs/a/cpu.cfs_quota_us": "150000\n", "cpu,cpuacct/jobs/a/cpu.cfs_period_us": "50000\n"}, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        (V1, {"cpu/jobs/a/cpu.cfs_quota_us": "-1\n", "cpu/jobs/a/cpu.cfs_period_us": "100000\n"}, 8),
        (V1 + "0::/jobs\n", {"unified/jobs/cpu.max": "500000 100000\n"}, 5),
    ],
)
def test_a_quota_of_a_control_group_limits_the_cores(tmp_path, monkeypatch, groups, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert allowed_cores(system(tmp_path, groups, **files)) == cores


def test_affinity_limits_the_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 5, 6}, raising=False)
    assert allowed_cores(tmp_path) == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert allowed_cores(tmp_path) == 7


def counts_of(choice: FastestCount, times: dict[int, float], steps: int) -> list[int]:
    """The count of each step, when steps take these times."""
    counts = []
    for _ in range(steps):
        counts.append(choice.count)
        choice.finish_step(times[choice.count])
    return counts


def test_one_thread_is_chosen_where_it_is_faster():
    choice = FastestCount([1, 2], 2)
    assert counts_of(choice, {1: 0.1, 2: 0.4}, 30) == [2] * 5 + [1] * 25
    assert (choice.best, choice.settled, choice.seconds) == (1, True, {1: 0.1, 2: 0.4})


def test_the_allowed_number_is_chosen_where_it_is_faster():
    choice = FastestCount([1, 2], 1)
    assert counts_of(choice, {1: 0.3, 2: 0.2}, 30) == [1] * 5 + [2] * 25
    assert counts_of(FastestCount([1, 2], 2), {1: 0.3, 2: 0.2}, 30) == [2] * 5 + [1] * 4 + [2] * 21


def test_a_count_that_is_hopeless_is_tried_for_one_step():
    assert counts_of(FastestCount([1, 2], 1), {1: 0.1, 2: 0.9}, 30) == [1] * 5 + [2] + [1] * 24


def test_what_is_hardly_faster_is_not_worth_a_change():
    assert counts_of(FastestCount([1, 2], 2), {1: 0.95, 2: 1.0}, 12)[-3:] == [2] * 3
    assert counts_of(FastestCount([1, 2], 1), {1: 1.0, 2: 0.95}, 12)[-3:] == [1] * 3


def test_it_is_measured_again_when_steps_become_slow_and_when_they_become_fast():
    idle, busy = {1: 0.3, 2: 0.2}, {1: 0.4, 2: 2.0}
    choice = FastestCount([1, 2], 2)
    counts_of(choice, idle, 30)
    assert counts_of(choice, busy, 20)[-1] == choice.best == 1
    assert counts_of(choice, {1: 0.2, 2: 0.1}, 30)[-1] == choice.best == 2


def test_more_threads_are_not_tried_because_steps_became_slower():
    """Beside more neighbors a step with more threads takes many times as long: the dearest try of all."""
    choice = FastestCount([1, 2], 1)
    counts_of(choice, {1: 0.1, 2: 0.9}, 30)
    assert counts_of(choice, {1: 0.5, 2: 9.0}, 40) == [1] * 40
    assert counts_of(choice, {1: 0.2, 2: 0.1}, 30)[-1] == choice.best == 2


def test_steps_that_vary_a_little_do_not_start_a_trial():
    choice = FastestCount([1, 2], 2)
    counts_of(choice, {1: 0.3, 2: 0.2}, 10)
    for step in range(90):
        assert choice.count == 2
        choice.finish_step(0.2 * (1.4, 0.7, 9)[step % 3] if step % 2 else 0.2)  # single slow steps too


def test_trials_become_rare_where_nothing_changes():
    counts = counts_of(FastestCount([1, 2], 2), {1: 0.3, 2: 0.2}, 10_000)
    assert counts.count(1) == 4 * 10  # after 5, 109, 313, 717, 1521, 3125 ... steps


def test_with_many_cores_few_threads_are_not_tried_on_an_idle_machine():
    times = {count: 1 / count for count in ladder(64)}
    assert set(counts_of(FastestCount(ladder(64), 64), times, 1000)) == {32, 64}
    assert counts_of(FastestCount(ladder(64), 32), times, 30)[-1] == 64


@pytest.mark.slow
@given(
    limit=st.integers(1, 48),
    data=st.data(),
    seconds=st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=300),
)
def test_whatever_steps_take_the_count_is_one_of_the_ladder_and_trials_end(limit, data, seconds):
    counts = ladder(limit)
    assert (counts[0], counts[-1]) == (1, limit)
    assert counts == sorted(set(counts))
    choice = FastestCount(counts, data.draw(st.sampled_from(counts)))
    trying = 0
    for took in seconds:
        assert choice.count in counts
        choice.finish_step(took)
        trying = 0 if choice.settled else trying + 1
        assert trying <= FastestCount.FIRST + (FastestCount.TIMED + 1) * len(counts)


@pytest.fixture
def four_cores(monkeypatch):
    """PyTorch has not been told how many threads to take, and takes four; nothing is known of others."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setattr(regard.threads, "_allowed_cpus", lambda: set(range(4)))
    monkeypatch.setattr(regard.threads, "_count_cores", lambda cpus: len(cpus))
    monkeypatch.setattr(regard.threads, "_quotas", lambda root: [])
    monkeypatch.setattr(regard.threads, "_is_crowded", lambda limit: False)
    monkeypatch.setattr(regard.threads, "_newest", (0, -math.inf))
    numbers = [4]
    monkeypatch.setattr(torch, "get_num_threads", lambda: numbers[-1])
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    return numbers


class Clock:
    """Steps take as long as the number of threads has it."""

    def __init__(self, times: dict[int, float]):
        self.now, self.times = 0.0, times

    def __call__(self) -> float:
        return self.now

    def work(self, threads: Threads, steps: int) -> None:
        for _ in threads.each(range(steps)):
            self.now += self.times[torch.get_num_threads()]


def test_the_fastest_number_is_set_and_the_callers_comes_back(four_cores):
    clock = Clock({4: 0.8, 2: 0.4, 1: 0.2})
    with Threads(clock=clock) as threads:
        clock.work(threads, 30)
        assert (torch.get_num_threads(), threads.settled) == (1, True)
        assert str(threads) == "1 of 4, a step took with 1: 200.0 ms, 2: 400.0 ms, 4: 800.0 ms"
    assert torch.get_num_threads() == 4
    with suppress(RuntimeError), Threads(clock=clock):
        assert torch.get_num_threads() == 1  # as was found a moment ago
        raise RuntimeError
    assert torch.get_num_threads() == 4
    clock.now += 61
    with Threads(clock=clock):
        assert torch.get_num_threads() == 4


def test_work_within_work_begins_with_its_choice_and_leaves_it(four_cores):
    clock = Clock({4: 0.8, 2: 0.4, 1: 0.2})
    with Threads(clock=clock) as outer:
        clock.work(outer, 30)
        with Threads(clock=clock) as inner:
            clock.work(inner, 90)
            assert (torch.get_num_threads(), four_cores) == (1, [4, 2, 1])  # nothing was tried
            clock.times = {4: 0.02, 2: 0.04, 1: 0.09}
            clock.work(inner, 40)
            assert torch.get_num_threads() == 4
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(("name", "value"), [("OMP_NUM_THREADS", "4"), ("MKL_NUM_THREADS", "2"), (None, 3)])
def test_the_caller_who_gives_a_number_is_obeyed(four_cores, monkeypatch, name, value):
    if name:
        monkeypatch.setenv(name, value)
    else:
        torch.set_num_threads(value)
    set_before, clock = list(four_cores), Clock({4: 0.8, 3: 0.5, 2: 0.4, 1: 0.2})
    assert threads_are_given()
    assert usable_threads() == set_before[-1]
    with Threads(clock=clock) as threads:
        clock.work(threads, 300)
        assert threads.settled
        assert str(threads) == f"{set_before[-1]}, not chosen by measuring"
    assert four_cores == set_before


def test_other_devices_and_several_processes_keep_their_number(four_cores):
    clock = Clock({4: 0.8})
    with Threads(measured=False, clock=clock) as threads:
        clock.work(threads, 30)
    assert four_cores == [4]


def test_a_quota_below_the_processors_limits_the_threads(four_cores, monkeypatch):
    monkeypatch.setattr(regard.threads, "_quotas", lambda root: [1.5])
    assert not threads_are_given()
    assert usable_threads() == 2
    with Threads():
        assert torch.get_num_threads() == 2
    monkeypatch.setattr(regard.threads, "_is_crowded", lambda limit: True)
    with Threads():
        assert torch.get_num_threads() == 1  # the first guess where others compute
