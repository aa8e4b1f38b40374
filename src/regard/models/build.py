"""Building networks: fresh ones by name, and those that a folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    model_folder,
    read_calibration,
    saved_input,
    whole_description,
)
from regard.models.start import start_folder, take_weights
from regard.registry import MODELS
from regard.version import __version__

__all__ = ["create_model", "from_config", "load"]


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
    folder = None if isinstance(pretrained, bool) else start_folder(Path(pretrained))
    if folder is None:
        given = {"pretrained": pretrained} if pretrained else {}
        model = MODELS.create(name, num_ids=num_ids, **given, **options)
        check_kind(f"model {name!r}", model, ReIDModel, "a network that is a regard.ReIDModel")
        return model
    model = MODELS.create(name, num_ids=num_ids, **options)
    model.start_report = take_weights(model, folder)
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
