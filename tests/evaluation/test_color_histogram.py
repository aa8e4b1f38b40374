from __future__ import annotations

import numpy as np
from PIL import Image

from regard.evaluation.color_histogram import color_histograms
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
