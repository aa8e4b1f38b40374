"""Data: data sets on disk, the synthetic crowd, samplers, transforms and loaders.

Names are loaded when they are first used: reading a data set needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regard.lazy import lazily

if TYPE_CHECKING:
    from regard.data.datasets import detect, load_dataset, unmatched_queries
    from regard.data.image import read_image
    from regard.data.loaders import class_pids, test_loader, train_loader
    from regard.data.resizing import TestTransform
    from regard.data.samplers import PKBatchSampler
    from regard.data.transforms import TrainTransform, normalize

_HOME = {
    "PKBatchSampler": "regard.data.samplers",
    "TestTransform": "regard.data.resizing",
    "TrainTransform": "regard.data.transforms",
    "class_pids": "regard.data.loaders",
    "detect": "regard.data.datasets",
    "load_dataset": "regard.data.datasets",
    "normalize": "regard.data.transforms",
    "read_image": "regard.data.image",
    "test_loader": "regard.data.loaders",
    "train_loader": "regard.data.loaders",
    "unmatched_queries": "regard.data.datasets",
}

__all__ = [
    "PKBatchSampler",
    "TestTransform",
    "TrainTransform",
    "class_pids",
    "detect",
    "load_dataset",
    "normalize",
    "read_image",
    "test_loader",
    "train_loader",
    "unmatched_queries",
]

__getattr__, __dir__ = lazily(__name__, _HOME)
