"""A model as a search needs it: pictures in, descriptors of length 1 out, always the same for the same picture.

Shapes: N pictures, B in a batch, D descriptor length, H x W pixels of the network's input.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regard.config import load_config
from regard.data.transforms import TestTransform, normalize
from regard.errors import ConfigError
from regard.models import ReIDModel, load
from regard.models.checkpoint import model_config, model_folder
from regard.search.query import unit_rows

__all__ = ["Embedder"]

PUBLISHED = (256, 128)
"""Height and width of person crops in most papers: taken where nothing says otherwise."""


class Embedder:
    """Makes descriptors with a trained model.

    Batches always hold ``batch_size`` pictures, filled up with black ones: matrix libraries round differently at
    different sizes, and this way a descriptor does not depend on what is embedded beside it.

    Args:
        path: folder of a run, or a folder a model was saved in.
        size: height and width of the network's input; None takes those of the run, else 256 x 128.
        flip: average with the descriptor of the mirrored picture.
        batch_size: B.
        device: where to compute; None takes a GPU where there is one.

    Attributes:
        model: the network.
        calibration: what turns cosines into probabilities; None where the model has none.
        busy: held while the network computes; whoever uses ``model`` itself takes it too.

    Raises:
        CheckpointError: there is no model, or it is damaged.
    """

    def __init__(
        self,
        path: Path | str,
        size: tuple[int, int] | None = None,
        flip: bool = True,
        batch_size: int = 32,
        device: str | None = None,
    ):
        folder = model_folder(Path(path))
        self.model: ReIDModel = load(folder).strip()
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model.to(self.device)
        self.calibration = read_calibration(self.model)
        self.flip = flip
        self.batch_size = batch_size
        self.path = folder.absolute().as_posix()
        self.name = str(model_config(self.model)["model"])
        data = run_data(folder)
        self.height, self.width = size or data.get("size") or PUBLISHED
        self._transform = TestTransform(self.height, self.width, **data.get("how", {}))
        self._weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:16]
        self.busy = threading.Lock()

    @property
    def dim(self) -> int:
        """D."""
        return self.model.embed_dim

    def describe(self) -> dict[str, Any]:
        """What a gallery remembers of the model; what changes descriptors changes the fingerprint."""
        facts = {"name": self.name, "path": self.path, "height": self.height, "width": self.width, "flip": self.flip}
        text = f"{self._weights} {self._transform} {self.flip}"
        return facts | {"fingerprint": hashlib.sha256(text.encode()).hexdigest()[:16]}

    def check_fits(self, gallery: Any) -> None:
        """Check that a gallery's descriptors are this model's.

        Raises:
            ConfigError: they are of another model, or of another input size.
        """
        made_by, ours = gallery.meta["model"], self.describe()
        if made_by.get("fingerprint") != ours["fingerprint"]:
            raise ConfigError(
                f"{gallery.name} was embedded by another model ({summary(made_by)}), this is {summary(ours)}; "
                "give the model it was made with, or embed the images anew"
            )

    def batch(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """Pictures (H', W', 3) uint8 as normalized network input (N, 3, H, W) on the model's device."""
        images = np.stack([np.ascontiguousarray(self._transform(picture)) for picture in pictures])
        return normalize(torch.from_numpy(images).to(self.device))

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
        images = self.batch(pictures)
        missing = images.new_zeros(self.batch_size - len(images), *images.shape[1:])
        images = torch.cat([images, missing]).contiguous(memory_format=torch.channels_last)
        with self.busy, torch.inference_mode():
            out = self.model.embed(images)
            if self.flip:
                out = (out + self.model.embed(images.flip(3))) / 2
        return out[: len(pictures)].cpu().numpy()


def run_data(folder: Path) -> dict[str, Any]:
    """Input size and resizing of the run a model came from; empty where there is no run."""
    for settings in (folder / "config.yaml", folder.parent / "config.yaml"):
        if settings.is_file():
            data = load_config(settings.read_text(encoding="utf-8"), source=str(settings)).data
            return {"size": (data.height, data.width), "how": {"interpolation": data.interpolation}}
    return {}


def read_calibration(model: ReIDModel) -> Any:
    """The model's calibration, with its ``probability``; None where it has none."""
    content = getattr(model, "calibration", None)
    if content is None or hasattr(content, "probability"):
        return content
    from regard.metrics.calibration import Calibration

    return Calibration.from_dict(content)


def summary(model: Any) -> str:
    """A model in a few words."""
    return f"{model.get('name')} at {model.get('height')} x {model.get('width')}, {model.get('fingerprint')}"
