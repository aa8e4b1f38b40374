"""Every system, trained from scratch on the same small crowd and beside its own untrained state.

    python benchmarks/systems.py                       # three seeds of all: about an hour and a half on two cores
    python benchmarks/systems.py --systems apnet dsp   # some of them
    python benchmarks/systems.py --backbone resnet10t --epochs 24

Each is trained by its crowd recipe, on the smallest backbone there is and for the same number of epochs; the people it
is tested on are never seen in training. Leaves a run folder per system and seed under --output (``regard compare``
reads them), prints a table of means over seeds with the 95 percent interval of Student's t, and writes
benchmarks/results/systems.json. Runs that are complete are not trained again, those begun go on.
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
from regard.config import Config
from regard.crowd import make_crowd
from regard.data import load_dataset
from regard.engine.build import build_model
from regard.engine.run import resume_run, start_run
from regard.evaluation.run import Run
from regard.metrics import RankingReport
from regard.metrics.significance import over_seeds
from regard.models import ReIDModel
from regard.recipes import read_recipe
from regard.run_folder.saved_state import read_saved
from regard.structures import Splits
from regard.threads import allowed_cores

HERE = Path(__file__).resolve().parent
SYSTEMS = ("baseline", "apnet", "apnet_s", "msea", "mudeep", "daaf", "sa", "dsp", "pcb", "regard")
COLUMNS = "| system | untrained mAP | trained mAP | trained rank-1 | gain in mAP | parameters |"


def configure(system: str, crowd: Path, options: argparse.Namespace, seed: int = 0) -> Config:
    """The system's crowd recipe on the backbone, and for the epochs, asked for."""
    changes = {
        "data.root": crowd,
        "model.backbone": options.backbone,
        "optim.lr": options.lr,
        "train.epochs": options.epochs,
        "train.eval_every": "null",
        "train.seed": seed,
    }
    overrides = [f"{key}={value}" for key, value in changes.items()]
    return read_recipe(f"{system}_crowd").config(overrides)


def score(model: ReIDModel, splits: Splits, config: Config) -> RankingReport:
    """The model's scores on the crowd."""
    return Run.of(model.eval(), splits, config, quiet=True).report()


def train(config: Config, folder: Path) -> ReIDModel:
    """The trained model; goes on with the run where it was begun."""
    if (folder / "last.safetensors").is_file() and read_saved(folder).config == config:
        return resume_run(folder)
    return start_run(config, folder)


def measure(system: str, seed: int, crowd: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train one system from one seed -> its scores."""
    config = configure(system, crowd, options, seed)
    splits = load_dataset("crowd", crowd)
    torch.manual_seed(seed)
    before = score(build_model(config, splits.num_ids), splits, config)
    model = train(config, options.output / f"{system}_{seed}")
    after = score(model, splits, config)
    return {
        "untrained": {"mAP": before.mAP, "rank1": before.rank(1)},
        "trained": {"mAP": after.mAP, "rank1": after.rank(1)},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def summary(values: list[float]) -> dict[str, Any]:
    """Mean over seeds, and how far its 95 percent interval reaches to either side (None for one seed)."""
    if len(values) == 1:
        return {"mean": values[0], "reach": None, "seeds": values}
    mean, _, high = over_seeds(values)
    return {"mean": mean, "reach": high - mean, "seeds": values}


def row_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What one system reached over its seeds."""
    untrained, trained = ([run[state]["mAP"] for run in runs] for state in ("untrained", "trained"))
    return {
        "untrained mAP": summary(untrained),
        "trained mAP": summary(trained),
        "trained rank-1": summary([run["trained"]["rank1"] for run in runs]),
        "gain in mAP": summary([after - before for before, after in zip(untrained, trained)]),
        "parameters": runs[0]["parameters"],
    }


def line(system: str, row: dict[str, Any]) -> str:
    """A row of the table."""
    cells = [
        f"{100 * cell['mean']:.1f}" + ("" if cell["reach"] is None else f" ± {100 * cell['reach']:.1f}")
        for cell in row.values()
        if isinstance(cell, dict)
    ]
    return f"| `{system}` | {' | '.join(cells)} | {row['parameters']:,} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, choices=SYSTEMS, help="which to train")
    parser.add_argument("--backbone", default="test_resnet.r160_in1k", help="timm name")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of every system")
    parser.add_argument("--epochs", type=int, default=50, help="of every system")
    parser.add_argument("--lr", type=float, default=2e-3, help="of every system")
    parser.add_argument("--train-ids", type=int, default=120, help="people of the crowd to train on")
    parser.add_argument("--test-ids", type=int, default=80, help="other people to test on")
    parser.add_argument("--output", type=Path, default=Path("runs/systems"), help="folder of the crowd and the runs")
    parser.add_argument("--result", type=Path, default=HERE / "results" / "systems.json", help="file written")
    options = parser.parse_args()

    crowd = options.output / "crowd"
    make_crowd(crowd, train_ids=options.train_ids, test_ids=options.test_ids)
    runs: dict[str, list[dict[str, Any]]] = {system: [] for system in options.systems}
    for seed in options.seeds:
        for system in options.systems:
            runs[system].append(measure(system, seed, crowd, options))
            print(seed, line(system, row_of(runs[system][-1:])), flush=True)
    rows = {system: row_of(found) for system, found in runs.items()}
    print("\n" + "\n".join([COLUMNS, "|---" * 6 + "|", *(line(system, row) for system, row in rows.items())]))
    about = {
        "regard": __version__,
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {allowed_cores()} cores, {torch.get_num_threads()} threads",
        "data": str(load_dataset("crowd", crowd)),
        **{key: getattr(options, key) for key in ("backbone", "epochs", "lr", "seeds")},
    }
    options.result.write_text(json.dumps({"about": about, "systems": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
