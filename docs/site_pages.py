"""Pages of the site that are written from the code: commands, settings, what is registered, recipes, Python.

A hook of MkDocs (``mkdocs.yml``). The change log, the log of ideas and links to other files of the repository are taken
in, too.
"""

from __future__ import annotations

import html
import inspect
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import regard
from regard.cli.main import VERBS, parser_of
from regard.cli.models_verb import option_meanings
from regard.config import Config
from regard.recipes import list_recipes, read_recipe
from regard.registry import DATASETS, LOSSES, MODELS, Registry

ROOT = Path(__file__).parents[1]

PACKAGES = ("regard.metrics", "regard.data", "regard.models", "regard.losses", "regard.explain", "regard.report",
            "regard.export", "regard.gallery")  # fmt: skip
"""Packages whose public names have a place of their own, beside those of ``regard`` itself."""

BESIDE = {"CHANGELOG.md": "reference/changelog.md", "LOG.md": "reference/log.md"}
"""File of the repository -> its page on the site."""

TOGETHER = re.compile(r"^    (\w+(?:, \w+)+): (.*(?:\n {8,}.*)*)", re.M)
"""Several names that a docstring explains at once, which griffe would take for one name and its type."""

ROLE = re.compile(r":(?:func|class|meth|mod|data|attr|exc):(<code>)~?(?:[\w.]+\.)?(\w+)(</code>)")
"""A reference of a docstring, which the site shows by its last name."""


class NamesApart(griffe.Extension):
    """Gives every name in a section of a docstring a line of its own."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of what has been read."""
        if obj.docstring:
            obj.docstring.value = names_apart(obj.docstring.value)


def names_apart(text: str) -> str:
    """A docstring in which ``height, width: in pixels`` is said of either."""
    return TOGETHER.sub(lambda found: "\n".join(f"    {name}: {found[2]}" for name in found[1].split(", ")), text)


def _cell(text: Any) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def _text(text: Any) -> str:
    """A cell whose signs are signs: a brace at its end would be read as attributes of the cell."""
    return html.escape(_cell(text)).replace("{", "&#123;")


def _code(value: Any) -> str:
    return f"`{_cell(value)}`"


def commands() -> str:
    """Return the page of all commands: what each says when asked for help."""
    lines = ["# Commands", "", "Each answers `--help` with what stands here.", ""]
    for verb, about in VERBS.items():
        lines += [f"## regard {verb}", "", f"{about[0].upper()}{about[1:]}.", ""]
        for title, text in _helps(parser_of(verb)):
            lines += [f"### {title}", ""] if title else []
            lines += ["```text", text.strip(), "```", ""]
    return "\n".join(lines)


def _helps(parser: Any, title: str = "") -> Iterator[tuple[str, str]]:
    """Yield the help of a parser and of the actions below it."""
    width = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "110"
    try:
        yield title, parser.format_help()
    finally:
        os.environ.pop("COLUMNS") if width is None else os.environ.update(COLUMNS=width)
    for action in parser._actions:
        if isinstance(getattr(action, "choices", None), dict):
            for below in dict.fromkeys(action.choices.values()):
                yield from _helps(below, below.prog)


def settings() -> str:
    """Return the page of all settings of a run, section by section."""
    lines = [
        "# Settings",
        "",
        "What `regard train RECIPE SECTION.NAME=VALUE` takes, and what a run's `config.yaml` holds. The options of a "
        "model, a loss or a data set are those of its constructor: [what is registered](registered.md).",
        "",
    ]
    return "\n".join([*lines, *_section(Config, "")])


def _section(model: type[BaseModel], name: str) -> list[str]:
    """Return a table of the plain fields of a section, and the sections below it."""
    below: list[str] = []
    rows: list[str] = []
    for key, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            below += _section(inner, f"{name}.{key}".strip("."))
            continue
        default = "required" if field.is_required() else _default(field)
        rows.append(f"| `{f'{name}.{key}'.strip('.')}` | {default} | {_text(field.description or '')} |")
    head = [f"## {name or 'Beside the sections'}", "", _first_line(model), ""]
    return [*head, "| setting | default | |", "|---|---|---|", *rows, "", *below] if rows else below


def _default(field: Any) -> str:
    value = field.default
    if value is PydanticUndefined:
        value = field.default_factory() if field.default_factory else ""
    return _code("null" if value is None else str(value).lower() if isinstance(value, bool) else value)


