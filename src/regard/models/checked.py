"""What a network answers, when it is run and when it is asked what can be looked at in it, and whether that will do.

Shapes: B images in a batch, D descriptor length; C channels and h x w positions of a map, J joints.

A network may be anybody's (:mod:`regard.plugins`). What it gives is looked at once, where it gives it: an answer that
is none is one line that names the class and the method.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import chain
from typing import Any, Literal, NamedTuple, NoReturn, Self, get_args

import numpy as np
import torch
from torch import Tensor, nn

from regard.errors import ConfigError, RegardError, nearest
from regard.structures import Output

__all__ = [
    "Attention", "HeadLayer", "Over", "Rows", "TokenAttention", "asked", "check_embedding", "check_images",
    "check_output", "refuse", "weight_of",
]  # fmt: skip

SEE = "see docs/how-to/extending.md"

Over = Literal["positions", "channels", "strips", "mixing", "points"]

Rows = Callable[[int], slice]
"""From the height of a map to the rows of it that count."""


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


class TokenAttention(NamedTuple):
    """What one layer of a transformer attends to: of each token how much goes into each, in windows or in one.

    Attributes:
        weights: (B * W, heads, n, n) as the network computed and used them, a part of its graph where there is one; row
            i of a picture's window says what goes into its token i, and sums to 1. W windows of a picture are in a row.
        tokens: (W, n) int64, which token of the layer each is; -1 is padding, which is of no picture. First are
            ``before`` ones of no place, such as the class token, then the positions of the map, row by row.
        grid: h and w of the map. Where the next layer has half of both, it sees 2 x 2 of its positions as one.
        before: tokens before those of the map.
    """

    weights: Tensor
    tokens: Tensor
    grid: tuple[int, int]
    before: int

    def spread(self, values: Tensor) -> Tensor:
        """For all T = before + h * w tokens what is given for windows: (B * W, heads, n, n) -> (B, heads, T, T).

        Between tokens of different windows is 0, and padding is left out, so that a row may sum to less than 1.

        Args:
            values: ``weights``, or something else of them, such as their gradient.
        """
        windows, heads, count = self.tokens.shape[0], values.shape[1], self.before + self.grid[0] * self.grid[1]
        batch = values.shape[0] // windows
        places = torch.where(self.tokens < 0, count, self.tokens)
        flat = (places[:, :, None] * (count + 1) + places[:, None, :]).flatten()
        by_picture = values.unflatten(0, (batch, windows)).transpose(1, 2).flatten(2)
        whole = values.new_zeros(batch, heads, (count + 1) ** 2).index_add(2, flat, by_picture)
        return whole.unflatten(2, (count + 1, count + 1))[:, :, :count, :count]


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


AXES: Mapping[str, int] = {"positions": 3, "channels": 2, "strips": 3, "mixing": 3, "points": 3}
"""How many axes the values of each kind of attention have."""

NAMED = "name -> "


def weight_of(model: nn.Module) -> Tensor:
    """A tensor that lies where a network computes, in the precision it computes in.

    That is its first parameter; without any its first buffer of fractions; without these it computes anywhere, which
    is on the CPU in float32.
    """
    tensors = (tensor for tensor in chain(model.parameters(), model.buffers()) if tensor.is_floating_point())
    return next(tensors, torch.empty(0))


def refuse(model: nn.Module, method: str, fault: str) -> NoReturn:
    """Raise the ConfigError that says what a method of a network did wrong."""
    raise ConfigError(f"{type(model).__name__}.{method} {fault}; {SEE}")


def check_images(images: Any) -> None:
    """Check what a network is asked to embed.

    Raises:
        ConfigError: that is no (B, 3, H, W) of float.
    """
    if isinstance(images, Tensor) and images.ndim == 4 and images.shape[1] == 3 and images.is_floating_point():
        return
    got = _kind(images)
    if isinstance(images, Tensor):
        got = f"{tuple(images.shape)} of {str(images.dtype).removeprefix('torch.')}"
    raise ConfigError(
        f"images are {got}, wanted (B, 3, H, W) of float, normalized as model.input says; model.embed_pictures takes "
        "pictures as they are"
    )


def check_output(model: nn.Module, output: Any, pictures: int) -> None:
    """Check what the forward of a network returned.

    Args:
        model: with an ``embed_dim``.
        output: what it returned.
        pictures: how many it was given.

    Raises:
        ConfigError: that is no Output, or not one of these pictures.
    """
    if not isinstance(output, Output):
        refuse(model, "forward", f"returned {_kind(output)}, wanted an Output")
    check_embedding(model, output.embedding, pictures, "forward")
    for part in ("features", "logits", "maps"):
        held = getattr(output, part)
        if not isinstance(held, Mapping):
            refuse(model, "forward", f"returned {part} that are {_kind(held)}, wanted a dict of tensors by name")
        for name, value in held.items():
            if not isinstance(value, Tensor):
                refuse(model, "forward", f"returned {_kind(value)} as {part}[{name!r}], wanted a tensor")


def check_embedding(model: nn.Module, embedding: Any, pictures: int, method: str) -> Tensor:
    """Return the descriptors that a method of a network gave, where they are as many and as long as it says.

    Raises:
        ConfigError: they are not (pictures, ``embed_dim``) of float.
    """
    wanted = (pictures, model.embed_dim)
    if not isinstance(embedding, Tensor):
        got = f"an embedding that is {_kind(embedding)}"
    elif tuple(embedding.shape) != wanted or not embedding.is_floating_point():
        got = f"an embedding {tuple(embedding.shape)} of {str(embedding.dtype).removeprefix('torch.')}"
    else:
        return embedding
    refuse(model, method, f"returned {got}, wanted {wanted} of float: a row a picture, embed_dim={wanted[1]!r} long")


def asked(model: nn.Module, method: str, *given: Any) -> Any:
    """What a network answers to one of the four questions about itself, checked.

    Args:
        model: the network.
        method: ``attention_on``, ``map_layers``, ``heat_layers`` or ``head_layers``.
        given: what the method takes.

    Raises:
        ConfigError: it raised something, or its answer is none.
    """
    try:
        answer = getattr(model, method)(*given)
    except (RegardError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        told = " ".join(str(error).split())
        raise ConfigError(f"{type(model).__name__}.{method} raised {type(error).__name__}: {told}; {SEE}") from error
    _CHECKS[method](model, answer, *given)
    return answer


def _kind(value: Any) -> str:
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def _named(model: nn.Module, method: str, answer: Any, wanted: str, *, some: bool = True) -> Mapping[str, Any]:
    """The answer, where it is a mapping by name."""
    if not isinstance(answer, Mapping):
        refuse(model, method, f"returned {_kind(answer)}, wanted a dict {NAMED}{wanted}")
    if some and not answer:
        refuse(model, method, f"returned an empty dict, wanted {NAMED}{wanted} at least once")
    for name in answer:
        if not isinstance(name, str):
            refuse(model, method, f"names something {name!r}, wanted a dict {NAMED}{wanted}")
    return answer


def _check_layer(model: nn.Module, method: str, name: str, layer: Any, known: Collection[nn.Module]) -> None:
    """Check that something is a part of the network."""
    if not isinstance(layer, nn.Module):
        refuse(model, method, f"gives {_kind(layer)} as {name!r}, wanted a module of the network")
    if layer not in known:
        refuse(model, method, f"gives a {type(layer).__name__} as {name!r} that is no part of the network")


def _check_attention(model: nn.Module, answer: Any, images: Tensor) -> None:
    for name, one in _named(model, "attention_on", answer, "Attention", some=False).items():
        if not isinstance(one, Attention):
            refuse(model, "attention_on", f"gives {_kind(one)} as {name!r}, wanted an Attention")
        if one.over not in get_args(Over):
            choices = ", ".join(get_args(Over))
            near = nearest(str(one.over), get_args(Over))
            refuse(model, "attention_on", f"says that {name!r} is over {one.over!r}{near}; wanted one of {choices}")
        if not isinstance(one.values, np.ndarray):
            fault = f"gives {name!r} values that are {_kind(one.values)}, wanted a NumPy array; Attention.of makes it"
            refuse(model, "attention_on", fault)
        if one.values.ndim != AXES[one.over] or len(one.values) != len(images):
            wanted = f"{AXES[one.over]} axes, the first of {len(images)} pictures"
            fault = f"gives values {one.values.shape} over {one.over} as {name!r}, wanted {wanted}"
            refuse(model, "attention_on", fault)


def _check_maps(model: nn.Module, answer: Any) -> None:
    known = set(model.modules())
    for name, layer in _named(model, "map_layers", answer, "layer").items():
        if not isinstance(layer, str):
            _check_layer(model, "map_layers", name, layer, known)


def _check_heat(model: nn.Module, answer: Any) -> None:
    known = set(model.modules())
    for place, layers in _named(model, "heat_layers", answer, "name -> layer").items():
        for name, layer in _named(model, "heat_layers", layers, f"layer in {place!r}").items():
            _check_layer(model, "heat_layers", name, layer, known)


def _check_heads(model: nn.Module, answer: Any) -> None:
    known = set(model.modules())
    for name, head in _named(model, "head_layers", answer, "HeadLayer").items():
        if not isinstance(head, HeadLayer):
            refuse(model, "head_layers", f"gives {_kind(head)} as {name!r}, wanted a HeadLayer")
        if not isinstance(head.layers, tuple) or not head.layers:
            got = _kind(head.layers) if head.layers != () else "an empty tuple"
            refuse(model, "head_layers", f"gives {got} as the layers of {name!r}, wanted a tuple of modules")
        if head.rows is not None and not callable(head.rows):
            refuse(model, "head_layers", f"gives {_kind(head.rows)} as the rows of {name!r}, wanted a function or None")
        levels = _named(model, "head_layers", head.levels, f"layer as the levels of {name!r}", some=False)
        for layer in (*head.layers, *levels.values()):
            _check_layer(model, "head_layers", name, layer, known)
    if "global" not in answer:
        refuse(model, "head_layers", f"gives {', '.join(answer)} but no 'global', which stands for all other heads")


_CHECKS: Mapping[str, Callable[..., None]] = {
    "attention_on": _check_attention,
    "map_layers": _check_maps,
    "heat_layers": _check_heat,
    "head_layers": _check_heads,
}
