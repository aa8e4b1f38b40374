"""Write a network as a file for other runtimes, and try it: what is not the network is not written. Or share it.

  regard export runs/apnet --to onnx                          runs/apnet/exports/apnet-256x128-WEIGHTS.onnx
  regard export runs/apnet --to openvino -o apnet.xml
  regard export runs/apnet --to torch-export --pictures photos/
  regard export runs/apnet --to onnx --int8                   calibrated on the run's data; says what it costs in mAP
  regard export runs/apnet --for boxmot                       for a program: also ultralytics, libreyolo, deepstream,
                                                              openvino-bgr, reid, triton
  regard export --check apnet-boxmot.onnx --for boxmot        is it that? by the program's own loader, if installed
  regard export runs/apnet --to hf-hub:some-lab/apnet         model and card, filled from the run, on Hugging Face's hub

Input are any number of pictures (B, H, W, 3) uint8 RGB, resized; normalization is inside, and batch normalizations are
part of the convolutions. Output are descriptors (B, D), not of length 1. The JSON beside the file says all of that. A
file --for a program takes what that feeds it, and gives descriptors of length 1, mirrored pictures averaged in.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from regard.cli.arguments import close_with, output_file, parse_size
from regard.errors import ConfigError

if TYPE_CHECKING:
    from regard.export import Exported
    from regard.export.profiles import Form

SCHEME = "hf-hub:"
HUBS = ("license", "private", "overwrite_card")
FILES = (
    "output", "size", "pictures", "tolerance", "int8", "no_score", "profile", "check", "antialias", "no_flip", "opset",
    "batch", "fp16", "symmetric",
)  # fmt: skip
"""Options of uploads, and of files."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("run", type=Path, nargs="?", help="run folder, or a folder a model was saved in")
    parser.add_argument("--to", metavar="FORMAT", help="onnx, openvino, torch-export, or hf-hub:OWNER/NAME")
    parser.add_argument("--for", dest="profile", metavar="PROGRAM", help="what the file is for, instead of --to")
    parser.add_argument("--check", type=Path, metavar="FILE", help="check a file that was made --for a program")
    parser.add_argument("-o", "--output", type=output_file, metavar="FILE", help="to write (default: in RUN/exports)")
    parser.add_argument("--size", metavar="HxW", help="input size (default: the model's own)")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="real pictures (default: the run's data set's)")
    parser.add_argument("--tolerance", type=float, metavar="T", help="largest relative difference (default: 0.0001)")
    parser.add_argument("--int8", action="store_true", help="compute in int8, and score it")
    parser.add_argument("--symmetric", action="store_true", help="int8 as TensorRT takes it: zero points 0")
    parser.add_argument("--fp16", action="store_true", help="weights and products in float16")
    parser.add_argument("--opset", type=int, metavar="N", help="of an ONNX file, 17 to 20 (default: the exporter's)")
    parser.add_argument("--batch", type=int, metavar="N", help="pictures that go in at a time (default: any number)")
    parser.add_argument(
        "--antialias", type=int, default=1, metavar="K",
        help="with --for: take pictures K times as high and wide, and reduce them antialiased in the graph",
    )  # fmt: skip
    parser.add_argument("--no-flip", action="store_true", help="with --for: leave the mirrored picture out")
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
    """Export, compare and say how far the export is from the network; or check a file."""
    from regard.export.accuracy import find_pictures, int8_loss, open_scored
    from regard.export.exporting import export_run
    from regard.export.formats import check_format
    from regard.export.profiles import profile_of

    if arguments.check is not None:
        _check(arguments)
        return
    if arguments.run is None:
        raise ConfigError("the run is missing: regard export RUN --to FORMAT, or --for PROGRAM")
    if (arguments.to or "").startswith(SCHEME):
        _share(arguments)
        return
    hubs = [option for option in HUBS if getattr(arguments, option)]
    if hubs:
        raise ConfigError(f"--{hubs[0].replace('_', '-')} is for --to {SCHEME}OWNER/NAME; leave it out")
    form = _form(arguments)
    if form.profile is not None and form.profile.to == "reid":
        _reid(arguments, form)
        return
    to = arguments.to or (profile_of(arguments.profile).to if arguments.profile else None)
    if to is None:
        raise ConfigError("say what for: --to onnx, openvino, torch-export or hf-hub:OWNER/NAME, or --for PROGRAM")
    check_format(to, int8=arguments.int8)
    form.check(to, int8=arguments.int8)
    found = open_scored(arguments.run, arguments.data, arguments.root, quiet=arguments.quiet)
    exported = export_run(
        arguments.run,
        to,
        arguments.output,
        size=parse_size(arguments.size),
        pictures=find_pictures(arguments.pictures, found.splits if found else None, int8=arguments.int8),
        int8=arguments.int8,
        tolerance=arguments.tolerance,
        form=form,
    )
    print("\n".join(lines(exported)))
    close_with(exported.files)
    if not arguments.int8 or arguments.no_score:
        return
    if found:
        print(f"{found.splits.name}: {int8_loss(found, exported)}")
    else:
        print("no data set to score it on, so what int8 costs is not known; name one with --root FOLDER")


