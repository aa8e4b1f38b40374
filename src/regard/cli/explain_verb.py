"""See what a network attends to.

  regard explain attention runs/apnet a.jpg b.jpg -o out        its own gates, masks, weights and branches
  regard explain pair runs/apnet a.jpg b.jpg -o out             why two pictures match: heat on both, per level
  regard explain pair runs/mudeep a.jpg b.jpg -o out --heads    the same per head
  regard explain cam runs/dsp a.jpg -o out                      what speaks for an identity it was trained on
  regard explain features runs/dsp a.jpg -o out --compare runs/baseline --layer layer1 --layer layer2
  regard explain correlation runs/dsp a.jpg -o out --compare runs/baseline --layer layer1
  regard explain correlation before.npy after.npy -o out --axis channels
  regard explain precision runs/* --root data/crowd -o out      share of the attention that lies on the person
  regard explain score runs/* -o out                            every method, scored: which heat is worth looking at
  regard explain score runs/dsp --root data/market1501 --masks masks -o out --method gradcam --method occlusion
  regard explain ranked runs/apnet runs/baseline -o out --hardest 3    what a search answers, right and wrong framed
  regard explain ranked runs/apnet -o out --query 12 --query pid=7 --junk
  regard explain cameras runs/apnet -o out                      which cameras are hard to find people in
  regard explain curves runs/* -o out                           how they learned, CMC, distances
  regard explain sheet a.jpg b.jpg --runs runs/baseline runs/apnet -o sheet.pdf --dpi 300

A run is a run folder, or a folder a model was saved in. Figures come with their numbers: arrays as .npz or .npy, the
rest as JSON.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from regard.cli.arguments import (
    MASK_THRESHOLD,
    MAX_DPI,
    SEEDS,
    add_device,
    between,
    close_with,
    output_file,
    output_folder,
)
from regard.parsing import parse_yaml


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    verbs = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for declare in (
        _attention, _pair, _cam, _features, _correlation, _precision, _score, _ranked, _cameras, _curves, _sheet,
    ):  # fmt: skip
        declare(verbs)


def run(arguments: argparse.Namespace) -> None:
    """Do what was asked for."""
    from regard.cli import explain_maps, explain_numbers, explain_score, explain_search

    homes = (explain_maps, explain_numbers, explain_score, explain_search)
    next(getattr(home, arguments.action) for home in homes if arguments.action in home.__all__)(arguments)
    close_with([arguments.output])


def _attention(verbs: Any) -> None:
    attention = _action(verbs, "attention", "the gates, masks, weights and branches of a system, as they are")
    _pictured(attention)
    _output(attention)


def _pair(verbs: Any) -> None:
    pair = _action(verbs, "pair", "why two pictures match: heat on both")
    pair.add_argument("run", type=Path, metavar="RUN", help="run folder or model folder")
    pair.add_argument("first", type=Path, metavar="A", help="a picture")
    pair.add_argument("second", type=Path, metavar="B", help="another picture")
    pair.add_argument("--heads", action="store_true", help="compare by one head after the other")
    pair.add_argument("--all-taps", action="store_true", help="the pyramids of all stages, not of the last one alone")
    _output(pair)


def _cam(verbs: Any) -> None:
    cam = _action(verbs, "cam", "what speaks for an identity, per head; exact where the head is linear")
    _pictured(cam, "run folder or model folder, not stripped", "pictures of people it was trained on")
    cam.add_argument(
        "--head", action="append", metavar="NAME", help="global, part0, ds1, ...; repeatable (default: all)"
    )
    cam.add_argument("--label", type=int, metavar="N", help="class label from 0 (default: each head's best)")
    _output(cam)


def _features(verbs: Any) -> None:
    features = _action(verbs, "features", "feature maps of any layer, before and after attention")
    _pictured(features)
    _layers(features)
    features.add_argument("--channel", default="mean", metavar="HOW", help="mean, l2, max or a number (%(default)s)")
    features.add_argument(
        "--range", type=float, nargs=2, metavar=("LOW", "HIGH"),
        help="values drawn darkest and brightest (default: own)",
    )  # fmt: skip
    _output(features)


def _correlation(verbs: Any) -> None:
    correlation = _action(verbs, "correlation", "how alike positions, or channels, of feature maps are")
    correlation.add_argument(
        "inputs", type=Path, nargs="+", metavar="INPUT", help="maps as .npy, (C, h, w); or a run and pictures"
    )
    _layers(correlation)
    correlation.add_argument(
        "--axis", choices=("positions", "channels"), default="positions", help="what to compare (%(default)s)"
    )
    _output(correlation)


def _precision(verbs: Any) -> None:
    precision = _action(verbs, "precision", "share of the attention on the person, before and after training")
    precision.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders or model folders")
    precision.add_argument("--root", type=Path, required=True, help="data set with person masks, or with --masks")
    precision.add_argument("--data", metavar="NAME", help="its name (default: looked up in --root)")
    precision.add_argument(
        "--images", type=between(1, 10**6), default=200, metavar="N", help="queries at most (%(default)s)"
    )
    precision.add_argument("--split", choices=("query", "gallery"), default="query", help="to look at (%(default)s)")
    _masked(precision)
    precision.add_argument("--map", action="append", metavar="NAME", help="maps to report, as 'tap*'; repeatable")
    precision.add_argument("--seed", type=between(*SEEDS), default=0, help="weights before training (%(default)s)")
    precision.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    _output(precision)


def _score(verbs: Any) -> None:
    score = _action(verbs, "score", "score every method that draws heat: insertion, deletion, pointing, sanity checks")
    _searched(score)
    score.add_argument(
        "--pairs", type=between(2, 10**5), default=40, metavar="N", help="queries and matches, at most (%(default)s)"
    )
    score.add_argument("--method", action="append", metavar="NAME", help="gradcam, occlusion, ...; repeatable (all)")
    score.add_argument(
        "--twins", type=Path, metavar="FOLDER",
        help="pairs that differ in one thing, of 'regard data twins' (default: made for a crowd by its own cameras)",
    )  # fmt: skip
    score.add_argument(
        "--twin-pairs", type=between(0, 10**5), default=24, metavar="N", help="of a crowd's, to make (%(default)s)"
    )
    score.add_argument(
        "--checked", type=between(0, 1000), default=8, metavar="N", help="pairs for the sanity checks (%(default)s)"
    )
    _masked(score)
    score.add_argument("--seed", type=between(*SEEDS), default=0, help="of random orders and weights (%(default)s)")
    score.set_defaults(split="query")
    _output(score, size=False)


def _masked(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--masks", type=Path, metavar="DIR",
        help="folder of mask pictures, by folder of the pictures (default: the data set's own, or a run's label_files)",
    )  # fmt: skip
    parser.add_argument("--coco", type=Path, metavar="FILE", help="COCO JSON with masks, instead or besides")
    parser.add_argument("--mask-threshold", type=between(1, 255), metavar="GRAY", help=MASK_THRESHOLD)


def _ranked(verbs: Any) -> None:
    ranked = _action(verbs, "ranked", "what runs answer to the same queries; right, wrong and junk framed")
    _searched(ranked)
    ranked.add_argument(
        "--query", action="append", default=[], metavar="WHICH",
        help="a number from 0, pid=N, or a query's path or file name; repeatable",
    )  # fmt: skip
    ranked.add_argument(
        "--hardest", type=between(1, 1000), metavar="N", help="N failures of each kind, of the first run"
    )
    ranked.add_argument("--random", type=between(1, 1000), metavar="N", help="N queries drawn at random")
    ranked.add_argument("--seed", type=between(*SEEDS), default=0, help="of the drawing (%(default)s)")
    ranked.add_argument(
        "--count", type=between(1, 1000), default=3, metavar="N",
        help="queries from the easiest to the hardest of the first run, where none are picked (%(default)s)",
    )  # fmt: skip
    ranked.add_argument(
        "--depth", type=between(1, 1000), default=10, metavar="K", help="pictures per list (%(default)s)"
    )
    ranked.add_argument("--junk", action="store_true", help="show junk where it would stand (default: dropped)")
    ranked.add_argument("--rerank", action="store_true", help="k-reciprocal re-ranking")
    _output(ranked, size=False)


def _cameras(verbs: Any) -> None:
    cameras = _action(verbs, "cameras", "rank-1 and mAP by query camera and gallery camera")
    _searched(cameras)
    _output(cameras, size=False)


def _curves(verbs: Any) -> None:
    curves = _action(verbs, "curves", "how runs learned, their CMC curves, distances within and between people")
    _searched(curves)
    curves.add_argument("--no-eval", action="store_true", help="training curves alone, no picture is embedded")
    _output(curves, size=False)


def _pictured(
    parser: argparse.ArgumentParser, run: str = "run folder or model folder", images: str = "pictures to look at"
) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help=run)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help=images)


def _searched(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders or model folders")
    parser.add_argument("--root", type=Path, help="folder of the data set (default: each run's)")
    parser.add_argument("--data", metavar="NAME", help="its name (default: looked up in --root, or each run's)")
    add_device(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars")


def _inches(text: str) -> float:
    value = parse_yaml(text, f"got {text!r}")
    if type(value) not in (int, float) or not 1 <= value <= 100:
        raise argparse.ArgumentTypeError(f"got {text!r}, wanted inches from 1 to 100")
    return float(value)


def _sheet(verbs: Any) -> None:
    sheet = _action(verbs, "sheet", "a grid for papers: pictures, systems, levels; PNG, SVG or PDF")
    sheet.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="pictures, a line each")
    sheet.add_argument(
        "--runs", type=Path, nargs="+", required=True, metavar="RUN", help="systems, a group of columns each"
    )
    sheet.add_argument("-o", "--output", type=output_file, required=True, metavar="FILE", help=".png, .svg or .pdf")
    sheet.add_argument(
        "--show", choices=("cam", "attention", "features"), default="cam",
        help="Grad-CAM of the similarity to --partner, own attention, or feature maps (%(default)s)",
    )  # fmt: skip
    sheet.add_argument(
        "--partner", type=Path, metavar="IMAGE", help="what to be similar to (default: own mirror image)"
    )
    sheet.add_argument("--width", type=_inches, default=7.0, metavar="INCHES", help="of the sheet (%(default)s)")
    sheet.add_argument("--dpi", type=between(1, MAX_DPI), default=300, help="dots per inch (%(default)s)")
    sheet.add_argument("--size", metavar="HxW", help="input size (default: each model's own)")


def _action(verbs: Any, name: str, text: str) -> argparse.ArgumentParser:
    return verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")


def _layers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--layer", action="append", metavar="NAME",
        help="layer1, layer1.after, tap2, scale1, backbone.stages.3, ...; repeatable (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--compare", type=Path, action="append", default=[], metavar="RUN",
        help="another run, or another .npy, to set beside; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--legacy-transposed", action="store_true",
        help="feed pictures with height and width exchanged, as the published tool of dsp did",
    )  # fmt: skip


def _output(parser: argparse.ArgumentParser, *, size: bool = True) -> None:
    parser.add_argument("-o", "--output", type=output_folder, required=True, metavar="FOLDER", help="where to write")
    parser.add_argument(
        "--format", dest="forms", action="append", choices=("png", "svg", "pdf"), help="of figures; repeatable (png)"
    )
    parser.add_argument("--dpi", type=between(1, MAX_DPI), default=160, help="dots per inch of figures (%(default)s)")
    if size:
        parser.add_argument("--size", metavar="HxW", help="input size (default: each model's own)")
