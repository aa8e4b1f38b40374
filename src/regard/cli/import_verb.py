"""Take over a checkpoint released by a paper's authors.

  regard import resnet50_checkpoint_93600.pt --network apnet -o models/apnet
  regard import resnet50.ckpt --network resnet -o models/imagenet

The file is read without executing anything in it; identities, level and variant are found from its tensors, and every
tensor that was not used or not found is named. What the tensors do not tell can be set: an APNet of MSMT17 compares
identity scores, --set descriptor=logits; a MuDeep may be of 384 x 128 pictures, --size 384x128. The size is kept with
the model, for whatever is done with it. Files of torch, safetensors and MindSpore (.ckpt) are read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from regard.cli.arguments import output_folder, parse_size, read_options
from regard.wording import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("file", type=Path, help="the released checkpoint")
    parser.add_argument("--network", required=True, help="which network it belongs to, for example apnet")
    parser.add_argument(
        "-o", "--output", type=output_folder, required=True, metavar="FOLDER", help="to save the model in"
    )
    parser.add_argument("--size", metavar="HxW", help="what it was trained to see (default: as its authors' code)")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="an option of the model")


def run(arguments: argparse.Namespace) -> None:
    """Import, report, save."""
    from regard.models import import_released

    model = import_released(
        arguments.file,
        network=arguments.network,
        size=parse_size(arguments.size),
        **read_options(arguments.set, "descriptor=logits"),
    )
    report = model.import_report
    assert report is not None
    options = ", ".join(f"{name}={value}" for name, value in model.options.items())
    print(f"{arguments.network} of {count(model.num_ids, 'identity')}: {options}")
    print(report)
    for kind in ("unused", "missing", "conflicting"):
        for name in getattr(report, kind):
            print(f"  {kind}: {name}")
    print(f"input {model.input}" + ("" if arguments.size else " (--size where it was trained on another)"))
    model.save(arguments.output)
    print(f"saved to {arguments.output}; score it with: regard eval {arguments.output} --root DATA")
