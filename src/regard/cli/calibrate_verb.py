"""Learn what a similarity says about two pictures, and store it with the model.

  regard calibrate runs/apnet --root data/validation     on query and gallery of people it has not seen
  regard calibrate runs/apnet                            on the people the run is scored on (says so)
  regard calibrate runs/apnet --prior 0.01 --png reliability.png

Pictures of one person by two cameras are compared with pictures of two. The curve, its thresholds and how far both can
be trusted go into the model's calibration.json; regard.load reads it, regard.verify(a, b, model) uses it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from regard.cli.arguments import SEEDS, add_device, between, close_with, output_file, write_json
from regard.wording import count, table

if TYPE_CHECKING:
    from regard.evaluation.verify import Calibrated

OWN_DATA = (
    "note: these are the people the run is scored on. The quality above is of people left out of each fit, but for "
    "figures that share nobody with the scores, calibrate on other people: --root FOLDER"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add = parser.add_argument
    add("run", type=Path, help="run folder, or a folder a model was saved in")
    add("--data", metavar="NAME", help="data set (default: looked up in --root, or the run's own)")
    add("--root", type=Path, help="folder of the data set")
    add("--curve", choices=("auto", "isotonic", "logistic"), default="auto", help="form of the curve")
    add("--prior", type=float, default=0.5, help="share of same-person pairs to assume (default: 0.5)")
    add("--rates", type=float, nargs="+", metavar="RATE", help="false-alarm rates to set thresholds for")
    add("--pairs", type=between(1, 10**8), default=200_000, metavar="N", help="pairs of two people to draw")
    add("--seed", type=between(*SEEDS), default=0, help="of the drawing, and of the split of people")
    add("--json", type=output_file, metavar="FILE", help="write calibration and reliability to a file")
    add("--png", type=output_file, metavar="FILE", help="draw the reliability and the curve")
    add_device(parser)
    add("-q", "--quiet", action="store_true", help="no progress bars")


def run(arguments: argparse.Namespace) -> None:
    """Calibrate, store and print."""
    from regard.calibration.similarity import RATES
    from regard.evaluation.verify import calibrate_run

    found = calibrate_run(
        arguments.run, arguments.data, arguments.root, curve=arguments.curve, prior=arguments.prior,
        rates=arguments.rates or RATES, limit=arguments.pairs, seed=arguments.seed, quiet=arguments.quiet,
    )  # fmt: skip
    print("\n".join(_lines(found)))
    columns = ("predicted", "observed", "low", "high", "mass")
    bins = {name: getattr(found.reliability, name).tolist() for name in columns}
    write_json(arguments.json, {**found.calibration.to_dict(), "reliability": bins})
    if arguments.png:
        from regard.explain.figures.map_figures import figure_bytes
        from regard.report.evidence import reliability_chart
        from regard.storage import write_atomic

        write_atomic(arguments.png, figure_bytes(reliability_chart(found.reliability, found.calibration).figure))
    written = [found.file, arguments.json, arguments.png]
    close_with(written, then=["explain", "pair", arguments.run, "A.jpg", "B.jpg", "-o", "FOLDER"])


def _lines(found: Calibrated) -> list[str]:
    """What is printed."""
    calibration, about = found.calibration, found.calibration.about
    adjusted = len(calibration.cameras)
    cameras = f"{count(adjusted, 'pair')} of cameras adjusted" if adjusted else "one curve for all cameras"
    lines = [
        found.data,
        f"{about['same_person_pairs']:,} pairs of one person, {about['two_person_pairs']:,} of two drawn; "
        f"1 in {1 / about['share_of_same_person_pairs']:,.0f} pairs shows one person",
        f"curve {calibration.curve}, {cameras}",
        f"people left out: {found.reliability}",
        "",
    ]
    rows = [("false alarms", "[95 %]", "similarity above", "same-person pairs found")]
    for t in calibration.thresholds:
        rows.append((f"{t.rate:g}", f"[{t.low:.2g}, {t.high:.2g}]", f"{t.similarity:.4f}", f"{100 * t.hits:.1f} %"))
    lines += table(rows, left=())
    return [*lines, "", OWN_DATA] if found.own_data else lines
