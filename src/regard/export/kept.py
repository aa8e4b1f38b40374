"""The export that is kept with a model, opened without the network: a search with a photograph loads no torch.

A run's exports lie in its ``exports`` folder; ``regard export`` writes them, and so does whatever computes with ONNX
Runtime or OpenVINO. One stands for the network where it was made of the weights that lie in the folder now, all read
again and counted, for the same pictures. Where none does, the network itself is asked.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
from pathlib import Path

from regard.errors import CheckpointError, ConfigError
from regard.export.engines import Engine, open_runtime
from regard.export.manifest import Card, read_card, read_export
from regard.export.packages import is_installed
from regard.fingerprint import tensors_digest
from regard.input_spec import InputSpec
from regard.models.folder import CONFIG, WEIGHTS, description_digest, model_folder, read_description
from regard.models.ready import cache_of_ready, ready_name
from regard.places import run_home
from regard.storage import read_regular

__all__ = ["exports_folder", "kept_engine", "runtime_name"]

LIGHTEST = ("onnxruntime", "openvino")
"""Engines by what they take for a few pictures: seconds until the first, and memory."""


def exports_folder(folder: Path) -> Path:
    """Where a run's exports are kept, or a saved model's."""
    folder = model_folder(folder)
    if name := ready_name(folder):
        return cache_of_ready(name) / "exports"
    home = run_home(folder)
    return (home if home == folder.parent else folder) / "exports"  # the network of an epoch has its own


def runtime_name() -> str | None:
    """The lightest engine that is installed and needs no torch; None where there is none."""
    return next((name for name in LIGHTEST if is_installed(name)), None)


def kept_engine(folder: Path, seen: InputSpec) -> tuple[Engine | None, str]:
    """An engine in fp32 for the export that is kept of a model, or none and why.

    Args:
        folder: with the model's weights.
        seen: what the network sees.
    """
    if (name := runtime_name()) is None:
        return None, "neither onnxruntime nor openvino is installed (pip install 'regard[export]')"
    try:
        card = fitting(folder, seen)
        if card is None:
            return None, f"no export of it is kept (regard export {folder} --to onnx --size {seen.height}x{seen.width})"
        path = exports_folder(folder) / f"{card.stem}.onnx"
        card, contents = read_export(path)
        return open_runtime(name, contents, card), ""
    except (CheckpointError, ConfigError) as error:
        return None, str(error)
    finally:
        give_back()


def fitting(folder: Path, seen: InputSpec) -> Card | None:
    """The card of the export that was made of the weights in a folder, for such pictures; None where there is none."""
    config = read_description(folder)
    if config.get("digest", (known := description_digest(config))) != known:
        return None  # whoever builds the network says so
    stem = f"{glob.escape(str(config.get('model')))}-{seen.height}x{seen.width}-*.onnx"
    digests: dict[tuple[str, ...], str] = {}
    for path in sorted(exports_folder(folder).glob(stem)):
        with contextlib.suppress(CheckpointError):
            card, parts = read_card(path), ()
            parts = card.dispensable
            if parts is None or path.stem != card.stem or card.precision != "fp32" or not card.plain:
                continue
            if (card.interpolation, card.mean, card.std) != (seen.interpolation, seen.mean, seen.std):
                continue
            if parts not in digests:
                digests[parts] = weights_in(folder, parts)
            if digests[parts] == card.weights:
                return card
    return None


def weights_in(folder: Path, without: tuple[str, ...]) -> str:
    """What the weights in a folder are known by (:func:`regard.models.saved.weights_digest`), some parts left out.

    Raises:
        CheckpointError: they cannot be read, or are damaged.
    """
    try:
        return tensors_digest(read_regular(folder / WEIGHTS), without)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{folder} holds no model that is whole ({error}); restore {WEIGHTS} and {CONFIG}, or save it again"
        ) from error


def give_back() -> None:
    """Let the system have the memory that reading and preparing a network has left over, where its C library can."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
