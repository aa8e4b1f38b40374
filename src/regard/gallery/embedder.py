"""A model as a search needs it: pictures in, descriptors of length 1 out, always the same for the same picture.

Queries to a gallery are computed with the export that is kept with the model, where one fits
(:mod:`regard.export.kept`): then neither the network nor torch is loaded until somebody asks for :attr:`model`.

Shapes: N pictures, B in a batch, D descriptor length, H x W pixels of the network's input.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from regard.data.resizing import TestTransform
from regard.device import choose_device, preferred_device
from regard.errors import CheckpointError, ConfigError
from regard.export.engines import Engine, EngineName
from regard.export.keeping import engine_for
from regard.export.kept import kept_engine
from regard.export.manifest import Precision
from regard.gallery.query import unit_rows
from regard.input_spec import IMAGENET_MEAN, IMAGENET_STD, known_input
from regard.models.folder import (
    MODEL_WANTED,
    WEIGHTS,
    model_folder,
    read_calibration,
    read_description,
    saved_input,
)
from regard.models.ready import ready_name
from regard.storage import as_path, open_regular
from regard.threads import Threads

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from regard.models import ReIDModel

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
        kept: compute with the export that is kept with the model, on the processor, where there is one of these weights
            and no engine or device was asked for.
        say: told before such an export is made where none is kept (:mod:`regard.export.keeping`); None makes none.

    Attributes:
        engine: what computes; None for the network itself.
        note: why the engine asked for, or a kept export, is not used; empty where it is.
        calibration: what turns cosines into probabilities; None where the model has none.
        busy: held while descriptors are computed; whoever uses ``model`` itself takes it too.

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
        kept: bool = False,
        say: Callable[[str], None] | None = None,
    ):
        self._folder = folder = model_folder(as_path("path", path, MODEL_WANTED))
        self._device, self._loading, self.busy = device, threading.Lock(), threading.Lock()
        self._model: ReIDModel | None = None
        self.batch_size = batch_size
        self.path = ready_name(folder) or folder.absolute().as_posix()
        self.note, self.engine, self._threads = "", None, None
        if kept and engine is None and precision == "fp32" and (device or preferred_device()) in (None, "auto", "cpu"):
            seen = known_input(saved_input(folder), size, folder)
            self.engine, self.note = engine_for(folder, seen, say) if say else kept_engine(folder, seen)
        if self.engine is not None:
            self.name, self._weights = self.engine.card.system, self.engine.card.weights
            known = read_calibration(folder, lambda: self._weights)
        else:
            from regard.models.saved import model_config, weights_digest

            self._model = self._load()
            seen, known = known_input(self._model.input, size, folder), self._model.calibration
            self.name, self._weights = str(model_config(self._model)["model"]), weights_digest(self._model)
        self.seen = seen if flip is None else replace(seen, flip=flip)
        self.height, self.width = seen.size
        self._transform = TestTransform.of(seen)
        self.calibration = calibration_of(known)
        if self._model is not None:
            self._make_ready(self._model, engine, precision)

    @classmethod
    def like(
        cls, made_by: Mapping[str, Any], path: Path | str | None = None, say: Callable[[str], None] | None = None
    ) -> Self:
        """The embedder for queries to a gallery, from what the gallery remembers (see :meth:`describe`).

        One made in fp32 is asked with the export that is kept with the model, or with the network itself, whatever
        engine made it, a picture at a time; any other by the engine it was made with.

        Args:
            made_by: ``gallery.meta["model"]``.
            path: of the model; None takes it where it was.
            say: told before an export is made where none is kept; None makes none.

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
        place, flip = path or made_by["path"], made_by["flip"]
        if precision == "fp32":
            named = read_description(model_folder(as_path("path", place, MODEL_WANTED))).get("model")
            say = say if named == made_by.get("name") else None  # of another model none is made: it is refused
            return cls(place, size=size, flip=flip, batch_size=1, kept=True, say=say)
        return cls(place, size=size, flip=flip, engine=engine, precision=precision)

    @cached_property
    def device(self) -> torch.device:
        """Where the network computes."""
        return choose_device(self._device, "device")

    @property
    def model(self) -> ReIDModel:
        """The network, loaded when it is first asked for; its ``input`` is what it is shown here.

        Raises:
            ConfigError: it was replaced since the descriptors were computed by its export.
            CheckpointError: it is no longer there, or it is damaged.
        """
        with self._loading:
            if self._model is None:
                from regard.models.saved import weights_digest

                model = self._load()
                if weights_digest(model) != self._weights:
                    raise ConfigError(f"the model in {self.path} was replaced meanwhile; start again")
                model.input = self.seen
                self._model = model.to(self.device)
            return self._model

    def _load(self) -> ReIDModel:
        try:
            from regard.models import load
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"this wants the network in {self.path} itself, and {error.name}, which is not installed here"
                f"{f': {self.note}' if self.note else ''}; install regard with all it depends on"
            ) from None
        model = load(self._folder).strip()
        model.warn_of_cameras("a gallery")
        return model

    def _make_ready(self, model: ReIDModel, engine: EngineName | None, precision: Precision) -> None:
        """Put the network, or the engine that is asked for, in its place."""
        from regard.config import check_batch

        model.to(self.device)
        model.input = self.seen
        check_batch(self.batch_size, self.height, self.width, f"{self.batch_size:,} pictures at a time")
        self.engine = self._open(self._folder, engine, precision)
        if self.engine is None or self.engine.name == "torch":
            self._threads = Threads(measured=self.device.type == "cpu")

    def _open(self, folder: Path, engine: EngineName | None, precision: Precision) -> Engine | None:
        if engine is None and precision == "fp32":
            return None
        from regard.export.opening import open_engine

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
        return self.model.embed_dim if self.engine is None else self.engine.dim

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
        theirs = made_by.get("fingerprint")
        if theirs != ours["fingerprint"] and theirs != self._fingerprint(self._file_digest()):
            raise ConfigError(
                f"{gallery.name} was embedded by another model ({summary(made_by)}), this is {summary(ours)}; "
                "give the model it was made with, or embed the images anew"
            )

    def _file_digest(self) -> str:
        with open_regular(self._folder / WEIGHTS) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]

    def batch(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """Pictures (H', W', 3) uint8 as normalized network input (N, 3, H, W) on the model's device."""
        from regard.data.transforms import network_input

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
            with self._computing():
                return self.engine.embed(resized, flip=self.seen.flip)[: len(pictures)]
        import torch

        from regard.precision import Products

        images = self.batch(pictures)
        missing = images.new_zeros(self.batch_size - len(images), *images.shape[1:])
        images = torch.cat([images, missing]).contiguous(memory_format=torch.channels_last)
        with self._computing(), torch.inference_mode(), Products("fp32", self.device):
            out = self.model.embed_views([images], flip=self.seen.flip)
        return out[: len(pictures)].cpu().numpy()

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Hold the network, or the engine; PyTorch's threads are counted."""
        with self.busy:
            if self._threads is None:
                yield
                return
            with self._threads, self._threads.step():
                yield


def calibration_of(content: Mapping[str, Any] | None) -> Any:
    """The :class:`~regard.calibration.similarity.Calibration` that a model's folder holds; None where it has none."""
    if content is None:
        return None
    from regard.calibration.similarity import Calibration  # brings scipy

    return Calibration.from_dict(content)


def summary(model: Any) -> str:
    """A model in a few words."""
    size, how = f"{model.get('height')} x {model.get('width')}", model.get("precision", "fp32")
    reduced = "" if how == "fp32" else f" in {how} by {model.get('engine')}"
    mirrored = "with" if model.get("flip") else "without"
    return f"{model.get('name')} at {size} {mirrored} its mirror image{reduced}, {model.get('fingerprint')}"
