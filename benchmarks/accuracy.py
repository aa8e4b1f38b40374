"""What the fast mode costs in accuracy: the same training on the crowd in eager float32 and at full speed.

    python benchmarks/accuracy.py --output runs/accuracy                     # 3 seeds x 2 modes: some 15 minutes
    python benchmarks/accuracy.py --systems apnet dsp --seeds 1 2

Plain is ``train.precision=fp32 train.channels_last=false`` and what else is the default; fast is bf16 products,
channels last and the fused optimizer. Both are scored as they were trained, on people never seen in training. Printed,
and written to results/accuracy.json: mAP and rank-1 of every run with the interval of a bootstrap over identities,
the paired difference of each seed with its interval, and the spread over seeds, which is what any change that is not
bit-equal has to be held against. Run folders that are complete are not trained again.
"""

from __future__ import annotations

import argparse
import statistics
from argparse import Namespace
from pathlib import Path
from typing import Any

from results_file import table, write
from systems import SYSTEMS, configure, train

from regard.config import load_config
from regard.crowd import make_crowd
from regard.evaluation.compare_runs import compare_runs

MODES = {
    "plain": ["train.precision=fp32", "train.channels_last=false", "optim.fused=false"],
    "fast": ["train.precision=bf16", "train.channels_last=true", "optim.fused=true"],
}


def train_all(system: str, seeds: list[int], crowd: Path, output: Path, epochs: int) -> list[Path]:
    """Run folders, plain and fast by turns."""
    how = Namespace(backbone="test_resnet.r160_in1k", lr=2e-3, epochs=epochs)
    folders = []
    for seed in seeds:
        for mode, changes in MODES.items():
            config = load_config(configure(system, crowd, how).to_dict(), [*changes, f"train.seed={seed}"])
            folders.append(output / f"{system}_{mode}_{seed}")
            train(config, folders[-1])
    return folders


def rows_of(system: str, seeds: list[int], folders: list[Path]) -> list[dict[str, Any]]:
    """A row per seed and metric."""
    rows = []
    for number, seed in enumerate(seeds):
        plain, fast = folders[2 * number : 2 * number + 2]
        found = compare_runs([plain, fast], baseline=plain, speed=False, quiet=True)
        for metric in ("mAP", "rank-1"):
            values = [100 * row.figures[metric].value for row in found.rows]
            difference = next(iter(found.differences.values()))[metric]
            low, high = 100 * difference.low, 100 * difference.high
            rows.append(
                {
                    "system": system, "seed": seed, "metric": metric, "plain": values[0], "fast": values[1],
                    "difference": 100 * difference.value, "low": low, "high": high, "within": low <= 0 <= high,
                }
            )  # fmt: skip
    return rows


def spread(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds, of each mode."""
    out = []
    for system, metric in dict.fromkeys((row["system"], row["metric"]) for row in rows):
        chosen = [row for row in rows if (row["system"], row["metric"]) == (system, metric)]
        line: dict[str, Any] = {"system": system, "metric": metric, "seeds": len(chosen)}
        for mode in MODES:
            values = [row[mode] for row in chosen]
            line |= {mode: statistics.mean(values), f"{mode} sd": statistics.stdev(values) if len(values) > 1 else None}
        out.append(line)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=["apnet"], choices=SYSTEMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--output", type=Path, default=Path("runs/accuracy"), help="folder of the crowd and the runs")
    options = parser.parse_args()
    crowd = options.output / "crowd"
    make_crowd(crowd, train_ids=120, test_ids=80)
    rows = []
    for system in options.systems:
        folders = train_all(system, options.seeds, crowd, options.output, options.epochs)
        rows += rows_of(system, options.seeds, folders)
    print(table(rows), "\n")
    print(table(spread(rows)))
    about = {"epochs": options.epochs, "modes": MODES, "intervals": "95 %, bootstrap over identities, paired"}
    print("written to", write("accuracy", {**about, "runs": rows, "over seeds": spread(rows)}))


if __name__ == "__main__":
    main()
