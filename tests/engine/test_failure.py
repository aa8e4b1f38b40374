"""One of two processes fails: one line says why, the other is silent, and the exit code is that of the failure."""

from __future__ import annotations

import os
import subprocess

import pytest

from command_words import once
from regard.engine.train import Interrupted
from regard.errors import DataError
from regard.runtime.failure import exit_code, lost
from warm import python

SCRIPT = """
import os, signal, sys
import regard.engine.train as loop
from regard.cli.main import main
from regard.errors import DataError

rank, failure, factor, steps = sys.argv[1], sys.argv[2], loop.lr_factor, []

def lr_factor(*arguments):
    steps.append(None)
    if len(steps) == 3 and os.environ.get("LOCAL_RANK", "0") == rank:
        if failure == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise DataError("the picture x is damaged") if failure == "data" else ZeroDivisionError("a fault of ours")
    return factor(*arguments)

loop.lr_factor = lr_factor
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.parametrize(
    ("rank", "failure", "code", "wanted"),
    [
        ("1", "data", 2, "regard: the picture x is damaged"),
        ("0", "data", 2, "regard: the picture x is damaged"),
        ("1", "fault", 1, "regard: rank 1: ZeroDivisionError: a fault of ours (script.py, line 14); --debug shows"),
        ("1", "killed", 1, "regard: rank 0 has lost the others: one of the 2 processes was ended from outside"),
        ("2", "nan", 2, "regard: the loss is no longer a finite number at step 2"),
    ],
)
def test_one_line_says_why_and_the_exit_code_is_kept(tmp_path, tiny_overrides, rank, failure, code, wanted):
    (tmp_path / "script.py").write_text(SCRIPT)
    more = ["train.devices=2", "train.eval_every=null", "-q", "-o", str(tmp_path / "run")]
    more += ["optim.name=sgd", "optim.lr=1e30", "train.epochs=9"] if failure == "nan" else []
    settings = once([*tiny_overrides, *more])
    result = subprocess.run(
        [python(), tmp_path / "script.py", rank, failure, "train", "baseline_crowd", *settings],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True,
    )  # fmt: skip
    lines = [line for line in result.stderr.splitlines() if "is not as published" not in line]
    assert result.returncode == code, result.stderr
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith(wanted)


def test_lost_connections_are_told_from_faults():
    assert lost(RuntimeError("[../gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:24502"))
    assert lost(RuntimeError("NCCL communicator was aborted on rank 1"))
    assert not lost(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not lost(DataError("the socket in picture x"))
    assert [exit_code(error) for error in (DataError(""), Interrupted(""), KeyboardInterrupt(), OSError())] == [
        2, 130, 130, 1,
    ]  # fmt: skip
