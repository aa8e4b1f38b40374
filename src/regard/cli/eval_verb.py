"""Score a trained run, or a model folder, on data sets.

  regard eval runs/apnet_crowd                            on what it was trained for
  regard eval runs/apnet_crowd --root data/market1501     on another data set: how far does it carry?
  regard eval runs/apnet_market1501 --root data --data market1501 dukemtmc cuhk03,boxes=labeled cuhk03
  regard eval runs/apnet_crowd --rerank --json scores.json
  torchrun --nproc-per-node=4 -m regard eval runs/apnet_crowd       every process embeds a part of the pictures
  regard eval runs/apnet_crowd --open-set --cameras --averages      more than CMC and mAP
  regard eval --features query.npz gallery.npz            descriptors of somebody else's model
  regard eval runs/apnet_crowd --corruptions --resolution --images 500 --png robust.png     on worse pictures

A data set is NAME (in --root), NAME=FOLDER or FOLDER, with ,OPTION=VALUE after it where it has options. Several make
one table, with the mean of those the run was not trained on. It names the options that change numbers: metric, flip,
AP form, re-ranking.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from regard.cli.options import output_file
from regard.cli.robustness_options import add_robustness_arguments, run_robustness, wants_robustness
from regard.errors import ConfigError
from regard.wording import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("run", type=Path, nargs="?", help="run folder, or a folder a model was saved in")
    parser.add_argument(
        "--features",
        nargs=2,
        type=Path,
        metavar=("QUERY", "GALLERY"),
        help="score descriptors from .npz or .parquet files (embeddings, pids, camids) instead of a run",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="DATA",
        default=[],
        help="data sets (default: looked up in --root, or the run's own)",
    )
    parser.add_argument("--root", type=Path, help="folder of the data sets (default: the run's)")
    parser.add_argument("--metric", choices=("cosine", "euclidean"), help="distance")
    parser.add_argument("--ap", choices=("step", "trapezoid"), help="form of the average precision")
    parser.add_argument("--no-flip", action="store_true", help="do not average with the mirrored image")
    parser.add_argument("--rerank", action="store_true", help="k-reciprocal re-ranking")
    parser.add_argument("--expansion", action="store_true", help="average queries with their nearest gallery images")
    parser.add_argument("--cmc", choices=("market1501", "cuhk03", "allshots"), help="flavour of the CMC curve")
    parser.add_argument("--unmatched", choices=("skip", "zero"), help="what a query without a match counts")
    parser.add_argument("--junk", choices=("before", "query"), help="when junk leaves the gallery")
    parser.add_argument(
        "--queries", choices=("single", "mean", "max"), default="single", help="pool a person's queries by one camera"
    )
    parser.add_argument("--tracklets", action="store_true", help="pool the files' descriptors by tracklet")
    parser.add_argument("--open-set", action="store_true", help="ROC and identification at fixed false-alarm rates")
    parser.add_argument("--cameras", action="store_true", help="a table by query and gallery camera")
    parser.add_argument("--averages", action="store_true", help="means over queries, people and cameras")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write the scores to a file")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars")
    add_robustness_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Evaluate and print."""
    if (arguments.run is None) == (arguments.features is None):
        raise ConfigError("give a run folder, or --features QUERY GALLERY, and not both")
    if wants_robustness(arguments):
        run_robustness(arguments, eval_changes(arguments))
        return
    from regard.storage import write_atomic

    content = score_files(arguments) if arguments.features else score_run(arguments)
    if arguments.json and content:
        write_atomic(arguments.json, json.dumps(content, indent=2).encode())


def score_run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score a run on its data sets, print, and return the content for JSON; nothing on ranks that do not print."""
    from regard.engine.evaluation import evaluate_on
    from regard.engine.runtime import is_main_process
    from regard.engine.transfer import score_dict, transfer_dict, transfer_table

    scores = evaluate_on(
        arguments.run,
        arguments.data,
        arguments.root,
        eval_changes(arguments),
        queries=arguments.queries,
        details=wanted_details(arguments),
        quiet=arguments.quiet,
    )
    if not is_main_process():
        return {}
    for score in scores:
        print(score.splits)
    print(transfer_table(scores) if len(scores) > 1 else scores[0].report)
    for score in scores:
        for figure in score.details.values():
            print(f"\n{score.source}\n{figure}" if len(scores) > 1 else f"\n{figure}")
    return transfer_dict(scores) if len(scores) > 1 else {"data": str(scores[0].splits), **score_dict(scores[0])}


def score_files(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score two files of descriptors, print, and return the content for JSON."""
    from regard.config import EvalConfig
    from regard.engine.scoring import pool_tracklets, score_sets
    from regard.metrics import read_features

    config = EvalConfig(**eval_changes(arguments))
    query, gallery = map(read_features, arguments.features)
    if arguments.tracklets:
        query, gallery = pool_tracklets(query, "query"), pool_tracklets(gallery, "gallery")
    report, details = score_sets(
        query, gallery, config, queries=arguments.queries, details=wanted_details(arguments),
        progress=not arguments.quiet,
    )  # fmt: skip
    data = f"query {report.num_queries:,}, gallery {count(len(gallery.pids), 'descriptor')}"
    print(data)
    print(report)
    for figure in details.values():
        print(f"\n{figure}")
    return {"data": data, **report.to_dict(), **{name: figure.to_dict() for name, figure in details.items()}}


def wanted_details(arguments: argparse.Namespace) -> list[Any]:
    """Names of the further figures that were asked for."""
    return [name for name in ("open_set", "cameras", "averages") if getattr(arguments, name)]


def eval_changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """Settings of the ``eval`` section that the arguments change."""
    changes = {
        "metric": arguments.metric,
        "ap": arguments.ap,
        "flip": False if arguments.no_flip else None,
        "rerank": arguments.rerank or None,
        "expansion": arguments.expansion or None,
        "cmc": arguments.cmc,
        "unmatched": arguments.unmatched,
        "junk": arguments.junk,
    }
    return {key: value for key, value in changes.items() if value is not None}
