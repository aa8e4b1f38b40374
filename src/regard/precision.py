"""In what numbers a network multiplies."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal, cast, get_args

import torch

from regard.errors import ConfigError, check_choice

__all__ = ["DIGITS", "Precision", "Products", "at_least_float32", "precision_of", "resolve_precision"]

Precision = Literal["fp32", "tf32", "bf16", "fp16"]

DIGITS = 8
"""Roundings of a sum, in units of the last digit of its terms, that add up on the way to a map."""

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(name: str, device: str, setting: str) -> Precision:
    """What a setting means on a device: ``auto`` is bf16 where the hardware multiplies in it, else fp32.

    Args:
        name: ``auto`` or one of ``Precision``.
        device: type of the device: cpu, cuda, mps.
        setting: what to call it in an error.

    Raises:
        ConfigError: the device does not have it.
    """
    if name == "auto":
        native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        return "bf16" if device == "cuda" or (device == "cpu" and native()) else "fp32"
    if name == "tf32" and device != "cuda":
        raise ConfigError(f"{setting} is tf32, which {device} does not have; use fp32, bf16 or auto")
    return next(known for known in get_args(Precision) if known == name)


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Return half-precision numbers as float32, and float32 and float64 as they are.

    Mixed precision hands on halves where a sum or a softmax over a whole map or batch wants more; a network that
    somebody computes in float64 keeps all its digits.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


def precision_of(values: torch.Tensor) -> float:
    """Relative rounding of the numbers a network computed with, from their type and device."""
    short = values.is_cuda and (torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)
    own = torch.finfo(values.dtype).eps
    return max(own, 2**-10) if short and values.dtype == torch.float32 else own


class Products:
    """Context in which a network's products are of one precision, whatever they are around it; can be entered again.

    Args:
        precision: ``fp32`` are plain float32 products; ``tf32`` lets CUDA round their factors; ``bf16`` and ``fp16``
            are autocast.
        device: where the network is.
    """

    def __init__(self, precision: Precision, device: torch.device):
        check_choice("precision", precision, Precision)
        self.precision, self.device = precision, device
        self._before: list[tuple[Any, Any]] = []
        self._casts: list[torch.autocast] = []

    def __enter__(self) -> None:
        matmul, cudnn = torch.backends.cuda.matmul, cast(Any, torch.backends.cudnn)
        self._before.append((matmul.allow_tf32, cudnn.allow_tf32))
        matmul.allow_tf32 = cudnn.allow_tf32 = self.precision == "tf32"
        half = HALVES.get(self.precision)
        self._casts.append(torch.autocast(self.device.type, half or torch.bfloat16, enabled=half is not None))
        self._casts[-1].__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._casts.pop().__exit__(kind, error, trace)
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self._before.pop()
