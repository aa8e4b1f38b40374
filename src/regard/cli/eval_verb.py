"""Score a trained run, or a model folder, on a data set.

  regard eval runs/apnet_crowd                            on what it was trained for
  regard eval runs/apnet_crowd --root data/market1501     on another data set: how far does it carry?
  regard eval runs/apnet_crowd --rerank --json scores.json

The table names the options that change numbers: metric, flip, AP form, re-ranking.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("run", type=Path, help="run folder, or a folder a model was saved in")
    parser.add_argument("--data", metavar="NAME", help="data set (default: looked up in --root, or the run's own)")
    parser.add_argument("--root", type=Path, help="folder of the data set")
    parser.add_argument("--metric", choices=("cosine", "euclidean"), help="distance")
    parser.add_argument("--ap", choices=("step", "trapezoid"), help="form of the average precision")
    parser.add_argument("--no-flip", action="store_true", help="do not average with the mirrored image")
    parser.add_argument("--rerank", action="store_true", help="k-reciprocal re-ranking")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores to a file")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars")


def run(arguments: argparse.Namespace) -> None:
    """Evaluate and print."""
    from regard.engine.run import evaluate_run
    from regard.storage import write_atomic

    changes = {
        "metric": arguments.metric,
        "ap": arguments.ap,
        "flip": False if arguments.no_flip else None,
        "rerank": arguments.rerank or None,
    }
    splits, report = evaluate_run(
        arguments.run,
        name=arguments.data,
        root=arguments.root,
        changes={key: value for key, value in changes.items() if value is not None},
        quiet=arguments.quiet,
    )
    print(splits)
    print(report)
    if arguments.json:
        write_atomic(arguments.json, json.dumps({"data": str(splits), **report.to_dict()}, indent=2).encode())
