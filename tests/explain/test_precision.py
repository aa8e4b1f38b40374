"""Attention precision with planted answers: all on the person, none, half, and what chance is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import regard
from regard.data.labels import read_labels, read_mask
from regard.data.transforms import TestTransform
from regard.errors import DataError
from regard.explain.attention_precision import (
    attention_mass,
    measure_precision,
    pair_up,
    precision_figure,
    precision_row,
    precision_table,
)
from regard.explain.figures.map_figures import figure_bytes
from regard.layers.self_attention import DeepSelfAttention
from regard.structures import Sample

TINY = "test_resnet.r160_in1k"


def person(folder: Path, pid: int, camid: int) -> Sample:
    """A bright person, the left half of the upper half of a dark picture, with its mask."""
    picture = np.random.default_rng(10 * pid + camid).integers(0, 60, (96, 64, 3)).astype(np.uint8)
    mask = np.zeros((96, 64), np.uint8)
    mask[:48, :32] = 255
    picture[mask > 0] += 150
    path = folder / f"{pid:04d}_c{camid}s1_000001_00.png"
    Image.fromarray(picture).save(path)
    Image.fromarray(mask).save(path.with_suffix(".mask.png"))
    return Sample(path, pid, camid, mask=path.with_suffix(".mask.png"))


@pytest.fixture
def samples(tmp_path):
    return [person(tmp_path, pid, camid) for pid in range(1, 5) for camid in (1, 2)]


class Gate(DeepSelfAttention):
    """Keeps the upper left quarter of a map, or everything else."""

    def __init__(self, inside: bool):
        super().__init__(1, "released")
        self.inside = inside

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        gate = torch.zeros_like(x[:, :1])
        gate[..., : x.shape[2] // 2, : x.shape[3] // 2] = 1
        gate = gate if self.inside else 1 - gate
        return x * gate, {"spatial": gate}


def looking(inside: bool) -> nn.Module:
    """A network whose attention was made to look at the place of the person, or past it."""
    torch.manual_seed(0)
    model = regard.create_model("dsp", 4, backbone=TINY)
    model.attention = nn.ModuleDict({name: Gate(inside) for name in model.attention})
    return model


def test_mass_by_hand():
    mask = np.zeros((4, 4))
    mask[:2, :3] = 255
    maps = np.array([[[1, 0], [0, 0]], [[0, 2], [0, 0]], [[1, 1], [1, 1]], [[0, 0], [0, 0]], [[-5, 1], [0, 1]]])
    np.testing.assert_allclose(attention_mass(maps, [mask] * 5), [1, 0.5, 6 / 16, np.nan, 0.25])


def test_a_mask_of_a_jpeg_file_is_the_person_alone(tmp_path):
    """200 of 800 pixels, whether a sample has it or somebody reads it; its grays are refused, not counted."""
    mask = np.zeros((40, 20), np.uint8)
    mask[10:30, 5:15] = 255
    Image.fromarray(mask).save(tmp_path / "m.jpg", quality=50)
    grays = np.asarray(Image.open(tmp_path / "m.jpg"))
    assert (grays != 0).sum() > 200
    even = np.ones((1, 8, 4))
    assert attention_mass(even, [read_mask(tmp_path / "m.jpg")]) == pytest.approx(0.25)
    assert attention_mass(even, [read_labels(Sample(tmp_path, 1, 1, mask=tmp_path / "m.jpg")).mask]) == 0.25
    assert attention_mass(even, [mask // 255]) == attention_mass(even, [mask > 0]) == 0.25
    with pytest.raises(DataError, match=r"holds \d+ different numbers up to 255, expected 0 and 255"):
        attention_mass(even, [grays])


def test_masks_of_any_size_mean_the_same():
    random = np.random.default_rng(0)
    maps, mask = random.random((1, 6, 4)), random.random((12, 8)) > 0.6
    large = mask.repeat(5, axis=0).repeat(3, axis=1)
    np.testing.assert_allclose(attention_mass(maps, [mask]), attention_mass(maps, [large]))
    with pytest.raises(DataError, match="1 maps and 2 masks"):
        attention_mass(maps, [mask, mask])


def test_a_network_made_to_look_at_the_person_has_all_its_mass_there(samples):
    pairs = pair_up(samples, samples, 8)
    transform = TestTransform(96, 64)
    on = measure_precision(looking(inside=True), pairs, transform)
    off = measure_precision(looking(inside=False), pairs, transform)
    assert {"chance", "tap2.spatial", "tap4.spatial", "last map", "Grad-CAM tap2"} <= set(on)
    np.testing.assert_allclose(on["chance"], 0.25)
    for tap in ("tap2", "tap3", "tap4"):
        np.testing.assert_allclose(on[f"{tap}.spatial"], 1)
        np.testing.assert_allclose(off[f"{tap}.spatial"], 0)
        seen = on[f"Grad-CAM {tap}"]
        np.testing.assert_allclose(seen[np.isfinite(seen)], 1)
        assert np.isfinite(seen).any()
    row = precision_row("dsp", "tap3.spatial", off, on, np.array([sample.pid for sample, _ in pairs]))
    assert (row.untrained, row.trained, row.chance, row.images) == (0, 1, 0.25, 8)
    assert (row.low, row.high, row.gain_low, row.gain_high) == (1, 1, 1, 1)
    assert precision_table([row]).split()[7:14] == ["dsp", "tap3.spatial", "25.0", "0.0", "100.0", "[100.0,", "100.0]"]


def test_pairs(samples):
    pairs = pair_up(samples, samples, 100)
    assert len(pairs) == 8
    assert all(a.pid == b.pid and a.camid != b.camid for a, b in pairs)
    some = pair_up(samples, samples, 3)
    assert [a.pid for a, _ in some] == [1, 2, 4]
    with pytest.raises(DataError, match="none of 1 pictures has a person mask and a partner"):
        pair_up(samples[:1], samples[:1], 5)


def test_intervals_hold_the_mean_and_empty_maps_are_said():
    random = np.random.default_rng(0)
    pids = np.repeat(np.arange(20), 5)
    before, after = random.random(100) / 2, random.random(100)
    nothing = np.full(100, np.nan)
    chance = np.full(100, 0.3)
    row = precision_row("a", "b", {"b": before}, {"b": after, "chance": chance}, pids)
    assert row.low < row.trained < row.high
    assert row.gain == pytest.approx(row.trained - row.untrained)
    assert row.gain_low < row.gain < row.gain_high
    new = precision_row("a", "mask", {"mask": nothing}, {"mask": after, "chance": chance}, pids)
    assert np.isnan(new.untrained)
    assert (new.trained, new.images) == (row.trained, 100)
    dead = precision_row("a", "dead", {"dead": before}, {"dead": nothing, "chance": chance}, pids)
    assert dead.images == 0
    table = precision_table([row, new, dead])
    assert table.splitlines()[2].split()[:4] == ["a", "mask", "30.0", "-"]
    assert table.splitlines()[3].split()[-3:] == ["-", "-", "0"]
    assert figure_bytes(precision_figure([row, new, dead]), dpi=30)
