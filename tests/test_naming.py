from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.naming import distinct

WORDS = st.sampled_from(["a", "b", "crowd", "crowd (a)", "a #2"])


@pytest.mark.parametrize(
    ("names", "places", "wanted"),
    [
        (["crowd", "viper"], ["/x/a", "/x/a"], ["crowd", "viper"]),
        (["crowd", "crowd", "viper"], ["/x/a", "/x/b", "/x/b"], ["crowd (a)", "crowd (b)", "viper"]),
        (["crowd", "crowd", "crowd"], ["/x/a", "/y/a", "/y/b"], ["crowd (x/a)", "crowd (y/a)", "crowd (y/b)"]),
        (["crowd", "crowd"], ["/x/a", "/x/a"], ["crowd (a)", "crowd (a) #2"]),
        (["crowd", "crowd", "crowd (a)"], ["/x/a", "/x/b", "/"], ["crowd (a) #2", "crowd (b)", "crowd (a)"]),
        ([], [], []),
    ],
)
def test_a_name_is_completed_where_others_have_it(names, places, wanted):
    assert distinct(names, places) == wanted


def test_runs_are_called_by_the_end_of_their_path():
    assert distinct(["apnet", "apnet", "dsp"], ["/1/apnet", "/2/apnet", "/1/dsp"], "{place}") == [
        "1/apnet", "2/apnet", "dsp",
    ]  # fmt: skip


@given(st.lists(st.tuples(WORDS, st.lists(WORDS, max_size=3)), max_size=6))
def test_no_two_labels_are_equal(things):
    names, places = [name for name, _ in things], ["/" + "/".join(parts) for _, parts in things]
    for form in ("{name} ({place})", "{place}", "{name}"):
        labels = distinct(names, places, form)
        assert len(set(labels)) == len(labels) == len(names)
        assert all(label == name for label, name in zip(labels, names) if names.count(name) == 1)
