"""Data sets by a short text, several as one training split, and people of it held out to validate on."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from dataset_trees import write_duke

from regard.config import load_config
from regard.data import load_dataset
from regard.data.loaders import train_loader
from regard.data.samplers import PlannedBatchSampler
from regard.data.sources import Source, find_source, hold_out, merge_sources, source_name
from regard.data.transforms import TrainTransform
from regard.errors import ConfigError, DataError, UnknownNameError
from regard.structures import Sample, Splits

SMALL = {"model": {"name": "baseline"}, "losses": {"id": {"loss": "cross_entropy", "on": "logits.*"}}}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory, shared_market):
    """A folder with two data sets side by side."""
    root = tmp_path_factory.mktemp("shelf")
    (root / "Market-1501-v15.09.15").symlink_to(shared_market)
    write_duke(root / "DukeMTMC-reID")
    return root


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("cuhk03", "cuhk03", {}),
        ("cuhk03,boxes=labeled", "cuhk03", {"boxes": "labeled"}),
        ("msmt17,val=false", "msmt17", {"val": False}),
        ("viper,split=3", "viper", {"split": 3}),
    ],
)
def test_a_bare_name_lies_below_the_common_root(tmp_path, text, name, options):
    assert find_source(text, tmp_path) == Source(name, tmp_path, options)
    assert source_name(text) == name


def test_options_of_the_text_go_before_the_common_ones(tmp_path):
    common = {"cuhk03": {"boxes": "labeled"}, "viper": {"split": 3}}
    assert find_source("cuhk03", tmp_path, common).options == {"boxes": "labeled"}
    assert find_source("cuhk03,boxes=detected", tmp_path, common).options == {"boxes": "detected"}
    assert find_source("grid", tmp_path, common).options == {}
    assert str(find_source("cuhk03", tmp_path, common)) == "cuhk03 (boxes=labeled)"
    assert str(find_source("grid", tmp_path)) == "grid"


def test_folders_with_odd_names(tmp_path, shared_market):
    home = tmp_path / "a=b, c,d"
    home.symlink_to(shared_market)
    assert find_source(f"market1501={home}") == Source("market1501", home)
    assert find_source(str(home)) == Source("market1501", home)
    assert source_name(str(home)) == "market1501"
    assert find_source(f"viper={home},split=2") == Source("viper", home, {"split": 2})


def test_a_folder_of_its_own_goes_before_the_common_root(tmp_path, shared_market):
    source = find_source(f"market1501={shared_market}", tmp_path)
    assert source.root == shared_market
    assert len(source.read().train) == 30


@pytest.mark.parametrize(
    ("text", "error", "wanted"),
    [
        ("markt1501", UnknownNameError, "unknown data set 'markt1501', did you mean 'market1501'?"),
        ("markt1501=x", UnknownNameError, "unknown data set 'markt1501', did you mean 'market1501'?"),
        ("market1501", DataError, "say where market1501 lies: data.root=FOLDER"),
        ("/not/there", DataError, "there is no folder '/not/there'"),
    ],
)
def test_a_text_that_stands_for_nothing(text, error, wanted):
    with pytest.raises(error) as caught:
        find_source(text)
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)


def sample(name: str, pid: int, camid: int) -> Sample:
    return Sample(path=f"{name}_{pid}_{camid}.jpg", pid=pid, camid=camid)  # pyright: ignore[reportArgumentType]


def data_set(name: str, tmp_path, train, query=(9,), gallery=(9, 0, -1), cameras=(1, 2)) -> Splits:
    parts = [
        [sample(f"{name}{split}", pid, camid) for pid in pids for camid in cameras]
        for split, pids in enumerate((train, query, gallery))
    ]
    return Splits(name, tmp_path / name, *parts)


def test_identities_and_cameras_are_kept_apart(tmp_path):
    one = data_set("one", tmp_path, (1, 2, 5), cameras=(1, 2))
    two = data_set("two", tmp_path, (1, 2), cameras=(0, 1, 4))
    three = data_set("three", tmp_path, (7, -1, 0, 3), cameras=(1, 2))
    merged = merge_sources(one, [one, two, three])
    assert merged.num_ids == 3 + 2 + 2
    assert (merged.query, merged.gallery, merged.root) == (one.query, one.gallery, one.root)
    assert merged.name == "one+two+three"
    assert merged.train[: len(one.train)] == one.train
    owner = {path.path: split.name for split in (one, two, three) for path in split.train}
    people: dict[int, set[str]] = {}
    cameras: dict[int, set[str]] = {}
    for one_sample in merged.train:
        people.setdefault(one_sample.pid, set()).add(owner[one_sample.path])
        cameras.setdefault(one_sample.camid, set()).add(owner[one_sample.path])
    assert all(len(names) == 1 for names in (*people.values(), *cameras.values()))
    assert len(cameras) == 2 + 3 + 2
    assert min(people) > 0
    tested = {s.pid for s in (*one.query, *one.gallery) if s.pid > 0}
    assert not tested & {s.pid for s in merged.train}
    pictures = {(s.path, s.camid) for s in merged.train}
    assert len(pictures) == len(merged.train) == 6 + 6 + 4


def test_who_was_one_person_stays_one_person(tmp_path):
    one, two = data_set("one", tmp_path, (1, 2)), data_set("two", tmp_path, (4, 8, 11))
    merged = merge_sources(one, [one, two]).train[len(one.train) :]
    assert [a.pid == b.pid for a in merged for b in merged] == [a.pid == b.pid for a in two.train for b in two.train]
    assert [a.camid == b.camid for a in merged for b in merged] == [
        a.camid == b.camid for a in two.train for b in two.train
    ]
    assert [a.path for a in merged] == [b.path for b in two.train]


def test_testing_on_a_data_set_that_is_not_trained_on(tmp_path):
    home = data_set("home", tmp_path, (), query=(1, 2), gallery=(1, 2, 0))
    part = data_set("part", tmp_path, (1, 2))
    merged = merge_sources(home, [part])
    assert merged.name == "part, tested on home"
    assert merged.query == home.query
    assert not {s.pid for s in merged.train} & {s.pid for s in home.query}
    with pytest.raises(DataError, match="home is for testing only"):
        merge_sources(part, [part, home])


def test_a_data_set_named_twice(tmp_path):
    one = data_set("one", tmp_path, (1, 2))
    with pytest.raises(ConfigError, match=r"data.train names one in .* twice"):
        merge_sources(one, [one, one])


def test_batches_of_merged_data_hold_every_source(shelf):
    home = load_dataset("market1501", shelf)
    other = load_dataset("dukemtmc", shelf)
    merged = merge_sources(home, [home, other])
    loader = train_loader(merged.train, TrainTransform(16, 8, pad=2), ids_per_batch=4, images_per_id=2)
    assert isinstance(loader.batch_sampler, PlannedBatchSampler)
    counts: Counter[str] = Counter()
    for epoch in range(2):
        loader.batch_sampler.set_epoch(epoch)
        for draws, batch in zip(loader.batch_sampler, loader):
            labels = batch.pids.view(4, 2)
            assert (labels == labels[:, :1]).all()
            assert len(np.unique(labels[:, 0])) == 4
            counts.update("duke" if "Duke" in str(merged.train[draw.index].path) else "market" for draw in draws)
        assert min(counts["duke"], counts["market"]) > 0
    assert merged.num_ids == home.num_ids + other.num_ids


def test_everyone_is_trained_on_or_held_out_and_nobody_is_both(market):
    whole = load_dataset("market1501", market)
    drawn = set()
    for seed in range(6):
        splits = hold_out(whole, 3, seed)
        people = {sample.pid for sample in splits.query}
        assert splits == hold_out(whole, 3, seed)
        assert splits.query == splits.gallery
        assert (len(people), splits.num_ids) == (3, 3)
        assert sorted([*splits.train, *splits.query], key=lambda one: one.path.name) == whole.train
        assert people.isdisjoint(sample.pid for sample in splits.train)
        assert splits.label == "market1501 (held_out=3 of 6 people to train on)"
        drawn.add(frozenset(people))
    assert len(drawn) > 1
    assert hold_out(whole, 4, 0).num_ids == 2
    with pytest.raises(ConfigError, match="val_ids is 5, but market1501 has 6 people to train on, of whom 2 at least"):
        hold_out(whole, 5, 0)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("data.val_ids=1", "data.val_ids: got 1; input should be greater than or equal to 2"),
        ("data.train=[market1501, crowd]", "val_ids is 2, but train names data sets to train on together; drop one"),
        ("eval.protocol=lists", "does not go with eval.protocol=lists: lists name pictures of the test part"),
        ("eval.ignore_cameras=true", "does not go with eval.ignore_cameras: a camera is what keeps a picture from"),
    ],
)
def test_what_does_not_go_with_people_held_out_is_refused(more, line):
    with pytest.raises(ConfigError, match=re.escape(line)):
        load_config(SMALL, ["data.val_ids=2", more])
