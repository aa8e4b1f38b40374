"""Training as a whole, from JPEG files to changed weights, beside the plain eager float32 program of reference.py.

    python benchmarks/training.py             # some 8 minutes on two cores, which should have nothing else to do
    python benchmarks/training.py --quick     # two small cases, to see that it runs

APNet of level 2 on ResNet-50, cross entropy and batch-hard triplet, Adam, K = 4, on the same crops of a crowd with the
same number of loader processes; rounds take turns, each row is the best of them. regard trains as ``regard train``
does, with checkpoints and log, at its defaults (``train.precision=auto`` takes bf16 where the processor multiplies in
it) and in float32; images per second are those its log gives. The first two steps, while loaders start, are not
counted. Writes results/training.json and docs/pictures/training_speed.png.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import pictures
import reference
import torch
from results_file import table, write

from regard.crowd import make_crowd
from regard.data import load_dataset
from regard.engine.train import train
from regard.evaluation.embed import loader_workers
from regard.recipes import read_recipe
from regard.run_folder.folders import read_history
from regard.runtime.fabric import Runtime
from regard.structures import Splits

SKIPPED = 2
CASES = [(32, (256, 128)), (16, (256, 128)), (16, (128, 64)), (16, (384, 192))]
QUICK = [(8, (128, 64)), (16, (128, 64))]
MODES = {"regard": [], "regard fp32": ["train.precision=fp32"]}


def plain(splits: Splits, batch: int, size: tuple[int, int], steps: int) -> float:
    """Images per second of the reference."""
    labels = {pid: label for label, pid in enumerate(sorted({sample.pid for sample in splits.train}))}
    items = [(sample.path, labels[sample.pid]) for sample in splits.train]
    torch.manual_seed(0)
    model = reference.ReferenceAPNet(len(labels))
    clock = reference.train_loop(model, items, size, batch, steps, loader_workers(None))
    return batch * (steps - SKIPPED) / (clock[-1] - clock[SKIPPED - 1])


def ours(splits: Splits, batch: int, size: tuple[int, int], steps: int, overrides: list[str]) -> float:
    """Images per second of regard."""
    config = read_recipe("apnet_market1501").config([
            "model.pretrained=false", "model.backbone=resnet50", f"data.height={size[0]}", f"data.width={size[1]}",
            f"data.ids_per_batch={batch // 4}", "data.images_per_id=4", "train.epochs=1", "train.eval_every=null",
            "data.sampler=pk", "train.log_every=1", *overrides,
        ])  # fmt: skip
    few = Splits(splits.name, splits.root, splits.train, splits.query[:4], splits.gallery[:8])
    runtime = Runtime(config.train)
    try:
        with tempfile.TemporaryDirectory() as folder:
            train(config, few, Path(folder), runtime, quiet=True)
            records = [record for record in read_history(Path(folder)) if record["event"] == "step"]
    finally:
        runtime.close()
    speeds = [record["images_per_s"] for record in records][SKIPPED:steps]
    return len(speeds) / sum(1 / speed for speed in speeds)


def enough(splits: Splits, batch: int, steps: int) -> Splits:
    """The people that make an epoch of at least ``steps`` batches, each with his first four images."""
    kept, count = [], {}
    for sample in splits.train:
        count[sample.pid] = count.get(sample.pid, 0) + 1
        if count[sample.pid] <= 4:
            kept.append(sample)
    people = sorted(pid for pid, images in count.items() if images >= 4)[: batch // 4 * steps]
    chosen = set(people)
    return Splits(splits.name, splits.root, [s for s in kept if s.pid in chosen], splits.query, splits.gallery)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help=f"of which the first {SKIPPED} are not counted")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        crowd = Path(temporary) / "crowd"
        make_crowd(crowd, train_ids=20 if options.quick else 90, test_ids=2)
        splits = load_dataset("crowd", crowd)
        for batch, size in QUICK if options.quick else CASES:
            part = enough(splits, batch, options.steps)
            best = dict.fromkeys(["reference", *MODES], 0.0)
            for _ in range(options.rounds):
                best["reference"] = max(best["reference"], plain(part, batch, size, options.steps))
                for mode, overrides in MODES.items():
                    best[mode] = max(best[mode], ours(part, batch, size, options.steps, overrides))
            row = {"input": f"{size[0]}x{size[1]}", "batch": batch, **best}
            row |= {f"{mode} / reference": best[mode] / best["reference"] for mode in MODES}
            rows.append(row)
            print(table(rows), "\n", flush=True)
    if options.quick:
        return
    write("training", {"what": "apnet level 2, images per second of the whole training loop", "rows": rows})
    pictures.training()


if __name__ == "__main__":
    main()
