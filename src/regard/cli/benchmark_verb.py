"""Time a network on this machine: engines, precisions, batches; and what they cost in accuracy.

regard benchmark runs/apnet                                 every engine that is installed; mAP on the run's data set
regard benchmark runs/apnet --batch 1 16 --no-score --json bench.json
regard export runs/apnet --to onnx --int8                   makes what int8 is timed with; --fp16 likewise
"""

from __future__ import annotations

import argparse
from pathlib import Path

from regard.cli.arguments import between, close_with, output_file, write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add = parser.add_argument
    add("run", type=Path, help="run folder, or a folder a model was saved in")
    add("--batch", type=between(1, 4096), nargs="+", default=[1, 8, 32], metavar="N", help="sizes (default: 1 8 32)")
    add("--seconds", type=float, default=1.0, metavar="S", help="to spend on each (%(default)s)")
    add("--threads", type=between(1, 1024), metavar="N", help="CPU threads (default: PyTorch's)")
    add("--data", metavar="NAME", help="data set to score on (default: the run's)")
    add("--root", type=Path, metavar="FOLDER", help="where it lies")
    add("--no-score", action="store_true", help="do not score")
    add("--json", type=output_file, metavar="FILE", help="write everything")
    add("-q", "--quiet", action="store_true", help="no progress bars")


def run(arguments: argparse.Namespace) -> None:
    """Time, print, and write what was asked for."""
    from regard.export.accuracy import open_scored
    from regard.export.benchmark import run_benchmark

    scored = None
    if not arguments.no_score:
        scored = open_scored(arguments.run, arguments.data, arguments.root, quiet=arguments.quiet)
        if scored is None:
            print("no data set to score on, so accuracy is told by cosines alone; name one with --root FOLDER")
    found = run_benchmark(
        arguments.run, batches=arguments.batch, seconds=arguments.seconds, threads=arguments.threads, scored=scored
    )
    print(found)
    write_json(arguments.json, found.to_dict())
    close_with([arguments.json])
