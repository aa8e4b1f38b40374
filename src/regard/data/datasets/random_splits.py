"""Options of data sets, and the random splits of small ones.

Early data sets publish no fixed split: results are means over ten random ones. Ours are drawn from a hash, so that they
are the same on every machine and with every version of every library. They are exact halves, as published, of data sets
that do not grow; people's own folders are divided against a threshold (:mod:`regard.data.datasets.folder`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from regard.errors import ConfigError

__all__ = ["NUM_SPLITS", "choice", "pick_training_ids"]

NUM_SPLITS = 10
"""Random splits over which results are averaged."""


def choice(name: str, option: str, value: Any, allowed: Iterable[Any]) -> Any:
    """``value``, which must be one of ``allowed`` and of the same type.

    Raises:
        ConfigError: it is not.
    """
    allowed = list(allowed)
    if not any(value == one and type(value) is type(one) for one in allowed):
        listed = ", ".join(map(str, allowed))
        raise ConfigError(f"{name}: option {option} is {value!r}, expected one of {listed}; correct it")
    return value


def pick_training_ids(name: str, pids: Iterable[int], split: int) -> set[int]:
    """The half of the identities to train on in random split ``split``; with an odd number the smaller half.

    Raises:
        ConfigError: ``split`` is not 0..9.
    """
    choice(name, "split", split, range(NUM_SPLITS))

    def draw(pid: int) -> bytes:
        return hashlib.sha256(f"{name} {split} {pid}".encode()).digest()

    drawn = sorted(set(pids), key=draw)
    return set(drawn[: len(drawn) // 2])
