"""Models on disk: a folder with ``model.safetensors`` (the weights) and ``config.json`` (what to build).

The four functions a training checkpoint needs besides are public too: :func:`model_config` and :func:`from_config` turn
a model's description into JSON and back, :func:`serialize` its weights into bytes, :func:`load_weights` puts tensors
into a model or says in one line why they do not fit.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
from torch import Tensor, nn

import regard
from regard.errors import CheckpointError, ConfigError
from regard.models.tensor_file import read_tensors
from regard.parsing import parse_json
from regard.registry import MODELS
from regard.storage import write_together

if TYPE_CHECKING:
    from regard.models.contract import ReIDModel

__all__ = ["from_config", "load", "load_weights", "model_config", "model_folder", "save", "saved_system", "serialize"]

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CALIBRATION = "calibration.json"


def model_config(model: ReIDModel) -> dict[str, Any]:
    """What to build to get this architecture again, ready for JSON."""
    name = next((name for name in MODELS if MODELS.get(name) is type(model)), None)
    if name is None:
        raise ConfigError(
            f"{type(model).__name__} is not a registered model, so it could not be loaded again; "
            f'put @MODELS.register("name") on the class'
        )
    return {
        "model": name,
        "num_ids": model.num_ids,
        "options": dict(model.options),
        "stripped": model.stripped,
        "regard": regard.__version__,
    }


def from_config(config: Mapping[str, Any], source: str = "the model's description") -> ReIDModel:
    """Build the model that :func:`model_config` described; its weights are fresh.

    Args:
        config: the description.
        source: where it came from, for the error message.

    Raises:
        CheckpointError: not such a description, or of a model this version does not know.
    """
    try:
        name, num_ids, options = config["model"], config["num_ids"], dict(config["options"])
        stripped = bool(config.get("stripped", False))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{source} does not describe a model (needs model, num_ids and options); give a folder that "
            f"model.save() or a training wrote"
        ) from error
    try:
        model = MODELS.create(name, num_ids=num_ids, pretrained=False, **options)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(
            f"{source} describes a model that regard {regard.__version__} cannot build "
            f"(written by {config.get('regard', 'an unknown version')}): {error}"
        ) from error
    return model.strip() if stripped else model


def serialize(model: nn.Module) -> bytes:
    """The weights as the bytes of a safetensors file; tensors that share memory are written out each."""
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict().items():
        storage = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.contiguous().clone() if storage in seen else tensor.contiguous()
        seen.add(storage)
    return safetensors.torch.save(tensors, metadata={"format": "pt", "regard": regard.__version__})


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy ``tensors`` into ``model``; both must have the same names and shapes.

    Raises:
        CheckpointError: they do not fit; nothing has been copied.
    """
    wanted = model.state_dict()
    missing = sorted(wanted.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - wanted.keys())
    reshaped = [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & tensors.keys())
        if tensors[name].shape != wanted[name].shape
    ]
    if not (missing or unexpected or reshaped):
        model.load_state_dict(dict(tensors))
        return
    other = 2 * (len(missing) + len(reshaped)) > len(wanted)
    examples = 1 if other else 3
    faults = [
        f"{len(names)} {fault} ({_first(names, examples)})"
        for fault, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        if names
    ]
    raise CheckpointError(
        f"{source} {'holds another architecture' if other else 'does not fit'}: of {len(wanted)} tensors of "
        f"{type(model).__name__}, {', '.join(faults)}; give the weights of this model, or build the model with the "
        f"options they were trained with"
    )


def save(model: ReIDModel, folder: Path) -> None:
    """See :meth:`regard.models.ReIDModel.save`."""
    files = {folder / WEIGHTS: serialize(model)}
    for name, content in ((CONFIG, model_config(model)), (CALIBRATION, model.calibration)):
        if content is not None:
            files[folder / name] = (json.dumps(content, indent=2) + "\n").encode()
    write_together(files)
    if model.calibration is None:
        (folder / CALIBRATION).unlink(missing_ok=True)  # it was of other weights


def load(path: Path | str) -> ReIDModel:
    """Read a model back, in evaluation mode, on the CPU.

    Args:
        path: a folder that ``model.save`` wrote, or the folder of a training run: its ``final/`` is read,
            or its ``best/`` while it still trains.

    Raises:
        CheckpointError: there is no model, or it is damaged, or weights and description do not belong together.
    """
    folder = model_folder(Path(path))
    description = folder / CONFIG
    try:
        config = parse_json(description.read_bytes())
    except (OSError, ValueError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise CheckpointError(
            f"{description} {reason}; a model is a folder with {WEIGHTS} and {CONFIG}, save it again"
        ) from error
    model = from_config(config, source=str(description))
    load_weights(model, read_tensors(folder / WEIGHTS), source=str(folder / WEIGHTS))
    model.calibration = _read_calibration(folder / CALIBRATION)
    return model.eval()


def _read_calibration(path: Path) -> dict[str, Any] | None:
    try:
        return parse_json(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); remove it and run 'regard calibrate'") from error


def model_folder(path: Path) -> Path:
    """The folder with the weights that ``path`` stands for: itself, or its ``final/`` or ``best/``.

    Raises:
        CheckpointError: there are none.
    """
    for folder in (path, path / "final", path / "best"):
        if (folder / WEIGHTS).is_file():
            return folder
    raise CheckpointError(
        f"no {WEIGHTS} in {path} nor in its final/ or best/; give a folder that model.save() or a training wrote"
    )


def saved_system(folder: Path) -> str:
    """Name of the system a model folder describes.

    Raises:
        CheckpointError: it describes none.
    """
    try:
        return parse_json((folder / CONFIG).read_bytes())["model"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / CONFIG} does not describe a model ({error}); give a folder that model.save() wrote"
        ) from error


def _first(names: Collection[str], count: int) -> str:
    return ", ".join([*list(names)[:count], *(["…"] if len(names) > count else [])])
