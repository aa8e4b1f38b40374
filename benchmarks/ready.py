"""Make the folder of a ready network from its runs: averaged, stripped, calibrated on people of another city.

  regard data make world --difficulty diverse --cities 25 --train-ids 5000 --test-ids 200
  regard train regard_s data.root=world -o runs/regard_s
  regard data make other --difficulty diverse --seed 11 --city 11 --train-ids 2 --test-ids 200
  python benchmarks/ready.py runs/regard_s other src/regard/ready/regard-s

Several runs that began from the same network are one network by the mean of their weights (Wortsman et al. 2022, model
soups, arXiv 2203.05482). ``ready.json`` and the card beside the weights are written by hand. What the calibration
learned of the crowd's own cameras is left out: somebody else's have the same numbers and nothing else in common.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

import regard
from regard.evaluation.verify import calibrate_run
from regard.models.folder import as_json
from regard.models.saved import sealed, weights_digest
from regard.storage import write_atomic

PRIOR = 0.01


def averaged(runs: Sequence[Path]) -> regard.ReIDModel:
    """The network whose every number is the mean of those of the runs' last ones."""
    first, *others = (regard.load(run / "final").strip() for run in runs)
    states = [model.state_dict() for model in (first, *others)]
    mean = {name: torch.stack([state[name].double() for state in states]).mean(0) for name in states[0]}
    first.load_state_dict(mean)
    return first


def main(runs: Sequence[Path], city: Path, folder: Path) -> None:
    averaged(runs).save(folder)
    found = calibrate_run(folder, root=city, prior=PRIOR)
    content = replace(found.calibration, cameras={}).to_dict()
    write_atomic(found.file, as_json(sealed(content, weights_digest(folder))))


if __name__ == "__main__":
    *runs, city, folder = map(Path, sys.argv[1:])
    main(runs, city, folder)
