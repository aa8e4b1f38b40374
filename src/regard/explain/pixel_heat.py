"""Heat of a pair from the pixels alone, for any network: integrated gradients, and occlusion.

Shapes: B pictures, 3 x H x W pixels, h x w cells of the heat.

The score s is the cosine between a picture's descriptor and its partner's, which is held constant. Both maps have a
sign: what is below zero makes the two less alike.

- Integrated gradients (Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017, equation 1):
  (x - x0) times the mean gradient of s on the straight way from x0, a picture of ImageNet's mean color, to the picture
  x; the integral is the sum over the middles of ``STEPS`` equal parts. Pixels add up to s(x) - s(x0), and cells of the
  map are sums of pixels, so that these do too.
- Occlusion (Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2): how far
  s falls where a square of a sixth of the height is covered by the picture's own mean color; squares overlap by half,
  and a cell has the mean of those that cover it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.errors import ConfigError
from regard.explain.gradcam import frozen
from regard.models import ReIDModel
from regard.models.contract import evaluating

__all__ = ["integrated_gradients", "occlusion", "partner_vectors"]

STEPS = 16
"""Gradients that the integral is summed from."""

ROWS = 32
"""Rows of cells of integrated gradients; single pixels are noise."""

PATCHES = 6
"""Squares one above the other that cover a picture."""

AT_ONCE = 128
"""Covered pictures that are computed at a time."""


def partner_vectors(model: ReIDModel, partners: Tensor) -> Tensor:
    """Descriptors (B, D) of pictures, of length 1 and without a graph, as they are without mirroring."""
    return F.normalize(model.embed(partners), dim=1).clone()


def integrated_gradients(model: ReIDModel, images: Tensor, partners: Tensor, steps: int = STEPS) -> Tensor:
    """What each cell adds to the similarity of a gray picture and the partner.

    Args:
        model: evaluated in evaluation mode, left in its own.
        images, partners: (B, 3, H, W) normalized pictures.
        steps: gradients that the integral is summed from.

    Returns:
        (B, h, w) float32; all cells add up to the similarity less that of a picture of the mean color.

    Raises:
        ConfigError: the network has no gradient.
    """
    others = partner_vectors(model, partners)
    total = torch.zeros_like(images)
    with frozen(model):
        for step in range(steps):
            here = (images.detach() * ((step + 0.5) / steps)).requires_grad_()
            score = F.cosine_similarity(model(here).embedding.float(), others, dim=1).sum()
            if not score.requires_grad:
                raise ConfigError(f"{type(model).__name__} has no gradient, which integrated gradients need")
            total += torch.autograd.grad(score, here)[0]
    pixels = (images * total / steps).sum(1, keepdim=True).float()
    size = _cells(images, ROWS)
    return (F.adaptive_avg_pool2d(pixels, size) * (pixels.shape[2] * pixels.shape[3] / (size[0] * size[1])))[:, 0]


def occlusion(model: ReIDModel, images: Tensor, partners: Tensor) -> Tensor:
    """How far the similarity to the partner falls where a square of the picture is covered.

    Args:
        model: evaluated in evaluation mode, left in its own.
        images, partners: (B, 3, H, W) normalized pictures.

    Returns:
        (B, h, w) float32; below zero where covering makes the two more alike.
    """
    height, width = images.shape[2:]
    rows, columns = _cells(images, 2 * PATCHES)
    others, fill = partner_vectors(model, partners), images.mean((2, 3), keepdim=True)
    found = images.new_zeros((len(images), rows, columns))
    times = images.new_zeros((rows, columns))
    corners = [(row, column) for row in range(max(1, rows - 1)) for column in range(max(1, columns - 1))]
    with evaluating(model), torch.no_grad():
        whole = (F.normalize(model(images).embedding.float(), dim=1) * others).sum(1)
        for row, column in corners:
            times[row : row + 2, column : column + 2] += 1
        each = max(1, AT_ONCE // len(images))
        for start in range(0, len(corners), each):
            part = corners[start : start + each]
            covered = images.repeat(len(part), 1, 1, 1).view(len(part), *images.shape)
            for one, (row, column) in zip(covered, part):
                top, bottom = row * height // rows, min(row + 2, rows) * height // rows
                left, right = column * width // columns, min(column + 2, columns) * width // columns
                one[:, :, top:bottom, left:right] = fill
            vectors = F.normalize(model(covered.flatten(0, 1)).embedding.float(), dim=1).view(len(part), *others.shape)
            for (row, column), drop in zip(part, whole - (vectors * others).sum(2)):
                found[:, row : row + 2, column : column + 2] += drop[:, None, None]
    return found / times


def _cells(images: Tensor, rows: int) -> tuple[int, int]:
    """Rows and columns of square cells, as many of them as there are pixels at most."""
    height, width = images.shape[2:]
    rows = min(rows, height)
    return rows, min(width, max(1, round(rows * width / height)))
