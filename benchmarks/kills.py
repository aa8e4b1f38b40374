"""Trainings that are killed at random moments, and go on to the same numbers as one that was not.

  python benchmarks/kills.py --rounds 200

A round starts a training, ends it at a random moment - SIGKILL to the program, SIGKILL to a process of its loader,
SIGTERM or SIGINT to the program alone or to all its processes - goes on with the same command, up to three times, and
lets it finish. Then every loss, every score and every weight has to be that of the uninterrupted training, bit for bit,
all with one thread. Between a kill and its repetition, a state has to be in the folder as soon as one had been.

The programs are forked from this one, which has imported everything and computed nothing, so a start takes moments.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils.tensorboard.writer import SummaryWriter  # noqa: F401 - imported once, not in every program

from regard.cli.main import main as regard
from regard.engine.run import start_run  # noqa: F401 - as above
from regard.run_folder.folders import read_history
from regard.run_folder.saved_state import has_state

EPOCHS, STEPS = 3, 6

SETTINGS = [
    "data.name=market1501", "data.height=32", "data.width=16", "data.ids_per_batch=3", "data.images_per_id=2",
    "data.workers=1", "data.pad=2", "model.backbone=test_resnet.r160_in1k", f"train.epochs={EPOCHS}",
    "train.eval_every=1", "train.save_every=1", "train.log_every=1", "train.ema=0.9", "train.accelerator=cpu",
    "train.precision=fp32", "eval.flip=false",
]  # fmt: skip

ENDINGS = {
    "SIGKILL": (signal.SIGKILL, "one"),
    "SIGKILL to a loader's process": (signal.SIGKILL, "child"),
    "SIGTERM": (signal.SIGTERM, "one"),
    "SIGINT": (signal.SIGINT, "one"),
    "SIGTERM to all": (signal.SIGTERM, "all"),
    "SIGINT to all": (signal.SIGINT, "all"),
}


def write_pictures(root: Path) -> None:
    """Write nine persons in the layout of Market-1501, six of them to train on."""
    draw = np.random.default_rng(3)
    for pid in range(1, 10):
        for shot in range(6):
            test = "query" if shot == 0 else "bounding_box_test"
            folder = root / ("bounding_box_train" if pid <= 6 else test)
            folder.mkdir(parents=True, exist_ok=True)
            pixels = draw.normal(120 + 10 * pid, 30, (32, 16, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{pid:04d}_c{1 + shot % 2}s1_{shot:06d}_00.jpg")


def begin(data: Path, folder: Path) -> int:
    """Fork a training, or one that goes on; returns its process id."""
    process = os.fork()
    if process:
        return process
    os.setpgid(0, 0)
    code = 1
    try:
        with (folder.parent / f"{folder.name}.txt").open("a") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        code = regard(["train", "baseline_crowd", f"data.root={data}", *SETTINGS, "-q", "--go-on", "-o", str(folder)])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def end(process: int, ending: str) -> None:
    """Send what ends a training."""
    number, whom = ENDINGS[ending]
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if whom == "all":
            os.killpg(process, number)
        elif whom == "one":
            os.kill(process, number)
        else:
            children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
            os.kill(int(children[0]) if children else process, number)


def wait(process: int, ending: str, limit: float = 120) -> int:
    """Wait for a process that has been sent a signal, and return its exit status.

    Raises:
        RuntimeError: it is still there after ``limit`` seconds.
    """
    late = time.monotonic() + limit
    while time.monotonic() < late:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(process, signal.SIGKILL)
    raise RuntimeError(f"still running {limit:.0f} s after {ending}")


def result(folder: Path) -> tuple[list[dict[str, object]], dict[str, bytes]]:
    """Return the log without speeds, and the bytes of all weights that the training left."""
    history = [{k: v for k, v in record.items() if k != "images_per_s"} for record in read_history(folder)]
    files = {name: load_file(folder / name / "model.safetensors") for name in ("final", "best")}
    files["state"] = {k: v for k, v in load_file(folder / "last.safetensors").items() if not k.startswith("pictures")}
    weights = {f"{name} {key}": value.numpy().tobytes() for name, file in files.items() for key, value in file.items()}
    return history, weights


def play(data: Path, folder: Path, draw: random.Random, seconds: float) -> list[str]:
    """One round: returns what ended the training, in order."""
    endings = []
    for _ in range(draw.randint(1, 3)):
        process, ending = begin(data, folder), draw.choice(list(ENDINGS))
        time.sleep(draw.uniform(0, seconds))
        held = has_state(folder)
        end(process, ending)
        code = wait(process, ending)
        endings.append(f"{ending} -> {code}")
        if held and not has_state(folder):
            raise RuntimeError(f"{folder} held a state before {ending}, and none behind it")
        if code == 1:
            raise RuntimeError(f"a traceback after {ending}")
        if code == 0:
            break
    code = wait(begin(data, folder), "the last start")
    if code:
        raise RuntimeError(f"the last start ended with {code}; see {folder}.txt")
    return endings


def main() -> int:
    """Play the rounds; exit code 1 where one ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    draw, counts, bad = random.Random(arguments.seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        write_pictures(home / "data")
        start = time.monotonic()
        if wait(begin(home / "data", home / "whole"), "the first start"):
            raise SystemExit((home / "whole.txt").read_text())
        seconds, wanted = time.monotonic() - start, result(home / "whole")
        print(f"uninterrupted: {len(wanted[0])} records in {seconds:.1f} s", flush=True)
        for number in range(1, arguments.rounds + 1):
            folder, start = home / f"round{number}", time.monotonic()
            try:
                endings = play(home / "data", folder, draw, seconds)
                found = result(folder)
                faults = [name for name, a, b in zip(("log", "weights"), wanted, found) if a != b]
            except (RuntimeError, OSError) as error:
                endings, faults = [], [str(error)]
            counts.update(ending.partition(" -> ")[0] for ending in endings)
            bad += bool(faults)
            verdict = f"DIFFERS: {'; '.join(faults)}" if faults else "equal"
            print(f"{number}: {', '.join(endings)}: {verdict} ({time.monotonic() - start:.1f} s)", flush=True)
            if faults:
                print((home / f"round{number}.txt").read_text(), flush=True)
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{arguments.rounds} rounds, {sum(counts.values())} endings ({dict(counts)}), {bad} with other numbers")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
