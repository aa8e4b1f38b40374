"""Write one page about trained runs: scores, curves, failures, attention.

  regard report runs/apnet_crowd                                     what a run learned
  regard report runs/baseline runs/msea runs/dsp -o report.html      several side by side
  regard report runs/* --root data/market1501 --without attention pairs correlation precision
  regard report runs/apnet_crowd --queries 10 --pictures 8 --full    more of everything

The page is one HTML file without links to the network: mail it, print it, open it in ten years. How to read it is in
docs/how-to/report.md. From Python: regard.report.gather finds everything out, regard.report.write_runs makes the page.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from regard.cli.arguments import SEEDS, add_device, between, close_with, output_file, tell

PARTS = "training curves cameras map lists attention pairs correlation precision"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder or model folder")
    parser.add_argument(
        "-o", "--output", type=output_file, default="report.html", metavar="FILE", help="where to write (%(default)s)"
    )
    parser.add_argument("--data", metavar="NAME", help="data set (default: looked up in --root, or each run's own)")
    parser.add_argument("--root", type=Path, help="folder of the data set")
    parser.add_argument(
        "--queries", type=between(1, 1000), default=4, metavar="N",
        help="random queries whose ranked lists are shown, and hardest failures besides (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--pictures",
        type=between(1, 1000),
        default=4,
        metavar="N",
        help="queries that attention is shown for (%(default)s)",
    )
    parser.add_argument(
        "--people", type=between(1, 1000), default=40, metavar="N", help="on the embedding map (%(default)s)"
    )
    parser.add_argument(
        "--map", dest="method", choices=("tsne", "umap", "pca"), default="tsne",
        help="how it is laid out; umap wants umap-learn (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--full", action="store_true", help="attention precision on 200 queries instead of 24")
    parser.add_argument("--without", nargs="+", default=[], metavar="PART", help=f"leave out: {PARTS}")
    parser.add_argument("--seed", type=between(*SEEDS), default=0, help="of all draws (%(default)s)")
    add_device(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars")


def run(arguments: argparse.Namespace) -> None:
    """Find everything out, write the page, say where."""
    from regard.report import gather
    from regard.report.runs_page import write_runs

    report = gather(
        arguments.runs,
        name=arguments.data,
        root=arguments.root,
        queries=arguments.queries,
        pictures=arguments.pictures,
        people=arguments.people,
        method=arguments.method,
        seed=arguments.seed,
        full=arguments.full,
        without=arguments.without,
        command=shlex.join(["regard", *sys.argv[1:]]),
        quiet=arguments.quiet,
    )
    path = write_runs(report, arguments.output)
    for run in report.runs:
        if "Not shown" in run.facts:
            tell(f"of {run.label} the page does not show {run.facts['Not shown']}")
    scores = [run.report.mAP for run in report.runs]
    best = arguments.runs[scores.index(max(scores))]
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    close_with([f"{path} ({size})"], f"highest mAP {100 * max(scores):.1f}", ["calibrate", best])
