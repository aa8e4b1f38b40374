"""Train a plan - systems, options, seeds - and set all of it in one table.

  regard ablate plan.yaml                          every row from every seed, one training per core at a time
  regard ablate plan.yaml --show                   what would be trained, and what each network costs
  regard ablate plan.yaml train.epochs=2 -o try    the same, shorter
  regard ablate plan.yaml --root data/market1501   on a data set; a crowd is made where none is given

A plan names a recipe and settings of all (base), what is varied (vary), and seeds; docs/how-to/ablations.md has the
form. It is checked as a whole before anything runs. The same command goes on after an interruption, whatever it was.
Leaves a run folder per row and seed, every row as a recipe, and the table as table.txt, .md, .tex, .csv, .json and
.png: means with intervals over seeds and people, differences from the baseline, cost.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from regard.cli.arguments import close_with, output_folder, refuse_repeats


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("plan", type=Path, metavar="PLAN.yaml", help="what is varied, and over which seeds")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of all rows, over the plan's")
    parser.add_argument("--root", type=Path, help="folder of the data set, for rows that do not say theirs")
    parser.add_argument("--jobs", type=int, metavar="N", help="trainings at once (default: one a core; on a GPU one)")
    parser.add_argument("--show", action="store_true", help="check the plan, print its rows and stop")
    parser.add_argument("-o", "--output", type=output_folder, metavar="FOLDER", help="default: runs/ablate/PLAN")
    parser.add_argument("-q", "--quiet", action="store_true", help="the table alone")


def run(arguments: argparse.Namespace) -> None:
    """Train, print the table, write it in all forms."""
    import json

    from regard.ablation.ablate import ablate, describe_plan
    from regard.ablation.plan import read_plan
    from regard.storage import encode_text, write_atomic

    refuse_repeats(arguments.overrides)
    folder = arguments.output or Path("runs") / "ablate" / arguments.plan.stem
    if arguments.show:
        crowd = (folder / "crowd").absolute()
        plan, _ = read_plan(arguments.plan, root=arguments.root, crowd=crowd, overrides=arguments.overrides)
        print(describe_plan(plan, crowd))
        return
    found = ablate(
        arguments.plan, folder, root=arguments.root, overrides=arguments.overrides, at_once=arguments.jobs,
        quiet=arguments.quiet,
    )  # fmt: skip
    print(found)
    texts = {"txt": f"{found}\n", "md": found.to_markdown(), "tex": found.to_latex(), "csv": found.to_csv()}
    texts["json"] = json.dumps(found.to_dict(), indent=2) + "\n"
    written = [folder / f"table.{ending}" for ending in (*texts, "png")]
    for place, text in zip(written, texts.values()):
        write_atomic(place, encode_text(text))
    write_atomic(written[-1], picture(found))
    best = max(found.rows, key=lambda row: row.figures["mAP"].value)
    close_with(written, f"highest mAP {100 * best.figures['mAP'].value:.1f}: {best.label}")


def picture(found: object) -> bytes:
    """The table as intervals, in a PNG."""
    from regard.ablation.outcome import Outcome
    from regard.explain.figures.map_figures import figure_bytes
    from regard.report.evidence import interval_chart

    assert isinstance(found, Outcome)
    figures = {row.label: row.figures for row in found.rows}
    gaps = {row.label: {name: gap for name, (gap, _) in row.gaps.items()} for row in found.rows if row.gaps}
    chart = interval_chart(figures, gaps, found.baseline, found.corrected)
    assert chart is not None
    return figure_bytes(chart.figure)
