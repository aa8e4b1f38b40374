"""What backbones cost and what sits on them: the table of docs/how-to/add-a-backbone.md.

    python benchmarks/backbones.py                    # all of them, into the page
    python benchmarks/backbones.py NAME ...           # the rows of some, to look at

Nothing is fetched: weights are a constant, since shapes alone are looked at. The page's table lies between two marks.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import timm

import regard
from regard.errors import ConfigError
from regard.models.backbone import Backbone, fetched_origin
from regard.models.cost import constant_weights, inference_cost

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "add-a-backbone.md"
MARKS = ("<!-- by benchmarks/backbones.py -->\n", "<!-- end -->")
SIZE = (256, 128)
SYSTEMS = ("apnet", "msea", "mudeep", "daaf", "sa", "dsp", "pcb")
NAMES = (
    "resnet50.tv_in1k", "convnext_tiny.fb_in1k", "osnet_x1_0", "osnet_x0_25", "hrnet_w18.ms_in1k",
    "deit_tiny_patch16_224.fb_in1k", "deit_small_patch16_224.fb_in1k", "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "vit_small_patch14_dinov2.lvd142m", "swin_tiny_patch4_window7_224.ms_in1k", "swinv2_tiny_window8_256.ms_in1k",
)  # fmt: skip
HEAD = "| backbone | strides | channels | parameters | GMACs | weights | sits on it |\n" + "|---" * 7 + "|\n"


def row(name: str) -> str:
    """One row of the table; parameters and operations are the plain baseline's, stripped."""
    with constant_weights():
        model = regard.create_model("baseline", 751, backbone=name)
        missing = [system for system in SYSTEMS if not sits(system, name)]
    backbone: Backbone = model.get_submodule("backbone")
    cost = inference_cost(model, *SIZE)
    weights = fetched_origin(name)["licence"] if timm.get_pretrained_cfg(name).has_weights else "none"
    cells = (
        f"`{name}`", ", ".join(map(str, backbone.strides)), ", ".join(map(str, backbone.channels)),
        f"{cost.inference_parameters / 1e6:.1f} M", f"{cost.gflops / 2:.2f}", weights,
        f"all but {', '.join(missing)}" if missing else "all",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |\n"


def sits(system: str, name: str) -> bool:
    """Whether a system takes the backbone."""
    try:
        regard.create_model(system, 751, backbone=name)
    except ConfigError as error:
        print(f"{system} on {name}: {error}", file=sys.stderr)
        return False
    return True


def main(names: list[str]) -> None:
    """Print rows, or write all of them into the page."""
    rows = []
    for name in names or NAMES:
        rows.append(row(name))
        print(rows[-1], end="", flush=True)
    if not names:
        text = PAGE.read_text(encoding="utf-8")
        table = MARKS[0] + HEAD + "".join(rows) + MARKS[1]
        PAGE.write_text(re.sub(f"{MARKS[0]}.*?{MARKS[1]}", lambda _: table, text, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