def _form(arguments: argparse.Namespace) -> Form:
    """How the file is to be, of the options that say it."""
    from regard.export.profiles import Form, profile_of

    for name, most in (("batch", 1024), ("antialias", 8)):
        value = getattr(arguments, name)
        if value is not None and not 1 <= value <= most:
            raise ConfigError(f"--{name} is {value}, wanted 1 to {most}")
    return Form(
        profile_of(arguments.profile) if arguments.profile else None, flip=not arguments.no_flip,
        shrink=arguments.antialias, batch=arguments.batch, opset=arguments.opset, half=arguments.fp16,
        symmetric=arguments.symmetric,
    )  # fmt: skip


def _check(arguments: argparse.Namespace) -> None:
    """Try a file that was made for a program."""
    from regard.integrations.checking import check_file

    given = [option for option in FILES if getattr(arguments, option) and option not in ("check", "profile")]
    if arguments.run or arguments.to or not arguments.profile or [each for each in given if each != "antialias"]:
        raise ConfigError("--check takes a file and what it was made for, and nothing else: --check FILE --for PROGRAM")
    print(check_file(arguments.check, arguments.profile))


def _reid(arguments: argparse.Namespace, form: Form) -> None:
    """Write a folder of the package ``reid``."""
    from regard.export.reid_folder import export_reid

    if others := [name for name in ("int8", "fp16", "opset", "batch", "pictures") if getattr(arguments, name)]:
        raise ConfigError(f"--{others[0]} is for graphs, and --for reid writes weights; leave it out")
    exported = export_reid(arguments.run, arguments.output, form, size=parse_size(arguments.size))
    print(f"{exported.files[0].parent}: {exported.card.system}, for regard.integrations.reid.model(FOLDER)")
    close_with(exported.files)


def _share(arguments: argparse.Namespace) -> None:
    """Upload the model of a run, or of a folder, with its card."""
    from regard.evaluation.run import open_run
    from regard.models.hub import repository_in

    left = {"antialias": 1}
    others = [option for option in FILES if getattr(arguments, option) not in (None, False, left.get(option))]
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
    from regard.export.profiles import PROFILES

    card, drift = exported.card, exported.card.drift
    size = sum(file.stat().st_size for file in exported.files) / 1e6
    number = "any number" if card.batch is None else str(card.batch)
    sides = f"3, {card.height}, {card.width}" if card.layout == "NCHW" else f"{card.height}, {card.width}, 3"
    said = [
        f"{exported.files[0]}: {card.system} in {card.precision}, {size:.1f} MB",
        f"  {card.input}: ({number}, {sides}) {card.dtype} {card.color}; "
        f"{card.output}: (the same number, {card.embed_dim}) float32",
        *(f"  {engine}: {parity}" for engine, parity in exported.parity.items()),
    ]
    if card.made_for:
        said.append(f"  for {PROFILES[card.made_for].program}: {PROFILES[card.made_for]}")
    if drift:
        said.append(
            f"  crops resized without antialiasing, as it does: cosine to regard's {drift['least']:.4f} at least, "
            f"{drift['mean']:.4f} on average ({drift['pictures']} pictures, up to {drift['tallest']} pixels high)"
        )
    return said
