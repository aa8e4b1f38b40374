"""Make the folder of a ready network from its run: stripped, calibrated on people of another city, for any cameras.

  regard data make world --difficulty diverse --cities 25 --train-ids 5000 --test-ids 200
  regard train regard_s data.root=world -o runs/regard_s
  regard train regard_s_finish data.root=world model.pretrained=runs/regard_s -o runs/regard_s_gray
  regard train regard_s_finish data.root=world model.pretrained=runs/regard_s_gray data.gray=0.4 train.seed=3 \
      -o runs/regard_s_end
  regard data make other --difficulty diverse --seed 11 --city 11 --train-ids 2 --test-ids 200
  python benchmarks/ready.py runs/regard_s_end other src/regard/ready/regard-s

``ready.json`` and the card beside the weights are written by hand. What the calibration learned of the crowd's own
cameras is left out: somebody else's have the same numbers and nothing else in common.
"""

import sys
from dataclasses import replace
from pathlib import Path

import regard
from regard.evaluation.verify import calibrate_run
from regard.models.folder import as_json
from regard.models.saved import sealed, weights_digest
from regard.storage import write_atomic

PRIOR = 0.01


def main(run: Path, city: Path, folder: Path) -> None:
    regard.load(run / "final").strip().save(folder)
    found = calibrate_run(folder, root=city, prior=PRIOR)
    content = replace(found.calibration, cameras={}).to_dict()
    write_atomic(found.file, as_json(sealed(content, weights_digest(folder))))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
