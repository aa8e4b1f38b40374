"""Train, measure and look at a model, in a few minutes on two CPU cores and without any download.

A crowd of synthetic people is made, a small attention network is trained on it, and it is measured on people it has
never seen, against a color histogram and against itself untrained. runs/demo/report.html shows it all.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from regard.cli.arguments import between, close_with, output_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "-o", "--output", type=output_folder, default=Path("runs/demo"), metavar="FOLDER", help="%(default)s"
    )
    parser.add_argument(
        "--train-ids", type=between(2, 100_000), default=120, metavar="N", help="people to train on (%(default)s)"
    )
    parser.add_argument(
        "--test-ids", type=between(1, 100_000), default=80, metavar="N", help="people to test on (%(default)s)"
    )
    parser.add_argument(
        "--epochs", type=between(1, 100_000), default=50, metavar="N", help="length of the training (%(default)s)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars")


def run(arguments: argparse.Namespace) -> None:
    """Run the demo and say what came out."""
    from regard.demo import run_demo

    demo = run_demo(
        arguments.output,
        train_ids=arguments.train_ids,
        test_ids=arguments.test_ids,
        epochs=arguments.epochs,
        quiet=arguments.quiet,
    )
    print(f"\n{'on people never seen in training':<34}   mAP  rank-1")
    for label, score in demo.scores.items():
        print(f"  {label:<32} {100 * score['mAP']:5.1f}   {100 * score['rank1']:5.1f}")
    print()
    trained = demo.scores["trained apnet"]
    score = f"mAP {100 * trained['mAP']:.1f}, rank-1 {100 * trained['rank1']:.1f}"
    close_with([demo.report, demo.metrics], score, ["train", "apnet"])
