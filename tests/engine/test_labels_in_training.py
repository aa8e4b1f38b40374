"""Labels named in the configuration reach training: attached, packed, drawn."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from test_runs import config_for

from regard.data.labels import read_labels
from regard.engine.run import start_run
from regard.errors import ConfigError, DataError
from regard.recipes import read_recipe
from regard.run_folder.opened_data import open_data


@pytest.fixture
def masks(market, tmp_path):
    """Masks of the training pictures in a folder of their own: the upper half is the person."""
    folder = tmp_path / "masks" / "bounding_box_train"
    folder.mkdir(parents=True)
    picture = np.zeros((48, 24), np.uint8)
    picture[:24] = 255
    for path in (market / "bounding_box_train").iterdir():
        Image.fromarray(picture).save(folder / path.name)
    return tmp_path / "masks"


def configured(tiny_overrides, *more):
    labels = ["data.labels=[mask]", "model.pab=false", "losses.pab=null"]
    return read_recipe("daaf_crowd").config([*tiny_overrides, *labels, *more])


def test_masks_of_a_folder_are_trained_on_and_packed(tiny_overrides, masks, tmp_path):
    pack = tmp_path / "labels.pack"
    config = configured(
        tiny_overrides, f"data.label_files.market1501.mask_root={masks}", f"data.label_files.market1501.pack={pack}",
        "train.epochs=1", "train.eval_every=null",
    )  # fmt: skip
    start_run(config, tmp_path / "run", quiet=True)
    assert pack.is_file()
    mask = read_labels(open_data(config, quiet=True).train[0]).mask
    assert mask is not None
    half = len(mask) // 2
    assert mask[: half - 2].min() == 255
    assert mask[half + 2 :].max() == 0


def test_gaps_are_told(tiny_overrides, masks):
    next((masks / "bounding_box_train").iterdir()).unlink()
    config = configured(tiny_overrides, f"data.label_files.market1501.mask_root={masks}")
    with pytest.raises(DataError, match="1 of 36 photos have no whole label 'mask'"):
        open_data(config, quiet=True)
    tolerant = configured(
        tiny_overrides, f"data.label_files.market1501.mask_root={masks}", "data.label_files.market1501.tolerance=0.1"
    )
    assert len(open_data(tolerant, quiet=True).train) == 36


def test_nothing_is_attached_where_nothing_is_trained_on(tiny_overrides, masks):
    overrides = [*tiny_overrides, f"data.label_files.market1501.mask_root={masks / 'gone'}"]
    assert len(open_data(config_for("baseline_crowd", overrides), quiet=True).train) == 36


def test_label_files_belong_to_a_data_set(tiny_overrides):
    with pytest.raises(ConfigError, match="unknown data set 'markt1501', did you mean 'market1501'"):
        configured(tiny_overrides, "data.label_files.markt1501.pack=x")