def _first_line(entry: Any) -> str:
    return (inspect.getdoc(entry) or "").partition("\n")[0]


def registered() -> str:
    """Return the page of models, losses and data sets, with the options of each."""
    lines = ["# Models, losses, data sets", "", "By these names recipes and commands ask for them.", ""]
    for title, registry, prefix in (
        ("Models", MODELS, "model"), ("Losses", LOSSES, "losses.TERM"), ("Data sets", DATASETS, "data.options.NAME")
    ):  # fmt: skip
        lines += [f"## {title}", ""]
        for name in registry:
            lines += _entry(registry, name, prefix)
    return "\n".join(lines)


def _entry(registry: Registry, name: str, prefix: str) -> list[str]:
    entry = registry.get(name)
    meanings = option_meanings(entry)
    lines = [f"### {name}", "", html.escape(_first_line(entry)), ""]
    options = [(key, one) for key, one in registry.options(name).items() if key not in ("num_ids", "embed_dim")]
    if options:
        lines += [f"| `{prefix}.` | default | |", "|---|---|---|"]
    for key, one in options:
        default = "required" if one.default is one.empty else _code(repr(one.default))
        lines.append(f"| `{key}` | {default} | {_text(meanings.get(key, ''))} |")
    return [*lines, ""]


def recipes() -> str:
    """Return the page of recipes with the scores that were published."""
    lines = [
        "# Recipes",
        "",
        "`regard train NAME`; `regard recipes NAME` prints one with its sources. Scores are the published ones.",
        "",
        "| recipe | kind | mAP | rank-1 | |",
        "|---|---|---|---|---|",
    ]
    for name in list_recipes():
        recipe = read_recipe(name)
        scores = recipe.about.published if recipe.about else {}
        mean, first = (scores.get(key) for key in ("mAP", "rank-1"))
        cells = [_code(name), recipe.kind, *("" if one is None else f"{one:g}" for one in (mean, first))]
        lines.append(f"| {' | '.join(cells)} | {_text(recipe.title)} |")
    return "\n".join([*lines, ""])


def python() -> str:
    """Return the page of public names, which mkdocstrings fills."""
    lines = ["# Python", "", "Public names, by the package they are imported from.", "", "## regard", ""]
    homes = {name: getattr(regard, name) for name in regard.__all__ if not name.startswith("__")}
    for name, entry in homes.items():
        lines += _documented(f"{entry.__module__}.{name}") if name != "compare" else []
    shown = {f"{entry.__module__}.{name}" for name, entry in homes.items()}
    for package in PACKAGES:
        module = __import__(package, fromlist=["*"])
        lines += [f"## {package}", "", _first_line(module), ""]
        for name in module.__all__:
            entry = getattr(module, name)
            home = f"{getattr(entry, '__module__', package)}.{name}"
            if not isinstance(entry, type) and not callable(entry):
                continue
            lines += [f"`{name}`: as above.", ""] if home in shown else _documented(home)
            shown.add(home)
    return "\n".join(lines)


def _documented(place: str) -> list[str]:
    """Return the line that mkdocstrings replaces by what is known of a name."""
    name = place.rpartition(".")[2]
    return [f"::: {place}", "    options:", f"      heading: {name}", f"      toc_label: {name}", ""]


PAGES: dict[str, Callable[[], str]] = {
    "reference/commands.md": commands,
    "reference/settings.md": settings,
    "reference/registered.md": registered,
    "reference/recipes.md": recipes,
    "reference/python.md": python,
}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are written from the code, and those that lie beside the documents."""
    for place, page in PAGES.items():
        files.append(File.generated(config, place, content=page()))
    for name, place in BESIDE.items():
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](../")
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links to files beside the documents into those to their pages, or into their names."""
    here = Path(page.file.src_uri).parent

    def turned(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if re.match(r"\w+:", target) or not target:
            return match[0]
        place = os.path.normpath(Path("docs") / here / target)
        if place.startswith("docs/"):
            return match[0]
        if place == "README.md":
            return f"[{text}]({os.path.relpath('index.md', here)})"
        known = BESIDE.get(place)
        return f"[{text}]({os.path.relpath(known, here)}{anchor})" if known else f"`{place}`"

    return re.sub(r"\[([^\]]*)\]\(([^)#\s]*)(#[^)\s]*)?\)", turned, markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Show what docstrings refer to by its name."""
    return ROLE.sub(r"\1\2\3", content)
