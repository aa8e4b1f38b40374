"""Decoded pictures, kept: the same batches, and never those of files that have changed."""

from __future__ import annotations

import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from regard.data import TrainTransform, load_dataset, read_image, train_loader
from regard.data import cache as caching
from regard.data.cache import cache_file, open_cache
from regard.data.samplers import PlannedBatchSampler
from regard.errors import DataError, StorageError

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")


@pytest.fixture
def samples(market):
    """A training split with pictures of several sizes, one of them a PNG in gray under its JPEG name."""
    train = load_dataset("market1501", market).train
    for number, sample in enumerate(train[:6]):
        pixels = np.random.default_rng(number).integers(0, 256, (20 + number, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(sample.path, format="PNG")
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(8, 6)).save(train[7].path, format="PNG")
    return train


def batches(samples, cache, workers=0, epoch=0):
    loader = train_loader(
        samples, TrainTransform(32, 16, pad=2), ids_per_batch=4, images_per_id=2, workers=workers, cache=cache
    )
    assert isinstance(loader.batch_sampler, PlannedBatchSampler)
    loader.batch_sampler.set_epoch(epoch)
    return list(loader)


def same(some, others) -> bool:
    return len(some) == len(others) > 0 and all(
        torch.equal(a, b) for one, other in zip(some, others) for a, b in zip(one[:3], other[:3])
    )


def test_every_picture_is_as_decoded(samples, tmp_path):
    cache = open_cache(samples, tmp_path)
    assert len(cache) == len(samples)
    for index, sample in enumerate(samples):
        assert (cache[index] == read_image(sample.path)).all()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_the_same_with_and_without(workers, samples, tmp_path):
    cache = open_cache(samples, tmp_path)
    for epoch in range(2):
        assert same(batches(samples, cache, workers, epoch), batches(samples, None, 0, epoch))


def test_batches_need_no_files_any_more(samples, tmp_path):
    expected = batches(samples, None)
    cache = open_cache(samples, tmp_path)
    shutil.rmtree(samples[0].path.parent)
    assert same(batches(samples, cache, workers=2), expected)


def test_spawned_workers_map_the_same_pixels(samples, tmp_path):
    from multiprocessing.reduction import ForkingPickler

    cache = open_cache(samples, tmp_path)
    copy = pickle.loads(ForkingPickler.dumps(cache))
    for index in range(len(samples)):
        assert (copy[index] == cache[index]).all()


def test_the_file_is_written_once(samples, tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    first = open_cache(samples, folder)
    (file,) = folder.iterdir()
    assert file == cache_file(samples, folder)
    monkeypatch.setattr(caching, "read_image", lambda _: pytest.fail("decoded again"))
    again = open_cache(samples, folder)
    assert all((first[index] == again[index]).all() for index in range(len(samples)))


def test_other_pictures_are_another_file(samples, tmp_path):
    open_cache(samples, tmp_path / "cache")
    part = open_cache(samples[3:], tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert (part[0] == read_image(samples[3].path)).all()


@pytest.mark.parametrize("change", ["content", "time", "nothing but the content"])
def test_a_changed_picture_is_decoded_again(change, samples, tmp_path, monkeypatch):
    open_cache(samples, tmp_path)
    path = samples[4].path
    before = path.stat()
    Image.fromarray(np.full((30, 12, 3), 77, np.uint8)).save(path, format="PNG")
    if change == "time":  # the same number of bytes, some other time
        path.write_bytes(path.read_bytes().ljust(before.st_size, b"\0"))
    elif change == "content":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size != before.st_size
    else:
        path.write_bytes(path.read_bytes().ljust(before.st_size, b"\0"))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    cache = open_cache(samples, tmp_path)
    assert cache[4].shape == (30, 12, 3)
    assert (cache[4] == 77).all()
    assert (cache[5] == read_image(samples[5].path)).all()


def flipped(content: bytes, place: int) -> bytes:
    """The content with one bit changed."""
    changed = bytearray(content)
    changed[place] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    "damage",
    [
        *(lambda c: b"", lambda c: c[:-1], lambda c: c[:40], lambda c: c + b"x", lambda c: b"x" + c[1:]),
        *(lambda c: c[:60], lambda c: flipped(c, -1), lambda c: flipped(c, 5000), lambda c: flipped(c, 90)),
    ],
    ids=["empty", "cut", "no header", "longer", "other file", "no places", "last pixel", "a pixel", "a place"],
)
def test_a_damaged_file_is_written_anew(damage, samples, tmp_path):
    open_cache(samples, tmp_path / "cache")
    file = cache_file(samples, tmp_path / "cache")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    open_cache(samples, tmp_path / "cache")
    assert file.read_bytes() == whole


def test_what_is_written_to_a_picture_never_reaches_the_file(samples, tmp_path):
    cache = open_cache(samples, tmp_path)
    before = cache_file(samples, tmp_path).read_bytes()
    cache[0][:] = 0
    assert cache_file(samples, tmp_path).read_bytes() == before


@pytest.mark.parametrize("damage", ["missing", "broken"])
def test_a_broken_picture_is_named_and_leaves_nothing(damage, samples, tmp_path):
    path = samples[5].path
    path.unlink() if damage == "missing" else path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError) as caught:
        open_cache(samples, tmp_path / "cache")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())


def test_a_folder_that_cannot_be_written(samples, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"could not write the picture cache .*; make room, name another folder"):
        open_cache(samples, tmp_path / "file" / "cache")


def test_no_pictures_are_a_cache_too(tmp_path):
    assert len(open_cache([], tmp_path)) == len(open_cache([], tmp_path)) == 0
