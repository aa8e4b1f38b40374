"""Score a trained run, or a model folder, on data sets.

  regard eval runs/apnet_crowd                            on what it was trained for
  regard eval runs/apnet_crowd --root data/market1501     on another data set: how far does it carry?
  regard eval runs/apnet_market1501 --root data --data market1501 dukemtmc cuhk03,boxes=labeled cuhk03
  regard eval runs/apnet_crowd --rerank --json scores.json
  regard eval runs/apnet_crowd --all-epochs               every network that train.keep_every has kept, and a curve
  torchrun --nproc-per-node=4 -m regard eval runs/apnet_crowd       every process embeds a part of the pictures
  regard eval runs/apnet_crowd --open-set --cameras --averages      more than CMC and mAP
  regard eval --features query.npz gallery.npz            descriptors of somebody else's model
  regard eval --features all.npz --leave-one-out --ignore-cameras       each picture of one list asks all others
  regard eval runs/apnet_crowd --corruptions --resolution --images 500 --png robust.png     on worse pictures

A data set is NAME (in --root), NAME=FOLDER or FOLDER, with ,OPTION=VALUE after it where it has options. Several make
one table, with the mean of those the run was not trained on. What changes numbers is printed with them and stored:
size, resize, mirrored and cropped views, precision, metric, re-ranking, expansion, protocol.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from regard.cli.arguments import add_device, output_file
from regard.cli.eval_epochs import run_epochs
from regard.cli.robustness_options import add_robustness_arguments, run_robustness, wants_robustness
from regard.errors import ConfigError
from regard.wording import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("run", type=Path, nargs="?", help="run folder, or a folder a model was saved in")
    parser.add_argument(
        "--features",
        nargs="+",
        type=Path,
        metavar=("QUERY", "GALLERY"),
        help="score descriptors from .npz or .parquet files (embeddings, pids, camids) instead of a run; one file with "
        "--leave-one-out",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="DATA",
        default=[],
        help="data sets (default: looked up in --root, or the run's own)",
    )
    parser.add_argument("--root", type=Path, help="folder of the data sets (default: the run's)")
    parser.add_argument("--size", metavar="HxW", help="input size (default: the model's own)")
    parser.add_argument(
        "--precision", choices=("auto", "fp32", "tf32", "bf16", "fp16"), help="of products (default: the run's)"
    )
    add_device(parser)
    parser.add_argument("--metric", choices=("cosine", "euclidean"), help="distance")
    parser.add_argument("--ap", choices=("step", "trapezoid"), help="form of the average precision")
    switch: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
    parser.add_argument("--flip", **switch, help="average with the mirrored image")
    parser.add_argument("--five-crops", **switch, help="average center and corners of the enlarged image")
    parser.add_argument("--rerank", **switch, help="k-reciprocal re-ranking")
    parser.add_argument("--expansion", **switch, help="average queries with their nearest gallery images")
    parser.add_argument("--ignore-cameras", **switch, help="matches by the query's own camera count")
    parser.add_argument(
        "--leave-one-out", action="store_true", help="query and gallery are one list, each asks all others"
    )
    parser.add_argument(
        "--protocol", choices=("rule", "lists"), help="right is what identity and camera say, or the data set's lists"
    )
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
    parser.add_argument(
        "--all-epochs", action="store_true", help="score every epoch that the run, or a folder of models, has kept"
    )
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write the scores to a file")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars")
    add_robustness_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Evaluate and print."""
    if (arguments.run is None) == (arguments.features is None):
        raise ConfigError("give a run folder, or --features QUERY GALLERY, and not both")
    if arguments.features and len(arguments.features) != 2 - arguments.leave_one_out:
        wanted = "one file with --leave-one-out" if arguments.leave_one_out else "QUERY and GALLERY"
        raise ConfigError(f"--features got {len(arguments.features)} files, wanted {wanted}")
    if arguments.all_epochs:
        run_epochs(arguments, eval_changes(arguments))
        return
    if wants_robustness(arguments):
        run_robustness(arguments, eval_changes(arguments))
        return
    from regard.cli.closing import close_with
    from regard.storage import write_atomic

    content = score_files(arguments) if arguments.features else score_run(arguments)
    if not content:
        return
    if arguments.json:
        write_atomic(arguments.json, json.dumps(content, indent=2).encode())
    score = f"mAP {100 * content['mAP']:.1f}, rank-1 {100 * content['cmc'][0]:.1f}" if "mAP" in content else ""
    close_with([arguments.json], score, ["report", arguments.run] if arguments.run else [])


