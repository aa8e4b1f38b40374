"""Building networks: fresh ones by name, those that a folder holds, and those that start from one that was trained.

To start from a network, which is fine-tuning, everything of another of the same system that fits is taken; what
classifies the identities it was trained on is new where their number is another.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from regard.errors import CheckpointError, ConfigError, check_kind
from regard.input_spec import InputSpec
from regard.models.backbone import Backbone, Colors, fetched_origin
from regard.models.contract import ReIDModel
from regard.models.folder import (
    CONFIG,
    MODEL_WANTED,
    SCHEME,
    UNTOLD,
    WEIGHTS,
    description_digest,
    input_in,
    model_folder,
    read_calibration,
    read_description,
    saved_input,
    whole_description,
)
from regard.models.hub import bounded, fetch, repository_in
from regard.models.importers.packaged import PACKAGE, packaged
from regard.models.importers.tensor_file import read_tensors
from regard.models.saved import (
    load_plugin_of,
    load_weights,
    model_config,
    origin_in,
    saved_system,
    weights_digest,
)
from regard.plugins import only_given
from regard.registry import MODELS
from regard.storage import as_path
from regard.version import __version__

__all__ = ["create_model", "from_config", "from_hub", "load", "start_origin"]

MOST_NAMES = 4
"""New tensors that are said by name; more are counted by part."""


def create_model(name: str, num_ids: int, *, pretrained: bool | str | Path = False, **options: Any) -> ReIDModel:
    """Build a registered model.

    Args:
        name: one of ``regard.registry.MODELS``.
        num_ids: identities to classify in training.
        pretrained: weights to start from: ``False`` for none, ``True`` for timm's download of the backbone's,
            ``"package"`` for an installed package's (:mod:`regard.models.importers.packaged`), the path of a local
            torch, safetensors or MindSpore file of the backbone's, or the folder of a run or of a saved model of the
            same system, of which everything is taken but what classifies another number of identities.
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
    wanted = "true, false, package, or a file or folder of weights"
    named = isinstance(pretrained, bool) or pretrained == PACKAGE
    start = pretrained if named else as_path("pretrained", pretrained, wanted)
    folder = _start_folder(start) if isinstance(start, Path) else None
    if folder is None:
        given = {"pretrained": pretrained if isinstance(pretrained, str) else start} if pretrained else {}
        model = _built(name, num_ids=num_ids, **given, **options)
        model.origin = start_origin(pretrained, model.options)
        if colors := _start_colors(model):
            model.input = replace(model.input or InputSpec(), mean=colors[0], std=colors[1])
        return model
    model = _built(name, num_ids=num_ids, **options)
    model.start_report, model.origin = _take_weights(model, folder), start_origin(pretrained, model.options)
    if "input" not in vars(model):
        model.input = saved_input(folder)
    return model


def _built(name: str, /, **options: Any) -> ReIDModel:
    """The network of that name, where it is one.

    Raises:
        ConfigError: the options do not fit, or what the name stands for makes no network that follows the contract.
    """
    unmade = f"model {name!r} does not call super().__init__(num_ids, embed_dim) first; see docs/how-to/extending.md"
    try:
        model = MODELS.create(name, **options)
    except AttributeError as error:
        if "before Module.__init__() call" not in str(error):
            raise
        raise ConfigError(unmade) from error
    check_kind(f"model {name!r}", model, ReIDModel, "a network that is a regard.ReIDModel")
    if not {"num_ids", "embed_dim", "stripped", "_modules"} <= vars(model).keys():
        raise ConfigError(unmade)
    return model


def _start_colors(model: ReIDModel) -> Colors | None:
    """What the weights that the model's first backbone started from were trained to see; None where there are none."""
    return next((part.colors for part in model.modules() if isinstance(part, Backbone)), None)


def start_origin(pretrained: bool | str | Path, options: Mapping[str, Any]) -> dict[str, str] | None:  # noqa: FBT001
    """Where the weights that a training starts from came from, as ``model.origin`` says it; None for random ones.

    Args:
        pretrained: as for :func:`create_model`; a folder that is no longer there is named, with no licence known.
        options: of the model.
    """
    if isinstance(pretrained, bool):
        return fetched_origin(options.get("backbone")) if pretrained else None
    if pretrained == PACKAGE:
        found = packaged(str(options.get("backbone")))
        return {"source": found.source, "licence": found.licence}
    path = Path(pretrained)
    try:
        folder = _start_folder(path)
        if folder and (told := origin_in(read_description(folder), str(folder / CONFIG))):
            return told
    except CheckpointError:
        folder = None
    name = path.parent.name if path.name in (WEIGHTS, "final", "best") and path.parent.name else path.name
    return {"source": name if folder is None else f"{name}, which does not say", "licence": "unknown"}


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
        model = _built(name, num_ids=num_ids, **options)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(
            f"{source} describes a model that regard {__version__} cannot build "
            f"(written by {config.get('regard', 'an unknown version')}): {error}"
        ) from error
    model.imported, model.origin = config.get("imported"), origin_in(config, source)
    if not config.get(UNTOLD) and (told := input_in(config, source)):
        model.input = told
    return model.strip() if stripped else model


def load(path: str | PathLike[str]) -> ReIDModel:
    """Read a model back, in evaluation mode, on the CPU.

    A calibration that is of other weights is left out, and said so.

    Args:
        path: a folder that ``model.save`` wrote, or the folder of a training run: its ``final/`` is read,
            or its ``best/`` while it still trains; ``hf-hub:OWNER/NAME`` or ``hf-hub:OWNER/NAME@REVISION`` for one on
            a hub, see :func:`from_hub`.

    Raises:
        ConfigError: ``path`` is no path.
        CheckpointError: there is no model, or it is damaged, or weights and description do not belong together.
    """
    path = as_path("path", path, MODEL_WANTED)
    if str(path).startswith(SCHEME):
        repo_id, revision = repository_in(str(path))
        return from_hub(repo_id, revision=revision)
    folder = model_folder(path)
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
    model.calibration = read_calibration(folder, lambda: weights_digest(folder))
    return model.eval()


def from_hub(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: Path | str | None = None,
    local_files_only: bool = False,
    endpoint: str | None = None,
) -> ReIDModel:
    """Fetch a model from a hub, in evaluation mode, on the CPU; what was fetched before is taken from the hub's cache.

    Only ``model.safetensors``, ``config.json`` and ``calibration.json`` are fetched, and nothing in them is run. A
    plug-in that the model is of has to be there and given by hand: ``--plugin``, ``REGARD_PLUGINS``, or imported.

    Args:
        repo_id: ``OWNER/NAME``.
        revision: a branch, a tag or a commit; None: the main branch.
        token: to read what is private with; None takes the one that is logged in, or ``HF_TOKEN``; False none.
        cache_dir: where fetched files are kept; None: the hub's cache.
        local_files_only: ask nobody, take what is in the cache.
        endpoint: address of another hub; None takes ``HF_ENDPOINT``.

    Raises:
        ConfigError: the name is none.
        CheckpointError: there is no such repository, it holds no model of regard, or what it holds is damaged.
        PluginError: it needs a plug-in that was not given.
    """
    folder = fetch(
        repo_id, revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only,
        endpoint=endpoint,
    )  # fmt: skip
    with only_given(), bounded(f"{SCHEME}{repo_id}", (folder / WEIGHTS).stat().st_size):
        return load(folder)


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
