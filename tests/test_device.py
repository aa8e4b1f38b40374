"""A device by its number: the right one where it is there, one clear line where it is not."""

from __future__ import annotations

import re
from typing import Any

import lightning_fabric
import pytest
import torch

from regard.cli.main import main
from regard.config import TrainConfig, load_config
from regard.device import choose_device, prefer_device, preferred_device
from regard.errors import ConfigError
from regard.export.engines import fastest_engine, open_engine
from regard.runtime.fabric import Runtime

SMALL = {"model": {"name": "baseline"}, "losses": {"id": {"loss": "cross_entropy", "on": "logits.*"}}}


@pytest.fixture
def gpus(monkeypatch):
    """Make torch see a number of GPUs."""

    def see(number: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)

    return see


@pytest.fixture
def fabric(monkeypatch) -> list[dict[str, Any]]:
    """What Fabric was asked for, in order; nothing is begun."""
    asked: list[dict[str, Any]] = []

    class Asked:
        global_rank, world_size, device = 0, 1, torch.device("cpu")

        def __init__(self, **options):
            asked.append(options)

        def launch(self):
            pass

    monkeypatch.setattr(lightning_fabric, "Fabric", Asked)
    return asked


@pytest.mark.parametrize(
    ("number", "name", "found"),
    [(2, "cuda:1", "cuda:1"), (2, "cuda", "cuda"), (2, "auto", "cuda"), (2, None, "cuda"), (2, "cpu", "cpu"),
     (0, "auto", "cpu")],
)  # fmt: skip
def test_a_name_is_its_device(gpus, number, name, found):
    gpus(number)
    assert str(choose_device(name, "device")) == found


@pytest.mark.parametrize(
    ("number", "name", "line"),
    [
        (2, "cuda:2", "is cuda:2, but torch sees 2 CUDA devices here; use cuda:0 to cuda:1, auto or cpu"),
        (1, "cuda:1", "is cuda:1, but torch sees 1 CUDA device here; use cuda:0, auto or cpu"),
        (0, "cuda:0", "is cuda:0, but torch sees no such device here; use auto or cpu"),
        (0, "mps", "is mps, but torch sees no such device here; use auto or cpu"),
        *((2, name, f"is {name!r}, wanted auto, cpu, cuda, cuda:NUMBER (from 0, as cuda:1) or mps")
          for name in ("cuda:-1", "cuda:x", "cuda:01", "cuda:", "cpu:0", "cuda:1 ", "1", "")),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said_in_one_line(gpus, capsys, number, name, line):
    gpus(number)
    with pytest.raises(ConfigError, match=re.escape(f"train.accelerator {line}")):
        choose_device(name, "train.accelerator")
    assert main(["eval", "nowhere", f"--device={name}"]) == 2
    assert capsys.readouterr().err == f"regard: --device {line}\n"


@pytest.mark.parametrize("value", ["1", "gpu", "cuda:x", "null"])
def test_a_setting_that_is_no_device_is_refused(value):
    with pytest.raises(ConfigError, match=r"train\.accelerator: got .*, wanted auto, cpu, cuda, cuda:NUMBER"):
        load_config(SMALL, [f"train.accelerator={value}"])


def test_training_takes_the_gpu_of_that_number(gpus, fabric):
    gpus(2)
    Runtime(load_config(SMALL, ["train.accelerator=cuda:1"]).train)
    Runtime(TrainConfig(accelerator="cuda"))
    assert [(asked["accelerator"], asked["devices"]) for asked in fabric] == [("cuda", [1]), ("cuda", 1)]
    with pytest.raises(ConfigError, match="cuda:1 is one device, but 2 processes take one each; say cuda without"):
        Runtime(TrainConfig(accelerator="cuda:1", devices=2))


def test_scoring_takes_what_it_is_told_else_the_runs_else_what_is_there(gpus, fabric):
    config = load_config(SMALL, ["train.accelerator=cuda:1"])
    gpus(2)
    Runtime.for_scoring(config)
    with prefer_device("cuda:0"):
        Runtime.for_scoring(config)
    gpus(1)
    Runtime.for_scoring(config)
    gpus(0)
    Runtime.for_scoring(config)
    found = [(asked["accelerator"], asked["devices"]) for asked in fabric]
    assert found == [("cuda", [1]), ("cuda", [0]), ("cuda", 1), ("cpu", 1)]


def test_a_preferred_device_is_what_auto_means_until_it_ends(gpus):
    gpus(3)
    with prefer_device("cuda:2", "--device"):
        assert str(choose_device(None, "device")) == "cuda:2" == preferred_device()
        assert str(choose_device("cpu", "device")) == "cpu"
        assert fastest_engine() == "torch"
        with pytest.raises(ConfigError, match="onnxruntime computes on the processor, not on cuda:2"):
            open_engine("nowhere", "onnxruntime")
    with prefer_device(None), prefer_device("auto"):
        assert preferred_device() is None
        assert str(choose_device(None, "device")) == "cuda"
