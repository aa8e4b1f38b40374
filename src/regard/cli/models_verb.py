"""List the systems, or show one with its options.

regard models          every registered system with the paper it comes from
regard models apnet    its options and what they mean
"""

from __future__ import annotations

import argparse
import inspect

from regard.registry import MODELS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("name", nargs="?", help="system to show")


def run(arguments: argparse.Namespace) -> None:
    """Print the list, or one system."""
    if not arguments.name:
        width = max(map(len, MODELS))
        for name in MODELS:
            print(f"{name:<{width}}  {inspect.getdoc(MODELS.get(name)).splitlines()[0]}")  # pyright: ignore
        return
    entry = MODELS.get(arguments.name)
    print(inspect.getdoc(entry))
    print("\nDefaults (regard train NAME model.OPTION=VALUE):")
    for option, parameter in MODELS.options(arguments.name).items():
        if option != "num_ids":
            print(f"  {option} = {parameter.default!r}")
