"""Data sets.

  regard data make data/crowd                                 a synthetic crowd: no download, no real person
  regard data make data/hard --difficulty hard --seed 7 --train-ids 500 --test-ids 500 --cameras 8
  regard data make data/fog --city 3 --set occlusion=0.2 --set blur=2
  regard data make data/world --difficulty diverse --cities 8 --train-ids 1750    to train on; tested in the last city
  regard data make data/behind --cause objects --dose 0.5     one cause more, the rest as without it
  regard data doses data/crowd data/doses --png sheet.png     a crowd's test half at doses of every cause
  regard data twins data/twins --part bag --people 30         pairs that differ in one thing, and where
  regard data check data/Market-1501-v15.09.15                is it all there, and readable?
  regard data check data --json report.json                   every data set in a folder
  regard data check data/cuhk03-np --data cuhk03 --set boxes=labeled

The crowd is written in Market-1501's layout, with person masks and COCO keypoints. The same options give the same
bytes, whatever the number of processes; docs/explanation/crowd.md shows causes and doses. A check exits with 2 where
something is wrong, and with 0 where there are warnings only.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from regard.cli import labels_verb
from regard.cli.arguments import close_with, output_file, read_option, read_options, refuse_repeats
from regard.errors import ConfigError
from regard.storage import write_atomic
from regard.wording import count

CROWD = (
    "train_ids", "test_ids", "cameras", "per_camera", "seed", "city", "difficulty", "height", "width", "distractors",
    "junk", "cause", "dose", "test_only", "cities",
)  # fmt: skip
"""Options of ``make`` that the crowd takes as they are."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    verbs = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add_make(verbs)
    add_doses(verbs)
    add_twins(verbs)
    add_check(verbs)
    labels = verbs.add_parser("labels", help=labels_verb.HELP, description=labels_verb.__doc__)
    labels.formatter_class = argparse.RawDescriptionHelpFormatter
    labels_verb.add_arguments(labels)


def run(arguments: argparse.Namespace) -> int | None:
    """Do what was asked for; the exit code where it is not 0."""
    return {
        "make": make, "twins": twins, "doses": doses, "check": check, "labels": labels_verb.run,
    }[arguments.action](arguments)  # fmt: skip


def add_make(verbs: Any) -> None:
    """Declare the arguments of ``make``."""
    make = verbs.add_parser("make", help="make a synthetic crowd", description="Make a synthetic crowd.")
    make.add_argument("root", type=Path, help="folder to write")
    make.add_argument("--train-ids", type=int, default=200, metavar="N", help="people to train on (%(default)s)")
    make.add_argument("--test-ids", type=int, default=200, metavar="N", help="other people to test on (%(default)s)")
    make.add_argument("--cameras", type=int, default=6, metavar="N", help="cameras of a city (%(default)s)")
    make.add_argument("--per-camera", type=int, default=3, metavar="N", help="pictures per person and camera, about")
    make.add_argument("--seed", type=int, default=0, help="who the people are (%(default)s)")
    make.add_argument("--city", type=int, default=0, help="cameras, light and backgrounds (%(default)s)")
    make.add_argument(
        "--cities", type=int, default=1, metavar="N", help="cities; the last of several is that of the test people"
    )
    make.add_argument("--difficulty", default="normal", help="easy, normal, hard or diverse (%(default)s)")
    make.add_argument(
        "--set", action="append", default=[], metavar="KNOB=VALUE", help="one difficulty knob; repeatable"
    )
    make.add_argument(
        "--cause", metavar="NAME", help="added: objects, people, shift, loose, clutter, parts, pose or scale"
    )
    make.add_argument("--dose", type=float, metavar="X", help="of the cause, from 0 (none) to 1 (heavy)")
    make.add_argument("--test-only", action="store_true", help="no pictures to train on")
    make.add_argument("--height", type=int, default=128, help="pixels (%(default)s)")
    make.add_argument("--width", type=int, default=64, help="pixels (%(default)s)")
    make.add_argument("--distractors", type=int, metavar="N", help="pictures of nobody in the query set, pid 0")
    make.add_argument("--junk", type=int, metavar="N", help="bad detections, pid -1")
    make.add_argument("--workers", type=int, metavar="N", help="processes (default: all cores)")
    make.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def add_doses(verbs: Any) -> None:
    """Declare the arguments of ``doses``."""
    text = "Make query and gallery of a crowd again, as they are and at doses of one cause at a time, a set for each."
    add = verbs.add_parser("doses", help="a crowd's test half at doses of single causes", description=text).add_argument
    add("crowd", type=Path, help="the crowd: whose people, cameras and draws")
    add("root", type=Path, help="folder to write the sets into, as plain and CAUSE_DOSE")
    add("--causes", nargs="+", metavar="NAME", help="some of them (default: all eight)")
    add("--doses", nargs="+", type=float, metavar="X", help="above 0 to 1 (default: 0.25 0.5 0.75 1)")
    add("--png", type=output_file, metavar="FILE", help="draw causes by doses, the same pictures in all")
    add("--workers", type=int, metavar="N", help="processes (default: all cores)")
    add("-q", "--quiet", action="store_true", help="no progress bars")


