"""Corruptions of pictures, to find out how far a model's descriptors hold.

The 20 kinds of the corrupted re-ID benchmark (Chen, Wang and Zheng, "Benchmarks for Corruption Invariant Person
Re-identification", NeurIPS 2021 Datasets and Benchmarks) at five severities each, occlusion, and lower resolution.
Kinds and levels are those of ImageNet-C (Hendrycks and Dietterich, ICLR 2019); the code is ours, and where it departs
the file of the family says so.

Lengths, published in pixels of 224 x 224, are multiplied by sqrt(h * w) / 224 for a stored picture of h x w, so that a
severity looks alike at every size. The benchmark does not do that: it applies them to crops as they are, which is far
stronger (``published_lengths``).
"""

from __future__ import annotations

from regard.data.corruptions.apply import FAMILIES, KINDS, Corruption, Mixed, Occlusion, Resolution, choose_kinds
from regard.data.corruptions.kind import SEVERITIES, Kind

__all__ = [
    "FAMILIES",
    "KINDS",
    "SEVERITIES",
    "Corruption",
    "Kind",
    "Mixed",
    "Occlusion",
    "Resolution",
    "choose_kinds",
]
