"""Horizontal stripes: a feature map as a column of part vectors, head to feet.

Shapes: B images, C channels, H x W positions, P stripes.

Y. Sun et al., "Beyond Part Models: Person Retrieval with Refined Part Pooling", ECCV 2018, arXiv:1711.09349,
section 3.1.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from regard.errors import ConfigError

__all__ = ["stripe_averages", "stripe_rows"]


def stripe_averages(x: Tensor, count: int) -> Tensor:
    """Mean over each of P equally tall stripes: (B, C, H, W) -> (B, C, P).

    Stripes begin every floor(H / P) rows and are H - (P - 1) floor(H / P) rows tall, so that together they cover the
    map: side by side where P divides H, overlapping by the remainder where not (:func:`stripe_rows`).

    Args:
        x: the map.
        count: P.

    Raises:
        ConfigError: the map has fewer than P rows.
    """
    rows = x.shape[2]
    if rows < count:
        raise ConfigError(
            f"a map of {rows} rows cannot be cut into {count} stripes; give images at least {count / rows:g} times "
            f"as tall, or a backbone with a smaller last stride"
        )
    first = stripe_rows(rows, 0, count)
    return F.avg_pool1d(x.mean(3), first.stop, rows // count)


def stripe_rows(rows: int, number: int, count: int) -> slice:
    """The rows of one of P stripes.

    Args:
        rows: H.
        number: of the stripe, from 0 at the top.
        count: P.
    """
    stride = rows // count
    return slice(number * stride, number * stride + rows - (count - 1) * stride)
