"""The attention of each system as it is: what its gates, masks, weights and branches say about pictures.

Shapes: B pictures, C channels, h x w positions of a map, J = 17 joints.

Nothing is inferred here, no gradient is taken: these are numbers the network computes anyway. What each system has:

======================  ================================================================================================
apnet, msea, dsp, sa    the gates in ``Output.maps``, by the name they have there: ``"tap5.level1"``, ``"tap2.spatial"``
mudeep                  per scale: strength of the map before and after the leader's attention, what the attention
                        added, the matrix that mixes channels, and how much each channel is asked for
daaf                    mean of the last map over all channels (holistic) and over each joint group's (partial); where
                        the branches are still there, the predicted mask, the joints' heat maps and their peaks
baseline                mean size of the last map's numbers over all channels
======================  ================================================================================================

The published pictures of DAAF do not say which map they show; means over channels are our reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from regard.explain.gradcam import evaluating, find_layer
from regard.explain.rounding import DIGITS, precision_of
from regard.layers.leader import ChannelAttention
from regard.models.daaf import DAAF, JOINT_GROUPS
from regard.models.mudeep import MuDeep

__all__ = ["Attention", "Over", "attention_of", "holistic_map", "spatial_map", "watched"]

Over = Literal["positions", "channels", "strips", "mixing", "points"]

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


def attention_of(model: nn.Module, images: Tensor) -> dict[str, Attention]:
    """All the attention a network has to show for some pictures.

    Args:
        model: returns an ``Output``; evaluated in evaluation mode, and left in the mode it was in.
        images: (B, 3, H, W) normalized images.

    Returns:
        Name -> attention, in the order in which the network computes it.
    """
    if isinstance(model, MuDeep):
        return _of_leader(model, images)
    if isinstance(model, DAAF):
        return _of_branches(model, images)
    with evaluating(model), torch.no_grad():
        gates = model(images).maps
    found = {name: gate_attention(name, gate) for name, gate in gates.items()}
    return found or {"holistic": holistic_map(model, images)}


def gate_attention(name: str, gate: Tensor) -> Attention:
    """A gate of a map (B, C, h, w), told by the axes it has: what is 1 is the same for all."""
    channels, height, width = gate.shape[1:]
    if width > 1 and channels == 1:
        return Attention(_array(gate[:, 0]), "positions", "weight of each position")
    if width > 1:
        places = gate.mean(1)
        if bool((places.std((1, 2)) > FLAT * places.mean((1, 2))).any()):
            return Attention(_array(places), "positions", "weight of each position, mean over the channels")
        return Attention(_array(gate.mean((2, 3))), "channels", "gate of each channel, the same at all positions")
    if height > 1:
        return Attention(_array(gate[..., 0]), "strips", "gate of each channel in each horizontal strip")
    kind = "competing groups of channels" if name.endswith(("level2", "level3")) else "gate of each channel"
    return Attention(_array(gate[:, :, 0, 0]), "channels", kind)


def spatial_map(attention: Attention) -> np.ndarray | None:
    """What attention says about positions, (B, h, w): as it is, or of strips the mean over channels; None of others."""
    if attention.over == "positions":
        return attention.values
    if attention.over == "strips":
        return attention.values.mean(1)[:, :, None]
    return None


def holistic_map(model: nn.Module, images: Tensor) -> Attention:
    """Mean size of the numbers, over all channels, of the last map, or maps, that are pooled into the descriptor.

    Of a map without negative numbers, as a ResNet's stages return it, that is the mean over channels.
    """
    layers = list(model.streams.values()) if isinstance(model, MuDeep) else [last_layer(model)]
    with watched(layers) as seen, evaluating(model), torch.no_grad():
        model(images)
    mean = torch.stack([x.abs().mean(1) for x in seen.values()]).mean(0)
    return Attention(_array(mean), "positions", "mean size over the channels of the last map")


def last_layer(model: nn.Module) -> nn.Module:
    """The module whose output is pooled: the last attention, or the last stage where nothing follows it."""
    stages = list(find_layer(model, "backbone.stages").children())
    after = getattr(model, "attention", None)
    name = f"tap{len(stages)}"
    return after[name] if isinstance(after, nn.ModuleDict) and name in after else stages[-1]


@contextmanager
def watched(layers: list[nn.Module]) -> Iterator[dict[int, Tensor]]:
    """Collect what layers return while inside: place in the list -> (B, C, h, w), a copy, of the last call."""
    seen: dict[int, Tensor] = {}

    def keep(place: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor | tuple[Tensor, ...]], None]:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
            first = output[0] if isinstance(output, tuple) else output
            seen[place] = first.detach().clone()  # what follows may work in place

        return hook

    handles = [layer.register_forward_hook(keep(place)) for place, layer in enumerate(layers)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _of_leader(model: MuDeep, images: Tensor) -> dict[str, Attention]:
    names = list(model.streams)
    mixing: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[ChannelAttention, tuple[Tensor, ...], Tensor], None]:
        def hook(module: ChannelAttention, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
            rows, columns = module.rows(inputs[0]).flatten(2).float(), module.columns(inputs[0]).flatten(2).float()
            mixing[name] = (rows @ columns.mT).softmax(-1)

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in model.attention.items()]
    try:
        with watched([model.streams[name] for name in names]) as seen, evaluating(model), torch.no_grad():
            attended = model.in_full(images).maps
    finally:
        for handle in handles:
            handle.remove()
    found: dict[str, Attention] = {}
    for place, name in enumerate(names):
        before, after = seen[place], attended[name]
        found[f"{name}.before"] = _strength(before, "strength of the map before attention")
        found[f"{name}.after"] = _strength(after, "strength of the map after attention")
        if name in mixing:
            added = after - before
            added = added * (added.abs() > DIGITS * precision_of(after) * after.abs())  # less is rounding
            found[f"{name}.added"] = _strength(added, "strength of what attention added")
            found[f"{name}.asked"] = Attention(
                _array(mixing[name].sum(1)), "channels", "how much all channels together take of each"
            )
            found[f"{name}.mixing"] = Attention(_array(mixing[name]), "mixing", "what goes into each channel")
    return found


def _strength(x: Tensor, meaning: str) -> Attention:
    """Length of the vector at each position."""
    return Attention(_array(x.norm(dim=1)), "positions", meaning)


def _of_branches(model: DAAF, images: Tensor) -> dict[str, Attention]:
    with watched([last_layer(model)]) as seen, evaluating(model), torch.no_grad():
        predicted = model(images).maps
    last = seen[0]
    found = {"holistic": Attention(_array(last.mean(1)), "positions", "mean over the channels of the last map")}
    width = model.options["group_width"] or last.shape[1] // len(JOINT_GROUPS)
    for number, group in enumerate(JOINT_GROUPS if model.options["grouped"] else ()):
        channels = last[:, number * width : (number + 1) * width]
        found[f"partial.{group}"] = Attention(
            _array(channels.mean(1)), "positions", f"mean over the channels of {group}"
        )
    return found | _predicted(predicted)


def _predicted(maps: Mapping[str, Tensor]) -> dict[str, Attention]:
    """What the two branches of DAAF say, those that are there."""
    found: dict[str, Attention] = {}
    if "hab" in maps:
        found["mask"] = Attention(_array(maps["hab"][:, 0]), "positions", "predicted person mask")
    if "pab" in maps:
        joints = maps["pab"]
        for group, members in JOINT_GROUPS.items():
            peak = joints[:, list(members)].amax(1)
            found[f"joints.{group}"] = Attention(
                _array(peak), "positions", f"predicted heat maps of {group}, the highest"
            )
        found["keypoints"] = Attention(_peaks(joints), "points", "peaks of the predicted heat maps")
    return found


def _peaks(joints: Tensor) -> np.ndarray:
    """Where each heat map is highest: (B, J, h, w) -> (B, J, 3)."""
    height, width = joints.shape[2:]
    peak, place = joints.flatten(2).max(-1)
    x, y = (place % width + 0.5) / width, (place // width + 0.5) / height
    return _array(torch.stack([x, y, peak], -1))


def _array(x: Tensor) -> np.ndarray:
    return x.detach().float().cpu().numpy()
