from __future__ import annotations

import gc
import os
import pickle
import random
import signal

import numpy as np
import pytest
import torch

from regard.data import TestTransform, TrainTransform, class_pids, load_dataset, read_image, test_loader, train_loader
from regard.data.loaders import Crops
from regard.data.samplers import PlannedBatchSampler, ShuffleBatchSampler
from regard.data.transforms import resize
from regard.errors import ConfigError, DataError
from regard.structures import Batch, Sample

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")

TRAIN = TrainTransform(32, 16, pad=2, erasing_fill="random")


@pytest.fixture(scope="module")
def splits(shared_market):
    return load_dataset("market1501", shared_market)


def sampler_of(loader) -> PlannedBatchSampler:
    assert isinstance(loader.batch_sampler, PlannedBatchSampler)
    return loader.batch_sampler


def batches(samples, workers=0, epoch=0, skip=0, **options) -> list[Batch]:
    loader = train_loader(samples, TRAIN, ids_per_batch=4, images_per_id=2, workers=workers, **options)
    sampler_of(loader).set_epoch(epoch, skip)
    assert len(loader) == sampler_of(loader).num_batches - skip
    return list(loader)


def same(some: list[Batch], others: list[Batch]) -> bool:
    return len(some) == len(others) and all(
        torch.equal(a, b) for one, other in zip(some, others) for a, b in zip(one[:3], other[:3])
    )


def test_training_batch(splits):
    (batch, *_) = batches(splits.train)
    assert isinstance(batch, Batch)
    assert batch.images.shape == (8, 3, 32, 16)
    assert batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.pids.dtype == batch.camids.dtype == torch.int64
    assert batch.pids.view(4, 2).unique(dim=1).shape == (4, 1)
    assert batch.extra == {}


def test_a_picture_is_augmented_from_its_seed(splits):
    loader = train_loader(splits.train, TRAIN, ids_per_batch=4, images_per_id=2, seed=5)
    for draws, batch in zip(sampler_of(loader), loader):
        for draw, image, label, camid in zip(draws, *batch[:3]):
            sample = splits.train[draw.index]
            assert (TRAIN(read_image(sample.path), random.Random(draw.seed)) == image.numpy()).all()
            assert class_pids(splits.train)[label] == sample.pid
            assert camid == sample.camid


def test_labels_are_ranks_of_sorted_pids():
    samples = [Sample(path=None, pid=pid, camid=1) for pid in (1501, 7, 7, 2, 1501)]  # pyright: ignore[reportArgumentType]
    assert class_pids(samples) == [2, 7, 1501]
    loader = train_loader(samples, TRAIN, ids_per_batch=3, images_per_id=1)
    assert isinstance(loader.dataset, Crops)
    assert loader.dataset.pids == [2, 1, 1, 0, 2]


def test_epoch_seed_and_skip(splits):
    first = batches(splits.train)
    assert same(first, batches(splits.train))
    assert not same(first, batches(splits.train, epoch=1))
    assert not same(first, batches(splits.train, seed=1))
    assert same(first[1:], batches(splits.train, skip=1))


def test_the_sampler_can_be_chosen(splits):
    """6 identities with 5 images each, 8 images in a batch: 6 groups of 2 a round, or 30 images."""
    loader = train_loader(splits.train, TRAIN, ids_per_batch=4, images_per_id=2, sampler="shuffle")
    assert isinstance(loader.batch_sampler, ShuffleBatchSampler)
    found = batches(splits.train, sampler="shuffle")
    assert [len(batch.pids) for batch in found] == [8, 8, 8]
    assert max(torch.cat([batch.pids for batch in found]).bincount().tolist()) <= 5
    assert [len(batch.pids) for batch in batches(splits.train, rounds=2)] == [8, 8, 8]
    assert len(batches(splits.train, rounds=4)) == 6


@pytest.mark.parametrize("options", [{}, {"rounds": 2}, {"sampler": "shuffle"}, {"sampler": "sorted"}])
def test_ranks_side_by_side_are_one_process(splits, options):
    whole = batches(splits.train, **options)
    halves = [batches(splits.train, rank=rank, world_size=2, **options) for rank in range(2)]
    joined = [
        Batch(
            torch.cat([left.images, right.images]),
            torch.cat([left.pids, right.pids]),
            torch.cat([left.camids, right.camids]),
            {},
        )
        for left, right in zip(*halves)
    ]
    assert same(whole, joined)


