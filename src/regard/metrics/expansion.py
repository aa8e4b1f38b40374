"""Average query expansion: a query is replaced by the mean of itself and its nearest gallery images.

Shapes: Q queries, G gallery images, D descriptor length, n queries of one block.

With the weights cos^alpha, images that are barely similar count for less; alpha = 0 is the plain mean. Only queries
change, and gallery images by the query's own camera take part as they do in a search.

Sources: Chum et al., Total Recall: Automatic Query Expansion with a Generative Feature Model for Object Retrieval,
ICCV 2007; with weights, Radenovic et al., Fine-tuning CNN Image Retrieval with No Human Annotation, TPAMI 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.metrics.distance import Array, comparable, distance_blocks, inverse_lengths, ordering
from regard.metrics.ranking import nearest_images

__all__ = ["QueryExpansion", "expand_queries"]


@dataclass(frozen=True)
class QueryExpansion:
    """Options of the expansion.

    Args:
        k: gallery images averaged with the query.
        alpha: exponent of the weights; 0 weighs all alike.

    Raises:
        ConfigError: a value is out of range.
    """

    k: int = 5
    alpha: float = 0.0

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"query expansion with k={self.k}: average at least one gallery image, usually 5")
        if not 0 <= self.alpha < float("inf"):
            raise ConfigError(
                f"query expansion with alpha={self.alpha}: give an exponent of at least 0, usually 0 or 3"
            )

    def __str__(self) -> str:
        return f"k={self.k} alpha={self.alpha:g}"


def expand_queries(
    query: Array,
    gallery: Array,
    options: QueryExpansion | None = None,
    *,
    metric: str = "cosine",
    memory_mb: float = 256,
    device: torch.device | str | None = None,
) -> Tensor:
    """Queries averaged with their nearest gallery images.

    Args:
        query: (Q, D) descriptors.
        gallery: (G, D) descriptors, without junk.
        options: None takes the plain mean with five images.
        metric: finds the neighbors; with "cosine", descriptors are brought to unit length before they are averaged.
        memory_mb, device: as for :func:`regard.metrics.distance_blocks`.

    Returns:
        (Q, D) float32.

    Raises:
        ConfigError, DataError: as :func:`regard.metrics.distance_blocks`.
    """
    options = options or QueryExpansion()
    queries, targets = comparable(query, gallery, metric, device)
    expanded = torch.empty_like(queries)
    query_scale, scale = inverse_lengths(queries), inverse_lengths(targets)
    for rows, block in distance_blocks(queries, targets, metric=ordering(metric), memory_mb=memory_mb):
        columns = nearest_images(block, min(options.k, len(targets)))[1]
        for row, near in zip(range(rows.start, rows.stop), columns):
            own, others = queries[row], targets[near]
            cosine = ((others @ own) * query_scale[row] * scale[near]).clamp(min=0)
            weight = cosine**options.alpha
            if metric == "cosine":
                own, others = own * query_scale[row], others * scale[near, None]
            expanded[row] = (own + weight @ others) / (1 + weight.sum())
    return expanded
