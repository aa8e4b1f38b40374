"""Models on disk: a folder with ``model.safetensors`` (the weights) and ``config.json`` (what to build).

What a training checkpoint needs besides is public too: :func:`model_config` turns a model's description into JSON and
:func:`regard.models.build.from_config` back, :func:`serialize` its weights into bytes, :func:`load_weights` puts
tensors into a model or says in one line why they do not fit. :func:`weights_digest` is what the weights are known by,
wherever something made with them is kept; a calibration beside them holds it, and is used with no other weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

import safetensors.torch
import torch
from torch import Tensor, nn

from regard.errors import CheckpointError, ConfigError, RegardWarning, check_kind
from regard.fingerprint import tensors_digest
from regard.input_spec import InputSpec
from regard.models.folder import (
    CALIBRATION,
    CONFIG,
    UNTOLD,
    WEIGHTS,
    as_json,
    calibration_digest,
    description_digest,
    read_description,
)
from regard.models.importers.translation import RELEASES
from regard.plugins import load_plugins
from regard.registry import MODELS
from regard.storage import read_regular, write_together
from regard.version import __version__

__all__ = [
    "Described", "load_plugin_of", "load_weights", "model_config", "origin_in", "save", "saved_system", "sealed",
    "serialize", "was_imported", "weights_digest",
]  # fmt: skip

ORIGIN = ("source", "licence")
"""What is said of where weights came from."""


class Described(nn.Module):
    """A network with what its folder says of it besides the weights; :class:`regard.models.ReIDModel` is one."""

    training_parts: ClassVar[tuple[str, ...]] = ()
    """Names of the submodules that only training needs."""

    num_ids: int
    stripped: bool
    options: dict[str, Any]
    calibration: dict[str, Any] | None = None
    input: InputSpec | None = InputSpec()
    imported: str | None = None
    origin: dict[str, str] | None = None

    @classmethod
    def dispensable_parts(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Paths of the submodules that a network with these options can embed without: ``training_parts``."""
        return cls.training_parts


def model_config(model: Described) -> dict[str, Any]:
    """What to build to get this architecture again, ready for JSON."""
    name = MODELS.name_of(type(model))
    if name is None:
        raise ConfigError(
            f"{type(model).__name__} is not a registered model, so it could not be loaded again; "
            f'put @MODELS.register("name") on the class'
        )
    told = vars(model).get("input")
    check_kind("model.input", told, (InputSpec, type(None)), "regard.InputSpec(HEIGHT, WIDTH)")
    if model.origin is not None and not _is_origin(model.origin):
        raise ConfigError(f"model.origin is {_shortened(model.origin)}, wanted a source and its licence, both text")
    known = {"input": told and told.to_dict(), "imported": model.imported}
    known["origin"] = model.origin
    plugins = [MODELS.plugin_of(name), *(getattr(part, "plugin", None) for part in model.modules())]
    named = list(dict.fromkeys(plugin for plugin in plugins if isinstance(plugin, str)))
    known["plugin"] = named if len(named) > 1 else named[0] if named else None
    return {
        "model": name,
        "num_ids": model.num_ids,
        "options": dict(model.options),
        "stripped": model.stripped,
        **{key: value for key, value in known.items() if value is not None},
        "regard": __version__,
    }


def load_plugin_of(config: Mapping[str, Any], source: str) -> None:
    """Import the plug-ins that a described model and its parts are of, if they are of any.

    Raises:
        PluginError: it is not there, or cannot be loaded.
    """
    plugin = config.get("plugin")
    named = [plugin] if isinstance(plugin, str) else plugin if isinstance(plugin, list) else []
    load_plugins([text for text in named if isinstance(text, str)], wanted_by=source)


def origin_in(config: Mapping[str, Any], source: str) -> dict[str, str] | None:
    """Where a description says that the weights came from: ``source`` and its ``licence``; None where it does not.

    A folder of a released network that was imported before this was kept is of what its network was released with.

    Raises:
        CheckpointError: it says something else.
    """
    told = config.get("origin")
    if told is None and config.get("imported") in RELEASES:
        return dict(zip(ORIGIN, RELEASES[config["imported"]]))
    if told is None or _is_origin(told):
        return told and {key: told[key] for key in ORIGIN}
    raise CheckpointError(
        f"{source} is damaged: its origin is {_shortened(told)}, wanted a source and its licence, both text; restore it"
    )


def _is_origin(told: Any) -> bool:
    return isinstance(told, Mapping) and all(isinstance(told.get(key), str) for key in ORIGIN)


def _shortened(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:59]}…"


def was_imported(folder: Path) -> bool:
    """Return whether the weights in a model folder are of a released checkpoint.

    Raises:
        CheckpointError: there is no such folder, or it is damaged.
    """
    return read_description(folder).get("imported") is not None


def serialize(model: nn.Module) -> bytes:
    """The weights as the bytes of a safetensors file; tensors that share memory are written out each."""
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict().items():
        storage = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.contiguous().clone() if storage in seen else tensor.contiguous()
        seen.add(storage)
    return safetensors.torch.save(tensors, metadata={"format": "pt", "regard": __version__})