@pytest.mark.slow
def test_workers_change_nothing(splits):
    expected = [batches(splits.train, epoch=epoch) for epoch in range(2)]
    for workers in (1, 2):
        loader = train_loader(splits.train, TRAIN, ids_per_batch=4, images_per_id=2, workers=workers)
        for epoch in range(2):
            sampler_of(loader).set_epoch(epoch)
            found = list(loader)
            assert same(expected[epoch], found)
            assert found[0].images.is_contiguous(memory_format=torch.channels_last)
    assert same(expected[1][1:], batches(splits.train, workers=2, epoch=1, skip=1))


def test_the_data_set_crosses_to_spawned_workers(splits):
    loader = train_loader(splits.train, TRAIN, ids_per_batch=4, images_per_id=2)
    draws = next(iter(sampler_of(loader)))
    copy = pickle.loads(pickle.dumps(loader.dataset))
    assert same([copy.__getitems__(draws)], batches(splits.train)[:1])


def test_leaving_early_does_not_disturb_the_next_epoch(splits):
    loader = train_loader(splits.train, TRAIN, ids_per_batch=4, images_per_id=2, workers=1)
    next(iter(loader))
    sampler_of(loader).set_epoch(1)
    assert same(list(loader), batches(splits.train, epoch=1))


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_reads_all_in_order(splits, workers):
    loader = test_loader(splits.gallery, TestTransform(32, 16), batch_size=4, workers=workers)
    found = list(loader)
    assert [len(batch.pids) for batch in found] == [4, 2]
    assert len(loader) == 2
    assert torch.cat([batch.pids for batch in found]).tolist() == [sample.pid for sample in splits.gallery]
    assert torch.cat([batch.camids for batch in found]).tolist() == [sample.camid for sample in splits.gallery]
    expected = np.stack([resize(read_image(sample.path), 32, 16) for sample in splits.gallery])
    images = torch.cat([batch.images for batch in found])
    assert (images.permute(0, 2, 3, 1).numpy() == expected).all()
    assert found[0].images.is_contiguous(memory_format=torch.channels_last)


def test_batch_size_is_checked(splits):
    with pytest.raises(ConfigError, match="batch_size is 0"):
        test_loader(splits.query, TestTransform(32, 16), batch_size=0)


def test_too_few_identities(splits):
    with pytest.raises(ConfigError, match="asks for 7 identities, the training split has 6"):
        train_loader(splits.train, TRAIN, ids_per_batch=7, images_per_id=2)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_a_broken_file_is_named_in_one_line(market, workers, content):
    splits = load_dataset("market1501", market)
    path = splits.train[3].path
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    samples = [sample for sample in splits.train if sample.pid <= 2]
    loader = train_loader(samples, TRAIN, ids_per_batch=2, images_per_id=5, workers=workers)
    with pytest.raises(DataError) as error:
        list(loader)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert "worker" not in str(error.value).lower()


@pytest.mark.parametrize("workers", [0, 2])
def test_global_random_state_is_untouched(splits, workers, random_states):
    before = random_states()
    batches(splits.train, workers=workers)
    list(test_loader(splits.query, TestTransform(32, 16), batch_size=2, workers=workers))
    assert random_states() == before


@pytest.mark.slow
def test_workers_end_with_their_loader_at_once(splits):
    """Also where the garbage collector has taken their queues to pieces: waited for, each takes five seconds."""
    loader = train_loader(splits.train, TRAIN, ids_per_batch=4, images_per_id=2, workers=2)
    next(iter(loader))
    workers = loader._iterator._workers
    ring = [loader]
    ring.append(ring)
    del loader, ring
    gc.collect()
    assert [worker.exitcode for worker in workers] == [-signal.SIGKILL] * 2


def test_a_worker_that_hangs_can_be_ended(splits):
    """Workers leave signals to the program; the loader's own way to end one that hangs has to work all the same."""
    loader = train_loader(splits.train, TRAIN, ids_per_batch=4, images_per_id=2, workers=1)
    next(iter(loader))
    (worker,) = loader._iterator._workers
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(timeout=0.5)
    assert worker.is_alive()
    worker.terminate()
    worker.join(timeout=30)
    assert not worker.is_alive()
    loader._iterator = None


def test_global_random_state_changes_nothing(splits):
    expected = batches(splits.train)
    with torch.random.fork_rng():
        torch.manual_seed(123)
        assert same(expected, batches(splits.train))
