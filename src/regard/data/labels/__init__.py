"""Attention labels: where the person is and where their joints are, from wherever a data set keeps them.

:func:`attach_labels` finds what belongs to each sample (released maps, COCO JSON, mask pictures), :func:`read_labels`
reads it, a :class:`LabelPack` holds all of it in one file, and :class:`TrainingLabels` places it where the
augmentation has put the picture, as the :class:`Target` maps of ``Batch.extra``.
"""

from __future__ import annotations

from regard.data.labels.attach import Coverage, LabelRoots, attach_labels, label_training
from regard.data.labels.joints import FLIPPED, JOINTS, SKELETON, draw_heatmaps, find_peaks, gaussian_size
from regard.data.labels.labeled import LabeledSample, LabelKind, Labels, has_label, read_labels, read_mask
from regard.data.labels.pack import LabelPack, open_pack, pack_labels
from regard.data.labels.training import Target, TrainingLabels, stack_targets

__all__ = [
    "FLIPPED", "JOINTS", "SKELETON", "Coverage", "LabelKind", "LabelPack", "LabelRoots", "LabeledSample", "Labels",
    "Target", "TrainingLabels", "attach_labels", "draw_heatmaps", "find_peaks", "gaussian_size", "has_label",
    "label_training", "open_pack", "pack_labels", "read_labels", "read_mask", "stack_targets",
]  # fmt: skip
