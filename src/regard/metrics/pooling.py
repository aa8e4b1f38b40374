"""Many images asked or stored as one: multi-query and tracklets.

Shapes: N images, D descriptor length, P groups.

Multi-query (Market-1501): all images of a person by one camera become one query. Tracklets: all images of one track
become one descriptor. Both pool descriptors over groups of equal keys.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from regard.errors import ConfigError, nearest
from regard.metrics.distance import Array, as_features, check_lengths, inverse_lengths
from regard.metrics.feature_set import Ids, as_ids, as_pids

__all__ = ["POOLINGS", "Pooled", "pool_features"]

POOLINGS = ("mean", "max")


class Pooled(NamedTuple):
    """One descriptor per group, in the order of (pid, camid, tracklet).

    Attributes:
        features: (P, D) float32.
        pids, camids: (P,) int64; camids None if there are no cameras.
        sizes: (P,) int64 images pooled.
    """

    features: np.ndarray
    pids: np.ndarray
    camids: np.ndarray | None
    sizes: np.ndarray


def pool_features(
    features: Array,
    pids: Ids,
    camids: Ids | None = None,
    tracklets: Ids | None = None,
    *,
    how: str = "mean",
    normalize: bool = True,
) -> Pooled:
    """Pool descriptors over images of the same person by the same camera, and of the same tracklet if given.

    Args:
        features: (N, D) descriptors.
        pids: (N,) identities.
        camids: (N,) cameras, or None.
        tracklets: (N,) track numbers, or None.
        how: "mean" or "max", the largest value of each column.
        normalize: bring descriptors to unit length first, as for the cosine distance.

    Raises:
        ConfigError: the pooling is unknown.
        DataError: the arrays do not fit each other or are not finite.
    """
    if how not in POOLINGS:
        raise ConfigError(f"unknown pooling {how!r}{nearest(how, POOLINGS)}; known: {', '.join(POOLINGS)}")
    values = as_features(features, "pooled")
    check_lengths(values, "pooled", "cosine" if normalize else "euclidean")
    count = len(values)
    keys = [as_pids(pids, count, "pids")]
    keys += [
        as_ids(ids, count, name) for ids, name in ((camids, "camids"), (tracklets, "tracklets")) if ids is not None
    ]
    groups, index, sizes = np.unique(np.stack(keys, 1), axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(index.ravel(), kind="stable")
    pooled = values.new_empty((len(groups), values.shape[1]))
    scale = inverse_lengths(values) if normalize else values.new_ones(count)
    for row, members in enumerate(np.split(order, np.cumsum(sizes)[:-1])):
        which = torch.from_numpy(members).to(values.device)
        part = values[which] * scale[which, None]
        pooled[row] = part.mean(0) if how == "mean" else part.amax(0)
    return Pooled(pooled.cpu().numpy(), groups[:, 0], None if camids is None else groups[:, 1], sizes)
