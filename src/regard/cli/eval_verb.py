"""Score a trained run, or a model folder, on data sets.

  regard eval runs/apnet_crowd                            on what it was trained for
  regard eval runs/apnet_crowd --root data/market1501     on another data set: how far does it carry?
  regard eval runs/apnet_market1501 --root data --data market1501 dukemtmc cuhk03,boxes=labeled cuhk03
  regard eval runs/apnet_crowd --rerank --json scores.json
  regard eval runs/apnet_crowd --all-epochs               every network that train.keep_every has kept, and a curve
  torchrun --nproc-per-node=4 -m regard eval runs/apnet_crowd       every process embeds a part of the pictures
  regard eval runs/apnet_crowd --open-set --cameras --averages      more than CMC and mAP
  regard eval --model osnet.onnx --root data/market1501   a network of anybody, see docs/how-to/foreign.md
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

from regard.cli.arguments import (
    SEEDS,
    add_device,
    between,
    close_with,
    eval_changes,
    output_file,
    parse_size,
    report_on,
    write_json,
)
from regard.errors import ConfigError
from regard.storage import encode_text, write_atomic
from regard.wording import count

DETAILS = ("open_set", "cameras", "averages")
HEIGHTS = (96, 64, 48, 32, 24, 16)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add, switch = parser.add_argument, argparse.BooleanOptionalAction
    add("run", type=Path, nargs="?", help="run folder, or a folder a model was saved in")
    add("--model", type=Path, help="the same; also an .onnx or .xml file of anybody, beside its description")
    add(
        "--features", nargs="+", type=Path, metavar=("QUERY", "GALLERY"),
        help="score descriptors from .npz or .parquet files (embeddings, pids, camids) instead of a run; one file with "
        "--leave-one-out",
    )  # fmt: skip
    add(
        "--data",
        nargs="+",
        metavar="DATA",
        default=[],
        help="data sets (default: looked up in --root, or the run's own)",
    )
    add("--root", type=Path, help="folder of the data sets (default: the run's)")
    add("--size", metavar="HxW", help="input size (default: the model's own)")
    add("--precision", choices=("auto", "fp32", "tf32", "bf16", "fp16"), help="of products (default: the run's)")
    add_device(parser)
    add("--metric", choices=("cosine", "euclidean"), help="distance")
    add("--ap", choices=("step", "trapezoid"), help="form of the average precision")
    add("--flip", action=switch, help="average with the mirrored image")
    add("--five-crops", action=switch, help="average center and corners of the enlarged image")
    add("--rerank", action=switch, help="k-reciprocal re-ranking")
    add("--expansion", action=switch, help="average queries with their nearest gallery images")
    add("--ignore-cameras", action=switch, help="matches by the query's own camera count")
    add("--leave-one-out", action="store_true", help="query and gallery are one list, each asks all others")
    add("--protocol", choices=("rule", "lists"), help="right is what identity and camera say, or the data set's lists")
    add("--cmc", choices=("market1501", "cuhk03", "allshots"), help="flavour of the CMC curve")
    add("--unmatched", choices=("skip", "zero"), help="what a query without a match counts")
    add("--junk", choices=("before", "query"), help="when junk leaves the gallery")
    add("--queries", choices=("single", "mean", "max"), default="single", help="pool a person's queries by one camera")
    add("--tracklets", action="store_true", help="pool the files' descriptors by tracklet")
    add("--open-set", action="store_true", help="ROC and identification at fixed false-alarm rates")
    add("--cameras", action="store_true", help="a table by query and gallery camera")
    add("--averages", action="store_true", help="means over queries, people and cameras")
    add("--all-epochs", action="store_true", help="score every epoch that the run, or a folder of models, has kept")
    add("--json", type=output_file, metavar="FILE", help="write the scores to a file")
    add("-q", "--quiet", action="store_true", help="no progress bars")
    worse = parser.add_argument_group("worse pictures", "each at several levels; docs/how-to/robustness.md says more")
    add = worse.add_argument
    add("--corruptions", action="store_true", help="noise, blur, weather, digital, occlusion")
    add("--kinds", nargs="+", metavar="KIND", default=[], help="of corruptions, or families (default: all 21)")
    add("--severities", nargs="+", type=int, metavar="N", default=[1, 2, 3, 4, 5], help="1 to 5 (default: all)")
    add(
        "--mixed",
        type=between(1, 1000),
        metavar="N",
        default=1,
        help="draw kind and severity per picture, N times (default: 1)",
    )
    add("--resolution", nargs="*", type=int, metavar="PX", help="shrink to heights (default: 96 down to 16 pixels)")
    add("--occlusion", nargs="*", type=float, metavar="SHARE", help="cover shares (default: 0.1 to 0.6)")
    add("--worse", nargs="+", choices=("query", "gallery", "both"), default=["both"], help="what (default: both)")
    add("--images", type=between(1, 10**6), metavar="N", help="only random people with about N pictures")
    add("--seed", type=between(*SEEDS), default=0, help="of all draws (default: 0)")
    add("--published-lengths", action="store_true", help="lengths in pixels as published, not scaled to the crop")
    add("--png", type=output_file, metavar="FILE", help="draw what was found")


def run(arguments: argparse.Namespace) -> None:
    """Evaluate and print."""
    if arguments.model is not None:
        if arguments.run is not None:
            raise ConfigError(f"{arguments.run} and --model {arguments.model} are two models; give one")
        arguments.run = arguments.model
    if (arguments.run is None) == (arguments.features is None):
        raise ConfigError("give a run folder, or --features QUERY GALLERY, and not both")
    if arguments.features and len(arguments.features) != 2 - arguments.leave_one_out:
        wanted = "one file with --leave-one-out" if arguments.leave_one_out else "QUERY and GALLERY"
        raise ConfigError(f"--features got {len(arguments.features)} files, wanted {wanted}")
    if arguments.all_epochs:
        score_epochs(arguments)
        return
    sweeps = arguments.resolution is not None or arguments.occlusion is not None
    if sweeps or arguments.corruptions or arguments.kinds or arguments.png:
        score_worse(arguments)
        return
    refuse(
        arguments, ("severities", "mixed", "worse", "images", "seed", "published_lengths"),
        "is about worse pictures; ask for them with --corruptions, --resolution or --occlusion",
        (None, False, 0, 1, [1, 2, 3, 4, 5], ["both"]),
    )  # fmt: skip
    content = score_files(arguments) if arguments.features else score_run(arguments)
    if not content:
        return
    if arguments.json:
        write_atomic(arguments.json, json.dumps(content, indent=2).encode())
    score = f"mAP {100 * content['mAP']:.1f}, rank-1 {100 * content['cmc'][0]:.1f}" if "mAP" in content else ""
    close_with([arguments.json], score, report_on(arguments.run, arguments=arguments) if arguments.run else [])


def score_run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score a run on its data sets, print, and return the content for JSON; nothing on ranks that do not print."""
    from regard.evaluation.evaluate import evaluate_on, labels_of, transfer_dict, transfer_table
    from regard.runtime.fabric import is_main_process

    scores = evaluate_on(
        arguments.run, arguments.data, arguments.root, eval_changes(arguments), size=parse_size(arguments.size),
        queries=arguments.queries, details=wanted_details(arguments), leave_one_out=arguments.leave_one_out,
        quiet=arguments.quiet,
    )  # fmt: skip
    if not is_main_process():
        return {}
    for score in scores:
        print(f"{score.splits}; {score.place}")
    print(transfer_table(scores) if len(scores) > 1 else scores[0].report)
    for label, score in zip(labels_of(scores), scores):
        for figure in score.details.values():
            print(f"\n{label}\n{figure}" if len(scores) > 1 else f"\n{figure}")
    return transfer_dict(scores) if len(scores) > 1 else scores[0].to_dict()


