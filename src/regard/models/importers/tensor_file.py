"""Tensors from files of any origin, read without running anything they contain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from regard.errors import CheckpointError, StorageError
from regard.models.importers.mindspore_file import is_mindspore, read_mindspore
from regard.storage import check_text

__all__ = ["as_tensors", "read_tensors"]

WRAPPERS = ("state_dict", "model", "net")
"""Keys under which training scripts put the weights, beside optimizer and epoch."""


class _KindOfNumber(SimpleNamespace):
    """What stands for ``numpy.dtype`` in a pickle: nothing that it is told is kept."""

    def __init__(self, *_told: object):
        super().__init__()

    def __setstate__(self, state: object) -> None:
        """Forget it."""


def _number(*_told: object) -> None:
    """What stands for a number of NumPy's, as the score that torchreid writes beside its weights: None."""


HARMLESS = [
    (_number, "numpy.core.multiarray.scalar"),
    (_number, "numpy._core.multiarray.scalar"),
    (_KindOfNumber, "numpy.dtype"),
]
"""What may be named in a torch file besides tensors and plain values, and what is made instead of it."""


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """Named tensors of a safetensors, torch (``.pt``, ``.pth``, …) or MindSpore file (``.ckpt``), on the CPU.

    Torch files are read with ``weights_only=True``, numbers of NumPy's among their plain values as None; wrappers and
    ``module.`` prefixes are taken off.

    Raises:
        CheckpointError: no such file, damaged, or without named tensors.
        StorageError: its name is no text.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no file {path}; give the path of a .safetensors, .pt, .pth or .ckpt file")
    try:
        if path.suffix == ".safetensors":
            check_text(path)
            return safetensors.torch.load_file(path)
        of_torch = not is_mindspore(path)
        with torch.serialization.safe_globals(HARMLESS):
            content = torch.load(path, map_location="cpu", weights_only=True) if of_torch else read_mindspore(path)
    except (CheckpointError, StorageError):
        raise
    except Exception as error:  # a damaged file can break its reader anywhere
        raise CheckpointError(f"{path} {_reason(error)}") from error
    return as_tensors(content, source=str(path))


def as_tensors(content: Any, source: str) -> dict[str, Tensor]:
    """Named tensors from what a checkpoint holds: unwrapped, ``module.`` taken off, arrays made tensors.

    Args:
        content: mapping of names to tensors or arrays, or a mapping that holds one under a usual key.
        source: where it came from, for the error message.

    Raises:
        CheckpointError: there are no named tensors, or one does not hold all its numbers.
    """
    while isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    tensors = {}
    if isinstance(content, Mapping):
        for key, value in content.items():
            if isinstance(value, np.ndarray | np.generic):
                value = torch.from_numpy(np.asarray(value))
            if isinstance(value, Tensor):
                name = str(key).removeprefix("module.")
                if name in tensors:
                    raise CheckpointError(
                        f"{source} holds {name} twice, with and without 'module.' before it; save the one that is meant"
                    )
                if value.layout != torch.strided or value.is_meta:
                    kind = "empty (meta)" if value.is_meta else "sparse"
                    raise CheckpointError(
                        f"{source} holds {name} as a tensor that is {kind}, wanted all its numbers; save the state "
                        "dict of the trained network"
                    )
                tensors[name] = value.detach().cpu()
    if not tensors:
        raise CheckpointError(
            f"{source} holds no named tensors, but {type(content).__name__}; give a file with the network's state dict"
        )
    return tensors


def _reason(error: Exception) -> str:
    message = str(error).strip() or type(error).__name__
    if "weights only" in message.lower():
        return "holds Python objects, which are not loaded because they could run code; save the state dict alone"
    return f"is damaged or not a file of tensors ({message.splitlines()[0]}); copy or download it again"
