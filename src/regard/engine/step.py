"""What a batch teaches: forward pass, losses, backward pass, in one piece or in several.

A batch that does not fit into memory cannot be cut for the triplet loss, which looks for the hardest pairs of the whole
batch. It can for the network, which looks at one image at a time: first all pieces pass without keeping anything but
their outputs, then the losses are taken of all outputs at once and give every output its gradient, then each piece
passes again and takes its outputs' gradient back through the network. (L. Gao, Y. Zhang, J. Han, J. Callan: Scaling
Deep Contrastive Learning Batch Size under Memory Limited Setup, RepL4NLP 2021, arXiv 2101.06983.) Loss and gradients
are those of the whole batch, for one more forward pass. What mixes images is the exception: batch normalization takes
its statistics over a piece.

Shapes: B images in a batch, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regard.config import Config
from regard.data.transforms import normalize
from regard.engine.profile import Laps
from regard.errors import ConfigError
from regard.input_spec import InputSpec
from regard.layers.batch_norm import statistics_kept
from regard.losses import Criterion, Term
from regard.runtime.fabric import Network, Runtime
from regard.runtime.randomness import random_state, set_random_state
from regard.structures import Batch, Output

__all__ = ["Learner", "check_pieces"]

KINDS = ("features", "logits", "maps")

Named = dict[tuple[str, str], Tensor]
"""Outputs by kind and name."""


def check_pieces(config: Config, runtime: Runtime) -> int:
    """The number of pieces that a rank's batch is cut into.

    Raises:
        ConfigError: they would be unequal, or hold a single image, which has no batch statistics.
    """
    pieces = config.train.accumulate
    images = config.data.ids_per_batch * config.data.images_per_id // runtime.world_size
    if pieces > 1 and (images % pieces or images < 2 * pieces):
        raise ConfigError(
            f"train.accumulate is {pieces}, but a process has {images} images in a batch, which do not make {pieces} "
            "equal pieces of at least two; choose a divisor"
        )
    return pieces


class Learner:
    """Gives the network's parameters the gradients of a batch.

    Args:
        network: the model as prepared by the runtime.
        model: the unwrapped module.
        criterion: the losses.
        runtime: device and ranks.
        pieces: passes that a batch is cut into; divides its length.
        laps: takes the time.
    """

    def __init__(
        self, network: Network, model: nn.Module, criterion: Criterion, runtime: Runtime, pieces: int, *, laps: Laps
    ):
        self.network, self.model, self.criterion, self.runtime = network, model, criterion, runtime
        self.pieces, self.laps = pieces, laps
        self._seen: InputSpec = getattr(model, "input", None) or InputSpec()
        self._gather = runtime.gather if runtime.world_size > 1 else None

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and terms of a batch on the device, as of :class:`~regard.losses.Criterion`; gradients are added."""
        if self.pieces > 1:
            return self._in_pieces(batch)
        output = self.network(self._normal(batch.images))
        self.laps("forward")
        return self._losses(output, batch)

    def _normal(self, images: Tensor) -> Tensor:
        return normalize(images, self._seen.mean, self._seen.std)

    def _losses(self, output: Output, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Take the losses of the batch's output, and their gradients."""
        loss, terms = self.criterion(output, batch, self._gather)
        self.laps("losses")
        self.runtime.backward(loss)
        self.laps("backward")
        return loss, terms

    def _in_pieces(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        pieces = batch.images.chunk(self.pieces)
        states, embeddings, parts = [], [], []
        with torch.no_grad():
            for piece in pieces:
                states.append(random_state(piece.device))
                output = self.network(self._normal(piece))
                embeddings.append(output.embedding)
                parts.append(self._wanted(output))
        self.laps("forward")
        whole = {key: torch.cat([part[key] for part in parts]).requires_grad_() for key in parts[0]}
        loss, terms = self._losses(_output(torch.cat(embeddings), whole), batch)
        gradients = {key: value.grad.chunk(self.pieces) for key, value in whole.items() if value.grad is not None}
        with statistics_kept(self.model):
            for number, (piece, state) in enumerate(zip(pieces, states)):
                set_random_state(state, piece.device)
                with self.runtime.summing(apart=number < self.pieces - 1):
                    part = self._wanted(self.network(self._normal(piece)))
                    products = [(part[key] * gradient[number]).sum() for key, gradient in gradients.items()]
                    self.runtime.backward(torch.stack(products).sum())
        self.laps("backward")
        return loss, terms

    def _wanted(self, output: Output) -> Named:
        """The outputs that the losses look at."""
        terms = [term for term in self.criterion.terms if isinstance(term, Term)]
        seen = {id(value) for term in terms for value in term.values(output)}
        named = {(kind, name): value for kind in KINDS for name, value in getattr(output, kind).items()}
        return {key: value for key, value in named.items() if id(value) in seen}


def _output(embedding: Tensor, values: Named) -> Output:
    """The output with these values."""
    kinds = ({name: value for (kind, name), value in values.items() if kind == wanted} for wanted in KINDS)
    return Output(embedding, *kinds)
