"""Several processes, started by torchrun: sharded evaluation, several machines, restarts after a process was killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from command_words import once
from regard.run_folder.folders import read_history
from warm import python


def command(*arguments: str | Path) -> list[str]:
    return [python(), "-m", "regard", *once(arguments)]


def torchrun(*arguments: str | Path) -> list[str]:
    return [python(), "-m", "torch.distributed.run", *once(arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHON_EXEC": python()}


def run(line: list[str]) -> str:
    return subprocess.run(line, check=True, env=environment(), capture_output=True, text=True).stdout


def records(folder: Path, event: str = "step") -> list[dict[str, float]]:
    """The numbers of a run's records, speeds aside."""
    kept = [record for record in read_history(folder) if record["event"] == event]
    return [{key: value for key, value in record.items() if key not in ("event", "images_per_s")} for record in kept]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, market):
    """A run of one process."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    overrides = [
        f"data.root={market}", "data.name=market1501", "data.height=48", "data.width=32", "data.ids_per_batch=4",
        "data.images_per_id=2", "data.workers=0", "model.backbone=test_resnet.r160_in1k", "train.epochs=1",
        "train.accelerator=cpu", "train.precision=fp32", "eval.batch_size=3", "schedule.warmup_epochs=0",
    ]  # fmt: skip
    run(command("train", "baseline_crowd", *overrides, "-q", "-o", folder))
    return folder


EMBED = """
import sys
from pathlib import Path
import numpy as np
import regard
from regard.run_folder.saved_state import read_saved
from regard.evaluation.embed import embed_run
from regard.run_folder.opened_data import open_data
from regard.runtime.fabric import Runtime

run, out = map(Path, sys.argv[1:])
config = read_saved(run).config
runtime = Runtime(config.train)
query, gallery = embed_run(regard.load(run), open_data(config), config, runtime, quiet=True)
np.savez(out / f"{runtime.rank}_of_{runtime.world_size}.npz", query=query.embeddings, gallery=gallery.embeddings)
runtime.close()
"""


@pytest.mark.parametrize("processes", [2, 4])
def test_descriptors_of_several_processes_are_those_of_one(trained, tmp_path, processes):
    """8 queries and 16 gallery pictures in batches of 3: the last rank of four has no query at all."""
    script = tmp_path / "embed.py"
    script.write_text(EMBED)
    run([python(), str(script), str(trained), str(tmp_path)])
    run(torchrun(f"--nproc-per-node={processes}", script, trained, tmp_path))
    with np.load(tmp_path / "0_of_1.npz") as one:
        assert one["query"].shape == (8, 96)
        for rank in range(processes):
            with np.load(tmp_path / f"{rank}_of_{processes}.npz") as part:
                assert all(np.array_equal(part[split], one[split]) for split in ("query", "gallery"))


PIECES = """
import sys
from pathlib import Path
import torch
from torch.nn.modules.batchnorm import _BatchNorm
import regard
from regard.recipes import read_recipe
from regard.engine.build import build_criterion, recompute_blocks
from regard.engine.step import StepTimer, TrainStep
from regard.runtime.fabric import Runtime
from regard.structures import Batch

config = read_recipe("apnet_crowd").config(["model.backbone=test_resnet.r160_in1k", "train.accelerator=cpu",
    "train.precision=fp32", "train.channels_last=false"])
runtime = Runtime(config.train)
timer = StepTimer(Path("."), 0, runtime.device)
found = []
for pieces, again in ((1, False), (2, False), (2, True)):
    torch.manual_seed(1)
    model = regard.create_model("apnet", 8, **config.model.options).train()
    if again:
        recompute_blocks(model)
    criterion = build_criterion(config, model)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    network, _ = runtime.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    images, pids = torch.rand(16, 3, 64, 32), torch.arange(8).repeat_interleave(2)
    rows = slice(8 * runtime.rank, 8 * runtime.rank + 8) if runtime.world_size > 1 else slice(None)
    batch = Batch(images[rows], pids[rows], pids[rows], {})
    TrainStep(network, model, criterion, runtime, pieces, timer=timer)(batch)
    found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
torch.save(found, f"{sys.argv[1]}/{runtime.rank}_of_{runtime.world_size}.pt")
runtime.close()
"""


SHARES = """
import sys
from pathlib import Path
import torch
import regard
from regard.recipes import read_recipe
from regard.engine.build import build_criterion
from regard.engine.step import StepTimer, TrainStep
from regard.runtime.fabric import Runtime
from regard.structures import Batch

config = read_recipe("apnet_crowd").config(["model.backbone=test_resnet.r160_in1k", "train.accelerator=cpu",
    "train.precision=fp32", f"train.bn_share={sys.argv[2]}"])
runtime = Runtime(config.train)
torch.manual_seed(1)
model = regard.create_model("apnet", 8, **config.model.options).double().train()
criterion = build_criterion(config, model)
network, optimizer = runtime.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
learn = TrainStep(network, model, criterion, runtime, 1, timer=StepTimer(Path("."), 0, runtime.device))
losses = []
for step in range(3):
    images, pids = torch.rand(16, 3, 64, 32).double(), torch.arange(8).repeat_interleave(2)
    share = 16 // runtime.world_size
    rows = slice(share * runtime.rank, share * (runtime.rank + 1))
    loss, _ = learn(runtime.to_device(Batch(images[rows], pids[rows], pids[rows], {})))
    losses.append(runtime.mean(loss.detach()))
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    optimizer.step()
    optimizer.zero_grad()
