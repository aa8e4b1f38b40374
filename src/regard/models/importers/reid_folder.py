"""The folder in which the package ``reid`` (0.1.0rc1) keeps a model: ``weights.safetensors`` and ``reid_config.json``.

The configuration names an architecture and how a crop is prepared. Of the architectures, ResNets of timm without a
classifier are read, as baselines whose neck changes nothing but by its epsilon; the descriptor is that of ``reid`` but
for its length, which no cosine sees. Its OSNets and FastReID's networks are none of ours. Nothing of ours can be
written so: its networks have no neck, ours compare what is behind one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from regard.errors import CheckpointError, ConfigError
from regard.input_spec import InputSpec
from regard.models.importers.resnet import DEPTHS, OF_A_BLOCK, count_blocks
from regard.models.importers.tensor_file import read_tensors
from regard.models.importers.translation import Translation
from regard.parsing import parse_json
from regard.storage import read_regular

__all__ = ["plain_resnet", "read_folder"]

CONFIG, WEIGHTS = "reid_config.json", "weights.safetensors"
OF_TIMM = "timm:"


def read_folder(folder: Path) -> tuple[dict[str, Tensor], InputSpec]:
    """The tensors of a model in a folder of ``reid``, and what it is shown.

    Raises:
        CheckpointError: it is no such folder, its architecture is not read, or it prepares crops as regard does not.
    """
    path = folder / CONFIG
    try:
        told = parse_json(read_regular(path))
        architecture, shown = told["architecture"], told.get("preprocessing", {})
        if not isinstance(architecture, str) or not isinstance(shown, dict):
            raise ValueError("architecture or preprocessing is of another kind")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is no configuration of reid ({error}); give the folder it saved") from None
    readable = [f"{OF_TIMM}{name}" for name in DEPTHS.values()]
    if architecture not in readable:
        raise CheckpointError(f"{path} names the architecture {architecture[:80]!r}, wanted {', '.join(readable)}")
    return read_tensors(folder / WEIGHTS), input_of(shown, path)


def input_of(shown: Mapping[str, Any], path: Path) -> InputSpec:
    """What a model is shown, of what its configuration says of crops; what it leaves out is as ``reid`` has it.

    Raises:
        CheckpointError: it is none, or crops are prepared as regard does not.
    """
    if shown.get("resize_mode", "stretch") != "stretch" or shown.get("interpolation", "bilinear") == "nearest":
        raise CheckpointError(f"{path} has crops in a letterbox, or nearest pixels; regard stretches and interpolates")
    try:
        height, width = shown.get("input_size", (256, 128))
        known: dict[str, Any] = {name: tuple(map(float, shown[name])) for name in ("mean", "std") if name in shown}
        return InputSpec(height, width, shown.get("interpolation", "bilinear"), flip=False, **known)
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} says of crops what nobody can do ({error}); save the model again") from None


def plain_resnet(tensors: Mapping[str, Tensor], origin: str) -> Translation:
    """A ResNet of timm without a classifier, whose depth is read off the tensors."""
    names = {}
    for key in tensors:
        if key.partition(".")[0] in ("conv1", "bn1"):
            names[key] = f"backbone.stages.0.{key}"
        elif block := OF_A_BLOCK.match(key):
            names[key] = f"backbone.stages.{block[1]}.{key}"
    backbone = DEPTHS.get((count_blocks(names, OF_A_BLOCK), "layer1.0.conv3.weight" in tensors))
    if backbone is None or "conv1.weight" not in tensors:
        raise CheckpointError(f"{origin} is no ResNet of {', '.join(DEPTHS.values())}; give the folder that reid saved")
    options = {"backbone": backbone, "last_stride": 2, "stem_relu": True}
    return Translation("baseline", 1, options, names, fresh=("neck.", "classifier."))
