"""What every model promises.

Shapes: B images in a batch, H x W pixels, D descriptor length.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from regard.data.image import Picture, list_pictures
from regard.data.transforms import Color, network_input
from regard.errors import ConfigError, DataError
from regard.input_spec import known_input
from regard.models.importers.translation import ImportReport
from regard.models.looks import Attention, HeadLayer, evaluating, find_maps, gate_attention
from regard.models.saved import Described, save
from regard.precision import Products
from regard.structures import Output

__all__ = ["ReIDModel"]

MOST_IDS = 10**9
"""Identities that a network may be asked to tell apart."""

NOT_OPTIONS = frozenset({"num_ids", "pretrained"})
"""Constructor arguments that are not part of the architecture's description: the size of the label set is recorded
beside the options, and where the first weights came from no longer matters once there are others."""


class ReIDModel(Described):
    """A person re-identification network.

    A subclass is registered with ``@MODELS.register("name")``, takes ``num_ids`` and its options by name (and, where
    its backbone can start from weights, ``pretrained``, False unless told), and implements :meth:`forward`. It lists
    in ``training_parts`` what inference can do without, and says in :meth:`attention_on`, :meth:`map_layers`,
    :meth:`heat_layers` and :meth:`head_layers` what of it can be looked at, where that differs from what stands here.

    Args:
        num_ids: identities to classify in training.
        embed_dim: D.

    Attributes:
        options: the constructor's options by name, as given or by default; enough to build the same network again.
        stripped: whether :meth:`strip` has been called.
        calibration: how similarity reads as probability, where that has been measured: the content of
            ``calibration.json``, which :class:`regard.calibration.similarity.Calibration` reads.
        input: what the network sees; a recipe, an importer or whoever has the model in hand sets it. None where it was
            loaded from a folder of before, which does not say.
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
        with evaluating(self), torch.no_grad():
            return self._descriptor(images).float()

    def embed_views(self, views: Sequence[Tensor], *, flip: bool) -> Tensor:
        """Return the mean of the descriptors of several views of the same pictures.

        Args:
            views: normalized, (B, 3, H, W) each.
            flip: every view counts mirrored too.

        Returns:
            (B, D) float32, before any L2 normalization.
        """
        mirrored = [view.flip(3) for view in views] if flip else []
        return torch.stack([self.embed(view) for view in (*views, *mirrored)]).mean(0)

    def embed_pictures(self, pictures: Iterable[Picture], *, batch_size: int = 32, color: Color = "rgb") -> np.ndarray:
        """Return the descriptors of pictures, as ``regard embed`` stores them.

        Read, resized, normalized and mirrored as :attr:`input` says, computed in float32 where the model is.

        Args:
            pictures: paths, Pillow images of any mode (turned upright by their EXIF orientation, as files are), and
                (h, w, 3) uint8 arrays of any size, also mixed.
            batch_size: pictures at a time.
            color: order of the channels of arrays, "rgb" or "bgr".

        Returns:
            (N, D) float32, each row of length 1.

        Raises:
            ConfigError: the model does not say what it sees, or the batch size is below 1.
            DataError: a picture cannot be read, is something else, or its descriptor is zero or not finite.

        >>> model = create_model("baseline", num_ids=10, backbone="test_resnet.r160_in1k")
        >>> model.input = InputSpec(64, 32)
        >>> model.embed_pictures([np.zeros((90, 40, 3), np.uint8)]).shape
        (1, 96)
        """
        seen, given = known_input(self.input, whose="the model"), list_pictures(pictures)
        if type(batch_size) is not int or batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size!r}, wanted 1 or more pictures at a time")
        weight = next(self.parameters())
        rows = [np.empty((0, self.embed_dim), np.float32)]
        for start in range(0, len(given), batch_size):
            images = network_input(given[start : start + batch_size], seen, weight.device, color).to(weight.dtype)
            with Products("fp32", weight.device):
                rows.append(self.embed_views([images], flip=seen.flip).cpu().numpy())
        vectors = np.concatenate(rows)
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and lengths.all()):
            raise DataError("got a descriptor that is zero or not finite; check the picture and the model")
        return (vectors / lengths).astype(np.float32)

    def _descriptor(self, images: Tensor) -> Tensor:
        """The embedding alone, (B, D); for systems that can have it for less than a whole :meth:`forward`."""
        return self(images).embedding

    def attention_on(self, images: Tensor) -> dict[str, Attention]:
        """What the network says about what matters in pictures (B, 3, H, W), by name, in the order it is computed.

        Called in evaluation mode and without gradient. Here these are the gates in :attr:`Output.maps`; a network
        whose maps are something else says here what they are.
        """
        return {name: gate_attention(gate) for name, gate in self(images).maps.items()}

    def map_layers(self) -> Mapping[str, nn.Module | str]:
        """The layers whose maps can be looked at, by name, in order; the last one is the map that is pooled.

        A map that no layer returns is told by its name in the ``maps`` of :meth:`in_full`. What attention changes is
        called ``NAME.before`` and ``NAME.after``. Here they are found by running the network once.
        """
        return find_maps(self)

    def heat_layers(self) -> dict[str, dict[str, nn.Module]]:
        """The layers that heat is drawn at: place in the network -> name -> layer, both in the order they act.

        All of them are on the way to the embedding; attention that only training needs is none. The last place is
        looked at unless another is asked for. A network with one place alone leaves its name empty.
        """
        return {"": {"last stage": self.head_layers()["global"].layers[-1]}}

    def head_layers(self) -> dict[str, HeadLayer]:
        """What each head looks at, by its name in ``Output.features`` and ``Output.logits``.

        ``"global"``, which is always there, stands for the embedding and for every head that is not named.
        """
        *_, last = (layer for layer in self.map_layers().values() if isinstance(layer, nn.Module))
        return {"global": HeadLayer((last,))}

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
