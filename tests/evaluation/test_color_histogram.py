from __future__ import annotations

import numpy as np
from PIL import Image

from regard.data.labels import LabeledSample
from regard.data.labels.coco import Outline
from regard.evaluation.embed import color_histograms
from regard.structures import Sample


def test_a_picture_whose_mask_shows_nobody_is_counted_whole(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    samples = []
    for name, inside in (("none", 0), ("all", 255)):
        Image.new("L", (12, 24), inside).save(tmp_path / f"{name}.png")
        samples.append(Sample(tmp_path / "a.png", 0, 1, mask=tmp_path / f"{name}.png"))
    nobody, whole = color_histograms(samples, masked=True)
    np.testing.assert_array_equal(nobody, whole)
    np.testing.assert_allclose(np.square(whole).sum(), 6, rtol=1e-6)


def test_a_mask_is_read_as_labels_are(tmp_path):
    """Scattered grays of JPEG, a threshold, an outline, a mask of another size: always the 200 pixels of the person."""
    pixels = np.zeros((40, 20, 3), np.uint8)
    pixels[10:30, 5:15] = (250, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    mask = np.zeros((40, 20), np.uint8)
    mask[10:30, 5:15] = 255
    Image.fromarray(mask).save(tmp_path / "scattered.jpg", quality=50)
    Image.fromarray(np.where(mask, 200, 60).astype(np.uint8)).save(tmp_path / "levels.png")
    Image.fromarray(mask.repeat(2, 0).repeat(2, 1)).save(tmp_path / "large.png")
    corners = [5, 10, 15, 10, 15, 30, 5, 30]
    assert (np.asarray(Image.open(tmp_path / "scattered.jpg")) > 0).sum() > 200
    samples = [
        Sample(tmp_path / "a.png", 1, 1, mask=tmp_path / "scattered.jpg"),
        LabeledSample(tmp_path / "a.png", 1, 1, mask=tmp_path / "levels.png", mask_threshold=100),
        LabeledSample(tmp_path / "a.png", 1, 1, outline=Outline([corners], 40, 20)),
        Sample(tmp_path / "a.png", 1, 1, mask=tmp_path / "large.png"),
    ]
    for found in color_histograms(samples, stripes=4, masked=True).reshape(4, 4, -1)[:, 1:3]:
        assert (np.count_nonzero(found, axis=1) == 1).all()  # red alone: no pixel of the background
