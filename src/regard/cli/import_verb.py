"""Take over a checkpoint released by a paper's authors, or a model from a hub.

  regard import osnet_x1_0_msmt17.pth -o models/osnet          torchreid's OSNets; FastReID's BoT, AGW, SBS; TransReID
  regard import resnet50_checkpoint_93600.pt -o models/apnet   the networks of which regard has the paper
  regard import resnet50.ckpt --network resnet -o models/imagenet
  regard import models/theirs --network reid -o models/reid            a folder of the package reid
  regard import osnet.onnx -o models/osnet         ONNX or OpenVINO (.xml) of anybody; osnet.onnx.yaml describes it
  regard import hf-hub:some-lab/apnet-market1501 -o models/apnet       @REVISION after it: a branch, tag or commit

The file is read without executing anything in it; whose network it is, identities, level and variant are found from
its tensors (--network NAME says whose, where several write the same), and every tensor that was not used or not found
is named. What the tensors do not tell can be set: an APNet of MSMT17 compares identity scores, --set descriptor=logits;
a MuDeep may be of 384 x 128 pictures, --size 384x128. The size is kept with the model, for whatever is done with it.
Files of torch, safetensors and MindSpore (.ckpt) are read.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from regard.cli.arguments import close_with, output_folder, parse_size, read_options
from regard.cli.models_verb import described
from regard.errors import ConfigError
from regard.wording import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("file", type=Path, help="the released checkpoint, or hf-hub:OWNER/NAME of a model of regard")
    parser.add_argument("--network", help="which network a checkpoint belongs to, where its tensors do not tell")
    parser.add_argument(
        "-o", "--output", type=output_folder, required=True, metavar="FOLDER", help="to save the model in"
    )
    parser.add_argument("--size", metavar="HxW", help="what it was trained to see (default: as its authors' code)")
    parser.add_argument(
        "--input", type=Path, metavar="FILE", help="what an ONNX or OpenVINO file sees (default: beside it)"
    )
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="an option of the model")


def run(arguments: argparse.Namespace) -> None:
    """Import, report, save."""
    from regard.models import import_graph, import_released, load
    from regard.models.folder import GRAPHS, SCHEME

    if str(arguments.file).startswith(SCHEME):
        if arguments.network or arguments.size or arguments.set:
            raise ConfigError(f"{arguments.file} says itself what it is; leave out --network, --size and --set")
        model = load(str(arguments.file))
        model.save(arguments.output)
        print("\n".join(described(arguments.output)))
        close_with([arguments.output])
        return
    if arguments.file.suffix in GRAPHS:
        if arguments.network or arguments.size or arguments.set:
            raise ConfigError(f"{arguments.file} is described by a file; leave out --network, --size and --set")
        import_graph(arguments.file, arguments.input).save(arguments.output)
        print("\n".join(described(arguments.output)))
        close_with([arguments.output])
        return
    if arguments.input is not None:
        raise ConfigError(f"--input describes ONNX and OpenVINO files, and {arguments.file} is none; leave it out")
    model = import_released(
        arguments.file,
        network=arguments.network,
        size=parse_size(arguments.size),
        **read_options(arguments.set, "descriptor=logits"),
    )
    report = model.import_report
    assert report is not None
    options = ", ".join(f"{name}={value}" for name, value in model.options.items())
    print(f"{model.imported} of {count(model.num_ids, 'identity')}: {options}")
    print(report)
    for kind in ("unused", "missing", "conflicting"):
        for name in getattr(report, kind):
            print(f"  {kind}: {name}")
    assert model.origin is not None
    print(f"from {model.origin['source']}, licence: {model.origin['licence']}")
    assert model.input is not None
    colors = f"colors less {_numbers(model.input.mean)}, by {_numbers(model.input.std)}"
    print(
        f"input {model.input}" + ("" if arguments.size else " (--size where it was trained on another)") + f", {colors}"
    )
    model.save(arguments.output)
    print(f"saved to {arguments.output}; score it with: regard eval {arguments.output} --root DATA")


def _numbers(color: Sequence[float]) -> str:
    """Three fractions, short."""
    return " ".join(f"{value:.3g}" for value in color)
