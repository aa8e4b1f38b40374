"""Twins: two pictures that are the same but for one thing, and a mask of where that is."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import maximum_filter

from regard.cli.main import main
from regard.crowd import make_twins
from regard.crowd.clothes.canvas import LABELS
from regard.crowd.clothes.roster import draw_identity
from regard.crowd.dataset import twins as made
from regard.crowd.rng import Rng
from regard.errors import ConfigError, DataError
from regard.explain.twins import read_twins

OPTIONS = {"people": 4, "cameras": 2, "height": 64, "width": 32, "progress": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("twins") / "all"
    make_twins(root, **OPTIONS)
    return root


def test_a_folder_of_twins(folder, tmp_path):
    """Each part in turn, names as listed, the same bytes again, and pictures that are equal far from the mask."""
    listed = read_twins(folder)
    assert [twin.part for twin in listed] == ["bag", "shoes", "upper", "lower"]
    assert [twin.pid for twin in listed] == [1, 2, 3, 4]
    for twin in listed:
        first, second, mask = (np.asarray(Image.open(path)) for path in (twin.first, twin.second, twin.mask))
        assert first.shape == second.shape == (64, 32, 3)
        assert set(np.unique(mask)) == {0, 255}
        apart = np.abs(first.astype(int) - second).max(2)
        rows = np.flatnonzero((mask > 0).any(1))
        far = np.ones(64, bool)
        far[max(0, rows[0] - 16) : rows[-1] + 17] = False  # blocks of 8 of the video and of the file
        assert (apart[far] <= 2).all()
        assert apart[mask > 0].mean() > 20
    again = ["--people", "4", "--cameras", "2", "--height", "64", "--width", "32", "-q"]
    assert main(["data", "twins", str(tmp_path / "again"), *again]) == 0
    names = sorted(path.relative_to(folder) for path in folder.rglob("*.*"))
    assert len(names) == 13
    assert all((folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names)


@pytest.mark.parametrize(("part", "label"), [("shoes", "shoe"), ("lower", "lower")])
def test_the_mask_is_the_thing(part, label, clear_album):
    """What the renderer labels so in one of the two, but for its edge and for what is too alike to be seen."""
    person = made._dressed(draw_identity(3, "one"), Rng(1), part)
    pair = made.shoot_twins(clear_album.studio, "walk", (person, made._changed(person, Rng(2), part)), 1)
    labeled = (pair.first.labels == LABELS[label]) | (pair.second.labels == LABELS[label])
    assert not pair.mask[~maximum_filter(labeled, 7)].any()
    assert (pair.mask & labeled).sum() >= 0.6 * labeled.sum()
    both = ~pair.mask & ~labeled
    assert (pair.first.labels[both] == pair.second.labels[both]).all()


def test_what_cannot_be_made(tmp_path, folder, monkeypatch):
    with pytest.raises(ConfigError, match="unknown part 'shoe', did you mean 'shoes'"):
        make_twins(tmp_path / "new", **OPTIONS, parts=["shoe"])
    with pytest.raises(DataError, match="exists and is not empty"):
        make_twins(folder, **OPTIONS)
    monkeypatch.setattr(made, "LEAST", 0.9)
    monkeypatch.setattr(made, "TRIES", 1)
    with pytest.raises(ConfigError, match="no difference of shoes can be seen in 1 walks"):
        make_twins(tmp_path / "new", **OPTIONS, parts=["shoes"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other"}, "lists no twins"),
        ({"twins": []}, "lists no twins"),
        ({"twins": [{"first": "a"}]}, "entry 0 .* is none"),
        ({"twins": [{"first": "../a", "second": "b", "mask": "c", "part": "bag", "pid": 1}]}, "no file inside"),
        ({"twins": [{"first": "/etc/hosts", "second": "b", "mask": "c", "part": "bag", "pid": 1}]}, "no file inside"),
    ],
)
def test_a_list_of_somebody_else(change, said, folder, tmp_path):
    content = json.loads((folder / "twins.json").read_text()) | change
    (tmp_path / "twins.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=said):
        read_twins(tmp_path)
