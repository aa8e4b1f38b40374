"""Deterministic weights and inputs for parity checks against the originally released networks.

Every tensor of a released network's state dict is filled from its *key name* and shape alone, so a
re-implementation can be compared with the original without any checkpoint being shipped: build the
state dict with :func:`state_dict`, import it through the project's checkpoint importer, feed
:func:`image`, and compare the descriptor with the stored one.
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent


def uniform(name: str, n: int) -> np.ndarray:
    """``n`` float64 values in [0, 1): splitmix64 over ``(crc32(name) << 32) + index``."""
    with np.errstate(over="ignore"):
        x = np.arange(n, dtype=np.uint64) + (np.uint64(zlib.crc32(name.encode())) << np.uint64(32))
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) * (1.0 / (1 << 53))


# APNet-family files store the backbone twice; the second copy is an alias of the first.
ALIASES = {
    "base_1.0.": "base.conv1.",
    "base_1.1.": "base.bn1.",
    "base_2.0.": "base.layer1.",
    "base_3.0.": "base.layer2.",
    "base_4.0.": "base.layer3.",
    "base_5.0.": "base.layer4.",
}


def canonical(key: str) -> str:
    for alias, name in ALIASES.items():
        if key.startswith(alias):
            return name + key[len(alias) :]
    return key


def tensor(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Value of state-dict entry ``key`` (float32, or int64 zero for batch counters)."""
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, dtype=np.int64)
    u = uniform(canonical(key), int(np.prod(shape)) if shape else 1)
    if key.startswith("gamma") and shape == (1,):  # learned residual scale of an attention block
        w = 0.5 + u
    elif len(shape) <= 1:
        w = 0.5 + u if leaf in ("weight", "running_var") else (u - 0.5) * 0.2
    else:
        fan_in = int(np.prod(shape[1:]))
        w = (2 * u - 1) * math.sqrt(3.0 / fan_in)
    return w.reshape(shape).astype(np.float32)


def state_dict(keys: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """State dict for a ``{key: shape}`` table (see ``<network>.keys.json``)."""
    return {key: tensor(key, tuple(shape)) for key, shape in keys.items()}


def keys(network: str) -> dict[str, list[int]]:
    return json.loads((HERE / f"{network}.keys.json").read_text())


def image(batch: int, height: int, width: int) -> np.ndarray:
    """Normalised input (B, 3, H, W) float32: noise that is constant over 32 x 32-pixel cells."""
    cells = 3 * uniform("input", batch * 3 * (height // 32) * (width // 32)) - 1.5
    cells = cells.reshape(batch, 3, height // 32, width // 32)
    return cells.repeat(32, axis=2).repeat(32, axis=3).astype(np.float32)
