"""What of a picture flows into a transformer's descriptor, read off its attention matrices.

Shapes: B pictures, n heads, T tokens of a layer, h x w of them positions; T0 and h0 x w0 in the first layer.

A (B, n, T, T) says how much each token takes of each in a layer; what it takes from itself by the shortcut around the
layer is the identity. R (B, T, T0) says how much of each of the first tokens is in each token.

- Rollout (Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, section 3): R <- (A + I) / 2 R, A
  the mean over heads, from R = I. It is of a picture alone, whatever it is compared with.
- Gradient rollout (Chefer, Gur and Wolf, "Generic Attention-Model Explainability for Interpreting Bi-Modal and
  Encoder-Decoder Transformers", ICCV 2021, equations 5 and 6): each head counts by the gradient of the similarity, and
  only what raises it: R <- R + A' R, A' the mean over heads of the positive part of A times its gradient. So it is of a
  pair, and the identity, which it starts from, is left out in the end.

The map is the mean of R over the tokens that the descriptor is read from, over the first positions. Which these are is
told by the last layer's matrix: rows whose gradient is not zero. So the class token and pooled patches need no word.
Where a layer sees 2 x 2 positions of the one before as one (Swin), R is the mean over the four; attention in windows is
zero between windows. What a network has is said by its ``token_attention()``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.errors import ConfigError
from regard.explain.gradcam import frozen
from regard.explain.pixel_heat import partner_vectors
from regard.models import ReIDModel
from regard.models.contract import TokenAttention

__all__ = ["rolled", "rollout"]

TINY = 1e-12
"""What a row of attention to nothing is divided by."""


def rollout(model: ReIDModel, images: Tensor, partners: Tensor | None = None, *, against: bool = False) -> Tensor:
    """What flows into the descriptor, (B, h0, w0) float32.

    Args:
        model: a transformer, evaluated in evaluation mode, left in its own.
        images: (B, 3, H, W) normalized pictures.
        partners: as many; with them the flow is that of the similarity, by its gradient.
        against: of what makes the two less alike.

    Raises:
        ConfigError: the network has no attention between tokens, or none that the descriptor depends on.
    """
    others = None if partners is None else partner_vectors(model, partners)
    with frozen(model), model.token_attention() as layers:
        embedding = model(images.detach().clone().requires_grad_()).embedding.float()
        score = embedding.square().sum() if others is None else F.cosine_similarity(embedding, others, dim=1).sum()
        weights = [layer.weights for layer in layers if layer.weights.requires_grad]
        gradients = torch.autograd.grad(-score if against else score, weights, allow_unused=True) if weights else ()
    known = {id(weight): gradient for weight, gradient in zip(weights, gradients) if gradient is not None}
    used = [(layer, known[id(layer.weights)]) for layer in layers if id(layer.weights) in known]
    if not used:
        raise ConfigError(f"{type(model).__name__} has no attention between tokens; take a transformer as backbone")
    last, moved = used[-1]
    read = (last.spread(moved.abs()).sum((1, 3)) > 0).float()
    if not read.any():
        raise ConfigError(f"no token of {type(model).__name__}'s last layer has a part in the descriptor")
    flow = rolled(used, by_gradient=partners is not None)
    found = (read[:, None] / read.sum(1).clamp_min(1)[:, None, None]) @ flow
    first = used[0][0]
    return found[:, 0, first.before :].detach().unflatten(1, first.grid)


def rolled(layers: Sequence[tuple[TokenAttention, Tensor]], *, by_gradient: bool) -> Tensor:
    """Multiply attention through layers, from the first to the last.

    Args:
        layers: each with the gradient of a score by its weights.
        by_gradient: whether heads count by the gradient.

    Returns:
        (B, T, T0) float32; with gradients, without what tokens keep of themselves.
    """
    first, _ = layers[0]
    grid, before = first.grid, first.before
    matrix = first.spread(first.weights.detach().float()).mean(1)
    start = torch.eye(matrix.shape[-1], device=matrix.device).expand(len(matrix), -1, -1)
    flow, kept = start, start
    for layer, gradient in layers:
        if layer.grid != grid:
            flow, kept = (_halved(each, grid, layer.grid, before) for each in (flow, kept))
            grid = layer.grid
        weights = layer.weights.detach().float()
        if by_gradient:
            flow = flow + layer.spread((weights * gradient.float()).clamp_min(0)).mean(1) @ flow
        else:
            share = layer.spread(weights).mean(1)  # rows of windows with padding sum to less than 1
            flow = (share / share.sum(2, keepdim=True).clamp_min(TINY) @ flow + flow) / 2
    return flow - kept if by_gradient else flow


def _halved(flow: Tensor, grid: tuple[int, int], onto: tuple[int, int], before: int) -> Tensor:
    """R of a layer that sees 2 x 2 positions of a grid as one, (B, T / 4, T0)."""
    if onto != tuple(-(-side // 2) for side in grid):
        raise ConfigError(
            f"a layer of {onto[0]} x {onto[1]} positions follows one of {grid[0]} x {grid[1]}, wanted half"
        )
    tokens, positions = flow[:, :before], flow[:, before:].transpose(1, 2).unflatten(2, grid)
    pooled = F.avg_pool2d(positions, 2, ceil_mode=True, count_include_pad=False)
    return torch.cat([tokens, pooled.flatten(2).transpose(1, 2)], 1)
