"""People held out to validate on: who they are, what is left, what is refused."""

from __future__ import annotations

import re

import pytest

from regard.config import load_config
from regard.data import load_dataset
from regard.data.sources import hold_out
from regard.errors import ConfigError

SMALL = {"model": {"name": "baseline"}, "losses": {"id": {"loss": "cross_entropy", "on": "logits.*"}}}


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
