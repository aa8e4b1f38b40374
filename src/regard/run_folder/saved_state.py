"""The training state as a file: read whole, checked to the last byte, or refused in one line.

A state is one safetensors file. Its tensors are the weights (``model.``), their average (``average.``), the losses'
own parameters (``criterion.``), the optimizer's moments (``optimizer.INDEX.``), every rank's random state
(``random.RANK.``) and a digest of every training picture (``pictures``); its metadata are JSON texts. Nothing in it is
pickled.
``digest`` in the metadata is of all the rest, so that a byte that has changed is found before anything is done with it.

A run folder holds two of them: ``last.safetensors`` and the one before it, ``previous.safetensors``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from regard.config import Config, load_config
from regard.errors import CheckpointError, ConfigError, PluginError, RegardError, StorageError
from regard.parsing import parse_json
from regard.storage import write_atomic

__all__ = [
    "Progress", "Saved", "has_state", "keep_good_one", "part_of", "pictures_of",
    "read_saved", "write_saved",
]  # fmt: skip

LAST = "last.safetensors"
PREVIOUS = "previous.safetensors"
NEXT = "next.safetensors"
DAMAGED = "damaged.safetensors"

FORMAT = "regard-training-2"
UNSIGNED = "regard-training-1"
"""Format of states without a digest, a list of pictures and a machine."""

PICTURES = "pictures"


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        epoch: epochs completed.
        batch: batches of the current epoch completed.
        step: optimizer steps in all.
        best: best mAP seen at an evaluation, a fraction.
        seconds: training time so far.
        evaluated: epochs completed at the last evaluation that came to its end.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float = -1.0
    seconds: float = 0.0
    evaluated: int = 0


@dataclass(frozen=True)
class Saved:
    """A training state that has been read and is whole.

    Attributes:
        path: its file.
        config: the configuration it was trained with.
        progress: how far it came.
        groups: the optimizer's groups of parameters.
        machine: what it was computed on: ``processes``, ``device``, ``precision``; empty where that was not kept.
        tensors: by name, as the head of this file has them.
        start: what the network knows from the weights it started with, ``input`` and ``origin``; empty where that was
            not kept.
        fault: what is wrong with last.safetensors, where this is the one before it; else empty.
    """

    path: Path
    config: Config
    progress: Progress
    groups: list[dict[str, Any]]
    machine: dict[str, Any]
    tensors: dict[str, Tensor]
    start: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


def write_saved(
    folder: Path,
    tensors: Mapping[str, Tensor],
    config: Config,
    progress: Progress,
    groups: list[dict[str, Any]],
    *,
    machine: Mapping[str, Any],
    start: Mapping[str, Any],
) -> None:
    """Write a state as ``last.safetensors``; the one that bore that name becomes ``previous.safetensors``.

    The new file is safely on the disk before a name changes, so a kill at any moment leaves a whole state.

    Raises:
        ConfigError: a number in it is NaN or, in weights, infinite: there is nothing to go on from.
        StorageError: the disk refused; what was there is intact.
    """
    plain = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    if fault := _not_a_number(plain):
        raise ConfigError(
            f"the training state holds no finite numbers any more after step {progress.step} ({fault}), so it was not "
            "saved; lower optim.lr, set optim.clip_norm=5 or a longer schedule.warmup_epochs, then train again"
        )
    values = {"config": config.to_dict(), "progress": asdict(progress), "optimizer": groups, "machine": dict(machine)}
    values |= {"start": dict(start)}
    metadata = {"format": FORMAT, **{key: json.dumps(value) for key, value in values.items()}}
    metadata["digest"] = _digest(plain, metadata)
    write_atomic(folder / NEXT, save(plain, metadata))
    try:
        if (folder / LAST).exists():
            (folder / LAST).replace(folder / PREVIOUS)
        (folder / NEXT).replace(folder / LAST)
    except OSError as error:
        raise StorageError(
            f"could not rename {folder / NEXT} to {LAST}: {error.strerror or error}; look after the folder's "
            f"permissions, rename it by hand, and go on with: regard train --resume {folder}"
        ) from error


def has_state(folder: Path) -> bool:
    """Return whether the folder holds a training state, whole or not."""
    return any((folder / name).is_file() for name in (LAST, PREVIOUS))


def pictures_of(folder: Path) -> bytes:
    """What a run's state says of the pictures it was trained on, equal for equal ones; empty where nothing does."""
    for path in (folder / LAST, folder / PREVIOUS):
        with contextlib.suppress(OSError, SafetensorError), safe_open(path, "pt") as state:
            if PICTURES in state.keys():  # noqa: SIM118  (it is no dict)
                return state.get_tensor(PICTURES).numpy().tobytes()
    return b""


def read_saved(folder: Path) -> Saved:
    """Read the newest training state of a run folder that is whole.

    Raises:
        CheckpointError: there is none.
    """
    if not has_state(folder):
        raise CheckpointError(f"{folder} holds no {LAST}, so there is nothing to resume; give a run folder")
    faults = [] if (folder / LAST).is_file() else [f"{folder / LAST} is missing"]
    for path in (folder / LAST, folder / PREVIOUS):
        if path.is_file():
            try:
                return replace(_read(path), fault="; ".join(faults))
            except CheckpointError as error:
                faults.append(str(error))
    raise CheckpointError(f"{'; '.join(faults)}; restore it from a backup, or start a new run in another folder (-o)")


