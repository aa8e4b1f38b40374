"""What lies in the folder of a model, and what its JSON files say: read without the network, and without torch.

Shapes: none; :mod:`regard.models.saved` writes these files and reads the weights.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from regard.errors import CheckpointError, ConfigError, RegardWarning, StorageError, nearest
from regard.fingerprint import values_digest
from regard.input_spec import SIZED, InputSpec
from regard.models.ready import ready_folder, ready_names
from regard.parsing import parse_json, parse_yaml
from regard.places import SETTINGS, is_run, run_home
from regard.storage import read_regular, write_atomic

__all__ = [
    "CALIBRATION", "CONFIG", "MODEL_WANTED", "SCHEME", "UNTOLD", "WEIGHTS", "as_json", "calibration_digest",
    "description_digest", "input_in", "model_folder", "read_calibration", "read_description", "saved_input",
    "whole_description",
]  # fmt: skip

SCHEME = "hf-hub:"
"""How the name of a model on a hub begins, where the folder of one is taken too."""

FOREIGN = "foreign"
"""Name of the system that another maker's network is."""

GRAPHS = (".onnx", ".xml")
"""How the name of another maker's network ends, which is taken as a model where a description lies beside it."""

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CALIBRATION = "calibration.json"

MODEL_WANTED = "the folder of a model or of a run"
"""What a function takes that reads a model, in words."""

UNTOLD = "input_by_default"
"""Marks an input that nobody has set: the settings of a run that the model lies in, if any, know better."""


def input_in(config: Mapping[str, Any], source: str) -> InputSpec | None:
    """What a description says that the network sees; None where it says nothing.

    Raises:
        CheckpointError: it says what no network can see.
    """
    try:
        return InputSpec.from_dict(config["input"]) if config.get("input") is not None else None
    except ConfigError as error:
        raise CheckpointError(f"{source} is damaged: {error}; save the model again") from None


def saved_input(folder: Path) -> InputSpec | None:
    """Return what the network in a model folder sees; None where nothing says it.

    A folder that was saved before does not say all of it; what the settings of its run say is then kept in it.

    Raises:
        CheckpointError: there is no such folder, or it is damaged.
    """
    return input_in(whole_description(folder), str(folder / CONFIG))


def whole_description(folder: Path) -> dict[str, Any]:
    """``config.json`` with what the network sees, completed from its run's settings, once, where it lacks that."""
    config = read_description(folder)
    known = input_in(config, str(folder / CONFIG))
    if known is not None and "flip" in config["input"] and not config.get(UNTOLD):
        return config
    told = _input_of_run(folder)
    if told is None:
        return config
    seen = told if known is None or config.get(UNTOLD) else replace(known, flip=told.flip)
    whole = {key: value for key, value in config.items() if key != UNTOLD} | {"input": seen.to_dict()}
    if config.get("digest") == description_digest(config):
        whole["digest"] = description_digest(whole)
    elif "digest" in config:
        return config  # changed by hand, which whoever builds the network says
    with contextlib.suppress(StorageError):  # a folder that is only read: it is asked each time
        write_atomic(folder / CONFIG, as_json(whole))
    return whole


def _input_of_run(folder: Path) -> InputSpec | None:
    """What the settings of the run that a model is of say that it was trained to see; None where it is of none."""
    for place in dict.fromkeys((folder, run_home(folder))):
        settings = place / SETTINGS
        if not is_run(place):
            continue
        try:
            tree = parse_yaml(read_regular(settings).decode(), str(settings))
            told = {name: tree["data"][name] for name in SIZED if name in tree["data"]}
            return InputSpec(**told, flip=tree.get("eval", {}).get("flip", True))
        except (OSError, UnicodeDecodeError, KeyError, TypeError, AttributeError, ConfigError) as error:
            raise CheckpointError(
                f"{settings} does not say what the network in {folder} sees ({error}); restore it, or move it away and "
                "give --size HEIGHTxWIDTH"
            ) from None
    return None


