"""Data: data sets on disk, the synthetic crowd, samplers, transforms and loaders."""

from regard.data.datasets import load_dataset

__all__ = ["load_dataset"]