def keep_good_one(saved: Saved) -> None:
    """Give the state before the last its name, where the last is damaged, which is kept as ``damaged.safetensors``.

    Otherwise the next save would put the damaged one where the good one is.

    Raises:
        StorageError: the disk refused.
    """
    if not saved.fault:
        return
    folder = saved.path.parent
    try:
        if (folder / LAST).exists():
            (folder / LAST).replace(folder / DAMAGED)
        saved.path.replace(folder / LAST)
    except OSError as error:
        raise StorageError(f"could not rename {saved.path} to {LAST}: {error.strerror or error}") from error


def part_of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _read(path: Path) -> Saved:
    """Read and check one file.

    Raises:
        CheckpointError: it cannot be read, is none, or is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"cannot read {path}: {reason}") from None
    kind = metadata.get("format")
    if kind not in (FORMAT, UNSIGNED):
        raise CheckpointError(f"{path} is not a training state of regard")
    try:
        if kind == FORMAT and metadata.get("digest") != _digest(tensors, metadata):
            raise ValueError("its content is not what was written")
        if fault := _not_a_number(tensors):
            raise ValueError(fault)
        config = _parse(metadata, "config", lambda value: load_config(_mapping(value), source="config"))
        progress = _parse(metadata, "progress", lambda value: _progress(_mapping(value), config.train.epochs))
        groups = _parse(metadata, "optimizer", _groups)
        machine = {} if kind == UNSIGNED else _parse(metadata, "machine", _mapping)
        start = _parse(metadata, "start", _mapping) if "start" in metadata else {}
        _check_tensors(tensors)
    except PluginError as error:
        raise PluginError(f"{path}: {error}") from None
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path} is damaged: {reason}") from None
    return Saved(path, config, progress, groups, machine, tensors, start)


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Digest of names, types, shapes and bytes of the tensors, and of the metadata but ``digest``: 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    for key in sorted(metadata.keys() - {"digest"}):
        digest.update(f"{key}\0{metadata[key]}\0".encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _not_a_number(tensors: Mapping[str, Tensor]) -> str:
    """The first tensor with a number that is none, or, among weights, is infinite; empty where all are well."""
    for name, value in tensors.items():
        if not value.is_floating_point():
            continue
        bad = value.isnan() if name.startswith("optimizer.") else ~value.isfinite()  # squares may overflow
        if bad.any():
            return f"{name} holds {int(bad.sum())} numbers that are not finite"
    return ""


def _parse(metadata: Mapping[str, str], key: str, read: Callable[[Any], Any]) -> Any:
    """Read one JSON text of the metadata.

    Raises:
        ValueError: it is missing, no JSON, or not what ``read`` wants.
    """
    if key not in metadata:
        raise ValueError(f"its {key} is missing")
    try:
        return read(parse_json(metadata[key]))
    except PluginError:
        raise
    except (RegardError, ValueError, TypeError) as error:
        raise ValueError(f"its {key} cannot be read ({error})") from None


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"got {type(value).__name__}, wanted an object")
    return value


def _progress(values: dict[str, Any], epochs: int) -> Progress:
    values = {"evaluated": values.get("epoch"), **values}  # before it was kept, evaluating came before saving
    known = asdict(Progress())
    if values.keys() != known.keys():
        raise ValueError(f"got {', '.join(values)}, wanted {', '.join(known)}")
    for key, default in known.items():
        value, kinds = values[key], (int, float) if isinstance(default, float) else (int,)
        if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
            raise ValueError(f"{key} is {value!r}")
        if not (-1 <= value <= 1 if key == "best" else value >= 0):
            raise ValueError(f"{key} is {value}")
    if values["epoch"] > min(epochs, values["step"]) or values["evaluated"] > values["epoch"]:
        raise ValueError(f"{values['epoch']} epochs of {epochs} in {values['step']} steps")
    return Progress(**values)


def _groups(value: Any) -> list[dict[str, Any]]:
    wanted = isinstance(value, list) and value
    if not wanted or not all(isinstance(group, dict) and isinstance(group.get("params"), list) for group in value):
        raise TypeError("wanted a list of groups with their params")
    return value


def _check_tensors(tensors: Mapping[str, Tensor]) -> None:
    """Check what does not depend on the network.

    Raises:
        ValueError: weights, moments, a random state or the pictures are missing or not what they should be.
    """
    if not part_of(tensors, "model."):
        raise ValueError("it holds no weights")
    random = part_of(tensors, "random.")
    if "0.cpu" not in random:
        raise ValueError("it holds no random state")
    for name in filter(lambda name: name.endswith(".cpu"), random):
        try:
            torch.Generator().set_state(random[name])
        except (RuntimeError, TypeError):
            raise ValueError(f"random.{name} is no state of a generator") from None
    for name in part_of(tensors, "optimizer."):
        if not name.partition(".")[0].isdecimal():
            raise ValueError(f"optimizer.{name} belongs to no parameter")
    pictures = tensors.get(PICTURES)
    if pictures is not None and (pictures.dtype != torch.uint8 or pictures.ndim != 2):
        raise ValueError("its list of pictures is none")
