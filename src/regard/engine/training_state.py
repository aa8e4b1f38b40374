"""What changes while training, taken to a run's folder and brought back (see :mod:`regard.run_folder.saved_state`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from regard.config import Config
from regard.errors import CheckpointError
from regard.evaluation.embed import run_input
from regard.input_spec import InputSpec
from regard.losses import Criterion
from regard.models import ReIDModel
from regard.models.saved import load_weights
from regard.run_folder.saved_state import PICTURES, Progress, Saved, part_of, write_saved
from regard.runtime.fabric import Runtime, random_state, set_random_state

__all__ = ["Average", "TrainingState", "restore", "save_state"]


class Average:
    """A running average of a model's floating-point state (Polyak averaging); other state is copied.

    Args:
        model: whose weights are averaged.
        decay: share of the old average kept at each update.

    Attributes:
        weights: state-dict name -> averaged value.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's present weights."""
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                averages.append(self.weights[name])
                values.append(value)
            else:
                self.weights[name].copy_(value)
        torch._foreach_lerp_(averages, values, 1 - self.decay)  # pyright: ignore[reportPrivateImportUsage]

    def swap(self, model: nn.Module) -> None:
        """Exchange the model's weights with the average; a second call undoes the first."""
        with torch.no_grad():
            for name, value in model.state_dict().items():
                kept = value.clone()
                value.copy_(self.weights[name])
                self.weights[name].copy_(kept)


@dataclass
class TrainingState:
    """What is trained, how, where and on what; and of that everything that changes while it is trained.

    Attributes:
        model: the unwrapped module.
        pictures: digests of the training pictures (:func:`~regard.engine.checks.picture_digests`), which stay.
    """

    config: Config
    folder: Path
    runtime: Runtime
    model: ReIDModel
    criterion: Criterion
    optimizer: Optimizer
    average: Average | None
    progress: Progress = field(default_factory=Progress)
    pictures: Tensor = field(default_factory=lambda: torch.empty(0, 8).byte())

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the model its averaged weights, where they are kept, for as long as the context lasts."""
        if self.average:
            self.average.swap(self.model)
        try:
            yield
        finally:
            if self.average:
                self.average.swap(self.model)


def save_state(state: TrainingState) -> None:
    """Write the state of a run; every rank calls it, rank 0 writes.

    Raises:
        ConfigError: it holds numbers that are not finite.
        StorageError: the file could not be written; the previous one is intact.
    """
    runtime = state.runtime
    random = {kind: runtime.collect(value) for kind, value in random_state(runtime.device).items()}
    if not runtime.is_main:
        return
    optimizer = state.optimizer.state_dict()
    tensors = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    tensors |= {f"criterion.{name}": value for name, value in state.criterion.state_dict().items()}
    if state.average:
        tensors |= {f"average.{name}": value for name, value in state.average.weights.items()}
    for index, moments in optimizer["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    for kind, parts in random.items():
        tensors |= {f"random.{rank}.{kind}": part for rank, part in enumerate(parts)}
    tensors[PICTURES] = state.pictures
    groups, machine = optimizer["param_groups"], machine_of(runtime)
    seen = state.model.input
    start = {"input": seen.to_dict() if seen else None, "origin": state.model.origin}
    write_saved(state.folder, tensors, state.config, state.progress, groups, machine=machine, start=start)


def machine_of(runtime: Runtime) -> dict[str, object]:
    """What a training is computed on, as far as its last digits depend on it."""
    return {"processes": runtime.world_size, "device": runtime.device.type, "precision": runtime.precision}


def restore(saved: Saved, state: TrainingState) -> None:
    """Bring ``state`` and the random generators to where a run stopped.

    Raises:
        CheckpointError: the saved state belongs to another network, other losses or another optimizer.
    """
    tensors, source = saved.tensors, str(saved.path)
    load_weights(state.model, part_of(tensors, "model."), source)
    if saved.start:
        seen, state.model.origin = saved.start.get("input"), saved.start.get("origin")
        state.model.input = run_input(state.config, InputSpec.from_dict(seen) if seen else None)
    try:
        state.criterion.load_state_dict(part_of(tensors, "criterion."))
    except RuntimeError as error:
        fault = " ".join(str(error).split())
        raise CheckpointError(f"{source} belongs to other losses ({fault}); start a new run instead") from None
    if state.average:
        then, now = part_of(tensors, "average."), state.average.weights
        if {name: value.shape for name, value in then.items()} != {name: value.shape for name, value in now.items()}:
            raise CheckpointError(f"{source} holds no averaged weights of this network; start a new run instead")
        for name, value in now.items():
            value.copy_(then[name])
    _load_optimizer(state.optimizer, saved)
    state.progress = replace(saved.progress)
    try:
        set_random_state(part_of(tensors, f"random.{state.runtime.rank}."), state.runtime.device)
    except RuntimeError as error:
        raise CheckpointError(f"{source} holds no random state for this device ({error})") from None


def _load_optimizer(optimizer: Optimizer, saved: Saved) -> None:
    """Take over the moments; rates and other settings are those of the configuration, as they were.

    Raises:
        CheckpointError: they are of other parameters, or some are missing.
    """
    now = optimizer.state_dict()["param_groups"]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in part_of(saved.tensors, "optimizer.").items():
        index, _, key = name.partition(".")
        moments.setdefault(int(index), {})[key] = value
    fault = ""
    if [group["params"] for group in saved.groups] != [group["params"] for group in now]:
        fault = f"of {sum(len(group['params']) for group in saved.groups)} parameters, not {len(parameters)}"
    elif saved.progress.step and not moments and _keeps_moments(optimizer):
        fault = "without moments"
    keys = {key for values in moments.values() for key in values}
    for index, values in moments.items():
        if fault or index >= len(parameters) or values.keys() != keys:
            fault = fault or f"with some moments of parameter {index} only"
            break
        shapes = {tuple(value.shape) for value in values.values() if value.ndim}
        if shapes - {tuple(parameters[index].shape)} or not all(value.is_floating_point() for value in values.values()):
            fault = f"with moments of parameter {index} that have another shape or type"
            break
    if fault:
        raise CheckpointError(f"{saved.path} belongs to another optimizer ({fault}); start a new run instead")
    laid_out = {
        index: {key: _laid_out(value, parameters[index]) for key, value in values.items()}
        for index, values in moments.items()
    }
    optimizer.load_state_dict({"state": laid_out, "param_groups": now})


def _keeps_moments(optimizer: Optimizer) -> bool:
    kind = getattr(optimizer, "optimizer", optimizer)  # as it is within what the runtime has set up
    return not isinstance(kind, SGD) or any(group["momentum"] for group in optimizer.param_groups)


def _laid_out(moment: Tensor, parameter: Tensor) -> Tensor:
    """The moment in the memory format of its parameter: a fused optimizer goes through both side by side."""
    if moment.shape != parameter.shape:
        return moment
    return torch.empty_like(parameter, dtype=moment.dtype, device=moment.device).copy_(moment)