def score_run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score a run on its data sets, print, and return the content for JSON; nothing on ranks that do not print."""
    from regard.cli.search_verb import parse_size
    from regard.evaluation.evaluate import evaluate_on
    from regard.evaluation.transfer import in_place, labels_of, score_dict, transfer_dict, transfer_table
    from regard.runtime.fabric import is_main_process

    scores = evaluate_on(
        arguments.run,
        arguments.data,
        arguments.root,
        eval_changes(arguments),
        size=parse_size(arguments.size),
        queries=arguments.queries,
        details=wanted_details(arguments),
        leave_one_out=arguments.leave_one_out,
        quiet=arguments.quiet,
    )
    if not is_main_process():
        return {}
    for score in scores:
        print(in_place(score))
    print(transfer_table(scores) if len(scores) > 1 else scores[0].report)
    for label, score in zip(labels_of(scores), scores):
        for figure in score.details.values():
            print(f"\n{label}\n{figure}" if len(scores) > 1 else f"\n{figure}")
    return transfer_dict(scores) if len(scores) > 1 else score_dict(scores[0])


def score_files(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score files of descriptors, print, and return the content for JSON.

    Raises:
        ConfigError: an option that only pictures have.
    """
    from regard.config import EvalConfig
    from regard.evaluation.scoring import FROM_FILES, pool_tracklets, score_sets, with_options
    from regard.metrics import read_features

    for name in ("size", "precision", "device", "flip", "five_crops", "root", "data"):
        if getattr(arguments, name) not in (None, []):
            raise ConfigError(
                f"--{name.replace('_', '-')} says how pictures are embedded; descriptors are there already"
            )
    config = EvalConfig(**eval_changes(arguments))
    query, gallery = (read_features(arguments.features[place]) for place in (0, -1))
    if arguments.tracklets:
        query, gallery = pool_tracklets(query, "query"), pool_tracklets(gallery, "gallery")
    report, details = score_sets(
        query, gallery, config, queries=arguments.queries, details=wanted_details(arguments),
        leave_one_out=arguments.leave_one_out, progress=not arguments.quiet,
    )  # fmt: skip
    pooled = {"tracklets": "pooled"} if arguments.tracklets else {}
    report = with_options(report, FROM_FILES | pooled)
    data = f"query {report.num_queries:,}, gallery {count(len(gallery.pids), 'descriptor')}"
    files = [str(file) for file in arguments.features]
    data = f"{data} from {' and '.join(files)}"
    print(data)
    print(report)
    for figure in details.values():
        print(f"\n{figure}")
    return {
        "data": data,
        "files": files,
        **report.to_dict(),
        **{name: figure.to_dict() for name, figure in details.items()},
    }


def wanted_details(arguments: argparse.Namespace) -> list[Any]:
    """Names of the further figures that were asked for."""
    return [name for name in ("open_set", "cameras", "averages") if getattr(arguments, name)]


def eval_changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """Settings of the ``eval`` section that the arguments change."""
    changes = {
        "precision": arguments.precision,
        "metric": arguments.metric,
        "ap": arguments.ap,
        "flip": arguments.flip,
        "five_crops": arguments.five_crops,
        "rerank": arguments.rerank,
        "expansion": arguments.expansion,
        "ignore_cameras": arguments.ignore_cameras,
        "protocol": arguments.protocol,
        "cmc": arguments.cmc,
        "unmatched": arguments.unmatched,
        "junk": arguments.junk,
    }
    return {key: value for key, value in changes.items() if value is not None}
