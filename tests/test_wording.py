"""One is not many, and no two things are called the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.structures import Sample, Splits
from regard.wording import count, distinct, latex_table, markdown, markdown_table

SOURCE = Path(__file__).parents[1] / "src" / "regard"


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "picture", "1 picture"),
        (0, "picture", "0 pictures"),
        (2000, "query", "2,000 queries"),
        (2, "NumPy array", "2 NumPy arrays"),
        (1, "identity", "1 identity"),
        (2, "random id", "2 random ids"),
        (3, "person", "3 people"),
    ],
)
def test_counts(number, noun, text):
    assert count(number, noun) == text


def test_a_data_set_of_one():
    one = [Sample(Path("a.jpg"), 1, 1)]
    said = str(Splits("mine", Path(), one, one, one))
    assert said == "mine: train 1 image of 1 id, query 1 image of 1 id, gallery 1 image of 1 id; 1 camera"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.name)
def test_what_is_printed_counts_by_it(path):
    """No message that is printed, and is no error, has a number with a plural behind it."""
    plural = r"print\(f?\"[^\"]*\{[^{}\"]*\} (?:pictures|images|files|queries|people|rows|runs|epochs|ids)\b"
    assert not re.search(plural, path.read_text(encoding="utf-8"))


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


CELLS = [["row", "mAP"], ["a|b_ *c* gate_start <i> 5 & 6 %", "8.4 [1.0, 2.0]"], ["[x](y) \\ &amp;", "< 0.001"]]


def test_a_table_in_markdown_shows_cells_as_they_are():
    assert markdown_table(CELLS) == [
        "| row | mAP |",
        "|---|---:|",
        r"| a\|b\_ \*c\* gate_start \<i> 5 & 6 % | 8.4 [1.0, 2.0] |",
        r"| [x\](y) \\ \&amp; | < 0.001 |",
    ]
    assert markdown_table([["a", "b", "c"]], left=2)[1] == "|---|---|---:|"
    assert markdown("two\nlines ~~of~~ `code`") == r"two lines \~\~of\~\~ \`code\`"


def test_a_table_in_latex_sets_cells_as_they_are():
    """A row that begins with a bracket or a star would be read as options of the line before it."""
    lines = latex_table([*CELLS, ["*", "1"]], ["100 %\nof it"]).splitlines()
    assert lines == [
        "% 100 % of it",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"row & mAP \\",
        r"\midrule",
        r"a\textbar{}b\_ *c* gate\_start \textless{}i\textgreater{} 5 \& 6 \% & 8.4 [1.0, 2.0] \\",
        r"{}[x](y) \textbackslash{} \&amp; & \textless{} 0.001 \\",
        r"{}* & 1 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
