"""What every model promises.

Shapes: B images in a batch, H x W pixels, D descriptor length.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.models.importers.translation import ImportReport
from regard.models.saved import Described, save
from regard.structures import Output

__all__ = ["ReIDModel"]

MOST_IDS = 10**9
"""Identities that a network may be asked to tell apart."""

NOT_OPTIONS = frozenset({"num_ids", "pretrained"})
"""Constructor arguments that are not part of the architecture's description: the size of the label set is recorded
beside the options, and where the first weights came from no longer matters once there are others."""


class ReIDModel(Described):
    """A person re-identification network.

    A subclass is registered with ``@MODELS.register("name")``, takes ``num_ids``, ``pretrained`` and its options by
    name, implements :meth:`forward` and lists in ``training_parts`` what inference can do without.

    Args:
        num_ids: identities to classify in training.
        embed_dim: D.

    Attributes:
        options: the constructor's options by name, as given or by default; enough to build the same network again.
        stripped: whether :meth:`strip` has been called.
        calibration: how similarity reads as probability, where that has been measured: the content of
            ``calibration.json``, which :class:`regard.calibration.similarity.Calibration` reads.
        input: what the network was trained to see; None where nobody has said.
        imported: name of the released network whose checkpoint the weights are; None for weights trained here.
        import_report: what became of the tensors, where the model was made by ``import_released``.
        start_report: what was taken over, where the model started from another's weights.

    Raises:
        ConfigError: ``num_ids`` is not a positive number.
    """

    published_whole: ClassVar[bool] = False
    """Whether the authors' network runs its ``training_parts`` at test too, so that its published cost holds them."""

    import_report: ImportReport | None = None
    start_report: str | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record the options before the constructor runs (copying and unpickling come here too, without any)."""
        self = super().__new__(cls)
        given = inspect.signature(cls.__init__).bind_partial(self, *args, **kwargs)
        given.apply_defaults()
        given.arguments.pop("self")
        object.__setattr__(self, "options", {k: v for k, v in given.arguments.items() if k not in NOT_OPTIONS})
        return self

    def __init__(self, num_ids: int, embed_dim: int):
        super().__init__()
        if type(num_ids) is bool or not hasattr(num_ids, "__index__") or not 1 <= num_ids <= MOST_IDS:
            raise ConfigError(f"num_ids is {num_ids!r}, wanted 1 to {MOST_IDS:,} identities; give the training set's")
        self.num_ids = num_ids
        self.embed_dim = embed_dim
        self.stripped = False

    def forward(self, images: Tensor) -> Output:
        """Everything the network has to say about images (B, 3, H, W), in training and in evaluation alike."""
        raise NotImplementedError

    def in_full(self, images: Tensor) -> Output:
        """The answer of :meth:`forward` by the products that the paper writes, where a cheaper exact form is used.

        For looking at, and for counting what the published network costs.
        """
        return self(images)

    def embed(self, images: Tensor) -> Tensor:
        """Descriptors of normalized images: (B, 3, H, W) -> (B, D) float32, before any L2 normalization.

        Always in evaluation mode and without gradient; every submodule's mode is restored.
        """
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            with torch.no_grad():
                return self._descriptor(images).float()
        finally:
            for module, training in modes:
                module.training = training

    def _descriptor(self, images: Tensor) -> Tensor:
        """The embedding alone, (B, D); for systems that can have it for less than a whole :meth:`forward`."""
        return self(images).embedding

    def strip(self) -> Self:
        """Remove, in place, what only training needs; descriptors stay the same to the bit, logits become empty."""
        for name in self.dispensable_parts(self.options):
            owner, _, part = name.rpartition(".")
            setattr(self.get_submodule(owner), part, None)
        self.stripped = True
        return self

    def save(self, folder: Path | str) -> None:
        """Write ``model.safetensors`` and ``config.json`` into ``folder``, each whole or not at all.

        Raises:
            StorageError: the disk refused; files from an earlier save are intact.
        """
        save(self, Path(folder))
