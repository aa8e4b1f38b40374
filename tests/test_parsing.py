"""Text that somebody wrote: YAML by 1.2's core rules, the same wherever a value is given."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard import parsing
from regard.cli.arguments import read_option
from regard.cli.main import parse
from regard.config import override
from regard.data.sources import split_options
from regard.errors import ConfigError, RegardError
from regard.parsing import MAX_DEPTH, dump_yaml, parse_json, parse_yaml

READ = [
    ("010", 10), ("+7", 7), ("-0", 0), ("0x1F", 31), ("0o17", 15), ("0b11", "0b11"), ("1_000", "1_000"),
    ("1,000", "1,000"),
    ("1e-4", 1e-4), ("1E5", 1e5), ("1.", 1.0), (".5", 0.5), ("-.5e1", -5.0), (".inf", math.inf), ("-.INF", -math.inf),
    ("1:30", "1:30"), ("2024-01-01", "2024-01-01"), ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
    ("1.2.3", "1.2.3"),
    ("no", "no"), ("Yes", "Yes"), ("on", "on"), ("y", "y"), ("true", True), ("False", False), ("TRUE", True),
    ("tRUE", "tRUE"),
    ("~", None), ("null", None), ("", None), ("NULL", None), ("nil", "nil"), ("<<", "<<"), ("=", "="),
    ("'010'", "010"), ('"no"', "no"), ("'true'", "true"), ('"a\\tb"', "a\tb"), ("a b # c", "a b"), ("a#b", "a#b"),
    ("[1, no, ~]", [1, "no", None]), ("{a: 010, b: [1e1]}", {"a": 10, "b": [10.0]}), ("é 数", "é 数"), ("---\n3", 3),
    ("&a [1, *a ]", ConfigError), ("[&a 1, *a]", [1, 1]), ("*a", ConfigError), ("a: 1\na: 2", ConfigError),
    ("{1: a, 01: b}", ConfigError), ("? [a]\n: b", ConfigError), ("a: b: c", ConfigError), ("[1", ConfigError),
    ("a\n---\nb", ConfigError), ("!!python/object/apply:os.system [x]", ConfigError), ("!!int x", ConfigError),
    ("\t- a", ConfigError), ("\x00", ConfigError), ("9" * 5000, ConfigError), ("!!binary x", ConfigError),
    ("!!timestamp x", ConfigError), ("!!bool a", ConfigError), ("!!null a", ConfigError), ("!!map [a]", ConfigError),
    ("!!set {a}", ConfigError), ("!!omap [a: b]", ConfigError), ("!!int 1_0", ConfigError),
    ("!!float 1_0", ConfigError), ("!!seq a", ConfigError), ("!!str [a]", ConfigError), ("!!float 1", 1.0),
    ("!!str 010", "010"), ("!!null ~", None),
]  # fmt: skip


LAUGHS = "a0: &a0 [x, x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
"""Nine times the text before, nine times."""


@pytest.mark.parametrize(("text", "wanted"), READ)
def test_text_is_read_by_the_core_rules(text, wanted):
    if wanted is ConfigError:
        with pytest.raises(ConfigError) as caught:
            parse_yaml(text, "it")
        assert str(caught.value).startswith("it")
        assert "\n" not in str(caught.value)
    else:
        found = parse_yaml(text, "it")
        assert (found, type(found)) == (wanted, type(wanted))


def test_not_a_number_is_read():
    assert math.isnan(parse_yaml(".nan", "it"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "a0: &a0 [x, x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)),
            "values",
        ),
        ("[" * 60 + "]" * 60, "more than 50 collections in one another"),
        ("[" * 1500 + "]" * 1500, "in one another"),
        ("x" * 300_000, "has 300,000 characters"),
    ],
    ids=["anchors", "deep", "deeper", "long"],
)
def test_what_nobody_means_is_refused_before_it_costs_anything(text, wanted):
    with pytest.raises(ConfigError, match=wanted):
        parse_yaml(text, "it")


def test_many_keys_are_read_and_too_many_values_are_not(monkeypatch):
    many = "\n".join(f"k{i}: 1" for i in range(2_000))
    assert len(parse_yaml(many, "it")) == 2_000
    assert parsing.MAX_NODES == 50_000
    monkeypatch.setattr(parsing, "MAX_NODES", 4_000)
    with pytest.raises(ConfigError, match="more than 4,000 values"):
        parse_yaml(many, "it")


@pytest.mark.parametrize(("left", "value", "right"), [("[", "", "]"), ('{"a":', "1", "}")])
def test_json_nested_too_deeply_is_a_value_error(left, value, right):
    def deep(depth: int) -> str:
        return left * depth + value + right * depth

    assert json.dumps(parse_json(deep(MAX_DEPTH)))
    for depth in (MAX_DEPTH + 1, 900, 200_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_json(deep(depth).encode())


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
WORDS = st.sampled_from([text for text, _ in READ if "\x00" not in text and len(text) < 100])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT | WORDS
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(TEXT | WORDS, v, max_size=4), max_leaves=12
)


@given(VALUES)
def test_what_is_written_is_read_back(value):
    found = parse_yaml(dump_yaml(value), "it")
    assert (found, repr(found)) == (value, repr(value))


@pytest.mark.parametrize(
    ("text", "wanted"), [("010", 10), ("1e-4", 1e-4), ("no", "no"), ("1:30", "1:30"), ("0x1F", 31)]
)
def test_every_place_of_a_value_reads_it_alike(text, wanted):
    """An override, an option of a model or of a data set, and options of the command line."""
    assert override({}, [f"data.options.grid.split={text}"])["data"]["options"]["grid"]["split"] == wanted
    assert read_option(f"a={text}", "b=c") == ("a", wanted)
    assert split_options(f"grid,fold={text}") == ("grid", {"fold": wanted})
    for line in (f"data make D --seed {text}", f"calibrate R --prior {text}"):
        if isinstance(wanted, str):
            with pytest.raises(RegardError, match=f"got '{text}', wanted a "):
                parse(line.split())
        elif "seed" in line and isinstance(wanted, float):
            with pytest.raises(RegardError, match="wanted a whole number"):
                parse(line.split())
        else:
            parsed = parse(line.split())[1]
            assert (parsed.seed if "seed" in line else parsed.prior) == wanted
