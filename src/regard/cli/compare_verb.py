"""Score runs side by side and say which differences are real.

  regard compare runs/baseline runs/apnet                     each on its data; intervals, differences, p, cost, speed
  regard compare runs/* --baseline runs/baseline --md table.md --png table.png
  regard compare runs/*/seed_*                                also one row for the runs that differ in their seed alone
  regard compare runs/a runs/b --root data/market1501         both on another data set
  regard compare runs/*/seed_* --doses data/doses --png doses.png     what occlusion, bad boxes and so on take

Runs whose settings are the same but for the seed make a group too, with intervals over seeds and people, tested
against the baseline's group. Intervals of single runs resample people, not queries; differences are tested on the same
queries. What each query scored is kept in the run's eval folder, so that comparing again is quick. AP has the step form
for all runs unless --ap says otherwise.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from regard.cli.arguments import add_device, between, close_with, eval_changes, output_file, report_on, write_json
from regard.errors import ConfigError
from regard.storage import encode_text, write_atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add, switch = parser.add_argument, argparse.BooleanOptionalAction
    add("runs", type=Path, nargs="+", metavar="RUN", help="run folder or model folder")
    add("--baseline", type=Path, metavar="RUN", help="run to compare with (default: the first)")
    add("--data", metavar="NAME", help="data set (default: looked up in --root, or each run's own)")
    add("--root", type=Path, help="folder of the data set")
    add("--precision", choices=("auto", "fp32", "tf32", "bf16", "fp16"), help="of products (default: each run's own)")
    add("--metric", choices=("cosine", "euclidean"), help="distance (default: each run's own)")
    add("--ap", choices=("step", "trapezoid"), help="form of the average precision (default: step)")
    add("--flip", action=switch, help="average with the mirrored image (default: each run's own)")
    add("--rerank", action=switch, help="k-reciprocal re-ranking (default: each run's own)")
    add("--ignore-cameras", action=switch, help="matches by the query's own camera count")
    add("--interval", choices=("percentile", "bca"), default="percentile", help="kind of interval")
    add("--resamples", type=between(1, 10**6), default=10_000, metavar="N", help="bootstraps and sign flips")
    add("--no-speed", action="store_true", help="do not measure images/s")
    add("--md", type=output_file, metavar="FILE", help="write the tables as Markdown")
    add("--tex", type=output_file, metavar="FILE", help="write the tables as LaTeX (booktabs)")
    add("--csv", type=output_file, metavar="FILE", help="write a line per run and figure")
    add("--json", type=output_file, metavar="FILE", help="write everything")
    add("--png", type=output_file, metavar="FILE", help="draw the intervals")
    doses = parser.add_argument_group("causes", "on the sets of regard data doses; docs/how-to/robustness.md says more")
    doses.add_argument("--doses", type=Path, metavar="FOLDER", help="score at every dose of every cause there")
    doses.add_argument("--causes", nargs="+", metavar="NAME", default=[], help="some of them (default: all)")
    doses.add_argument(
        "--worse", choices=("query", "gallery", "both"), default="both", help="what has the cause (both)"
    )
    doses.add_argument(
        "--attention", type=between(0, 10**6), metavar="N", default=100,
        help="measure on N queries how much of attention lies on the person (default: 100; 0: do not)",
    )  # fmt: skip
    add_device(parser)
    add("-q", "--quiet", action="store_true", help="no progress bars")


def run(arguments: argparse.Namespace) -> None:
    """Compare, print, and write what was asked for."""
    from regard.evaluation.compare_runs import compare_runs

    if arguments.doses is not None:
        run_doses(arguments)
        return
    if arguments.causes or arguments.worse != "both":
        raise ConfigError("--causes and --worse are about sets of doses; say where these are with --doses FOLDER")
    found = compare_runs(
        arguments.runs, baseline=arguments.baseline, name=arguments.data, root=arguments.root,
        changes=eval_changes(arguments), method=arguments.interval, resamples=arguments.resamples,
        speed=not arguments.no_speed, quiet=arguments.quiet,
    )  # fmt: skip
    print(found)
    _write_texts(arguments, found)
    write_json(arguments.json, found.to_dict())
    if arguments.png:
        from regard.explain.figures.map_figures import figure_bytes
        from regard.report.evidence import interval_chart

        shown = found.of_all(found.shown)
        figures = {row.label: {name: row.figures[name] for name in shown} for row in found.rows}
        differences = {label: {name: tests[name][:3] for name in shown} for label, tests in found.differences.items()}
        chart = interval_chart(figures, differences, found.baseline, found.corrected)
        assert chart is not None
        write_atomic(arguments.png, figure_bytes(chart.figure))
    _close(arguments)


def _write_texts(arguments: argparse.Namespace, found: Any) -> None:
    """Write the tables in the forms that were asked for."""
    forms = ((arguments.md, found.to_markdown), (arguments.tex, found.to_latex), (arguments.csv, found.to_csv))
    for place, text in forms:
        if place:
            write_atomic(place, encode_text(text()))


def _close(arguments: argparse.Namespace) -> None:
    """Say what was written, and what is next."""
    written = [arguments.md, arguments.tex, arguments.csv, arguments.json, arguments.png]
    close_with(written, then=report_on(*arguments.runs, arguments=arguments))


def run_doses(arguments: argparse.Namespace) -> None:
    """Compare at doses of causes, print, and write what was asked for.

    Raises:
        ConfigError: another data set is asked for too.
    """
    from regard.evaluation.doses import measure_doses
    from regard.evaluation.run import Run
    from regard.explain.attention_precision import dose_precision

    for option in ("root", "data"):
        if getattr(arguments, option) is not None:
            raise ConfigError(f"--{option} names a data set, and --doses the sets to compare on; leave one of them out")

    def attend(run: Run) -> tuple[dict[str, Any], Any]:
        return dose_precision(run.model, run.splits.query, run.splits.gallery, run.input, arguments.attention)

    found = measure_doses(
        arguments.runs, arguments.doses, baseline=arguments.baseline, causes=arguments.causes, worse=arguments.worse,
        changes=eval_changes(arguments), attend=attend if arguments.attention else None, quiet=arguments.quiet,
    )  # fmt: skip
    print(found)
    _write_texts(arguments, found)
    write_json(arguments.json, found.to_dict())
    if arguments.png:
        from regard.explain.figures.map_figures import figure_bytes
        from regard.report.dose_chart import DoseLine, dose_chart

        causes = {
            cause: [
                DoseLine(
                    curve.label,
                    [point.dose for point in curve.points],
                    {name: [point.figures[name] for point in curve.points] for name in curve.shared},
                    [point.gaps["mAP"][0] for point in curve.points if point.gaps],
                )
                for curve in found.of(cause)
            ]
            for cause in found.causes
        }
        write_atomic(arguments.png, figure_bytes(dose_chart(causes, found.baseline, found.verdicts()).figure))
    _close(arguments)
