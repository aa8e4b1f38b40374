"""The methods that say where a pair's similarity comes from, all asked in one way, and two controls that know nothing.

Shapes: B pictures, h x w positions or cells of a map, C channels.

A method takes pictures and their partners and returns heat on the pictures: what makes each like its partner, or with
``against`` what makes it different. Methods of a picture alone (attention, last map, rollout) give the same heat for
every partner; for a difference, theirs is how far the maps of the two are apart, position by position.

``CONTROLS`` look at no network: a bell in the middle of the picture, and its edges. A method is worth its cost where it
beats them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.errors import ConfigError
from regard.explain.attention import attention_of, holistic_map, spatial_map
from regard.explain.gradcam import attention_layers, similarity_cam
from regard.explain.pixel_heat import PATCHES, integrated_gradients, occlusion
from regard.explain.rollout import rollout
from regard.models import ReIDModel
from regard.models.checked import asked
from regard.models.contract import evaluating, watched

__all__ = ["CONTROLS", "EVERY", "METHODS", "Heat", "Method", "on_pixels", "usable_methods"]


class Heat(Protocol):
    """A way to draw heat on pairs."""

    def __call__(self, model: ReIDModel, images: Tensor, partners: Tensor, /, *, against: bool) -> Tensor:
        """Heat (B, h, w) of pictures (B, 3, H, W) for their partners; ``against``: of what makes the two different."""
        ...


CONTROL_ROWS = 2 * PATCHES
"""Rows of the maps of the controls: those of occlusion, so that they share its random orders."""


class Method(NamedTuple):
    """A way to draw heat on a pair.

    Attributes:
        heat: draws it.
        meaning: what the heat is, a few words.
    """

    heat: Heat
    meaning: str


def usable_methods(
    model: ReIDModel, images: Tensor, wanted: list[str] | None = None
) -> tuple[list[str], dict[str, str]]:
    """Which methods a network can be looked at by, and why not by the others.

    Args:
        model: any.
        images: (B, 3, H, W) normalized pictures to try them on.
        wanted: names of methods; all of them unless told.

    Returns:
        Names in the order of ``METHODS`` and ``CONTROLS``; name -> reason.
    """
    usable, missing = [], {}
    for name, method in EVERY.items():
        if wanted and name not in wanted:
            continue
        try:
            method.heat(model, images[:1], images[:1], against=False)
            usable.append(name)
        except ConfigError as error:
            missing[name] = str(error)
    return usable, missing


def on_pixels(heat: Tensor, size: tuple[int, int]) -> Tensor:
    """Heat (B, h, w) on the pixels of pictures of that size, (B, H, W), interpolated linearly."""
    return F.interpolate(heat[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0]


def _apart(maps: Callable[[ReIDModel, Tensor], Tensor]) -> Heat:
    """The heat of a method of a picture alone."""

    def heat(model: ReIDModel, images: Tensor, partners: Tensor, *, against: bool) -> Tensor:
        own = maps(model, images)
        return (own - maps(model, partners)).abs() if against else own

    return heat


def _own_attention(model: ReIDModel, images: Tensor) -> Tensor:
    """The mean of all that a network says about positions, each map divided by its mean."""
    said = [spatial_map(one) for name, one in attention_of(model, images).items() if name != "holistic"]
    maps = [torch.from_numpy(one).to(images.device).float() for one in said if one is not None]
    if not maps:
        raise ConfigError("the network has no attention over positions of its own")
    size = max((tuple(one.shape[1:]) for one in maps), key=lambda shape: shape[0] * shape[1])
    fine = torch.stack([on_pixels(one, (size[0], size[1])) for one in maps])
    return (fine / fine.mean((2, 3), keepdim=True).abs().clamp_min(torch.finfo(fine.dtype).tiny)).mean(0)


def _last_map(model: ReIDModel, images: Tensor) -> Tensor:
    return torch.from_numpy(holistic_map(model, images).values).to(images.device)


def _gradcam(model: ReIDModel, images: Tensor, partners: Tensor, *, against: bool) -> Tensor:
    layer = list(attention_layers(model).values())[-1]
    return similarity_cam(model, layer, images, partners, against=against)


def _gradcam_of_heads(model: ReIDModel, images: Tensor, partners: Tensor, *, against: bool) -> Tensor:
    """The mean of the heads' maps, each by the head's own vector and at its own layer."""
    with evaluating(model), torch.no_grad():
        features = model(images[:1]).features
    if len(features) < 2:
        raise ConfigError("the network has one head, so this is Grad-CAM")
    heads, maps = asked(model, "head_layers"), []
    for name in features:
        head = heads.get(name, heads["global"])
        how = {"feature": name, "rows": head.rows, "against": against}
        maps.append(similarity_cam(model, head.layers, images, partners, **how))
    size = max((tuple(one.shape[1:]) for one in maps), key=lambda shape: shape[0] * shape[1])
    return torch.stack([on_pixels(one, (size[0], size[1])) for one in maps]).mean(0)


def _correlation(model: ReIDModel, images: Tensor, partners: Tensor, *, against: bool) -> Tensor:
    """Pearson's correlation over channels of a position with the partner's positions, the mean over these."""
    layers = asked(model, "head_layers")["global"].layers
    sides = []
    for pictures in (images, partners):
        with watched(dict(enumerate(layers))) as seen, evaluating(model), torch.no_grad():
            model(pictures)
        maps = torch.cat([seen[number] for number in range(len(layers))], 1).float()
        sides.append(F.normalize(maps - maps.mean(1, keepdim=True), dim=1))
    found = (sides[0] * sides[1].mean((2, 3), keepdim=True)).sum(1)
    return -found if against else found


def _center(_model: ReIDModel, images: Tensor, _partners: Tensor, *, against: bool) -> Tensor:
    """A bell in the middle, a quarter of each side wide."""
    columns = max(1, round(CONTROL_ROWS * images.shape[3] / images.shape[2]))
    down, across = (torch.exp(-8 * ((torch.arange(n) + 0.5) / n - 0.5) ** 2) for n in (CONTROL_ROWS, columns))
    return (down[:, None] * across).to(images.device).expand(len(images), -1, -1)


def _edges(_model: ReIDModel, images: Tensor, _partners: Tensor, *, against: bool) -> Tensor:
    """How fast gray levels change, the mean over cells."""
    gray = F.pad(images.float().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across, down = gray[:, :, 1:-1, 2:] - gray[:, :, 1:-1, :-2], gray[:, :, 2:, 1:-1] - gray[:, :, :-2, 1:-1]
    columns = max(1, round(CONTROL_ROWS * images.shape[3] / images.shape[2]))
    return F.adaptive_avg_pool2d((across**2 + down**2).sqrt(), (CONTROL_ROWS, columns))[:, 0]


def _integrated(model: ReIDModel, images: Tensor, partners: Tensor, *, against: bool) -> Tensor:
    found = integrated_gradients(model, images, partners)
    return -found if against else found


def _occluded(model: ReIDModel, images: Tensor, partners: Tensor, *, against: bool) -> Tensor:
    found = occlusion(model, images, partners)
    return -found if against else found


def _gradient_rollout(model: ReIDModel, images: Tensor, partners: Tensor, *, against: bool) -> Tensor:
    return rollout(model, images, partners, against=against)


METHODS: Mapping[str, Method] = {
    "attention": Method(_apart(_own_attention), "the network's own gates, masks and weights over positions"),
    "last map": Method(_apart(_last_map), "mean size of the last map over its channels"),
    "gradcam": Method(_gradcam, "Grad-CAM of the similarity at the last place that the network names"),
    "heads": Method(_gradcam_of_heads, "Grad-CAM of each head's similarity, mean over the heads"),
    "correlation": Method(_correlation, "correlation of a position with the partner's, over channels of the last map"),
    "integrated": Method(_integrated, "integrated gradients of the similarity, from a picture of the mean color"),
    "occlusion": Method(_occluded, "fall of the similarity where a square is covered"),
    "rollout": Method(_apart(rollout), "attention matrices multiplied through all layers"),
    "gradient rollout": Method(_gradient_rollout, "the same, each head by the gradient of the similarity"),
}
"""Name -> method."""

CONTROLS: Mapping[str, Method] = {
    "center": Method(_center, "a bell in the middle of the picture, no network"),
    "edges": Method(_edges, "edges of the picture, no network"),
}
"""Name -> what knows nothing of the network."""

EVERY: Mapping[str, Method] = {**METHODS, **CONTROLS}
"""Both, in the order in which they are shown."""