runtime.align_buffers(model)
found = {"losses": torch.stack(losses), **gradients, **{f"state.{k}": v for k, v in model.state_dict().items()}}
if runtime.is_main:
    torch.save(found, f"{sys.argv[1]}/{runtime.world_size}_{sys.argv[2]}.pt")
runtime.close()
"""


def test_two_processes_without_synchronized_statistics_are_one_with_two_shares(tmp_path):
    """Three steps in float64: losses, gradients, weights and running statistics, of two processes that take their own
    batch statistics (and of two that were told so: a recipe may say it and be trained on either)."""
    script = tmp_path / "shares.py"
    script.write_text(SHARES)
    for shares in ("1", "2"):
        run([python(), str(script), str(tmp_path), shares])
        run(torchrun("--nproc-per-node=2", script, tmp_path, shares))
    found = {path.stem: torch.load(path, weights_only=True) for path in tmp_path.glob("*.pt")}
    wanted = found.pop("2_1")
    whole = found.pop("1_1")
    assert (whole["losses"] - wanted["losses"]).abs().max() > 1e-3
    assert found.keys() == {"1_2", "2_2"}
    for values in found.values():
        assert values.keys() == wanted.keys()
        for name, value in wanted.items():
            torch.testing.assert_close(values[name], value, rtol=1e-8, atol=1e-11, msg=name)


def test_pieces_on_two_processes_have_the_gradients_of_one_whole_batch(tmp_path):
    """Pairs are compared over all pieces of all ranks; gradients are exchanged once, with the last piece."""
    script = tmp_path / "pieces.py"
    script.write_text(PIECES)
    run([python(), str(script), str(tmp_path)])
    run(torchrun("--nproc-per-node=2", script, tmp_path))
    wanted = torch.load(tmp_path / "0_of_1.pt", weights_only=True)[0]
    largest = max(value.abs().max() for value in wanted.values())
    for rank in (0, 1):
        for found in torch.load(tmp_path / f"{rank}_of_2.pt", weights_only=True):
            for name, value in wanted.items():
                assert (found[name] - value).abs().max() < 1e-5 * largest, name


def test_eval_under_torchrun_prints_and_writes_once(trained, tmp_path):
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    alone = run(command("eval", trained, "-q", "--json", one))
    shared = run(torchrun("--nproc-per-node=2", "-m", "regard", "eval", trained, "-q", "--json", two))
    assert json.loads(two.read_text()) == json.loads(one.read_text())
    assert shared.replace(str(two), str(one)) == alone


def test_two_machines_train_as_one_with_two_processes(tmp_path, tiny_overrides):
    more = ["train", "baseline_crowd", *tiny_overrides, "train.sync_bn=true", "-q", "-o"]
    run(command(*more[:2], "train.devices=2", *more[2:], tmp_path / "one"))
    place = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=static", "--master-addr=127.0.0.1"]
    place.append(f"--master-port={free_port()}")
    agents = [
        subprocess.Popen(
            torchrun(*place, f"--node-rank={rank}", "-m", "regard", *more, tmp_path / "two"), env=environment()
        )
        for rank in (0, 1)
    ]
    assert [agent.wait(timeout=300) for agent in agents] == [0, 0]
    one, two = records(tmp_path / "one"), records(tmp_path / "two")
    assert len(one) == len(two) == 8
    for a, b in zip(one[:4], two[:4]):  # to rounding, as each process has all threads of its machine
        assert b == pytest.approx(a, rel=1e-4, abs=2e-5)
    assert len(records(tmp_path / "two", "eval")) == 2


def children(pid: int) -> list[int]:
    """Process ids of the direct children that are running Python."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes to kill in /proc")
def test_killed_under_torchrun_and_started_again_to_the_same_numbers(tmp_path, tiny_overrides):
    more = [*tiny_overrides, "train.epochs=12", "train.log_every=1", "train.save_every=3", "train.eval_every=6", "-q"]
    line = ["-m", "regard", "train", "baseline_crowd", *more, "--go-on", "-o"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(torchrun("--nproc-per-node=2", *line, whole))
    _, *words = torchrun("--nproc-per-node=2", "--max-restarts=2", *line, killed)
    agent = subprocess.Popen([sys.executable, *words], env=environment())  # the father of what is killed
    while len(records(killed)) < 5 and agent.poll() is None:
        time.sleep(0.005)
    first = children(agent.pid)
    assert len(first) == 2
    os.kill(first[1], signal.SIGKILL)
    seen = set(first)
    while agent.poll() is None:
        seen |= set(children(agent.pid))
        time.sleep(0.01)
    assert agent.returncode == 0
    assert len(seen) == 4
    assert len(records(whole)) > 40
    assert records(killed) == records(whole)
    assert records(killed, "eval") == records(whole, "eval")


def test_going_on_needs_the_same_settings(trained, tmp_path):
    line = command("train", trained / "config.yaml", "optim.lr=1e-5", "--go-on", "-q", "-o", trained)
    result = subprocess.run(line, env=environment(), capture_output=True, text=True)
    assert result.returncode == 2
    assert "holds a run of other settings (optim.lr is 0.001 there, 1e-05 here)" in result.stderr
    before = (trained / "metrics.jsonl").read_bytes()
    run(command("train", trained / "config.yaml", "--go-on", "-q", "-o", trained))
    assert (trained / "metrics.jsonl").read_bytes() == before
