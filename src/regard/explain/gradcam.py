"""Grad-CAM: where in the picture does the answer come from?

Shapes: B images, 3 x H x W pixels, D descriptor length, C x h x w the activation A of the layer looked at.

A scalar per image (how similar is it to a partner, how sure is the classifier) is differentiated with respect to the
activation A of a layer. The map is ``ReLU(sum_c alpha_c A_c)`` with ``alpha_c`` the spatial mean of d scalar / d A_c,
divided by its maximum (Selvaraju et al., "Grad-CAM", ICCV 2017, eq. 1 and 2). The similarity scalar makes it work for
people no classifier has ever seen.

An attention pyramid is looked at once per level, after its gate and its batch norm: P1 is the global level, P2 the
halves, P3 the quarters, in the order in which they act (APNet figure 2; nobody released the code of that figure, the
choice of tap and scalar is ours). :func:`attention_layers` names them, so this is the figure::

    maps = {name: similarity_cam(model, layer, images, partners) for name, layer in attention_layers(model).items()}

Between equal pictures the gradient is rounding, and stretched to [0, 1] rounding looks like attention. So every map of
a similarity is held against the map of the picture and itself, rounded otherwise (:mod:`regard.explain.rounding`);
where it is not twice as high there is nothing to see, and the map is all zero.

A gate that is one number per channel multiplies A_c and divides alpha_c, so that the maps before and after it differ
only by what flows through the gate itself: P1 and P2 of one tap look alike, taps do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.errors import ConfigError, nearest
from regard.explain.rounding import LEVELS, above, alike, rounded_otherwise, summed_otherwise
from regard.models import ReIDModel
from regard.models.checked import asked
from regard.models.contract import Rows, evaluating
from regard.precision import DIGITS, precision_of
from regard.structures import Output

__all__ = [
    "Layer",
    "activation_and_gradients",
    "attention_layers",
    "class_cam",
    "class_score",
    "find_layer",
    "frozen",
    "similarity_cam",
]

Layer = str | nn.Module | tuple[str | nn.Module, ...]
"""A layer by its path or as the module; or several side by side, whose maps count as one."""


def attention_layers(model: ReIDModel, tap: int | None = -1) -> dict[str, nn.Module]:
    """The layers of a model that are worth looking at, by the name to show them under: its ``heat_layers()``.

    Args:
        model: any model.
        tap: which place of the network, the last one unless told: deepest, and closest to the answer. None takes all.

    Raises:
        ConfigError: there is no such place.
    """
    places = asked(model, "heat_layers")
    if tap is None:
        return {f"{place} {name}".strip(): one for place, found in places.items() for name, one in found.items()}
    if not -len(places) <= tap < len(places):
        raise ConfigError(f"got tap {tap}, the model has {len(places)}: 0 to {len(places) - 1}")
    return list(places.values())[tap]


def similarity_cam(
    model: nn.Module,
    layer: Layer,
    images: Tensor,
    partners: Tensor,
    *,
    feature: str | None = None,
    rows: Rows | None = None,
    against: bool = False,
) -> Tensor:
    """What in each image makes it similar to its partner.

    The scalar is the cosine between the image's embedding and the partner's; the partner is held constant.

    Args:
        model: returns an ``Output``; evaluated with batch statistics frozen, and left in the mode it was in.
        layer: dotted path of a submodule ("backbone.stages.3"), the submodule itself, or several side by side.
        images: (B, 3, H, W) normalised images.
        partners: (B, 3, H, W) images to compare with, or their embeddings (B, D).
        feature: which of ``Output.features`` to compare by; the embedding unless told.
        rows: outside of which the map counts as zero.
        against: what makes it different instead.

    Returns:
        (B, h, w) float32 in [0, 1], all zero where nothing speaks for the similarity, or nothing above rounding.

    Raises:
        ConfigError: no such layer or feature, its output is no feature map, or images and partners do not pair up.
    """

    def descriptor(output: Output) -> Tensor:
        if feature is None:
            return output.embedding.float()
        if feature not in output.features:
            known = ", ".join(output.features) or "none, it was stripped"
            raise ConfigError(
                f"the model has no feature {feature!r}{nearest(feature, output.features)}; it has: {known}"
            )
        return output.features[feature].float()

    if len(images) != len(partners):
        raise ConfigError(f"got {len(images)} images and {len(partners)} partners; give every image one partner")
    with frozen(model):
        same = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        with torch.no_grad():
            if partners.ndim == 4:
                same = alike(images, partners)
                partners = descriptor(model(partners))
            rounded = summed_otherwise(descriptor(model(rounded_otherwise(images))))
        others = partners.detach().float().clone(), rounded.detach().clone()

        def scores(output: Output) -> tuple[Tensor, Tensor]:
            own = descriptor(output)
            return F.cosine_similarity(own, others[0], dim=1), F.cosine_similarity(own, others[1], dim=1)

        activation, (gradient, blurred), _ = activation_and_gradients(model, layer, images, scores)
        floor = LEVELS * _weighted(activation, blurred, rows).abs().amax(dim=(1, 2))
        floor = floor.masked_fill(same, torch.inf)
        return above(F.relu(_weighted(activation, -gradient if against else gradient, rows)), floor)


def class_cam(
    model: nn.Module,
    layer: Layer,
    images: Tensor,
    labels: Tensor,
    *,
    head: str | None = None,
    rows: Rows | None = None,
) -> Tensor:
    """What in each image speaks for the identity it is said to show.

    The scalar is the score of that identity. It is meaningful for identities the model was trained on.

    Args:
        model: returns an ``Output`` with ``logits``; evaluated with batch statistics frozen, left in its mode.
        layer: dotted path of a submodule, the submodule itself, or several side by side.
        images: (B, 3, H, W) normalised images.
        labels: (B,) class labels 0..N-1.
        head: which of ``Output.logits``; the first one unless told.
        rows: outside of which the map counts as zero.

    Returns:
        (B, h, w) float32 in [0, 1], all zero where nothing speaks for the identity, or nothing above rounding.

    Raises:
        ConfigError: no such layer or head, its output is no feature map, or a label the classifier does not have.
    """

    with frozen(model):
        activation, (gradient,), _ = activation_and_gradients(model, layer, images, class_score(labels, head))
        terms = _weighted(activation.abs(), gradient, rows, torch.abs)
        floor = DIGITS * precision_of(activation) * terms.amax(dim=(1, 2))
        return above(F.relu(_weighted(activation, gradient, rows)), floor)


def class_score(labels: Tensor, head: str | None = None) -> Callable[[Output], tuple[Tensor]]:
    """From an output to the scores of the identities asked for, (B,), as :func:`activation_and_gradients` takes them.

    Args:
        labels: (B,) class labels 0..N-1.
        head: which of ``Output.logits``; the first one unless told.

    Raises:
        ConfigError: when called: no such head, or a label it does not have.
    """

    def score(output: Output) -> tuple[Tensor]:
        name = head or next(iter(output.logits), "")
        if name not in output.logits:
            known = ", ".join(output.logits) or "none, it was stripped"
            raise ConfigError(f"the model has no classifier {name!r}{nearest(name, output.logits)}; it has: {known}")
        logits = output.logits[name]
        if not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
            raise ConfigError(
                f"got labels {int(labels.min())} to {int(labels.max())}, the classifier {name!r} knows 0 to "
                f"{logits.shape[1] - 1}; use similarity_cam for people it was not trained on"
            )
        return (logits.gather(1, labels.to(logits.device)[:, None])[:, 0],)

    return score


def _weighted(
    activation: Tensor, gradient: Tensor, rows: Rows | None, of_weights: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """(B, h, w) float32: the channels of an activation, each weighted by its mean gradient; zero outside the rows."""
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    maps = ((of_weights(weights) if of_weights else weights) * activation).sum(dim=1).float()
    if rows is None:
        return maps
    kept = torch.zeros_like(maps)
    kept[:, rows(maps.shape[1])] = maps[:, rows(maps.shape[1])]
    return kept


def activation_and_gradients(
    model: nn.Module, layer: Layer, images: Tensor, score: Callable[[Output], tuple[Tensor, ...]]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """What a layer returns, and how scores of the output change with it; gradients have to be on.

    Args:
        model: returns an ``Output``.
        layer: dotted path of a submodule, or the submodule itself; or several submodules side by side, none of which
            sees what another returns, whose maps are of one size and are taken as one map of all their channels.
        images: (B, 3, H, W).
        score: from the output to one number per image, (B,), or several.

    Returns:
        The activation (B, C, h, w), and for each score a gradient (B, C, h, w), and the scores (B,).

    Raises:
        ConfigError: the layer's output is no feature map, or it has no part in the score.
    """
    layers = layer if isinstance(layer, tuple) else (layer,)
    leaves: dict[int, Tensor] = {}
    hooks = [
        find_layer(model, one).register_forward_hook(_start_graph_here(leaves, place, _name(one)))
        for place, one in enumerate(layers)
    ]
    try:
        scores = score(model(images))
    finally:
        for hook in hooks:
            hook.remove()
    activations = [leaves[place] for place in sorted(leaves)]
    found: list[Tensor] = []
    for each in scores:
        parts: tuple[Tensor | None, ...] = ()
        if activations and each.requires_grad:
            parts = torch.autograd.grad(each.sum(), activations, allow_unused=True, retain_graph=each is not scores[-1])
        whole = [part for part in parts if part is not None]
        if len(whole) < len(layers):
            names = " and ".join(repr(_name(one)) for one in layers)
            raise ConfigError(f"layer {names} has no part in the answer; name one on the way to the embedding")
        found.append(torch.cat(whole, 1))
    return torch.cat(activations, 1).detach(), found, [each.detach() for each in scores]


def _start_graph_here(
    leaves: dict[int, Tensor], place: int, name: str
) -> Callable[[nn.Module, tuple, Tensor | tuple], Tensor | tuple]:
    """A hook that keeps the activation as a leaf of the graph: nothing before the layer needs a gradient."""

    def hook(_module: nn.Module, _inputs: tuple, output: Tensor | tuple) -> Tensor | tuple:
        first, rest = (output[0], output[1:]) if isinstance(output, tuple) and output else (output, ())
        if not isinstance(first, Tensor) or first.ndim != 4:
            found = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
            raise ConfigError(f"layer {name!r} returns {found}, wanted a (B, C, h, w) map; name an earlier layer")
        leaves[place] = first.detach().requires_grad_()
        copy = leaves[place].clone()  # what follows may work in place
        return (copy, *rest) if isinstance(output, tuple) else copy

    return hook


def _name(layer: str | nn.Module) -> str:
    return layer if isinstance(layer, str) else type(layer).__name__


def find_layer(model: nn.Module, layer: str | nn.Module) -> nn.Module:
    """A submodule by its dotted path, or the submodule itself.

    Raises:
        ConfigError: no such layer.
    """
    if isinstance(layer, nn.Module):
        return layer
    known = dict(model.named_modules())
    if layer not in known:
        raise ConfigError(
            f"the model has no layer {layer!r}{nearest(layer, known)}; "
            f"its parts: {', '.join(name for name, _ in model.named_children())}"
        )
    return known[layer]


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Evaluation mode with gradients on, whatever is around."""
    with evaluating(model), torch.inference_mode(False), torch.enable_grad():
        yield
