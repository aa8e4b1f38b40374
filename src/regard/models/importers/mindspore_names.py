"""MindSpore's names for the tensors of a network, in torch's words.

A convolution and a linear layer have their numbers in torch's order, so that a name is all that differs. The ResNets of
MindSpore's model zoo (``down_sample_layer``, ``end_point``; 18 and 34 layers ``bn1d``) and of MindCV (``down_sample``,
``classifier``) are known. A checkpoint of a training holds its optimizer too, each momentum under its weight's name
with a word before it, and counters.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping

from torch import Tensor

from regard.errors import RegardWarning

__all__ = ["MINDSPORE_EPS", "in_torch_words", "of_mindspore", "torch_name"]

MINDSPORE_EPS = 1e-4
"""What the normalizations of the model zoo's ResNets add to the variance; torch's add 1e-5."""

WORDS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "down_sample_layer": "downsample",
    "down_sample": "downsample",
    "bn1d": "bn1",
    "bn2d": "bn2",
}
"""Part of a name in MindSpore -> in torch."""

CLASSIFIERS = ("end_point", "classifier")
"""What the two call a ResNet's last layer, ``fc`` of torch."""

SHOWN = 3
"""Names of unused tensors that are said."""


def of_mindspore(names: Iterable[str]) -> bool:
    """Return whether tensors are of MindSpore, by what it calls the variance of a batch normalization."""
    return any(name.endswith(".moving_variance") for name in names)


def torch_name(name: str) -> str:
    """Translate the name of a tensor, part by part."""
    return ".".join(WORDS.get(part, part) for part in name.split("."))


def in_torch_words(tensors: Mapping[str, Tensor], wanted: Iterable[str], source: str) -> dict[str, Tensor]:
    """Rename the tensors of a ResNet, and leave out those of its training, which is said.

    Args:
        tensors: by MindSpore's names.
        wanted: names of the network that is to have them, without its classifier.
        source: where they came from, for the warning.
    """
    wanted = set(wanted)
    renamed, of_training = {}, []
    for key, tensor in tensors.items():
        first, _, rest = key.partition(".")
        name = torch_name(f"fc.{rest}" if first in CLASSIFIERS else key)
        if name not in wanted and (not rest or torch_name(rest) in wanted or rest.startswith(CLASSIFIERS)):
            of_training.append(key)
        else:
            renamed[name] = tensor
    if of_training:
        more = ", …" if len(of_training) > SHOWN else ""
        warnings.warn(
            f"{source}: {len(of_training)} of {len(tensors)} tensors are of its training, not of the network, and are "
            f"left out ({', '.join(of_training[:SHOWN])}{more})",
            RegardWarning,
            stacklevel=3,
        )
    return renamed
