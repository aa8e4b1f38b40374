"""A model as a search needs it: pictures in, descriptors of length 1 out, always the same for the same picture.

Shapes: N pictures, B in a batch, D descriptor length, H x W pixels of the network's input.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from regard.calibration.similarity import Calibration
from regard.config import check_batch
from regard.data.transforms import TestTransform, network_input
from regard.device import choose_device
from regard.errors import CheckpointError, ConfigError
from regard.export.engines import Engine
from regard.export.manifest import Precision
from regard.export.opening import EngineName, open_engine
from regard.gallery.query import unit_rows
from regard.input_spec import IMAGENET_MEAN, IMAGENET_STD, known_input
from regard.models import ReIDModel, load
from regard.models.saved import MODEL_WANTED, WEIGHTS, model_config, model_folder, weights_digest
from regard.precision import Products
from regard.storage import as_path, open_regular
from regard.threads import Threads

__all__ = ["Embedder"]


class Embedder:
    """Makes descriptors with a trained model.

    Batches always hold ``batch_size`` pictures, filled up with black ones: matrix libraries round differently at
    different sizes, and this way a descriptor does not depend on what is embedded beside it.

    Args:
        path: folder of a run, or a folder a model was saved in.
        size: height and width of the network's input; None takes the model's own.
        flip: average with the descriptor of the mirrored picture; None does as the model was scored.
        batch_size: B.
        device: where to compute, as of :func:`regard.device.choose_device`; None takes a GPU where there is one.
        engine: what computes (:func:`regard.export.open_engine`); None runs the network as it is, for which nothing has
            to be made ready, the best for a few pictures. "auto" runs it so too where it cannot be exported.
        precision: of the engine's products.

    Attributes:
        model: the network; its ``input`` is what it is shown here.
        engine: what computes; None for the network itself.
        note: why the engine asked for is not used; empty where it is.
        calibration: what turns cosines into probabilities; None where the model has none.
        busy: held while the network computes; whoever uses ``model`` itself takes it too.

    Raises:
        CheckpointError: there is no model, or it is damaged.
        ConfigError: the engine is not installed or does not compute in that precision, or neither model nor caller
            says the size.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        size: tuple[int, int] | None = None,
        flip: bool | None = None,
        batch_size: int = 32,
        device: str | None = None,
        engine: EngineName | None = None,
        precision: Precision = "fp32",
    ):
        folder = model_folder(as_path("path", path, MODEL_WANTED))
        self.model: ReIDModel = load(folder).strip()
        self.device = choose_device(device, "device")
        self.model.to(self.device)
        known = self.model.calibration
        self.calibration = None if known is None else Calibration.from_dict(known)
        self.batch_size = batch_size
        self.path = folder.absolute().as_posix()
        self.name = str(model_config(self.model)["model"])
        seen = known_input(self.model.input, size, folder)
        self.seen = self.model.input = seen if flip is None else replace(seen, flip=flip)
        self.height, self.width = seen.size
        check_batch(batch_size, self.height, self.width, f"{batch_size:,} pictures at a time")
        self._transform = TestTransform.of(seen)
        self._weights = weights_digest(self.model)
        with open_regular(folder / WEIGHTS) as file:
            self._file = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        self._products = Products("fp32", self.device)
        self.note = ""
        self.engine = self._open(folder, engine, precision)
        self.busy = threading.Lock()
        torch_computes = self.engine is None or self.engine.name == "torch"
        self._threads = Threads(measured=torch_computes and self.device.type == "cpu")

    @classmethod
    def like(cls, made_by: Mapping[str, Any], path: Path | str | None = None) -> Self:
        """The embedder for queries to a gallery, from what the gallery remembers (see :meth:`describe`).

        One made in fp32 is asked with the network itself, whatever engine made it; any other by the engine it was made
        with.

        Args:
            made_by: ``gallery.meta["model"]``.
            path: of the model; None takes it where it was.

        Raises:
            ConfigError: the gallery does not say what is needed for that.
        """
        precision = made_by.get("precision", "fp32")
        wanted = {"height", "width", "flip"} | (set() if path else {"path"})
        wanted |= set() if precision == "fp32" else {"engine"}
        if missing := sorted(wanted - made_by.keys()):
            raise ConfigError(
                f"the gallery does not say with which {' and '.join(missing)} its pictures were embedded, so no photo "
                "can be compared with them; search with --id, or embed the pictures anew"
            )
        size, engine = (made_by["height"], made_by["width"]), None if precision == "fp32" else made_by["engine"]
        return cls(path or made_by["path"], size=size, flip=made_by["flip"], engine=engine, precision=precision)

    def _open(self, folder: Path, engine: EngineName | None, precision: Precision) -> Engine | None:
        if engine is None and precision == "fp32":
            return None
        try:
            return open_engine(folder, engine or "auto", precision, size=self.seen.size, device=str(self.device))
        except (ConfigError, CheckpointError) as error:
            if engine != "auto" or precision != "fp32":
                raise
            self.note = f"computing with the network as it is: {error}"
            return None

    @property
    def dim(self) -> int:
        """D."""
        return self.model.embed_dim

    def describe(self) -> dict[str, Any]:
        """What a gallery remembers of the model; what changes descriptors changes the fingerprint."""
        return {
            "name": self.name,
            "path": self.path,
            "height": self.height,
            "width": self.width,
            "flip": self.seen.flip,
            "engine": self.engine.name if self.engine else "torch",
            "precision": self.engine.precision if self.engine else "fp32",
            "fingerprint": self._fingerprint(self._weights),
        }

    def _fingerprint(self, weights: str) -> str:
        """Digest of what decides the descriptors, with the weights called so."""
        text = f"{weights} {self._transform} {self.seen.flip}"
        if (self.seen.mean, self.seen.std) != (IMAGENET_MEAN, IMAGENET_STD):
            text += f" {self.seen.mean} {self.seen.std}"
        if self.engine and self.engine.precision != "fp32":  # in fp32 the engines differ by rounding
            text += f" {self.engine.fingerprint_with(weights)}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def check_fits(self, gallery: Any) -> None:
        """Check that a gallery's descriptors are this model's.

        Galleries of earlier versions knew the weights by the bytes of their file; they fit where that is unchanged.

        Raises:
            ConfigError: they are of another model, or of another input size.
        """
        made_by, ours = gallery.meta["model"], self.describe()
        if made_by.get("fingerprint") not in (ours["fingerprint"], self._fingerprint(self._file)):
            raise ConfigError(
                f"{gallery.name} was embedded by another model ({summary(made_by)}), this is {summary(ours)}; "
                "give the model it was made with, or embed the images anew"
            )

    def batch(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """Pictures (H', W', 3) uint8 as normalized network input (N, 3, H, W) on the model's device."""
        return network_input(pictures, self.seen, self.device)

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Descriptors of pictures.

        Args:
            pictures: (H', W', 3) uint8 each, of any size.

        Returns:
            (N, D) float32 of length 1.
        """
        if not pictures:
            return np.empty((0, self.dim), np.float32)
        parts = [self._embed(pictures[i : i + self.batch_size]) for i in range(0, len(pictures), self.batch_size)]
        return unit_rows(np.concatenate(parts), self.dim)

    def _embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        if self.engine:
            resized = np.zeros((self.batch_size, self.height, self.width, 3), np.uint8)
            for place, picture in zip(resized, pictures):
                self._transform(picture, out=place)
            with self.busy, self._threads, self._threads.step():
                return self.engine.embed(resized, flip=self.seen.flip)[: len(pictures)]
        images = self.batch(pictures)
        missing = images.new_zeros(self.batch_size - len(images), *images.shape[1:])
        images = torch.cat([images, missing]).contiguous(memory_format=torch.channels_last)
        with self.busy, self._threads, self._threads.step(), torch.inference_mode(), self._products:
            out = self.model.embed_views([images], flip=self.seen.flip)
        return out[: len(pictures)].cpu().numpy()


def summary(model: Any) -> str:
    """A model in a few words."""
    size, how = f"{model.get('height')} x {model.get('width')}", model.get("precision", "fp32")
    reduced = "" if how == "fp32" else f" in {how} by {model.get('engine')}"
    mirrored = "with" if model.get("flip") else "without"
    return f"{model.get('name')} at {size} {mirrored} its mirror image{reduced}, {model.get('fingerprint')}"
