"""What a model costs: parameters, and operations of one forward pass."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from regard.errors import ConfigError
from regard.models.contract import ReIDModel

__all__ = ["Cost", "Measure", "constant_weights", "count_gflops", "equal_option", "inference_cost"]

Measure = Literal["parameters", "inference_parameters", "gflops"]
"""What may be made equal between two networks."""

LARGEST = 1 << 16
"""Value of an option that is searched for."""


M = TypeVar("M", bound=nn.Module)

RANDOM = (Tensor.normal_, Tensor.uniform_, init.normal_, init.uniform_, init.kaiming_normal_, init.kaiming_uniform_)
"""Everything that draws first weights, as torch announces it to a mode of functions."""


class Cost(NamedTuple):
    """Cost of a model.

    Attributes:
        parameters: of the whole network, as it trains.
        inference_parameters: of what is left after ``strip()``.
        gflops: 10⁹ multiplications and additions of convolutions and matrix products for one image, after ``strip()``.
        published_gflops: the same as the authors' network takes: without our cheaper exact forms, and with the
            classifiers where that network runs them at test.
    """

    parameters: int
    inference_parameters: int
    gflops: float
    published_gflops: float


def count_gflops(module: nn.Module, *shape: int) -> float:
    """10⁹ multiplications and additions of convolutions and matrix products for one input of that shape.

    A multiply-add counts as two, element-wise work as nothing. Only shapes are computed; the module stays as it is.
    """
    return _count(_shapes_of(module), *shape)


def inference_cost(model: ReIDModel, height: int, width: int) -> Cost:
    """Cost of ``model`` on one image of height x width pixels; the model stays as it is."""
    whole = _shapes_of(model)
    bare = _shapes_of(model).strip()
    published = whole if model.published_whole else bare
    size = 1, 3, height, width
    return Cost(_parameters(whole), _parameters(bare), _count(bare, *size), _count(published.in_full, *size))


def equal_option(
    build: Callable[[int], ReIDModel],
    wanted: float,
    *,
    measure: Measure = "inference_parameters",
    size: tuple[int, int] = (256, 128),
) -> int:
    """The value of an option with which a network costs what another does: a control of equal size.

    Args:
        build: makes the network for a value of the option, and a larger one for a larger value.
        wanted: what the other costs, by :func:`inference_cost`.
        measure: which of its figures.
        size: height and width of the images.

    Returns:
        The value, 1 or more, whose network comes closest.

    Raises:
        ConfigError: no value up to 65,536 comes as far.

    >>> base = {"backbone": "test_resnet.r160_in1k"}
    >>> apnet = inference_cost(create_model("apnet", 100, **base), 128, 64).inference_parameters
    >>> equal_option(lambda dim: create_model("baseline", 100, head_dim=dim, **base), apnet)
    494
    """

    @cache
    def cost(value: int) -> float:
        with constant_weights():
            return getattr(inference_cost(build(value), *size), measure)

    low, high = 1, 2
    while cost(high) < wanted:
        if high == LARGEST:
            raise ConfigError(f"no value of the option up to {LARGEST:,} gives {wanted:,g} {measure}; enlarge another")
        low, high = high, min(16 * high, LARGEST)
    while high - low > 1:
        share = (wanted - cost(low)) / (cost(high) - cost(low))
        middle = min(max(low + int(share * (high - low)), low + 1), high - 1)
        low, high = (middle, high) if cost(middle) < wanted else (low, middle)
    return min((low, high), key=lambda value: abs(cost(value) - wanted))


def constant_weights() -> AbstractContextManager[Any]:
    """Networks built in here start from a constant, which is fast to write, where they would draw random numbers.

    For networks whose shape alone is looked at.
    """
    return _NothingRandom()


class _NothingRandom(TorchFunctionMode):
    """Drawing numbers into a tensor fills it with a small one instead."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in RANDOM:
            return func(*args, **kwargs)
        with torch.no_grad():
            return (kwargs["tensor"] if "tensor" in kwargs else args[0]).fill_(1e-4)


def _count(network: Callable[[Tensor], Any], *shape: int) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(*shape, device="meta"))
    return counter.get_total_flops() / 1e9


def _shapes_of(module: M) -> M:
    """The module once more in evaluation mode, its tensors without values."""
    shapes: dict[int, Any] = {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in module.parameters()}
    shapes |= {id(buffer): buffer.to("meta") for buffer in module.buffers()}
    return copy.deepcopy(module, shapes).eval()


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