def score_files(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score files of descriptors, print, and return the content for JSON.

    Raises:
        ConfigError: an option that only pictures have.
    """
    from regard.config import EvalConfig
    from regard.evaluation.scoring import pool_tracklets, score_sets, with_options
    from regard.metrics import read_features

    embedded = ("size", "precision", "device", "flip", "five_crops", "root", "data")
    refuse(arguments, embedded, "says how pictures are embedded; descriptors are there already", (None, []))
    config = EvalConfig(**eval_changes(arguments))
    query, gallery = (read_features(arguments.features[place]) for place in (0, -1))
    pooled = {}
    if arguments.tracklets:
        query, gallery = pool_tracklets(query, "query"), pool_tracklets(gallery, "gallery")
        pooled = {"tracklets": "pooled"}
    report, details = score_sets(
        query, gallery, config, queries=arguments.queries, details=wanted_details(arguments),
        leave_one_out=arguments.leave_one_out, progress=not arguments.quiet,
    )  # fmt: skip
    report = with_options(report, {"descriptors": "from files", **pooled})
    files = [str(file) for file in arguments.features]
    found = f"query {report.num_queries:,}, gallery {count(len(gallery.pids), 'descriptor')}"
    data = f"{found} from {' and '.join(files)}"
    print(data, report, sep="\n")
    for figure in details.values():
        print(f"\n{figure}")
    figures = {name: figure.to_dict() for name, figure in details.items()}
    return {"data": data, "files": files, **report.to_dict(), **figures}


def score_epochs(arguments: argparse.Namespace) -> None:
    """Score every network that a training has kept, print, write ``scores.txt`` and ``scores.png`` beside them.

    Raises:
        ConfigError: options that do not go with many epochs.
    """
    from regard.evaluation import epochs

    others = ("features", "tracklets", *DETAILS, "corruptions", "kinds", "resolution", "occlusion", "images")
    refuse(arguments, others, "does not go with --all-epochs; leave one of them out")
    found = epochs.score_epochs(
        arguments.run, arguments.data, arguments.root, eval_changes(arguments), size=parse_size(arguments.size),
        how={"queries": arguments.queries, "leave_one_out": arguments.leave_one_out}, quiet=arguments.quiet,
    )  # fmt: skip
    if not found:
        return
    from regard.explain.figures.map_figures import figure_bytes
    from regard.report.evidence import epochs_chart

    text = "\n\n".join(f"{one.label}\n{one}" if len(found) > 1 else str(one) for one in found)
    print(text)
    place = epochs.epochs_folder(arguments.run)
    files = [place / "scores.txt", arguments.png or place / "scores.png"]
    write_atomic(files[0], encode_text(f"{text}\n"))
    write_atomic(files[1], figure_bytes(epochs_chart({one.label: one.figures() for one in found}).figure))
    write_json(arguments.json, {one.label: {"data": one.data, "epochs": one.rows} for one in found})
    last = found[0].rows[-1]
    score = f"epoch {last['epoch']}: mAP {100 * last['mAP']:.1f}, rank-1 {100 * last['cmc'][0]:.1f}"
    close_with([*files, arguments.json], score, report_on(arguments.run, arguments=arguments))


def score_worse(arguments: argparse.Namespace) -> None:
    """Score a run on worse pictures, print, and write what was asked for; of several sides, one picture each.

    Raises:
        ConfigError: several data sets, or options that do not go with worse pictures.
    """
    from regard.data.corruptions import FAMILIES
    from regard.evaluation.robustness import Plan, measure_robustness
    from regard.evaluation.run import open_run
    from regard.explain.figures.map_figures import figure_bytes
    from regard.report.evidence import robustness_chart

    refuse(
        arguments, ("features", "tracklets", *DETAILS, "leave_one_out", "queries"),
        "does not go with worse pictures; leave one of them out", (None, False, "single"),
    )  # fmt: skip
    if len(arguments.data) > 1:
        raise ConfigError(f"worse pictures of {len(arguments.data)} data sets asked for; name one after --data")
    plan = Plan(
        kinds=tuple(arguments.kinds or (FAMILIES if arguments.corruptions else ())),
        severities=tuple(arguments.severities),
        mixed=arguments.mixed,
        resolutions=() if arguments.resolution is None else tuple(arguments.resolution) or HEIGHTS,
        occlusions=() if arguments.occlusion is None else tuple(arguments.occlusion) or SHARES,
        sides=tuple(dict.fromkeys(arguments.worse)),
        images=arguments.images,
        seed=arguments.seed,
        published_lengths=arguments.published_lengths,
    )
    name = arguments.data[0] if arguments.data else None
    how = {"size": parse_size(arguments.size), "quiet": arguments.quiet}
    found = measure_robustness(open_run(arguments.run, name, arguments.root, eval_changes(arguments), **how), plan)
    print(found.data, found, sep="\n")
    content = found.to_dict()
    write_json(arguments.json, content)
    for side, figures in content["corrupted"].items() if arguments.png else ():
        chart = robustness_chart(figures, content["clean"])
        assert chart is not None
        place = arguments.png
        write_atomic(
            place if len(plan.sides) == 1 else place.with_stem(f"{place.stem}_{side}"), figure_bytes(chart.figure)
        )
    score = f"clean mAP {100 * found.clean.figures['mAP']:.1f}"
    close_with([arguments.json, arguments.png], score, report_on(arguments.run, arguments=arguments))


def wanted_details(arguments: argparse.Namespace) -> list[Any]:
    """Names of the further figures that were asked for."""
    return [name for name in DETAILS if getattr(arguments, name)]


def refuse(
    arguments: argparse.Namespace, names: tuple[str, ...], why: str, unset: tuple[Any, ...] = (None, False, [])
) -> None:
    """Raise ConfigError where one of these options is given, that is not as it is ``unset``."""
    for name in names:
        if getattr(arguments, name) not in unset:
            raise ConfigError(f"--{name.replace('_', '-')} {why}")
