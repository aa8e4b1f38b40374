"""Every system, trained from scratch on the same small crowd and beside its own untrained state.

    python benchmarks/systems.py                       # about half an hour on two cores
    python benchmarks/systems.py --systems apnet dsp   # some of them
    python benchmarks/systems.py --backbone resnet10t --epochs 24

Each is trained by its crowd recipe, on the smallest backbone there is and for the same number of epochs; the people it
is tested on are never seen in training. Leaves a run folder per system under --output (``regard compare`` reads them),
prints a table, and writes benchmarks/results/systems.json. A system whose run folder is complete is not trained again.
"""

from __future__ import annotations

import argparse
import json
import platform
from datetime import date
from pathlib import Path
from typing import Any

import torch

from regard import __version__
from regard.config import Config, load_config, read_recipe
from regard.data import load_dataset
from regard.data.crowd import make_crowd
from regard.engine.checkpoint import read_config
from regard.engine.extract import evaluate_model
from regard.engine.run import resume_run, start_run
from regard.engine.runtime import Runtime
from regard.engine.train import build_model
from regard.metrics import RankingReport
from regard.models import ReIDModel
from regard.structures import Splits
from regard.threads import allowed_cores

HERE = Path(__file__).resolve().parent
SYSTEMS = ("baseline", "apnet", "apnet_s", "msea", "mudeep", "daaf", "sa", "dsp")
COLUMNS = "| system | untrained mAP / rank-1 | trained mAP / rank-1 | gain in mAP | parameters |"


def configure(system: str, crowd: Path, options: argparse.Namespace) -> Config:
    """The system's crowd recipe on the backbone, and for the epochs, asked for."""
    changes = {
        "data.root": crowd,
        "model.backbone": options.backbone,
        "optim.lr": options.lr,
        "train.epochs": options.epochs,
        "train.eval_every": "null",
    }
    overrides = [f"{key}={value}" for key, value in changes.items()]
    return load_config(read_recipe(f"{system}_crowd"), overrides, source=f"recipe {system}_crowd")


def score(model: ReIDModel, splits: Splits, config: Config) -> RankingReport:
    """The model's scores on the crowd."""
    runtime = Runtime(config.train)
    size = {"height": config.data.height, "width": config.data.width, "workers": config.data.workers}
    return evaluate_model(
        model.to(runtime.device).eval(), splits, config.eval, **size, autocast=runtime.autocast(), quiet=True
    )[0]


def train(config: Config, folder: Path) -> ReIDModel:
    """The trained model; goes on with the run where it was begun."""
    if (folder / "last.safetensors").is_file() and read_config(folder) == config:
        return resume_run(folder)
    return start_run(config, folder)


def measure(system: str, crowd: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train one system -> its row."""
    config = configure(system, crowd, options)
    splits = load_dataset("crowd", crowd)
    torch.manual_seed(config.train.seed)
    before = score(build_model(config, splits.num_ids), splits, config)
    folder = options.output / system
    model = train(config, folder)
    after = score(model, splits, config)
    return {
        "untrained": {"mAP": before.mAP, "rank1": before.rank(1)},
        "trained": {"mAP": after.mAP, "rank1": after.rank(1)},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def line(system: str, row: dict[str, Any]) -> str:
    """A row of the table."""
    before, after = (
        f"{100 * row[state]['mAP']:.1f} / {100 * row[state]['rank1']:.1f}" for state in ("untrained", "trained")
    )
    gain = 100 * (row["trained"]["mAP"] - row["untrained"]["mAP"])
    return f"| `{system}` | {before} | {after} | {gain:+.1f} | {row['parameters']:,} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, choices=SYSTEMS, help="which to train")
    parser.add_argument("--backbone", default="test_resnet.r160_in1k", help="timm name")
    parser.add_argument("--epochs", type=int, default=30, help="of every system")
    parser.add_argument("--lr", type=float, default=2e-3, help="of every system")
    parser.add_argument("--train-ids", type=int, default=120, help="people of the crowd to train on")
    parser.add_argument("--test-ids", type=int, default=80, help="other people to test on")
    parser.add_argument("--output", type=Path, default=Path("runs/systems"), help="folder of the crowd and the runs")
    parser.add_argument("--result", type=Path, default=HERE / "results" / "systems.json", help="file written")
    options = parser.parse_args()

    crowd = options.output / "crowd"
    make_crowd(crowd, train_ids=options.train_ids, test_ids=options.test_ids)
    rows = {}
    for system in options.systems:
        rows[system] = measure(system, crowd, options)
        print(line(system, rows[system]), flush=True)
    print("\n" + "\n".join([COLUMNS, "|---" * 5 + "|", *(line(system, row) for system, row in rows.items())]))
    about = {
        "regard": __version__,
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {allowed_cores()} cores, {torch.get_num_threads()} threads",
        "data": str(load_dataset("crowd", crowd)),
        **{key: getattr(options, key) for key in ("backbone", "epochs", "lr")},
    }
    options.result.write_text(json.dumps({"about": about, "systems": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
