"""MSEA Net against descriptors computed by the author's code on weights that are filled from their names."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path

import named_weights
import numpy as np
import pytest
import torch

import regard

HERE = Path(__file__).parent
ENTRIES = [e for e in json.loads((HERE / "apnet_more.json").read_text()) if e["impl"].startswith("msea")]
TOLERANCE = 2e-5
PRESETS = {"msea2023": "2023", "mseahead": "head"}
each_entry = pytest.mark.parametrize(
    "entry",
    [pytest.param(e, marks=[pytest.mark.slow] if e["size"] == [384, 192] else []) for e in ENTRIES],
    ids=lambda e: f"{e['impl']}-l{e['level']}-{e['size'][0]}",
)


def released_keys(impl: str, level: int) -> dict[str, list[int]]:
    """Names and shapes at a level; those of levels 0 and 1 follow from those of level 2."""
    keys = named_weights.keys(f"{impl}_l2")
    if level < 2:
        keys = {key: shape for key, shape in keys.items() if not key.startswith(("att_s", "BN"))}
    if level == 0:
        keys = {key: shape for key, shape in keys.items() if not key.startswith("att")}
    elif level == 1 and impl == "mseahead":
        for tap, channels in enumerate((64, 256, 512, 1024, 2048), start=1):
            hidden = max(channels // 4, 32)
            keys |= {f"att{tap}.fc1.weight": [hidden, channels, 1, 1], f"att{tap}.fc2.weight": [channels, hidden, 1, 1]}
            vectors = ("fc1.bias", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var")
            keys |= {f"att{tap}.{vector}": [hidden] for vector in vectors}
    return keys


@functools.cache
def released(impl: str, level: int) -> regard.ReIDModel:
    return regard.import_released(named_weights.state_dict(released_keys(impl, level)), network="msea")


@functools.cache
def white_noise(height: int, width: int) -> torch.Tensor:
    values = 2 * named_weights.uniform("input", 2 * 3 * height * width) - 1
    return torch.from_numpy(values.reshape(2, 3, height, width).astype(np.float32))


def close(expected, tolerance: float = TOLERANCE):
    """Relative to numbers above one: features that were squared five times reach 1e9."""
    return pytest.approx(expected, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize(("impl", "kernel"), [("msea2023", 3), ("mseahead", 5)])
def test_whole_descriptor(impl, kernel):
    model = released(impl, 2)
    assert (model.options["preset"], model.options["level"], model.options["kernel"]) == (PRESETS[impl], 2, kernel)
    assert (model.import_report.unused, model.import_report.missing) == ([], [])
    with np.load(HERE / f"{impl}_l2.256x128.npz") as stored:
        expected = stored["feature"]
    ours = model.embed(torch.from_numpy(named_weights.image(2, 256, 128))).numpy()
    assert np.abs(ours - expected).max() < TOLERANCE


@each_entry
def test_other_levels_and_sizes(entry):
    ours = released(entry["impl"], entry["level"]).embed(white_noise(*entry["size"]))
    expected = entry["eval"]
    assert list(ours.shape) == expected["shape"]
    assert ours.flatten()[:8].tolist() == close(expected["head"])
    assert ours.flatten()[-4:].tolist() == close(expected["tail"])
    assert ours.mean().item() == close(expected["mean"])
    assert ours.std().item() == close(expected["std"])
    assert ours.norm(dim=1).tolist() == close(expected["l2"])


@pytest.mark.slow
@each_entry
def test_training_mode(entry):
    """Level 2 normalizes vectors of two images of noise that hardly differ: their last bits become the first digits,
    see the same test of APNet."""
    with torch.no_grad():
        ours = copy.deepcopy(released(entry["impl"], entry["level"])).train()(white_noise(*entry["size"]))
    expected = entry["train"]
    logits, features = ours.logits["global"], ours.features["global"]
    assert list(logits.shape) == expected["score_shape"]
    assert list(features.shape) == expected["feat_shape"]
    assert features.flatten()[:4].tolist() == close(expected["feat_head"], TOLERANCE if entry["level"] < 2 else 0.1)
    if entry["level"] < 2:
        assert logits.flatten()[:4].tolist() == close(expected["score_head"], 5e-4)
