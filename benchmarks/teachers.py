"""What teachers in files are worth: on pictures of the crowd, whose masks and joints are known, and to train on.

    python benchmarks/teachers.py pose_landmark_lite.tflite pose_landmark_full.tflite pose_landmark_heavy.tflite
    python benchmarks/teachers.py --train pose_landmark_heavy.tflite --seeds 1 2

The files are those of the npm package @mediapipe/pose 0.5.1675469404 (Apache-2.0); no test needs them. The first
command labels the training pictures of a crowd of city 1 (the rule for backs was chosen on city 0) and compares with
what the crowd knows: masks by intersection over union; joints by the share that lies within 5 and 10 percent of the
picture's height, of all that the crowd has in the picture, one that the teacher calls absent being wrong; how often
left and right are the right way about at shoulders and hips, where the crowd's are clearly apart; and of nose and eyes
that the teacher calls visible, how many the rule for backs hides: of those that the crowd says are hidden, and of those
that are seen. The same with the crowd's own joints in place of the teacher's shows what the rule can do. CPU time is of
one thread, with laying a picture out and reading the outputs, without reading and writing files.

The second one trains DAAF's crowd recipe on the smallest backbone: on the crowd's labels, on the teacher's, and, where
asked for, without the branches that want labels; people of the test are never seen in training. Both write
benchmarks/results/teachers.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results_file import RESULTS, table, write

from regard.crowd import make_crowd
from regard.data import load_dataset
from regard.data.image import read_image
from regard.data.labels import read_mask
from regard.data.labels.facing import CLEARLY, FACE, is_back
from regard.data.labels.joints import VISIBLE
from regard.data.labels.make import make_labels
from regard.data.labels.teacher import Found, Teacher
from regard.engine.run import start_run
from regard.models.teacher import open_teacher
from regard.recipes import read_recipe
from regard.structures import Sample

CITY = {"train_ids": 120, "test_ids": 4, "per_camera": 1, "seed": 1, "city": "1"}
SMALL = ["model.backbone=test_resnet.r160_in1k", "optim.lr=2e-3", "train.eval_every=null", "data.workers=0"]
ARMS = ("the crowd's labels", "the teacher's labels", "no labels")


def turned(joints: np.ndarray) -> float:
    """How far left is to the right of right at shoulders and hips, in lengths of the trunk; below 0 of a back."""
    x, trunk = joints[:, 0], np.hypot(*(joints[11:13, :2].mean(0) - joints[5:7, :2].mean(0)))
    return float(x[5] - x[6] + x[11] - x[12]) / max(trunk, 1e-6)


def compare(sample: Sample, found: Found) -> dict[str, Any]:
    """One picture's figures."""
    truth, mask = np.array(sample.keypoints), read_mask(sample.mask) > 0
    joints, person = found.joints, found.mask > 0
    there = truth[:, 2] > 0
    away = np.hypot(*(joints[:, :2] - truth[:, :2]).T) / person.shape[0]
    away[joints[:, 2] < 0.1] = np.inf
    whole = there[[5, 6, 11, 12]].all()
    clear = whole and abs(turned(truth)) >= CLEARLY
    hidden = is_back(joints[:, :2], joints[:, 2] > 0)
    ideal = is_back(truth[:, :2], there)
    seen = joints[FACE, 2] >= VISIBLE
    right = bool(whole and turned(joints) * turned(truth) > 0)
    return {
        "iou": (mask & person).sum() / max((mask | person).sum(), 1),
        "away": away[there],
        "sides": [right] if clear else [],
        "false": [(hidden, ideal, right)] * int((seen & (truth[FACE, 2] == 1)).sum()),
        "true": [(hidden, ideal, right)] * int((seen & (truth[FACE, 2] == 2)).sum()),
    }


def share(values: list[Any]) -> float:
    """Mean in percent, to a tenth."""
    return round(100 * float(np.mean(values)), 1)


