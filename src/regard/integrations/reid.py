"""reid (0.1.0rc1): regard's networks as its ``ReIDModel``, from a folder of ``regard export --for reid``.

``reid`` knows its architectures by name, and ours are none of them: it is given the network itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from regard.data.boxes import crops
from regard.export.manifest import read_card
from regard.export.reid_folder import PREFIX
from regard.integrations.encoder import Encoder
from regard.integrations.programs import program
from regard.models.build import from_config
from regard.models.folder import CONFIG, read_description
from regard.models.importers.tensor_file import read_tensors
from regard.models.saved import load_weights

__all__ = ["Backbone", "by_loader", "by_regard", "model"]


class Backbone(nn.Module):
    """A network as ``reid`` runs one: normalized pictures (B, 3, H, W) -> (B, D) of length 1.

    Args:
        folder: of ``regard export --for reid``; the weights are ``reid``'s to load.
    """

    def __init__(self, folder: Path | str):
        super().__init__()
        folder = Path(folder)
        self.flip = read_card(folder / "weights.safetensors").flip_averaged
        self.net = from_config(read_description(folder), str(folder / CONFIG)).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Descriptors, averaged with those of the mirrored pictures where the network is scored so."""
        return functional.normalize(self.net.embed_views([images], flip=self.flip))


def by_regard(folder: Path) -> Encoder:
    """Return an encoder of the network in a folder, without ``reid``."""
    tensors = read_tensors(folder / "weights.safetensors")
    network = Backbone(folder).net
    load_weights(network, {name.removeprefix(PREFIX): value for name, value in tensors.items()}, source=str(folder))
    return Encoder(network, "torch")


def model(folder: Path | str, device: str = "cpu") -> Any:
    """Return the ``reid.ReIDModel`` of a folder, by its own ``from_pretrained``."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Overriding architecture")
        return program("reid").ReIDModel.from_pretrained(str(folder), architecture=Backbone(folder), device=device)


def by_loader(path: Path) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, list[np.ndarray]]]:
    """What ``reid`` makes of a folder: (BGR frame, boxes) -> descriptors and the BGR crops that they are of."""
    network, seen = model(path), program("supervision").Detections

    def compute(frame: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        with torch.inference_mode():
            return network.extract_embeddings(seen(xyxy=boxes), frame), crops(frame, boxes)

    return compute
