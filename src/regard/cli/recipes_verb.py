"""List the recipes on board, or print one of them with what is known of it.

  regard recipes                      every recipe: kind, published mAP and rank-1, title
  regard recipes apnet_market1501     its YAML, and below it protocol, source, what is known against its score
  regard recipes --json FILE          the same for programs

Of a kind are: released, the authors' code to the letter; published, as a paper or its page has it, without code; ours,
the one that we think works. A recipe says only what differs from the defaults, or from its base; 'regard train NAME
--show' prints every setting.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from regard.cli.arguments import output_file
from regard.recipes import Recipe, list_recipes, read_recipe
from regard.storage import encode_text, write_atomic
from regard.wording import table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("name", nargs="?", help="recipe or YAML file to print")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write everything that is known to a file")


def run(arguments: argparse.Namespace) -> None:
    """Print the list, or one recipe."""
    recipes = [read_recipe(name) for name in ([arguments.name] if arguments.name else list_recipes())]
    if arguments.json:
        content = [_content(recipe) for recipe in recipes]
        write_atomic(
            arguments.json, encode_text(json.dumps(content[0] if arguments.name else content, indent=2) + "\n")
        )
    print(*(_page(recipes[0]) if arguments.name else _table(recipes)), sep="\n")


def _content(recipe: Recipe) -> dict[str, Any]:
    """What is known of a recipe, as plain values."""
    about = recipe.about.model_dump(mode="json") if recipe.about else {}
    return {
        "name": recipe.name, "title": recipe.title, "bases": list(recipe.bases), **about, "settings": recipe.settings,
    }  # fmt: skip


def _table(recipes: list[Recipe]) -> list[str]:
    rows = [("recipe", "kind", "mAP", "rank-1", "title")]
    for recipe in recipes:
        scores = recipe.about.published if recipe.about else {}
        mean, first = (_score(scores.get(key)) for key in ("mAP", "rank-1"))
        rows.append((recipe.name, recipe.kind, mean, first, recipe.title))
    return [
        *table(rows, left=(0, 1, 4)),
        "",
        "mAP and rank-1 are published ones; 'regard recipes NAME' says how they were measured; ours are in "
        "docs/explanation/results.md.",
    ]


def _score(value: float | None) -> str:
    """A score with its decimal point where those of others have it."""
    text = "" if value is None else f"{value:.2f}"
    return f"{text[:-1]} " if text.endswith("0") else text


def _page(recipe: Recipe) -> list[str]:
    """A recipe's text, and what is known of it."""
    about = recipe.about
    lines = [recipe.text.rstrip("\n"), ""]
    lines += [f"base       {' over '.join(recipe.bases)}"] if recipe.bases else []
    if about is None:
        return [*lines, f"kind       {recipe.kind}: it has no 'about' that would say more"]
    lines.append(f"kind       {about.kind}")
    scores = ", ".join(f"{key} {value:g}" for key, value in about.published.items())
    lines.append(f"published  {scores or 'no score that is known'}")
    lines += [f"{key:<9}  {text}" for key, text in (("protocol", about.protocol), ("source", about.source)) if text]
    lines += [f"against    {text}" for text in about.against]
    lines += [f"changes    {text}" for text in about.changes]
    return lines
