"""Training targets: what is known of a picture besides who it shows, drawn as maps that follow the picture's geometry.

A :class:`TrainingLabels` turns a sample's mask and keypoints into :class:`Target` maps for ``Batch.extra``.
"""

from __future__ import annotations

from regard.data.labels.heatmaps import draw_heatmaps, gaussian_size
from regard.data.labels.joints import FLIPPED, JOINTS
from regard.data.labels.mask import read_mask
from regard.data.labels.target import Target, stack_targets
from regard.data.labels.training import LabelKind, TrainingLabels

__all__ = [
    "FLIPPED",
    "JOINTS",
    "LabelKind",
    "Target",
    "TrainingLabels",
    "draw_heatmaps",
    "gaussian_size",
    "read_mask",
    "stack_targets",
]
