"""Feature maps of any layer, before and after attention, and what is left of them in one picture.

Shapes: B images, C channels, h x w positions.

Maps are taken on a whole forward pass, so that every layer sees what it saw in training. Layers go by the names that a
model gives them in its ``map_layers()``: ``"tap2.before"`` is what stage 1 (a ResNet's layer1) returns,
``"tap2.after"`` what attention makes of it, and ``"tap2"`` both, or the stage's map where no attention follows.
``"stem"`` and ``"layer1"`` are read as ``"tap1"`` and ``"tap2"``; any dotted path of a submodule will do too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from regard.errors import ConfigError, nearest
from regard.explain.gradcam import find_layer
from regard.explain.rounding import varies
from regard.models import ReIDModel
from regard.models.checked import asked, refuse
from regard.models.contract import evaluating, watched

__all__ = ["REDUCTIONS", "feature_maps", "gray_levels", "reduce_channels"]

REDUCTIONS = ("mean", "l2", "max")
"""Ways to make one map of C; a number takes that channel."""


def feature_maps(model: ReIDModel, images: Tensor, layers: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The maps of some layers.

    Args:
        model: returns an ``Output``; evaluated in evaluation mode, and left in the mode it was in.
        images: (B, 3, H, W) normalized images.
        layers: names, see the head of this file; None takes all of the model's ``map_layers()``.

    Returns:
        Name -> (B, C, h, w) float32.

    Raises:
        ConfigError: no such layer, or what it returns is no map.
    """
    known = asked(model, "map_layers")
    names = list(dict.fromkeys(name for layer in layers or known for name in _expanded(model, layer, known)))
    places = {name: known[name] if name in known else find_layer(model, name) for name in names}
    told = {name: place for name, place in places.items() if isinstance(place, str)}
    hooked = {name: place for name, place in places.items() if not isinstance(place, str)}
    with watched(hooked) as found, evaluating(model), torch.no_grad():
        maps = (model.in_full if told else model)(images).maps
    for name, place in told.items():
        if place not in maps:
            had = f"the maps it gives are {', '.join(maps) or 'none'}"
            refuse(model, "map_layers", f"names the map {place!r}{nearest(place, maps)}; {had}")
        found[name] = maps[place]
    for name in names:
        if name not in found or found[name].ndim != 4:
            shape = tuple(found[name].shape) if name in found else "nothing"
            raise ConfigError(f"layer {name!r} returns {shape}, wanted a (B, C, h, w) map; name another layer")
    return {name: found[name].float().cpu().numpy() for name in names}


def reduce_channels(maps: np.ndarray, channel: str | int = "mean") -> np.ndarray:
    """One map of C: (..., C, h, w) -> (..., h, w).

    Args:
        maps: as :func:`feature_maps` returns them.
        channel: ``"mean"``, ``"l2"`` (length of the vector at each position), ``"max"``, or a channel's number.

    Raises:
        ConfigError: no such reduction or channel.
    """
    if channel == "mean":
        return maps.mean(-3)
    if channel == "l2":
        return np.sqrt(np.square(maps, dtype=np.float64).sum(-3)).astype(np.float32)
    if channel == "max":
        return maps.max(-3)
    if not str(channel).isdecimal():
        raise ConfigError(f"channel is {channel!r}, wanted {', '.join(REDUCTIONS)} or a channel's number")
    if int(channel) >= maps.shape[-3]:
        raise ConfigError(f"got channel {channel}, the map has {maps.shape[-3]}: 0 to {maps.shape[-3] - 1}")
    return maps[..., int(channel), :, :]


def gray_levels(values: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """A map as 8-bit gray: black at the lower limit, white at the upper; what lies outside is clipped, not wrapped.

    Args:
        values: (h, w).
        limits: the map's own lowest and highest value unless told; all black where these are apart by rounding alone.
    """
    low, high = limits or (float(values.min()), float(values.max()))
    if high <= low or not (limits or varies(values)):
        return np.zeros(values.shape, np.uint8)
    return np.rint(255 * ((values - low) / (high - low)).clip(0, 1)).astype(np.uint8)


def _expanded(model: ReIDModel, layer: str, known: Collection[str]) -> list[str]:
    """The names that a name stands for."""
    name = re.sub(r"^stem\b", "tap1", re.sub(r"^layer(\d+)", lambda match: f"tap{int(match[1]) + 1}", layer))
    both = [place for place in (name, f"{name}.before", f"{name}.after") if place in known]
    if both:
        return both
    if layer in dict(model.named_modules()):
        return [layer]
    raise ConfigError(f"the model has no layer {layer!r}{nearest(name, known)}; it has: {', '.join(known)}")
