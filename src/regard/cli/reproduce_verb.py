"""Train for a published score, measure by its protocol, and set both side by side.

  regard reproduce apnet market1501 --root data            the recipe that works best here
  regard reproduce apnet market1501 --root data --released     the authors' code to the letter
  regard reproduce daaf_trinet dukemtmc --root data --seeds 3 -o runs/again
  regard reproduce mudeep_market1501_2020 --root data      a row by the name of its recipe
  regard reproduce baseline crowd --seeds 3                a row of our own (docs/explanation/results.md), in minutes

'regard recipes' lists the rows: SYSTEM_DATASET, or SYSTEM_DATASET_released; the whole name will do, too. The data
set's counts are checked before anything is trained. The same command goes on after an interruption. Leaves a run
folder per seed, reproduction.html and reproduction.json: published, ours with interval, same, better or worse, cost,
and everything that differed.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from regard.cli.arguments import close_with, output_folder, refuse_repeats
from regard.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "words", nargs="*", metavar="SYSTEM DATASET KEY=VALUE",
        help="system, recipe's name up to the data set, or the whole of it; the row's data set; settings to differ",
    )  # fmt: skip
    parser.add_argument("--data", metavar="DATASET", help="another way to name the data set")
    parser.add_argument("--root", type=Path, help="folder of the data set; a crowd is made where none is given")
    parser.add_argument("--released", action="store_true", help="the authors' code to the letter")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="trainings (%(default)s)")
    parser.add_argument("--other-data", action="store_true", help="go on although counts are not the published ones")
    parser.add_argument("-o", "--output", type=output_folder, metavar="FOLDER", help="default: runs/reproduce/RECIPE")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars")


def run(arguments: argparse.Namespace) -> None:
    """Reproduce, print the table, write page and JSON."""
    import json

    from regard.recipes import list_recipes
    from regard.report.reproduction import write_reproduction
    from regard.reproduce import find_recipe, reproduce
    from regard.storage import encode_text, write_atomic

    overrides = [word for word in arguments.words if "=" in word]
    refuse_repeats(overrides)
    system, *named = [word for word in arguments.words if "=" not in word] or [""]
    named += [] if arguments.data is None else [arguments.data]
    if not system:
        raise ConfigError(
            "reproduce wants a system and a data set, or a recipe: regard reproduce apnet market1501 --root FOLDER; "
            "'regard recipes' lists those with a published score"
        )
    whole = not named and system in list_recipes()
    if len(named) != 1 and not whole:
        raise ConfigError(
            f"reproduce got {' and '.join(named) or 'no data set'}, wanted one data set: "
            f"regard reproduce {system} market1501 --root FOLDER"
        )
    dataset = None if whole else named[0]
    recipe = find_recipe(system, dataset, released=arguments.released)
    folder = arguments.output or Path("runs") / "reproduce" / recipe.name
    found = reproduce(
        system,
        dataset,
        folder,
        root=arguments.root,
        released=arguments.released,
        seeds=arguments.seeds,
        overrides=overrides,
        other_data=arguments.other_data,
        command=shlex.join(["regard", *sys.argv[1:]]),
        quiet=arguments.quiet,
    )
    if found is None:
        return
    print(found)
    page, numbers = folder / "reproduction.html", folder / "reproduction.json"
    write_atomic(numbers, encode_text(json.dumps(found.to_dict(), indent=2) + "\n"))
    write_reproduction(found, page)
    first = found.figures[0]
    score = f"{first.name} {100 * first.ours[0]:.1f}, published {100 * first.published:.1f}: {first.verdict}"
    close_with([page, numbers], score, ["report", *(run.folder for run in found.runs)])