def judge(file: Path, crowd: Path) -> dict[str, Any]:
    """A teacher's row."""
    teacher = open_teacher(file, "mediapipe").teacher()
    samples = load_dataset("crowd", crowd).train
    pictures = [read_image(sample.path) for sample in samples]
    teacher.find(pictures[:2])
    start = time.process_time()
    found = [teacher.find([picture])[0] for picture in pictures]
    spent = (time.process_time() - start) / len(pictures)
    rows = [compare(*pair) for pair in zip(samples, found)]
    away = np.concatenate([row["away"] for row in rows])
    row: dict[str, Any] = {
        "teacher": file.stem, "pictures": len(rows), "CPU ms": round(1000 * spent, 1),
        "mask IoU median": round(float(np.median([row["iou"] for row in rows])), 3),
        "mask IoU mean": round(float(np.mean([row["iou"] for row in rows])), 3),
        "joints in 5 %": share(away < 0.05), "joints in 10 %": share(away < 0.1),
        "sides right": share([side for row in rows for side in row["sides"]]),
    }  # fmt: skip
    for kind, name in (("false", "false faces caught"), ("true", "right faces dropped")):
        cases = [case for one in rows for case in one[kind]]
        row |= {
            name: share([hidden for hidden, _, _ in cases]),
            f"{name}, sides right": share([hidden for hidden, _, right in cases if right]),
            f"{name}, the crowd's joints": share([ideal for _, ideal, _ in cases]),
            f"{kind} faces": len(cases),
        }
    return row


def train(arm: str, seed: int, crowd: Path, labels: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train DAAF on the crowd's labels, the teacher's or none -> its scores."""
    changes = [*SMALL, f"data.root={crowd}", f"train.epochs={options.epochs}", f"train.seed={seed}"]
    if arm == ARMS[1]:
        files = "data.label_files.crowd"
        changes += [f"{files}.coco={labels / 'keypoints.json'}", f"{files}.mask_root={labels / 'masks'}"]
    elif arm == ARMS[2]:
        changes += ["data.labels=[]", "model.pab=false", "model.hab=false", "losses.pab=null", "losses.hab=null"]
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        start_run(read_recipe("daaf_crowd").config(changes), Path(folder) / "run", quiet=True)
        *_, end = map(json.loads, (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines())
    print(f"{arm}, seed {seed}: {time.process_time() - start:.0f} CPU seconds")
    return {"labels": arm, "seed": seed, "mAP": round(100 * end["mAP"], 1), "rank-1": round(100 * end["rank1"], 1)}


def train_all(file: Path, options: argparse.Namespace, home: Path) -> list[dict[str, Any]]:
    """Rows of all arms and seeds."""
    ids, tested = options.people
    crowd, labels = home / "training", home / "labels"
    make_crowd(crowd, train_ids=ids, test_ids=tested, workers=1, progress=False)
    splits = load_dataset("crowd", crowd)
    photos = {sample.path.relative_to(splits.root).as_posix(): sample.path for sample in splits.train}
    teacher: Teacher = open_teacher(file, "mediapipe").teacher()
    made = make_labels(photos, labels, teacher, None, file.stem)
    print(f"{file.stem}: {made.labeled} pictures, faces of {made.backs} backs hidden")
    rows = []
    for seed in options.seeds:
        for arm in options.arms:
            rows.append(train(arm, seed, crowd, labels, options))
            print(table(rows), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="to be compared with the crowd's truth")
    parser.add_argument("--train", type=Path, metavar="FILE", help="whose labels are trained on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="of the trainings (%(default)s)")
    parser.add_argument("--arms", nargs="+", default=ARMS[:2], choices=ARMS, help="what to train on (%(default)s)")
    parser.add_argument("--epochs", type=int, default=14, help="of the trainings (%(default)s)")
    parser.add_argument("--people", type=int, nargs=2, default=(40, 40), help="in training and test (%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "teachers.json"
    result = json.loads(path.read_text()) if path.is_file() else {}
    result = {key: result[key] for key in ("teachers", "training") if key in result}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if options.files:
            make_crowd(home / "crowd", **CITY, workers=1, progress=False)
            result["teachers"] = [judge(file, home / "crowd") for file in options.files]
            for row in result["teachers"]:
                print("\n".join(f"{key:<44}{value}" for key, value in row.items()), end="\n\n")
        if options.train:
            rows = train_all(options.train, options, home)
            told = {"teacher": options.train.stem, "epochs": options.epochs, "people": list(options.people)}
            result["training"] = told | {"rows": rows}
    write("teachers", result)


if __name__ == "__main__":
    main()
