"""What the documents show is true: their Python runs, their commands exist, their pictures and links are there."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from regard.cli.main import VERBS
from regard.data.datasets.layout import LAYOUTS
from regard.recipes import list_recipes
from regard.registry import DATASETS, LOSSES, MODELS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
ids = [str(page.relative_to(ROOT)) for page in PAGES]
WHOLE = ("tutorials/", "how-to/add-", "how-to/package-", "how-to/trackers")
"""Pages that are done whole, by tests/test_tutorials.py, tests/cli/test_plugins.py and benchmarks/consumers."""

PROGRAMS = [page for page in PAGES if not any(start in page.as_posix() for start in WHOLE)]
BLOCK = re.compile(r"^```.*?^```", re.S | re.M)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


@pytest.mark.parametrize("page", PROGRAMS, ids=[str(page.relative_to(ROOT)) for page in PROGRAMS])
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for registry in (MODELS, LOSSES, DATASETS):  # what a page registers is its own
        assert list(registry)
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    kept = dict(LAYOUTS)
    module = types.ModuleType("__docs__")  # a block may use what those above it made
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), vars(module))
    for name in LAYOUTS.keys() - kept:
        del LAYOUTS[name]


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_and_pictures_are_there(page):
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")  # has pages that are written when it is built
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", text):
        name = "".join(target)
        if not name.startswith(("http", "mailto")):
            written = page.is_relative_to(ROOT / "docs") and f" {name}\n" in site and name.startswith("reference/")
            assert written or (page.parent / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_named_exist(page):
    text = page.read_text(encoding="utf-8")
    for verb in re.findall(r"^(?:\$ )?regard ([a-z]+)", text, re.M) + re.findall(r"`regard ([a-z]+)", text):
        assert verb in VERBS, verb
    for name in re.findall(r"regard train ([a-z0-9_]+)(?=[ `\n])", text):
        own = re.findall(r'^@MODELS.register\("(\w+)"\)|[Ss]ave this as `recipes/(\w+).yaml`', text, re.M)
        assert name in MODELS or name in list_recipes() or any(name in one for one in own), name
