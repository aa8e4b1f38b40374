"""The documents as a site: it is built, every page is in its menu, and it asks no other host for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ELSEWHERE = r"[\"']?\s*(?:https?:)?//[^\s\"'>)]+"
ASKS = re.compile(
    rf"<[^>]+\s(?:src|srcset|data|poster)={ELSEWHERE}"
    rf"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preconnect|preload|prefetch|icon|modulepreload))[^>]*\bhref={ELSEWHERE}"
    rf"|@import\s+(?:url\()?{ELSEWHERE}|url\({ELSEWHERE}|\bfetch\({ELSEWHERE}|\bimport\({ELSEWHERE}"
    r"|class=\"mermaid",  # for which the theme's own program fetches another
    re.IGNORECASE,
)


def menu(part: Any) -> Iterator[str]:
    """The pages in a part of the site's menu."""
    if isinstance(part, str):
        yield part
    for below in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from menu(below)


def test_every_page_is_once_in_the_menu():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert settings["strict"] is True
    named = list(menu(settings["nav"]))
    assert len(named) == len(set(named))
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert pages <= set(named), pages - set(named)


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ('<img src="https://a.b/c.png">', True),
        ("<script src=//a.b/c.js></script>", True),
        ('<link href="https://a.b" rel="stylesheet">', True),
        ("@import url('https://a.b/c.css')", True),
        ("src: url(https://a.b/c.woff)", True),
        ('fetch("https://a.b")', True),
        ('<pre class="mermaid">', True),
        ('<img src="../c.png">', False),
        ('<link rel="canonical" href="https://a.b">', False),
        ('<a href="https://a.b">', False),
        ("url(data:image/svg+xml;charset=utf-8,<svg xmlns='http://www.w3.org/2000/svg'/>)", False),
    ],
)
def test_what_asks_another_host_is_told_from_what_does_not(text, asks):
    assert bool(ASKS.search(text)) is asks


@pytest.mark.slow
def test_the_site_is_built_and_asks_no_other_host(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    files = [path for path in sorted((tmp_path / "site").rglob("*")) if path.suffix in (".html", ".css")]
    assert len([path for path in files if path.suffix == ".html"]) > 40
    assert (tmp_path / "site/search/search_index.js").is_file()  # what the search reads where it is no server's
    for page, up in (("index.html", ""), ("how-to/data.html", "../")):
        assert f'<script src="{up}scripts/iframe-worker.js"></script>' in (tmp_path / "site" / page).read_text()
    settings = (tmp_path / "site/reference/settings.html").read_text(encoding="utf-8")
    assert "its options, such as cuhk03: &#123;boxes: labeled}" in settings  # no attributes of the cell
    for path in files:
        found = ASKS.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path.name}: {found and found[0]}"