def read_description(folder: Path) -> dict[str, Any]:
    """What ``config.json`` says.

    Raises:
        CheckpointError: it is missing or no JSON.
    """
    path = folder / CONFIG
    try:
        config = parse_json(read_regular(path))
        if not isinstance(config, dict):
            raise ValueError("it does not describe a model")
    except (OSError, ValueError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise CheckpointError(
            f"{path} {reason}; a model is a folder with {WEIGHTS} and {CONFIG}, save it again"
        ) from error
    return config


def description_digest(config: Mapping[str, Any]) -> str:
    """Digest of what decides which network is built, and what it is shown."""
    said = {key: config[key] for key in ("input",) if key in config}
    return values_digest({key: config.get(key) for key in ("model", "num_ids", "options", "stripped")} | said)


def read_calibration(folder: Path, weights: Callable[[], str]) -> dict[str, Any] | None:
    """The calibration of the weights in a folder; None where there is none, or one of other weights.

    Args:
        folder: of the model.
        weights: computes their digest.

    Raises:
        CheckpointError: it cannot be read.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return None
    try:
        content = parse_json(read_regular(path))
        if "format" not in content:
            raise ValueError("it is no calibration")
        about = content.setdefault("about", {})
        if about.get("digest", (known := calibration_digest(content))) != known:
            raise ValueError("not as it was written")
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); remove it and run 'regard calibrate'") from error
    if about.setdefault("weights", None) is None:
        warnings.warn(
            f"{path} does not say which weights it is of, as an earlier version wrote it; it is used, but run 'regard "
            f"calibrate' if the weights were replaced since",
            RegardWarning,
            stacklevel=3,
        )
    elif about["weights"] != weights():
        warnings.warn(
            f"{path} is of other weights than {WEIGHTS} beside it and is not used; run 'regard calibrate' again",
            RegardWarning,
            stacklevel=3,
        )
        return None
    return content


def as_json(content: Mapping[str, Any]) -> bytes:
    """Plain values as the bytes of a JSON file."""
    return (json.dumps(content, indent=2) + "\n").encode()


def model_folder(path: Path) -> Path:
    """The folder with the weights that ``path`` stands for: itself, its ``final/`` or ``best/``, or beside a graph; or
    that of a network that comes with regard, by its name.

    Raises:
        CheckpointError: there are none.
        ConfigError: it is another maker's network, and nothing says what that sees.
    """
    if str(path).startswith(SCHEME):
        raise CheckpointError(f"{path} is on a hub, wanted a folder; fetch it: regard import {path} -o models/NAME")
    if path.suffix in GRAPHS and path.is_file():
        from regard.registry import MODELS

        foreign: Any = MODELS.get(FOREIGN)  # brings torch
        return foreign.kept_beside(path)
    for folder in (path, path / "final", path / "best", ready_folder(path)):
        if folder and (folder / WEIGHTS).is_file():
            return folder
    if path.is_dir():
        raise CheckpointError(
            f"no {WEIGHTS} in {path} nor in its final/ or best/; give a folder that model.save() or a training wrote"
        )
    known = ready_names()
    ready = f", or {' or '.join(known)}, which comes with regard" if known else ""
    wanted = f"a folder that model.save() or a training wrote, a file in {' or '.join(GRAPHS)}{ready}"
    if path.exists():
        raise CheckpointError(
            f"no {WEIGHTS} in {path}, which is a file; give {wanted}; 'regard import' takes over checkpoints"
        )
    raise CheckpointError(f"no {WEIGHTS} in {path}, which is not there{nearest(str(path), known)}; give {wanted}")


def calibration_digest(content: Mapping[str, Any]) -> str:
    """Digest of what a calibration says, besides that digest."""
    about = {key: value for key, value in content.get("about", {}).items() if key != "digest"}
    return values_digest({**content, "about": about})
