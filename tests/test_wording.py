"""One is not many."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from regard.structures import Sample, Splits
from regard.wording import count

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
