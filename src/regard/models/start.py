"""Starting from a trained network: fine-tuning.

Everything of another network of the same system that fits is taken; what classifies the identities it was trained on
is new where their number is another.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from regard.errors import CheckpointError
from regard.models.contract import ReIDModel
from regard.models.importers.tensor_file import read_tensors
from regard.models.saved import CONFIG, WEIGHTS, load_weights, model_config, model_folder, saved_system
from regard.parsing import parse_json
from regard.storage import read_regular

__all__ = ["start_folder", "take_weights"]

MOST_NAMES = 4
"""New tensors that are said by name; more are counted by part."""


def start_folder(path: Path) -> Path | None:
    """The folder of the network that ``path`` stands for; None where it is a file of a backbone's weights.

    Args:
        path: run folder, model folder, or the weights file in one.

    Raises:
        CheckpointError: it is a folder without a network.
    """
    if path.name == WEIGHTS and (path.parent / CONFIG).is_file():
        return path.parent
    return model_folder(path) if path.is_dir() else None


def take_weights(model: ReIDModel, folder: Path) -> str:
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
    description = parse_json(read_regular(folder / CONFIG))
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
