"""List the recipes on board, or print one of them.

A recipe says only what differs from the defaults; 'regard train NAME --show' prints every setting.
"""

from __future__ import annotations

import argparse

from regard.config import read_recipe, recipe_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("name", nargs="?", help="recipe to print")


def run(arguments: argparse.Namespace) -> None:
    """Print the list, or one recipe."""
    if arguments.name:
        print(read_recipe(arguments.name), end="")
        return
    width = max(map(len, recipe_names()))
    for name in recipe_names():
        title = read_recipe(name).split("\n", 1)[0].removeprefix("# ")
        print(f"{name:<{width}}  {title}")