def add_twins(verbs: Any) -> None:
    """Declare the arguments of ``twins``."""
    text = "make pairs of pictures that differ in one thing somebody wears, with masks of the difference"
    made = verbs.add_parser("twins", help=text, description=f"{text[0].upper()}{text[1:]}.")
    made.add_argument("root", type=Path, help="folder to write")
    made.add_argument("--people", type=int, default=40, metavar="N", help="pairs (%(default)s)")
    made.add_argument(
        "--part", action="append", metavar="NAME", help="bag, shoes, upper or lower; repeatable (default: all in turn)"
    )
    for name, default, what in (
        ("cameras", 6, "cameras"), ("seed", 0, "who the people are"), ("city", 0, "cameras, light and backgrounds"),
        ("height", 128, "pixels"), ("width", 64, "pixels"),
    ):  # fmt: skip
        made.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{what} (%(default)s)")
    made.add_argument("--difficulty", default="normal", help="easy, normal or hard (%(default)s)")
    made.add_argument(
        "--set", action="append", default=[], metavar="KNOB=VALUE", help="one difficulty knob; repeatable"
    )
    made.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def add_check(verbs: Any) -> None:
    """Declare the arguments of ``check``."""
    text = "Count, open and compare the files of a data set, or of all in a folder."
    check = verbs.add_parser("check", help="say what is in a folder and what is wrong with it", description=text)
    check.add_argument("root", type=Path, help="folder of a data set, a folder with several, or a table")
    check.add_argument("--data", metavar="NAME", help="read it as this data set (default: all that are found)")
    check.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="an option of --data")
    check.add_argument("--quick", action="store_true", help="read headers only: finds no damage and no duplicates")
    check.add_argument("--json", type=output_file, metavar="FILE", help="write everything that was found to a file")
    check.add_argument("--workers", type=int, metavar="N", help="processes (default: all cores)")
    check.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def make(arguments: argparse.Namespace) -> None:
    """Make the crowd and say what it holds."""
    from regard.crowd import make_crowd
    from regard.data import load_dataset
    from regard.threads import check_processes

    refuse_repeats(arguments.set)
    make_crowd(
        arguments.root,
        **{name: vars(arguments)[name] for name in CROWD},
        knobs=dict(_knob(text) for text in arguments.set),
        workers=check_processes(arguments.workers, "workers"),
        progress=not arguments.quiet,
    )
    print(load_dataset("crowd", arguments.root))
    close_with([arguments.root], then=["train", "apnet", f"data.root={arguments.root}"])


def doses(arguments: argparse.Namespace) -> None:
    """Make the sets, and a sheet where one was asked for."""
    from regard.crowd import dose_sheet, make_doses
    from regard.explain.figures.overlay import png_bytes
    from regard.threads import check_processes

    chosen = {name: vars(arguments)[name] for name in ("causes", "doses") if vars(arguments)[name]}
    workers = check_processes(arguments.workers, "workers")
    made = make_doses(arguments.crowd, arguments.root, **chosen, workers=workers, progress=not arguments.quiet)
    pictures = next(iter(made.values()))["images"]["total"]
    print(f"{count(len(made), 'set')} of {count(pictures, 'picture')}: {', '.join(made)}")
    if arguments.png:
        write_atomic(arguments.png, png_bytes(dose_sheet(arguments.root)))
    close_with([arguments.root, arguments.png], then=["compare", "RUN...", "--doses", arguments.root])


def twins(arguments: argparse.Namespace) -> None:
    """Make twins and say how many."""
    from regard.crowd import make_twins

    refuse_repeats(arguments.set)
    parts = {"parts": arguments.part} if arguments.part else {}
    names = ("people", "cameras", "seed", "city", "difficulty", "height", "width")
    made = make_twins(
        arguments.root,
        **{name: vars(arguments)[name] for name in names},
        **parts,
        knobs=dict(_knob(text) for text in arguments.set),
        progress=not arguments.quiet,
    )
    print(f"{len(made['twins'])} pairs: {', '.join(dict.fromkeys(one['part'] for one in made['twins']))}")
    close_with([arguments.root])


def check(arguments: argparse.Namespace) -> int:
    """Check what is in a folder and say it; 2 where something is wrong."""
    from regard.data.datasets.inspection import inspect_all

    options = read_options(arguments.set, "boxes=labeled")
    if options and arguments.data is None:
        raise ConfigError("--set gives an option of one data set, but --data does not say which; add --data NAME")
    how = {"quick": arguments.quick, "workers": arguments.workers, "progress": not arguments.quiet}
    reports = inspect_all(arguments.root, arguments.data, **how, **options)
    print("\n\n".join(map(str, reports)))
    if arguments.json:
        content = {"datasets": [report.to_dict() for report in reports]}
        write_atomic(arguments.json, json.dumps(content, indent=2).encode())
    return 2 if any(report.faults for report in reports) else 0


def _knob(text: str) -> tuple[str, Any]:
    name, value = read_option(text, "blur=2") if "=" in text else (text, "")
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
        raise ConfigError(f"--set {text!r} wants KNOB=NUMBER, for example --set blur=2")
    return name, float(value)
