"""Running statistics of batch normalizations, held still.

A pass that is only repeated to have its gradients must not count a second time in the running mean and variance.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["statistics_kept"]


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Within, training passes leave the running statistics alone, having copies to write to."""
    kept = [(module, dict(module._buffers)) for module in model.modules() if isinstance(module, _BatchNorm)]
    for module, buffers in kept:
        module._buffers.update({name: value if value is None else value.clone() for name, value in buffers.items()})
    try:
        yield
    finally:
        for module, buffers in kept:
            module._buffers.update(buffers)
