"""The pages on other programs say what ``make consumers`` has measured, and install what it has tried."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "how-to"


@pytest.fixture(scope="module")
def collect() -> ModuleType:
    spec = importlib.util.spec_from_file_location("collect", ROOT / "benchmarks" / "consumers" / "collect.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_the_results(collect):
    page = (PAGES / "trackers.md").read_text(encoding="utf-8")
    told = json.loads((ROOT / "benchmarks" / "results" / "consumers.json").read_text(encoding="utf-8"))["programs"]
    assert tuple(told) == collect.PROGRAMS
    for table in (collect.tracker_table(told), collect.cosine_table(told)):
        assert f"\n\n{table}\n\n" in page


def test_a_cosine_is_never_told_as_more_than_it_is(collect):
    assert [collect._below(cosine) for cosine in (0.99995, 0.9999, 1.0)] == ["0.9999", "0.9999", "1"]


def test_pages_install_what_is_tried(collect):
    environments = (ROOT / "benchmarks" / "consumers" / "environments").read_text(encoding="utf-8")
    tried = set(re.findall(r"[\w-]+==[\w.]+", environments))
    for name in collect.PROGRAMS:
        page = (PAGES / "trackers" / f"{name}.md").read_text(encoding="utf-8")
        pins = set(re.findall(r"[\w-]+==[\w.]+", page))
        assert pins, name
        assert pins <= tried, name
