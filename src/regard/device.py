"""Where a network computes: the processor, or a GPU by its number.

``auto`` is the first GPU that there is, else the processor, unless a device is preferred: ``regard eval RUN --device
cuda:1`` prefers one for as long as the command lasts, and Python does with :func:`prefer_device`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from regard.errors import ConfigError
from regard.wording import count

if TYPE_CHECKING:
    import torch

__all__ = ["check_device_name", "choose_device", "is_there", "prefer_device", "preferred_device"]

NAMES = r"auto|cpu|mps|cuda(:(0|[1-9]\d{0,2}))?"

_preferred: ContextVar[str | None] = ContextVar("preferred", default=None)


def check_device_name(name: Any, setting: str = "") -> str:
    """Return the name of a device as it is, whether there is such a device or not.

    Raises:
        ConfigError: it is none; ``setting`` is what to call it in that error.
    """
    if not isinstance(name, str) or not re.fullmatch(NAMES, name):
        said = f"{setting} is" if setting else "got"
        raise ConfigError(f"{said} {name!r}, wanted auto, cpu, cuda, cuda:NUMBER (from 0, as cuda:1) or mps")
    return name


def choose_device(name: str | None, setting: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``auto`` or None takes the preferred one, else the first GPU that
            there is, else the processor.
        setting: what to call it in an error.

    Raises:
        ConfigError: it is no such name, or torch sees no such device here.
    """
    import torch

    if check_device_name("auto" if name is None else name, setting) == "auto":
        name = preferred_device() or next(kind for kind in ("cuda", "mps", "cpu") if is_there(kind))
    assert name is not None
    if not is_there(name):
        raise ConfigError(f"{setting} is {name}, but torch sees {_seen()}")
    return torch.device(name)


def is_there(name: str) -> bool:
    """Return whether torch sees the device ``name`` (not ``auto``) on this machine."""
    import torch

    kind, _, number = name.partition(":")
    if kind == "cuda":
        return torch.cuda.is_available() and int(number or 0) < torch.cuda.device_count()
    return kind == "cpu" or torch.backends.mps.is_available()


def preferred_device() -> str | None:
    """Return the name of the device that is preferred where none is asked for; None where that is any."""
    return _preferred.get()


@contextmanager
def prefer_device(name: str | None, setting: str = "device") -> Iterator[None]:
    """Prefer a device where none is asked for; None leaves it as it is.

    Args:
        name: as of :func:`choose_device`.
        setting: what to call it in an error.

    Raises:
        ConfigError: it is no name of a device, or torch sees no such device here.
    """
    if name in (None, "auto"):
        yield
        return
    token = _preferred.set(str(choose_device(name, setting)))
    try:
        yield
    finally:
        _preferred.reset(token)


def _seen() -> str:
    import torch

    number = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not number:
        return "no such device here; use auto or cpu"
    there = "cuda:0" if number == 1 else f"cuda:0 to cuda:{number - 1}"
    return f"{count(number, 'CUDA device')} here; use {there}, auto or cpu"
