"""Heat per head: which layer each head looks at, why a pair of pictures matches, and exact maps of linear heads.

Shapes: B images, C channels, h x w positions, N identities.

Grad-CAM is a linearization. A head that is linear in its map needs none: with A the map that is pooled and
s = w · A + b the score, the contribution of position (i, j) is the part of the sum that it brings, Σ_c w_c A_c(i, j),
positive or negative, and all contributions and b add up to s (B. Zhou et al., "Learning Deep Features for
Discriminative Localization", CVPR 2016, equations 1 and 2). Which heads are linear, in
evaluation, a model says in its ``head_layers()``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from regard.errors import ConfigError, nearest
from regard.explain.gradcam import (
    Layer,
    activation_and_gradients,
    attention_layers,
    class_cam,
    class_score,
    frozen,
    similarity_cam,
)
from regard.models import ReIDModel
from regard.models.checked import asked, refuse
from regard.models.contract import HeadLayer, evaluating
from regard.structures import Output

__all__ = ["ExactCam", "HeadHeat", "PairHeat", "exact_cam", "exact_heads", "head_heat", "pair_heat"]


class PairHeat(NamedTuple):
    """Why two pictures match, seen from one layer or head.

    Attributes:
        similarity: cosine of the two descriptors that were compared.
        first, second: (h, w) in [0, 1]: what in each picture makes it similar to the other; all zero where there is
            nothing above rounding, as between two equal pictures.
    """

    similarity: float
    first: np.ndarray
    second: np.ndarray


class ExactCam(NamedTuple):
    """What each position brings to the score of an identity.

    Attributes:
        maps: (B, h, w) contributions; negative where a position speaks against the identity.
        offset: (B,) what does not depend on the picture; contributions and offset add up to the score.
        scores: (B,) what the head says.
    """

    maps: np.ndarray
    offset: np.ndarray
    scores: np.ndarray


class HeadHeat(NamedTuple):
    """What speaks for an identity, seen by one head.

    Attributes:
        maps: (B, h, w); of an exact head the contributions, else Grad-CAM in [0, 1].
        labels: (B,) the identities asked for.
        scores: (B,) what the head says of them.
        exact: whether contributions add up to the score.
    """

    maps: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    exact: bool


def pair_heat(
    model: ReIDModel, first: Tensor, second: Tensor, tap: int | None = -1, *, heads: bool = False
) -> dict[str, PairHeat]:
    """Why two pictures match: heat on both, per attention layer of the network, or per head.

    Args:
        model: returns an ``Output``.
        first, second: (3, H, W) normalized images.
        tap: which of the pyramids, as :func:`~regard.explain.gradcam.attention_layers`; None shows all of them.
        heads: compare by one head's vector after the other instead of by the whole descriptor. A head of a horizontal
            part has heat in its own rows alone.

    Raises:
        ConfigError: no such tap, or the model has no heads (it was stripped).
    """
    pair, swapped = torch.stack([first, second]), torch.stack([second, first])
    with evaluating(model), torch.no_grad():
        output = model(pair)
    if heads and not output.features:
        raise ConfigError("the model has no heads, it was stripped; give one that was not, or leave heads out")
    looked = {name: (vectors, name, _head(model, name, output)) for name, vectors in output.features.items()}
    if not heads:
        layers = attention_layers(model, tap).items()
        looked = {name: (output.embedding, None, HeadLayer((layer,))) for name, layer in layers}
    found: dict[str, PairHeat] = {}
    for name, (vectors, feature, head) in looked.items():
        maps = similarity_cam(model, head.layers, pair, swapped, feature=feature, rows=head.rows).cpu().numpy()
        similarity = float(F.cosine_similarity(vectors[0].float(), vectors[1].float(), dim=0))
        found[name] = PairHeat(similarity, maps[0], maps[1])
    return found


def head_heat(
    model: ReIDModel, images: Tensor, heads: list[str] | None = None, label: int | None = None
) -> dict[str, HeadHeat]:
    """What speaks for an identity, per head: exact where the head is linear, Grad-CAM elsewhere.

    Further levels that a head names are looked at besides, by Grad-CAM: ``"global P2"``, ``"global P1"``.

    Args:
        model: returns an ``Output`` with ``logits``.
        images: (B, 3, H, W) normalized images.
        heads: which of ``Output.logits``; all of them unless told.
        label: class label 0..N-1; each head's best for each image unless told.

    Raises:
        ConfigError: the model has no classifiers (it was stripped), or not that head or label.
    """
    with evaluating(model), torch.no_grad():
        output = model(images)
    logits = output.logits
    known = ", ".join(logits) or "none, it was stripped"
    found: dict[str, HeadHeat] = {}
    for name in heads or list(logits) or [""]:
        if name not in logits:
            raise ConfigError(f"the model has no classifier {name!r}{nearest(name, logits)}; it has: {known}")
        labels = logits[name].argmax(1) if label is None else torch.full((len(images),), label)
        head = _head(model, name, output)
        exact = head.linear and name in exact_heads(model)
        if exact:
            maps = exact_cam(model, images, labels, name).maps
        else:
            maps = class_cam(model, head.layers, images, labels, head=name, rows=head.rows).cpu().numpy()
        scores = logits[name].gather(1, labels.to(logits[name].device)[:, None])[:, 0]
        asked = labels.cpu().numpy(), scores.cpu().numpy()
        found[name] = HeadHeat(maps, *asked, exact)
        for level, layer in head.levels.items():
            maps = class_cam(model, layer, images, labels, head=name).cpu().numpy()
            found[f"{name} {level}"] = HeadHeat(maps, *asked, exact=False)
    return found


def exact_heads(model: ReIDModel) -> dict[str, Layer]:
    """The heads that are linear in a map, and the layer that returns it; empty where there is none."""
    return {name: head.layers for name, head in asked(model, "head_layers").items() if head.linear}


def exact_cam(model: ReIDModel, images: Tensor, labels: Tensor, head: str | None = None) -> ExactCam:
    """The exact class activation map of a linear head.

    Args:
        model: returns an ``Output`` with ``logits``; evaluated with batch statistics frozen, left in its mode.
        images: (B, 3, H, W) normalized images.
        labels: (B,) class labels 0..N-1.
        head: which of :func:`exact_heads`; the first one unless told.

    Raises:
        ConfigError: the head is not linear, or not there; ``class_cam`` approximates those that are not.
    """
    layers = exact_heads(model)
    name = head or next(iter(layers), "")
    if name not in layers:
        known = ", ".join(layers) or "none"
        raise ConfigError(
            f"head {name!r} is not linear in a map{nearest(name, layers)}; linear: {known}; class_cam takes any head"
        )
    with frozen(model):
        score = class_score(labels, name)
        activation, (gradient,), (scores,) = activation_and_gradients(model, layers[name], images, score)
    maps = (gradient * activation).sum(1).float()
    offset = scores - maps.sum((1, 2))
    return ExactCam(*(x.cpu().numpy() for x in (maps, offset, scores)))


def _head(model: ReIDModel, name: str, output: Output) -> HeadLayer:
    """What a head of an output looks at."""
    heads, known = asked(model, "head_layers"), ["global", *output.features, *output.logits]
    if output.logits and (unknown := next((head for head in heads if head not in known), None)) is not None:
        refuse(
            model,
            "head_layers",
            f"names a head {unknown!r}{nearest(unknown, known)}; it has: {', '.join(dict.fromkeys(known))}",
        )
    return heads.get(name, heads["global"])
