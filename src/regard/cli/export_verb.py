"""Write a network as a file for other runtimes, and try it: what is not the network is not written. Or share it.

  regard export runs/apnet --to onnx                          runs/apnet/exports/apnet-256x128-WEIGHTS.onnx
  regard export runs/apnet --to openvino -o apnet.xml
  regard export runs/apnet --to torch-export --pictures photos/
  regard export runs/apnet --to onnx --int8                   calibrated on the run's data; says what it costs in mAP
  regard export runs/apnet --to hf-hub:some-lab/apnet         model and card, filled from the run, on Hugging Face's hub

Input are any number of pictures (B, H, W, 3) uint8 RGB, resized; normalization is inside, and batch normalizations are
part of the convolutions. Output are descriptors (B, D), not of length 1. The JSON beside the file says all of that.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from regard.cli.arguments import close_with, output_file, parse_size
from regard.errors import ConfigError

if TYPE_CHECKING:
    from regard.export import Exported

SCHEME = "hf-hub:"
HUBS = ("license", "private", "overwrite_card")
FILES = ("output", "size", "pictures", "tolerance", "int8", "no_score")
"""Options of uploads, and of files."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("run", type=Path, help="run folder, or a folder a model was saved in")
    parser.add_argument(
        "--to", required=True, metavar="FORMAT", help="onnx, openvino, torch-export, or hf-hub:OWNER/NAME"
    )
    parser.add_argument("-o", "--output", type=output_file, metavar="FILE", help="to write (default: in RUN/exports)")
    parser.add_argument("--size", metavar="HxW", help="input size (default: the model's own)")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="real pictures (default: the run's data set's)")
    parser.add_argument("--tolerance", type=float, metavar="T", help="largest relative difference (default: 0.0001)")
    parser.add_argument("--int8", action="store_true", help="compute in int8, and score it")
    parser.add_argument("--data", metavar="NAME", help="data set to score on (default: the run's)")
    parser.add_argument("--root", type=Path, metavar="FOLDER", help="where it lies")
    parser.add_argument("--no-score", action="store_true", help="do not score an int8 export")
    parser.add_argument("--license", metavar="ID", help="of a model on a hub, such as apache-2.0 (default: unknown)")
    parser.add_argument("--private", action="store_true", help="a repository that is made on a hub is private")
    parser.add_argument(
        "--overwrite-card", action="store_true", help="replace a card on a hub that was written by hand"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars")


def run(arguments: argparse.Namespace) -> None:
    """Export, compare and say how far the export is from the network."""
    from regard.export.accuracy import find_pictures, int8_loss, open_scored
    from regard.export.exporting import export_run
    from regard.export.formats import check_format

    if arguments.to.startswith(SCHEME):
        _share(arguments)
        return
    hubs = [option for option in HUBS if getattr(arguments, option)]
    if hubs:
        raise ConfigError(f"--{hubs[0].replace('_', '-')} is for --to {SCHEME}OWNER/NAME; leave it out")
    check_format(arguments.to, int8=arguments.int8)
    found = open_scored(arguments.run, arguments.data, arguments.root, quiet=arguments.quiet)
    exported = export_run(
        arguments.run,
        arguments.to,
        arguments.output,
        size=parse_size(arguments.size),
        pictures=find_pictures(arguments.pictures, found.splits if found else None, int8=arguments.int8),
        int8=arguments.int8,
        tolerance=arguments.tolerance,
    )
    print("\n".join(lines(exported)))
    close_with(exported.files)
    if not arguments.int8 or arguments.no_score:
        return
    if found:
        print(f"{found.splits.name}: {int8_loss(found, exported)}")
    else:
        print("no data set to score it on, so what int8 costs is not known; name one with --root FOLDER")


def _share(arguments: argparse.Namespace) -> None:
    """Upload the model of a run, or of a folder, with its card."""
    from regard.evaluation.run import open_run
    from regard.models.hub import repository_in

    others = [option for option in FILES if getattr(arguments, option)]
    if others:
        raise ConfigError(f"--{others[0].replace('_', '-')} is for files; leave it out with --to {SCHEME}OWNER/NAME")
    repo_id, revision = repository_in(arguments.to)
    run = open_run(arguments.run, arguments.data, arguments.root, quiet=arguments.quiet)
    address = run.push_to_hub(
        repo_id, revision=revision, license=arguments.license, private=arguments.private or None,
        overwrite_card=arguments.overwrite_card,
    )  # fmt: skip
    print(f"uploaded to {address}")


def lines(exported: Exported) -> list[str]:
    """What is printed."""
    card = exported.card
    size = sum(file.stat().st_size for file in exported.files) / 1e6
    return [
        f"{exported.files[0]}: {card.system} in {card.precision}, {size:.1f} MB",
        f"  {card.input}: (any number, {card.height}, {card.width}, 3) {card.dtype} {card.color}; "
        f"{card.output}: (the same number, {card.embed_dim}) float32",
        *(f"  {engine}: {parity}" for engine, parity in exported.parity.items()),
    ]
