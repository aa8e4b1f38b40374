"""The folder in which the package ``reid`` (0.1.0rc1) keeps a model, with a network of ours in it.

``weights.safetensors`` and ``reid_config.json`` are its own; ``config.json`` says of what architecture the network is,
for :class:`regard.integrations.reid.Backbone`, which ``reid`` is given as architecture: by name it knows none of ours.
"""

from __future__ import annotations

import json
from pathlib import Path

import safetensors.torch

from regard.export.exporting import Exported, describe
from regard.export.kept import exports_folder
from regard.export.manifest import card_file, with_files
from regard.export.profiles import Form
from regard.models.folder import CONFIG, MODEL_WANTED, as_json
from regard.models.saved import model_config
from regard.storage import as_path, write_together

__all__ = ["PREFIX", "export_reid"]

PREFIX = "net."
"""Of the names of weights: where the module that ``reid`` is given has the network."""


def export_reid(
    folder: Path | str, output: Path | None, form: Form, *, size: tuple[int, int] | None = None
) -> Exported:
    """Write a network as a folder of ``reid``.

    Args:
        folder: of the run or the model.
        output: folder to write; None names one in the run's ``exports``.
        form: with the profile ``reid``.
        size: height and width of the pictures; None takes the model's own.

    Raises:
        CheckpointError: there is no model, or it is damaged.
        StorageError: the disk refused.
    """
    form.check("reid", int8=False)
    model, card = describe(folder, size)
    card = form.card(card)
    model.input = card.seen
    about = {
        "architecture": f"regard:{card.system}",
        "preprocessing": {
            "input_size": [card.height, card.width], "mean": list(card.mean), "std": list(card.std),
            "interpolation": card.interpolation, "to_rgb": True, "resize_mode": "stretch",
        },
    }  # fmt: skip
    tensors = {f"{PREFIX}{name}": value.contiguous() for name, value in model.state_dict().items()}
    weights = safetensors.torch.save(tensors)
    card = with_files(card, {".safetensors": weights})
    home = output or exports_folder(as_path("folder", folder, MODEL_WANTED)) / card.stem
    path = home / "weights.safetensors"
    files = {
        path: weights,
        home / "reid_config.json": (json.dumps(about, indent=2) + "\n").encode(),
        home / CONFIG: as_json(model_config(model)),
        card_file(path): card.to_json().encode(),
    }
    write_together(files)
    return Exported(list(files), card, {})
