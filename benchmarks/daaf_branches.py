"""What DAAF's keypoint branch is worth on the crowd: started as released, started live, and left out.

    python benchmarks/daaf_branches.py                      # 3 seeds x 3 arms
    python benchmarks/daaf_branches.py --arms released off --seeds 1 2

All arms have the mask branch, the released decoder (2 x 2) and the released optimizer, Adam with coupled weight decay
5e-4; of one seed they share the trunk's first weights, the batches and the augmentation. ``released`` draws the
keypoint branch's weights from N(0, 0.001²) as the released code does, ``live`` leaves them to PyTorch, ``off`` has no
such branch. While they train, the branch's weights and the spread of its maps are written down once an epoch.

Printed, and written to results/daaf_branches.json: mAP and rank-1 of every run on people never seen in training, the
paired differences of each seed with the interval of Student's t over seeds, the course of the branch, and its error
beside that of the best maps that are the same at every place of every picture. Runs that are complete are not trained
again, those begun go on; the file is renewed after
every seed.
"""

from __future__ import annotations

import argparse
import json
import statistics
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from results_file import table, write
from systems import configure, summary
from torch import Tensor, nn

from regard.config import Config, load_config
from regard.crowd import make_crowd
from regard.data import load_dataset
from regard.engine.build import build_loader
from regard.engine.run import start_run
from regard.models.daaf import DAAF
from regard.run_folder.saved_state import has_state, read_saved
from regard.runtime.fabric import Runtime
from regard.structures import Output

ARMS = {"released": {"decoder_start": "released"}, "live": {"decoder_start": "torch"}, "off": {"pab": False}}
PAIRS = (("live", "off"), ("released", "off"), ("live", "released"))
COURSE = "branch.jsonl"


def configure_arm(arm: str, seed: int, crowd: Path, options: Namespace) -> Config:
    """DAAF's crowd recipe with the released decoder and optimizer, and the arm's keypoint branch."""
    settings = configure("daaf", crowd, options, seed).to_dict()
    settings["model"] |= {"decoder": "2x2", **ARMS[arm]}
    settings["optim"] |= {"name": "adam", "weight_decay": 5e-4}
    settings["data"] |= {"height": options.height, "width": options.height // 2, "workers": 0, "cache": "disk"}
    if arm == "off":
        del settings["losses"]["pab"]
    return load_config(settings)


@contextmanager
def watched(folder: Path, every: int) -> Iterator[None]:
    """Write down how the keypoint branch is, each so many training steps, into the run's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    course, step = folder / COURSE, read_saved(folder).progress.step if has_state(folder) else 0
    kept = [line for line in read_lines(course) if line["step"] < step]
    course.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def look(module: nn.Module, _: Any, out: Output) -> None:
        nonlocal step
        if not isinstance(module, DAAF) or not module.training or not module.pab:
            return
        if step % every == 0:
            with course.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **state_of(module, out.maps["pab"].detach())}) + "\n")
        step += 1

    hook = nn.modules.module.register_module_forward_hook(look)
    try:
        yield
    finally:
        hook.remove()


def state_of(model: DAAF, maps: Tensor) -> dict[str, Any]:
    """Root mean square of each layer's weights, and the spread of the maps (B, 17, h, w) over pictures and places."""
    assert model.pab is not None
    heads = torch.cat([head.get_parameter("weight").flatten() for head in model.pab.heads])
    layers = [*(double.get_parameter("weight") for double in model.pab.doublings), heads]
    return {
        "weights": [weight.detach().square().mean().sqrt().item() for weight in layers],
        "spread": maps.float().var((0, 2, 3)).mean().sqrt().item(),
    }


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON lines file; none where there is no such file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def constant_error(config: Config, crowd: Path, folder: Path) -> float:
    """Mean squared error of the best constant for each of the 17 maps, over one epoch of training labels."""
    splits = load_dataset("crowd", crowd)
    labels = []
    for batch in build_loader(config, splits, folder, Runtime(config.train)):
        labels.append(batch.extra["keypoints"].to("cpu").maps.float())
    return torch.cat(labels).transpose(0, 1).flatten(1).var(1, correction=0).mean().item()


def measure(arm: str, seed: int, crowd: Path, options: Namespace) -> dict[str, Any]:
    """Train an arm from a seed -> its scores, and the course and the error of its keypoint branch."""
    config = configure_arm(arm, seed, crowd, options)
    folder = options.output / f"{arm}_{seed}"
    with watched(folder, options.every):
        start_run(config, folder, quiet=True, go_on=True)
    *steps, end = read_lines(folder / "metrics.jsonl")
    row: dict[str, Any] = {"arm": arm, "seed": seed, "mAP": 100 * end["mAP"], "rank-1": 100 * end["rank1"]}
    if arm != "off":
        row["pab error"] = statistics.fmean(line["loss/pab"] for line in steps[-options.every :])
        row["course"] = read_lines(folder / COURSE)
    return row


def differences(runs: list[dict[str, Any]], seeds: list[int]) -> list[dict[str, Any]]:
    """For each two arms and metric, the mean of the seeds' differences and how far its 95 percent interval reaches."""
    rows = []
    for one, other in PAIRS:
        for metric in ("mAP", "rank-1"):
            value = {(run["arm"], run["seed"]): run[metric] for run in runs}
            if all((arm, seed) in value for arm in (one, other) for seed in seeds):
                found = summary([value[one, seed] - value[other, seed] for seed in seeds])
                rows.append({"arms": f"{one} - {other}", "metric": metric, **found})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--height", type=int, default=64, help="of the network's input, twice its width")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--backbone", default="test_resnet.r160_in1k", help="timm name")
    parser.add_argument("--every", type=int, default=22, help="steps between two looks at the branch: an epoch's")
    parser.add_argument("--train-ids", type=int, default=120, help="people of the crowd to train on")
    parser.add_argument("--test-ids", type=int, default=80, help="other people to test on")
    parser.add_argument("--output", type=Path, default=Path("runs/daaf_branches"), help="folder of crowd and runs")
    parser.add_argument("--result", default="daaf_branches", help="name of the file in results/")
    options = parser.parse_args()
    crowd = options.output / "crowd"
    make_crowd(crowd, train_ids=options.train_ids, test_ids=options.test_ids)
    constant = constant_error(configure_arm("live", options.seeds[0], crowd, options), crowd, options.output)
    about = {key: getattr(options, key) for key in ("epochs", "lr", "height", "backbone", "train_ids", "test_ids")}
    about |= {"intervals": "95 %, Student's t over seeds, of the differences seed by seed", "constant": constant}
    runs, found = [], []
    for number, seed in enumerate(options.seeds, start=1):
        for arm in options.arms:
            runs.append(measure(arm, seed, crowd, options))
            print(table([{key: value for key, value in runs[-1].items() if key != "course"}]), flush=True)
        found = differences(runs, options.seeds[:number])
        write(options.result, {**about, "differences": found, "runs": runs})
    print(f"\nerror of the best constants: {constant:.5f}\n{table(found)}")


if __name__ == "__main__":
    main()
