"""The attention of a network as it is: what its gates, masks, weights and branches say about pictures.

Shapes: B pictures, C channels, h x w positions of a map.

Nothing is inferred here, no gradient is taken: these are numbers the network computes anyway, and what it has is said
in its own file (``attention_on``). One that has none shows the mean size of the numbers of the last map.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from regard.models import ReIDModel
from regard.models.checked import asked
from regard.models.contract import Attention, Over, evaluating, watched

__all__ = ["Attention", "Over", "attention_of", "holistic_map", "spatial_map"]


def attention_of(model: ReIDModel, images: Tensor) -> dict[str, Attention]:
    """All the attention a network has to show for some pictures.

    Args:
        model: evaluated in evaluation mode, and left in the mode it was in.
        images: (B, 3, H, W) normalized images.

    Returns:
        Name -> attention, in the order in which the network computes it.
    """
    with evaluating(model), torch.no_grad():
        found = asked(model, "attention_on", images)
    return found or {"holistic": holistic_map(model, images)}


def spatial_map(attention: Attention) -> np.ndarray | None:
    """What attention says about positions, (B, h, w): as it is, or of strips the mean over channels; None of others."""
    if attention.over == "positions":
        return attention.values
    if attention.over == "strips":
        return attention.values.mean(1)[:, :, None]
    return None


def holistic_map(model: ReIDModel, images: Tensor) -> Attention:
    """Mean size of the numbers, over all channels, of the last map, or maps, that are pooled into the descriptor.

    Of a map without negative numbers, as a ResNet's stages return it, that is the mean over channels.
    """
    layers = asked(model, "head_layers")["global"].layers
    with watched(dict(enumerate(layers))) as seen, evaluating(model), torch.no_grad():
        model(images)
    mean = torch.stack([x.abs().mean(1) for x in seen.values()]).mean(0)
    return Attention.of(mean, "positions", "mean size over the channels of the last map")
