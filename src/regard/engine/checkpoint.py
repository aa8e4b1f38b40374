"""The training state on disk: one safetensors file, written whole or not at all.

``last.safetensors`` in a run folder holds the weights, their average if one is kept, the losses' own parameters (such
as the centers of the center loss), the optimizer's moments and every rank's random state as tensors, and the
configuration, the progress and the optimizer's settings as JSON in the file's metadata. Nothing in it is pickled. A
kill while it is written leaves the previous one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from regard.config import Config, load_config
from regard.engine.ema import Average
from regard.engine.randomness import random_state, set_random_state
from regard.engine.runtime import Runtime
from regard.errors import CheckpointError
from regard.losses import Criterion
from regard.models import ReIDModel
from regard.models.checkpoint import load_weights, model_config
from regard.parsing import parse_json
from regard.storage import write_atomic

__all__ = ["Progress", "TrainingState", "has_state", "read_config", "read_progress", "restore", "save_state"]

FILE = "last.safetensors"
FORMAT = "regard-training-1"


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        epoch: epochs completed.
        batch: batches of the current epoch completed.
        step: optimizer steps in all.
        best: best mAP seen at an evaluation, a fraction.
        seconds: training time so far.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float = -1.0
    seconds: float = 0.0


@dataclass
class TrainingState:
    """Everything that changes while training; ``model`` is the unwrapped module."""

    model: ReIDModel
    criterion: Criterion
    optimizer: Optimizer
    average: Average | None
    progress: Progress


def save_state(folder: Path, state: TrainingState, config: Config, runtime: Runtime) -> None:
    """Write the state of a run; every rank calls it, rank 0 writes.

    Raises:
        StorageError: the file could not be written; the previous one is intact.
    """
    random = _random_states(runtime)
    if not runtime.is_main:
        return
    optimizer = state.optimizer.state_dict()
    tensors = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    tensors |= {f"criterion.{name}": value for name, value in state.criterion.state_dict().items()}
    if state.average:
        tensors |= {f"average.{name}": value for name, value in state.average.weights.items()}
    for index, moments in optimizer["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    tensors |= random
    metadata = {
        "format": FORMAT,
        "config": json.dumps(config.to_dict()),
        "model": json.dumps(model_config(state.model)),
        "progress": json.dumps(asdict(state.progress)),
        "optimizer": json.dumps(optimizer["param_groups"]),
    }
    plain = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    write_atomic(folder / FILE, save(plain, metadata))


def has_state(folder: Path) -> bool:
    """Whether the folder holds a training state to go on from."""
    return (folder / FILE).is_file()


def read_config(folder: Path) -> Config:
    """The configuration a run was started with.

    Raises:
        CheckpointError: the folder holds no training state.
    """
    _, metadata = _open(folder)
    return load_config(parse_json(metadata["config"]), source=str(folder / FILE))


def read_progress(folder: Path) -> Progress:
    """How far the run in ``folder`` has come.

    Raises:
        CheckpointError: the folder holds no training state.
    """
    _, metadata = _open(folder)
    return Progress(**parse_json(metadata["progress"]))


def restore(folder: Path, state: TrainingState, runtime: Runtime) -> None:
    """Bring ``state`` and the random generators to where the run in ``folder`` stopped.

    Raises:
        CheckpointError: there is no training state, or it belongs to another network or optimizer.
    """
    tensors, metadata = _open(folder)
    source = str(folder / FILE)
    load_weights(state.model, _part(tensors, "model."), source)
    _load_criterion(state.criterion, _part(tensors, "criterion."), source)
    if state.average:
        averaged = _part(tensors, "average.")
        if not averaged:
            raise CheckpointError(f"{source} holds no averaged weights; resume with train.ema=null")
        state.average.load(averaged)
    parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _part(tensors, "optimizer.").items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = _laid_out(value, parameters, int(index))
    groups = parse_json(metadata["optimizer"])
    try:
        state.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    except ValueError as error:
        raise CheckpointError(f"{source} belongs to another optimizer ({error}); start a new run instead") from None
    state.progress = Progress(**parse_json(metadata["progress"]))
    _set_random_state(tensors, runtime)


def _laid_out(moment: Tensor, parameters: list[Tensor], index: int) -> Tensor:
    """The moment in the memory format of its parameter: a fused optimizer goes through both side by side."""
    if index >= len(parameters) or moment.shape != parameters[index].shape:
        return moment
    return torch.empty_like(parameters[index], dtype=moment.dtype, device=moment.device).copy_(moment)


def _load_criterion(criterion: Criterion, tensors: dict[str, Tensor], source: str) -> None:
    try:
        criterion.load_state_dict(tensors)
    except RuntimeError as error:
        fault = " ".join(str(error).split())
        raise CheckpointError(f"{source} belongs to other losses ({fault}); start a new run instead") from None


def _open(folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    path = folder / FILE
    if not path.is_file():
        raise CheckpointError(f"{folder} holds no {FILE}, so there is nothing to resume; give a run folder")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"cannot read {path}: {error}; restore it from a backup or start a new run") from None
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a training state of regard; give a folder made by 'regard train'")
    return tensors, metadata


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _random_states(runtime: Runtime) -> dict[str, Tensor]:
    """The torch generators of every rank: those of the CPU, and of the device where it is another."""
    states: dict[str, Tensor] = {}
    for kind, value in random_state(runtime.device).items():
        for rank, part in enumerate(runtime.collect(value)):
            states[f"random.{rank}.{kind}"] = part
    return states


def _set_random_state(tensors: dict[str, Tensor], runtime: Runtime) -> None:
    set_random_state(_part(tensors, f"random.{runtime.rank}."), runtime.device)
