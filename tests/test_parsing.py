"""One parser for what people write: YAML by the core rules of 1.2, JSON, and what is too large to be meant."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.errors import ConfigError
from regard.parsing import MAX_DEPTH, dump_yaml, parse_json, parse_yaml

CORE = {
    "010": 10,
    "+12": 12,
    "-3": -3,
    "0x1F": 31,
    "0o17": 15,
    "0b1": "0b1",
    "1_000": "1_000",
    "1:30": "1:30",
    "1e-4": 1e-4,
    "1E5": 1e5,
    ".5": 0.5,
    "5.": 5.0,
    "1e": "1e",
    "٣": "٣",
    ".inf": math.inf,
    "-.INF": -math.inf,
    "inf": "inf",
    "true": True,
    "TRUE": True,
    "yes": "yes",
    "no": "no",
    "on": "on",
    "~": None,
    "": None,
    "Null": None,
    "none": "none",
    "2024-01-01": "2024-01-01",
    "'010'": "010",
    "<<": "<<",
    "[1, 2e3, a]": [1, 2000.0, "a"],
    "{a: 010}": {"a": 10},
}


@pytest.mark.parametrize(("text", "value"), CORE.items(), ids=lambda v: repr(v)[:20])
def test_plain_scalars_follow_the_core_schema(text, value):
    found = parse_yaml(text, "a test")
    assert found == value
    assert type(found) is type(value)
    assert parse_yaml(dump_yaml(value), "a test") == value


BOMB = "\n".join(
    ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]" for i in range(1, 9))]
)
WRONG = {
    "bomb": (BOMB, "more than 50,000 values"),
    "in itself": ("a: &a [*a]", "collections in one another"),
    "deep": ("[" * 60 + "]" * 60, "collections in one another"),
    "very deep": ("[" * 50_000, "without end"),
    "twice": ("a: 1\na: 2", "'a' is given twice"),
    "unclosed": ("[1", "line 1"),
    "object": ("!!python/object:os.system a", "could not determine a constructor"),
    "key": ("? [1]\n: 2", "a key is a collection"),
    "long": ("x" * (1 << 18) + "x", "262,145 characters"),
    "digits": ("9" * 5000, "not YAML"),
    "no character": ("a: \x01", "not YAML"),
}


@pytest.mark.parametrize(("text", "word"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_meant_is_one_line(text, word):
    with pytest.raises(ConfigError, match=r"^a test") as caught:
        parse_yaml(text, "a test")
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_many_keys_are_read_once_each():
    """Quadratic time over 20,000 keys was 13 seconds; here only the value is looked at."""
    text = "\n".join(f"k{i}: {i}" for i in range(10_000))
    assert parse_yaml(text, "a test")["k9999"] == 9999


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_what_is_written_is_read_back(value):
    assert parse_yaml(dump_yaml(value), "a test") == value


@given(st.text(max_size=60))
def test_any_text_is_a_value_or_one_line(text):
    try:
        parse_yaml(text, "a test")
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"a":', "}")])
def test_deep_json_is_no_recursion_error(left, right):
    def deep(depth: int) -> str:
        return left * depth + ("1" if left != "[" else "") + right * depth

    assert json.dumps(parse_json(deep(MAX_DEPTH)))
    for depth in (MAX_DEPTH + 1, 900, 100_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_json(deep(depth).encode())
