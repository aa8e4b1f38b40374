"""``torch.compile`` with a way back.

Compilers fail where networks do not: there is no C++ compiler, a layer is too new, a cache folder cannot be written.
A compiled network is therefore on probation until its first pass with gradients is through: whatever it raises, the
network itself is asked instead, as if nothing had happened, and one line says so. An error of the network itself
comes up again there.

Shapes: B images in a batch, H x W pixels.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from regard.runtime.randomness import random_state, set_random_state
from regard.structures import Output

__all__ = ["Probation", "wants_compiling"]


def wants_compiling(setting: bool | str, device: torch.device) -> bool:  # noqa: FBT001
    """What ``train.compile`` means on a device: "auto" compiles on CUDA, where kernels wait for memory."""
    return device.type == "cuda" if setting == "auto" else bool(setting)


class Probation:
    """Calls a compiled network and, where that fails, the network itself from then on.

    Args:
        network: what to call; compiled.
        model: the module whose buffers and random draws a failed call may have touched.
        agree: whether any rank has failed, so that all give up together.
        give_up: makes ``network`` call the uncompiled one.
    """

    def __init__(self, network: nn.Module, model: nn.Module, agree: Callable[[bool], bool], give_up: Callable[[], Any]):
        self.network, self.model, self.agree, self.give_up = network, model, agree, give_up
        self.passed = False

    def __call__(self, images: Tensor) -> Output:
        """The network's answer to normalized images (B, 3, H, W)."""
        if self.passed:
            return self.network(images)
        with _undoing(self.model, images.device) as undo:
            output, reason = self._try(images)
            if self.agree(output is None):
                undo()
                self.give_up()
                self.passed = True
                _say(reason or "it failed on another rank")
                return self.network(images)
        assert output is not None
        self.passed = torch.is_grad_enabled()
        return output

    def _try(self, images: Tensor) -> tuple[Output | None, str]:
        try:
            return self.network(images), ""
        except Exception as error:  # dynamo, its backends and compilers each raise their own kinds
            return None, f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]}"


@contextmanager
def _undoing(model: nn.Module, device: torch.device) -> Iterator[Callable[[], None]]:
    """Gives a function that brings buffers and random generators back to where they were on entry."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    state = random_state(device)

    def undo() -> None:
        with torch.no_grad():
            for buffer, kept in buffers:
                buffer.copy_(kept)
        set_random_state(state, device)

    yield undo


def _say(reason: str) -> None:
    print(
        f"regard: train.compile: the network could not be compiled, so it runs as it is ({reason}); "
        "train.compile=false asks for that",
        file=sys.stderr,
    )
