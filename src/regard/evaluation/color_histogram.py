"""What color alone achieves: a descriptor without learning, to measure learning against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from tqdm import tqdm

from regard.data.image import read_image
from regard.data.labels import read_labels
from regard.data.transforms import resize
from regard.errors import DataError
from regard.structures import Sample

__all__ = ["color_histograms"]


def color_histograms(
    samples: Sequence[Sample], stripes: int = 6, bins: int = 8, *, masked: bool = False, progress: str | None = None
) -> np.ndarray:
    """Joint HSV histograms of horizontal stripes, square roots taken (the Hellinger kernel under a cosine).

    Args:
        samples: N images on disk.
        stripes: parts a picture is cut into from top to bottom, so that shirt and trousers count apart.
        bins: per color channel.
        masked: count only pixels inside the person's mask, which is a label no other method is given; all pixels of a
            picture that shows nobody, as of a distractor.
        progress: title of a progress bar; None shows none.

    Returns:
        (N, stripes * bins ** 3) float32.

    Raises:
        DataError: ``masked``, and a sample has no mask.
    """
    out = np.empty((len(samples), stripes, bins**3), np.float32)
    for row, sample in enumerate(tqdm(samples, progress, unit="image", disable=progress is None, leave=False)):
        hsv = np.asarray(Image.fromarray(read_image(sample.path)).convert("HSV"), np.int64) * bins // 256
        inside = _mask(sample, *hsv.shape[:2]) if masked else np.ones(hsv.shape[:2], bool)
        inside = inside if inside.any() else ~inside
        codes = (hsv[..., 0] * bins + hsv[..., 1]) * bins + hsv[..., 2]
        for part, rows in enumerate(np.array_split(np.arange(len(codes)), stripes)):
            counts = np.bincount(codes[rows][inside[rows]], minlength=bins**3)
            out[row, part] = np.sqrt(counts / max(1, counts.sum()))
    return out.reshape(len(samples), -1)


def _mask(sample: Sample, height: int, width: int) -> np.ndarray:
    """Return where the person is, (height, width) bool, wherever the mask is kept."""
    mask = read_labels(sample, ("mask",)).mask
    if mask is None:
        raise DataError(f"{sample.path} has no person mask; leave masked off, or use a data set with masks")
    return resize(mask, height, width, mask=True) > 0
