"""What a network can show of itself: its attention, its maps, and where each of its heads looks.

Shapes: B pictures, C channels, h x w positions of a map, J joints.

Every model answers four questions, see :class:`regard.models.ReIDModel`: ``attention_on(images)``, ``map_layers()``,
``heat_layers()`` and ``head_layers()``. Here are the words they answer in, and the answers of a network that says
nothing of itself: those are found by running it once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from regard.errors import ConfigError
from regard.models.backbone import Backbone, tap
from regard.models.saved import Described

__all__ = ["GATE", "Attention", "HeadLayer", "Over", "Rows", "evaluating", "find_maps", "gate_attention", "watched"]

Over = Literal["positions", "channels", "strips", "mixing", "points"]

Rows = Callable[[int], slice]
"""From the height of a map to the rows of it that count."""

GATE = "gate of each channel"

STAGE = re.compile(r"^backbone\.stages\.(\d+)$")

PROBE = (256, 128)
"""Height and width of the picture for a network that does not know what it sees."""

FLAT = 1e-3
"""Spread over positions, as a share of the mean, below which a gate is the same at all of them."""


class Attention(NamedTuple):
    """One thing a network says about what matters in a picture.

    Attributes:
        values: float32; (B, h, w) over positions, (B, C) over channels, (B, C, h) over strips (one number for each
            channel and row of the map), (B, C, C) for mixing (row c says what goes into channel c, and sums to 1),
            (B, J, 3) for points: x and y as fractions of the picture, and the height of the peak.
        over: which of these it is.
        meaning: what the numbers are, in a few words.
    """

    values: np.ndarray
    over: Over
    meaning: str

    @classmethod
    def of(cls, values: Tensor, over: Over, meaning: str) -> Self:
        """The same from a tensor."""
        return cls(values.detach().float().cpu().numpy(), over, meaning)


class HeadLayer(NamedTuple):
    """What one head of a network looks at.

    Attributes:
        layers: the last ones with positions on the way to it; several lie side by side, none seeing another's map.
        rows: those it pools; None for the whole map.
        linear: whether its scores are linear in that map, in evaluation.
        levels: further layers to look at on the way to it, by name.
    """

    layers: tuple[nn.Module, ...]
    rows: Rows | None = None
    linear: bool = False
    levels: Mapping[str, nn.Module] = {}


def gate_attention(gate: Tensor, meaning: str = GATE) -> Attention:
    """A gate of a map (B, C, h, w), told by the axes it has: what is 1 is the same for all.

    Args:
        gate: what the map is multiplied by.
        meaning: what it is where it is a number per channel.
    """
    gate = gate[:, None] if gate.ndim == 3 else gate[..., None, None] if gate.ndim == 2 else gate
    if gate.ndim != 4:
        raise ConfigError(f"a map of Output.maps is {tuple(gate.shape)}, wanted (B, C, h, w); see attention_on()")
    channels, height, width = gate.shape[1:]
    if width > 1 and channels == 1:
        return Attention.of(gate[:, 0], "positions", "weight of each position")
    if width > 1:
        places = gate.mean(1)
        if bool((places.std((1, 2)) > FLAT * places.mean((1, 2))).any()):
            return Attention.of(places, "positions", "weight of each position, mean over the channels")
        return Attention.of(gate.mean((2, 3)), "channels", "gate of each channel, the same at all positions")
    if height > 1:
        return Attention.of(gate[..., 0], "strips", "gate of each channel in each horizontal strip")
    return Attention.of(gate[:, :, 0, 0], "channels", meaning)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode while inside; every submodule gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def watched(layers: Mapping[Any, nn.Module], *, copied: bool = True) -> Iterator[dict[Any, Tensor]]:
    """Collect the maps that layers return while inside: key -> (B, C, h, w) of the last call, in order of the calls.

    Args:
        layers: key -> the layer. Of a tuple that it returns, the first is the map; what is no map is left out.
        copied: keep what was returned, even where what follows works in place, and no graph of it.
    """
    seen: dict[Any, Tensor] = {}

    def keep(key: Any) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) and output else output
            if isinstance(first, Tensor):
                seen.pop(key, None)
                seen[key] = first.detach().clone() if copied else first

        return hook

    handles = [layer.register_forward_hook(keep(key)) for key, layer in layers.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def find_maps(model: Described) -> dict[str, nn.Module]:
    """The outermost parts of a network that return a map on the way to its embedding, by path, in order of the calls.

    Of ``backbone``, a :class:`~regard.models.backbone.Backbone`, these are the stages, called taps. The last one is the
    last that all of the way leads through, where there is one: a gate beside it is left out. For this the network is
    run on a picture of its own size.

    Raises:
        ConfigError: there is none.
    """
    modules = {path: one for path, one in model.named_modules() if path and not isinstance(one, Backbone)}
    with evaluating(model), torch.inference_mode(False), torch.enable_grad():
        image = next(model.parameters()).new_zeros(1, 3, *(model.input.size if model.input else PROBE))
        with watched(modules, copied=False) as seen:
            answer = model(image.requires_grad_()).embedding.sum()
        maps = {path: x for path, x in seen.items() if x.ndim == 4 and x.shape[2] * x.shape[3] > 1 and x.requires_grad}
        known = maps and answer.requires_grad
        moved = torch.autograd.grad(answer, list(maps.values()), allow_unused=True) if known else ()
        found = [path for path, gradient in zip(maps, moved) if gradient is not None]
        found = [path for path in found if not any(path.startswith(f"{outer}.") for outer in found)]
        ends = (end for end in range(len(found), 0, -1) if _all_through(model, modules[found[end - 1]], image))
        found = found[: next(ends, len(found))]
    if not found:
        raise ConfigError(
            f"no part of {type(model).__name__} returns a (B, C, h, w) map on the way to the embedding, so there is "
            "none to look at; name those that do in its map_layers()"
        )
    return {STAGE.sub(lambda match: tap(int(match[1])), path): modules[path] for path in found}


def _all_through(model: Described, layer: nn.Module, image: Tensor) -> bool:
    """Return whether the embedding of an image depends on it by what a layer returns alone."""

    def cut(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        return (output[0].detach(), *output[1:]) if isinstance(output, tuple) else output.detach()

    handle = layer.register_forward_hook(cut)
    try:
        answer = model(image).embedding.sum()
    finally:
        handle.remove()
    return not answer.requires_grad or torch.autograd.grad(answer, image, allow_unused=True)[0] is None
