"""Data sets.

  regard data make data/crowd                                 a synthetic crowd: no download, no real person
  regard data make data/hard --difficulty hard --seed 7 --train-ids 500 --test-ids 500 --cameras 8
  regard data make data/fog --city 3 --set occluders=0.2 --set blur=2

The crowd is written in Market-1501's layout, with person masks and COCO keypoints. The same options give the same
bytes, whatever the number of processes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from regard.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    verbs = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    make = verbs.add_parser("make", help="make a synthetic crowd", description="Make a synthetic crowd.")
    make.add_argument("root", type=Path, help="folder to write")
    make.add_argument("--train-ids", type=int, default=200, metavar="N", help="people to train on (%(default)s)")
    make.add_argument("--test-ids", type=int, default=200, metavar="N", help="other people to test on (%(default)s)")
    make.add_argument("--cameras", type=int, default=6, metavar="N", help="cameras (%(default)s)")
    make.add_argument("--per-camera", type=int, default=3, metavar="N", help="pictures per person and camera, about")
    make.add_argument("--seed", type=int, default=0, help="who the people are (%(default)s)")
    make.add_argument("--city", type=int, default=0, help="cameras, light and backgrounds (%(default)s)")
    make.add_argument("--difficulty", default="normal", help="easy, normal or hard (%(default)s)")
    make.add_argument(
        "--set", action="append", default=[], metavar="KNOB=VALUE", help="one difficulty knob; repeatable"
    )
    make.add_argument("--height", type=int, default=128, help="pixels (%(default)s)")
    make.add_argument("--width", type=int, default=64, help="pixels (%(default)s)")
    make.add_argument("--distractors", type=int, metavar="N", help="pictures of nobody in the query set, pid 0")
    make.add_argument("--junk", type=int, metavar="N", help="bad detections, pid -1")
    make.add_argument("--workers", type=int, metavar="N", help="processes (default: all cores)")
    make.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> None:
    """Make the crowd and say what it holds."""
    from regard.data import load_dataset
    from regard.data.crowd import make_crowd

    make_crowd(
        arguments.root,
        train_ids=arguments.train_ids,
        test_ids=arguments.test_ids,
        cameras=arguments.cameras,
        per_camera=arguments.per_camera,
        seed=arguments.seed,
        city=arguments.city,
        difficulty=arguments.difficulty,
        knobs=dict(_knob(text) for text in arguments.set),
        height=arguments.height,
        width=arguments.width,
        distractors=arguments.distractors,
        junk=arguments.junk,
        workers=arguments.workers,
        progress=not arguments.quiet,
    )
    print(load_dataset("crowd", arguments.root))
    print(f"train on it with: regard train apnet data.root={arguments.root}")


def _knob(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise ConfigError(f"--set {text!r} wants KNOB=NUMBER, for example --set blur=2") from None
