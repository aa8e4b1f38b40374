"""What a run minimizes: a list of named terms over the named outputs of a model.

A recipe writes them as a mapping from term name to loss::

    losses:
      id:      {loss: cross_entropy, on: logits.*, smoothing: 0.1}
      triplet: {loss: triplet, on: features.global, margin: 0.3, gather: true}

A term of ``weight`` 0 is computed and logged, but adds nothing, not even the NaN of a gradient, and moves nothing.

``on`` is ``logits``, ``features`` or ``maps``, a dot, and a pattern of output names (``*`` for all of them); or
``embedding``, what retrieval compares.

A loss may have parameters of its own. They learn with the network, as the classes of :mod:`~regard.losses.cosine` do
(:meth:`Criterion.shared_parameters`); or, where the loss says in an attribute ``lr`` how fast, beside it, as the
centers of :class:`~regard.losses.metric.CenterLoss` do (:meth:`Criterion.parameter_groups`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from regard.errors import ConfigError
from regard.precision import at_least_float32
from regard.structures import Batch, Output

__all__ = ["Criterion", "Term"]

EMBEDDING = "embedding"

Gather = Callable[[Tensor], Tensor]


class Term(nn.Module):
    """One named loss on some named outputs.

    Args:
        name: how logs and figures call it.
        loss: module called as ``loss(value, target)``, returning a scalar.
        on: which outputs, e.g. ``"features.global"``, ``"logits.*"`` or ``"embedding"``.
        weight: factor in the total; 0 leaves it out of it.
        reduction: "mean" or "sum" over the outputs that ``on`` matches.
        gather: compare with the features of all ranks; wanted for losses over pairs (the triplet), pointless else.
        target: "pids", or ``"extra.NAME"`` for an entry of :attr:`Batch.extra`.
    """

    def __init__(
        self,
        name: str,
        loss: nn.Module,
        on: str,
        *,
        weight: float = 1.0,
        reduction: str = "mean",
        gather: bool = False,
        target: str = "pids",
    ):
        super().__init__()
        source, _, pattern = on.partition(".")
        if on != EMBEDDING and (source not in ("features", "logits", "maps") or not pattern):
            raise ConfigError(
                f"losses.{name}.on is {on!r}; it wants features.NAME, logits.NAME or maps.NAME, * matching all names, "
                "or embedding"
            )
        if reduction not in ("mean", "sum"):
            raise ConfigError(f"losses.{name}.reduction is {reduction!r}; it wants mean or sum")
        self.name, self.loss, self.source, self.pattern = name, loss, source, pattern
        self.weight, self.reduction, self.gather, self.target = weight, reduction, gather, target

    def forward(self, output: Output, batch: Batch, gather: Gather | None = None) -> Tensor:
        """The term's value before its weight, a scalar of float32 (float64 where the outputs are)."""
        joined: Gather = gather if gather and self.gather else lambda tensor: tensor
        target = joined(self._target(batch))
        values = [self.loss(joined(at_least_float32(value)), target) for value in self.values(output)]
        total = torch.stack(values).sum()
        return total / len(values) if self.reduction == "mean" else total

    def values(self, output: Output) -> list[Tensor]:
        """The outputs that ``on`` matches.

        Raises:
            ConfigError: the model has none of that name.
        """
        if self.source == EMBEDDING:
            return [output.embedding]
        named: dict[str, Tensor] = getattr(output, self.source)
        values = [value for name, value in named.items() if fnmatchcase(name, self.pattern)]
        if not values:
            raise ConfigError(
                f"losses.{self.name}.on is '{self.source}.{self.pattern}', but the model's {self.source} "
                f"are {', '.join(named) or 'none'}; name one of those"
            )
        return values

    def _target(self, batch: Batch) -> Any:
        if self.target == "pids":
            return batch.pids
        key = self.target.removeprefix("extra.")
        if key not in batch.extra:
            raise ConfigError(
                f"losses.{self.name}.target is {self.target!r}, "
                f"but the data set gives {', '.join(batch.extra) or 'no labels'}"
            )
        return batch.extra[key]


class Criterion(nn.Module):
    """The weighted sum of terms."""

    def __init__(self, terms: Sequence[Term]):
        super().__init__()
        self.terms = nn.ModuleList(terms)

    def forward(self, output: Output, batch: Batch, gather: Gather | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimize, and every term's value before its weight under the term's name.

        Args:
            output: of the model.
            batch: its images' labels; ``pids`` are class labels 0..N-1.
            gather: concatenates a tensor over all ranks in rank order, keeping gradients; None on one rank.
        """
        values: dict[str, Tensor] = {}
        total = torch.zeros((), device=output.embedding.device)
        for term in self.terms:
            assert isinstance(term, Term)
            with torch.set_grad_enabled(torch.is_grad_enabled() and term.weight != 0):
                values[term.name] = value = term(output, batch, gather)
            if term.weight:
                total = total + term.weight * value
        return total, {name: value.detach() for name, value in values.items()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameters that learn by plain SGD, each term's with the rate at which its weight cancels out.

        They are those of losses that have a rate ``lr``. A weighted term's gradient is ``weight`` times the loss's, so
        ``lr / weight`` moves them as the loss alone would with ``lr``. A term of weight 0 moves nothing.
        """
        groups: list[dict[str, Any]] = []
        for term in self._moving():
            parameters = list(term.parameters())
            if parameters and hasattr(term.loss, "lr"):
                rate = term.loss.lr
                assert isinstance(rate, float | int)
                groups.append({"params": parameters, "lr": rate / term.weight})
        return groups

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """Parameters that the run's optimizer moves with the network's, by names such as ``losses.id.classes``."""
        return {
            f"losses.{term.name}.{name}": parameter
            for term in self._moving()
            if not hasattr(term.loss, "lr")
            for name, parameter in term.loss.named_parameters()
        }

    def _moving(self) -> list[Term]:
        """The terms whose weight is not 0."""
        return [term for term in self.terms if isinstance(term, Term) and term.weight]
