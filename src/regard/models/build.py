"""Building networks: fresh ones by name, those that a folder holds, and those that start from one that was trained.

To start from a network, which is fine-tuning, everything of another of the same system that fits is taken; what
classifies the identities it was trained on is new where their number is another.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from regard.errors import CheckpointError, ConfigError, check_kind
from regard.models.contract import ReIDModel
from regard.models.importers.tensor_file import read_tensors
from regard.models.saved import (
    CONFIG,
    UNTOLD,
    WEIGHTS,
    description_digest,
    input_in,
    load_plugin_of,
    load_weights,
    model_config,
    model_folder,
    read_calibration,
    read_description,
    saved_input,
    saved_system,
    whole_description,
)
from regard.registry import MODELS
from regard.version import __version__

__all__ = ["create_model", "from_config", "load"]

MOST_NAMES = 4
"""New tensors that are said by name; more are counted by part."""


def create_model(name: str, num_ids: int, *, pretrained: bool | str | Path = False, **options: Any) -> ReIDModel:
    """Build a registered model.

    Args:
        name: one of ``regard.registry.MODELS``.
        num_ids: identities to classify in training.
        pretrained: weights to start from: ``False`` for none, ``True`` for timm's download of the backbone's, the path
            of a local torch, safetensors or MindSpore file of the backbone's, or the folder of a run or of a saved
            model of the same system, of which everything is taken but what classifies another number of identities.
        options: the model's own options, see its class.

    Raises:
        UnknownNameError: no model of that name.
        ConfigError: an option is unknown or does not fit.
        CheckpointError: the local weights file does not fit the backbone, or the folder holds another network.
        RegardError: the weights could not be fetched.

    >>> model = create_model("baseline", num_ids=10, backbone="test_resnet.r160_in1k")
    >>> tuple(model.embed(torch.zeros(2, 3, 128, 64)).shape)
    (2, 96)
    """
    check_kind("pretrained", pretrained, (bool, str, Path), "true, false, or a file or folder of weights")
    folder = None if isinstance(pretrained, bool) else _start_folder(Path(pretrained))
    if folder is None:
        given = {"pretrained": pretrained} if pretrained else {}
        model = MODELS.create(name, num_ids=num_ids, **given, **options)
        check_kind(f"model {name!r}", model, ReIDModel, "a network that is a regard.ReIDModel")
        return model
    model = MODELS.create(name, num_ids=num_ids, **options)
    model.start_report = _take_weights(model, folder)
    if "input" not in vars(model):
        model.input = saved_input(folder)
    return model


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
    load_plugin_of(config, source)
    try:
        model = MODELS.create(name, num_ids=num_ids, **options)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(
            f"{source} describes a model that regard {__version__} cannot build "
            f"(written by {config.get('regard', 'an unknown version')}): {error}"
        ) from error
    model.imported = config.get("imported")
    if not config.get(UNTOLD) and (told := input_in(config, source)):
        model.input = told
    return model.strip() if stripped else model


def load(path: Path | str) -> ReIDModel:
    """Read a model back, in evaluation mode, on the CPU.

    A calibration that is of other weights is left out, and said so.

    Args:
        path: a folder that ``model.save`` wrote, or the folder of a training run: its ``final/`` is read,
            or its ``best/`` while it still trains.

    Raises:
        ConfigError: ``path`` is no path.
        CheckpointError: there is no model, or it is damaged, or weights and description do not belong together.
    """
    check_kind("path", path, (str, Path), "the folder of a model or of a run")
    folder = model_folder(Path(path))
    config = whole_description(folder)
    model = from_config(config, source=str(folder / CONFIG))
    if config.get("input") is None:
        model.input = None
    load_weights(model, read_tensors(folder / WEIGHTS), source=str(folder / WEIGHTS))
    if config.get("digest", (known := description_digest(config))) != known:
        raise CheckpointError(
            f"{folder / CONFIG} is not as it was written, so the network would be another one; restore it or save the "
            f"model again (whoever changes it by hand takes out its 'digest')"
        )
    model.calibration = read_calibration(folder)
    return model.eval()


def _start_folder(path: Path) -> Path | None:
    """The folder of the network that ``path`` stands for; None where it is a file of a backbone's weights.

    Args:
        path: run folder, model folder, or the weights file in one.

    Raises:
        CheckpointError: it is a folder without a network.
    """
    if path.name == WEIGHTS and (path.parent / CONFIG).is_file():
        return path.parent
    return model_folder(path) if path.is_dir() else None


def _take_weights(model: ReIDModel, folder: Path) -> str:
    """Put the weights of a saved network into ``model``, as far as they fit.

    Args:
        model: fresh, for its own number of identities.
        folder: a model folder of the same system with the same options.

    Returns:
        How many tensors were taken, and which are new.

    Raises:
        CheckpointError: it is another system, or built with other options; nothing has been taken.
    """
    system, own = saved_system(folder), model_config(model)
    if system != own["model"]:
        raise CheckpointError(
            f"{folder} holds a network of {system}, and {own['model']} cannot start from it; train {system}, or give "
            "model.pretrained another folder"
        )
    tensors, wanted = read_tensors(folder / WEIGHTS), model.state_dict()
    description = read_description(folder)
    ids = (description.get("num_ids", "unknown"), model.num_ids)
    fits = {name: value for name, value in tensors.items() if name in wanted and wanted[name].shape == value.shape}
    new = [name for name in wanted if name not in fits]
    other = [name for name in new if not _classifies(name, tensors.get(name), wanted[name], ids, model)]
    other += [name for name in tensors if name not in wanted and not _training_only(name, model)]
    differing = _differing(description.get("options"), own["options"])
    if other:
        faults = [f"{key} is {old} there, {mine} here" for key, (old, mine) in differing.items()]
        remedy = " ".join(f"model.{key}={json.dumps(old)}" for key, (old, _) in differing.items())
        raise CheckpointError(
            f"{folder} holds another {system}: {'; '.join(faults) or f'{other[0]} differs'}"
            f" ({len(other)} tensors do not fit); build it as that was ({remedy or 'with the same options'}), or give "
            "model.pretrained another folder"
        )
    load_weights(model, wanted | fits, source=str(folder / WEIGHTS))
    unlike = [f"{key} was {old} and is {mine}" for key, (old, mine) in differing.items()]
    parts = [f"start from {folder}: {len(fits)} of {len(wanted)} tensors taken"]
    shown = new if len(new) <= MOST_NAMES else [f"{top}.* ({count})" for top, count in Counter(map(_top, new)).items()]
    parts += [f"new for {ids[1]:,} identities instead of {ids[0]}: {', '.join(shown)}"] if new else []
    return "; ".join([*parts, *unlike])


def _training_only(name: str, model: ReIDModel) -> bool:
    """Whether a tensor is of a part that only training needs, such as a classifier."""
    return _top(name) in model.training_parts


def _top(name: str) -> str:
    """The part of the network that a tensor is of."""
    return name.partition(".")[0]


def _classifies(name: str, old: Tensor | None, new: Tensor, ids: tuple[Any, int], model: ReIDModel) -> bool:
    """Whether a tensor differs because the identities are others, or is of a part that was not kept."""
    if old is None or _training_only(name, model):
        return _training_only(name, model)
    return old.ndim == new.ndim and all(a == b or (a, b) == ids for a, b in zip(old.shape, new.shape))


def _differing(old: Any, new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Options that differ: name -> the old value and the new one; those that either does not know are left out."""
    plain = json.loads(json.dumps(dict(new)))
    old = old if isinstance(old, dict) else {}
    return {key: (old[key], plain[key]) for key in plain if key in old and old[key] != plain[key]}
