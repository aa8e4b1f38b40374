"""A test loader whose pictures are corrupted before they are resized, in its workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from regard.data.loaders import Crops, InOrder, Loader, Transform
from regard.structures import Sample

__all__ = ["Corrupt", "CorruptedCrops", "corrupted_loader", "picture_name"]

Corrupt = Callable[[np.ndarray, str], np.ndarray]
"""(h, w, 3) uint8 picture and its name -> a corrupted one, such as :class:`~regard.data.corruptions.Corruption`."""


class CorruptedCrops(Crops):
    """All samples under one corruption after the other, see :class:`~regard.data.loaders.Crops`.

    Args:
        samples: what to read.
        transform: applied to every corrupted picture.
        corruptions: each applied to every decoded picture.
    """

    def __init__(self, samples: Sequence[Sample], transform: Transform, corruptions: Sequence[Corrupt]):
        repeated = [*samples] * len(corruptions)
        super().__init__(repeated, [sample.pid for sample in repeated], transform)
        self.corruptions = corruptions
        self.round = len(samples)

    def _picture(self, index: int) -> np.ndarray:
        corrupt = self.corruptions[index // self.round]
        return corrupt(super()._picture(index), picture_name(self.samples[index]))


def corrupted_loader(
    samples: Sequence[Sample],
    transform: Transform,
    corruptions: Sequence[Corrupt],
    *,
    batch_size: int,
    workers: int = 0,
    pin_memory: bool = False,
) -> Loader:
    """Batches of all samples in order under the first corruption, then under the next, and so on.

    One loader for all of them spares its workers from starting over; a batch may hold the end of one round and the
    beginning of the next. Otherwise as :func:`~regard.data.loaders.test_loader`.
    """
    crops = CorruptedCrops(samples, transform, corruptions)
    return Loader(crops, InOrder(len(crops), batch_size), seed=0, workers=workers, pin_memory=pin_memory)


def picture_name(sample: Sample) -> str:
    """What corruptions are drawn by: folder and file name, the same wherever the data set lies."""
    return f"{sample.path.parent.name}/{sample.path.name}"