def weights_digest(source: Described | Path) -> str:
    """What weights are known by: the digest of the tensors that make descriptors.

    The same for a model and for every file it is saved in, stripped or not, in whatever order the tensors lie.

    Args:
        source: a model, or the folder with its ``model.safetensors``.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    if isinstance(source, nn.Module):
        return tensors_digest(serialize(source), source.dispensable_parts(source.options))
    config = read_description(source)
    load_plugin_of(config, str(source / CONFIG))
    try:
        parts = MODELS.get(config["model"]).dispensable_parts(config["options"])
        return tensors_digest(read_regular(source / WEIGHTS), parts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{source} holds no model that is whole ({error}); give a folder that model.save() or a training wrote"
        ) from error


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy ``tensors`` into ``model``; both must have the same names, shapes and kinds of numbers.

    Floating point of any precision goes into floating point: half precision exactly, double precision rounded, which is
    said where it changes a value. Integers, booleans and complex numbers only go into their like; a counter may be a
    whole number in floating point.

    Raises:
        CheckpointError: they do not fit, or one holds NaN or infinity; nothing has been copied.
    """
    wanted = model.state_dict()
    faults = {"missing": sorted(wanted.keys() - tensors.keys()), "unexpected": sorted(tensors.keys() - wanted.keys())}
    faults["of another shape"] = [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & tensors.keys())
        if tensors[name].shape != wanted[name].shape
    ]
    if not any(faults.values()):
        _check_kinds(tensors, wanted, source)
        model.load_state_dict(_converted(tensors, wanted, source))
        return
    other = 2 * (len(faults["missing"]) + len(faults["of another shape"])) > len(wanted)
    examples = 1 if other else 3
    told = [f"{len(names)} {fault} ({_first(names, examples)})" for fault, names in faults.items() if names]
    raise CheckpointError(
        f"{source} {'holds another architecture' if other else 'does not fit'}: of {len(wanted)} tensors of "
        f"{type(model).__name__}, {', '.join(told)}; give the weights of this model, or build the model with the "
        f"options they were trained with"
    )


def _check_kinds(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> None:
    """Refuse integers, booleans and complex numbers in the place of floating point, and broken numbers in theirs."""
    others = [
        f"{name} is {_name(tensors[name])}, not {_name(wanted[name])}"
        for name in wanted
        if _kind(tensors[name]) != _kind(wanted[name]) and not _counts(tensors[name], wanted[name])
    ]
    if others:
        raise CheckpointError(
            f"{source} holds numbers of another kind in {len(others)} of {len(wanted)} tensors ({_first(others, 2)}), "
            f"which were cast or quantized; give the weights as they were trained"
        )


def _converted(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors in the precision of the wanted ones, all of them finite."""
    converted = {name: tensors[name].to(wanted[name].dtype) for name in wanted}
    for name, value in converted.items():
        faulty = 0 if value.is_meta else int(value.numel() - value.isfinite().sum())
        if faulty:
            raise CheckpointError(
                f"{source} holds NaN or infinity in {faulty:,} of {value.numel():,} numbers of {name}: it is damaged, "
                f"or of a training that diverged; give an earlier checkpoint"
            )
    rounded = [
        name
        for name, value in converted.items()
        if value.dtype.itemsize < tensors[name].dtype.itemsize
        and not torch.equal(value.to(tensors[name]), tensors[name])
    ]
    if rounded:
        warnings.warn(
            f"{source}: {len(rounded)} tensors are rounded from {_name(tensors[rounded[0]])} to "
            f"{_name(wanted[rounded[0]])}, the network's precision ({_first(rounded, 1)})",
            RegardWarning,
            stacklevel=3,
        )
    return converted


def _counts(given: Tensor, wanted: Tensor) -> bool:
    """Whether whole numbers in floating point stand for integers, as counters of batches do in some files."""
    both = _kind(given) == "floating point" and _kind(wanted) == "integer"
    return both and bool((given == given.round()).all() and (given.abs() < 2**53).all())


def _kind(tensor: Tensor) -> str:
    """What kind of numbers a tensor holds, however precisely."""
    if tensor.layout != torch.strided or tensor.is_quantized:
        return str(tensor.layout)
    kinds = {"floating point": tensor.is_floating_point(), "complex": tensor.is_complex()}
    return next((kind for kind, found in kinds.items() if found), "bool" if tensor.dtype == torch.bool else "integer")


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.") + ("" if tensor.layout == torch.strided else ", sparse")


def save(model: Described, folder: Path) -> None:
    """See :meth:`regard.models.ReIDModel.save`."""
    config = model_config(model)
    if "input" not in config and model.input is not None:
        config |= {"input": model.input.to_dict(), UNTOLD: True}
    files = {
        folder / WEIGHTS: serialize(model),
        folder / CONFIG: as_json(config | {"digest": description_digest(config)}),
    }
    calibration = model.calibration
    if calibration is not None:
        digest = weights_digest(model)
        if calibration.get("about", {}).get("weights", digest) in (None, digest):
            files[folder / CALIBRATION] = as_json(sealed(calibration, digest))
        else:
            calibration = None
            warnings.warn(
                f"the model's calibration is of other weights and was not saved in {folder}; run 'regard calibrate'",
                RegardWarning,
                stacklevel=3,
            )
    write_together(files)
    if calibration is None:
        (folder / CALIBRATION).unlink(missing_ok=True)  # it was of other weights


def sealed(calibration: Mapping[str, Any], weights: str) -> dict[str, Any]:
    """A calibration that says which weights it is of, unless it does already, and holds a digest of itself.

    Args:
        calibration: content of a ``calibration.json``.
        weights: digest of the weights.
    """
    content = {**calibration, "about": {"weights": weights, **calibration.get("about", {})}}
    content["about"]["digest"] = calibration_digest(content)
    return content


def saved_system(folder: Path) -> str:
    """Name of the system a model folder describes.

    Raises:
        CheckpointError: it describes none.
    """
    config = read_description(folder)
    load_plugin_of(config, str(folder / CONFIG))
    try:
        return config["model"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / CONFIG} does not describe a model ({error}); give a folder that model.save() wrote"
        ) from error


def _first(names: Collection[str], count: int) -> str:
    return ", ".join([*list(names)[:count], *(["…"] if len(names) > count else [])])
