"""Detectors of torchvision, with weights from a file: Faster, Mask and Keypoint R-CNN, RetinaNet, FCOS, SSD.

Shapes: H x W pixels of a picture, N boxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regard.device import choose_device
from regard.errors import CheckpointError, UnknownNameError, require
from regard.fingerprint import file_digest
from regard.models.importers.tensor_file import read_tensors
from regard.wording import one_line

__all__ = ["TorchvisionDetector"]

PERSON = 1
"""A person's number among COCO's classes, 0 being nothing; so it is where there are people only."""

CLASSES = "roi_heads.box_predictor.cls_score.weight"
"""Weight of R-CNNs that has a row for every class."""


class TorchvisionDetector:
    """A detector of torchvision.

    Args:
        name: torchvision's, such as ``fasterrcnn_mobilenet_v3_large_320_fpn``.
        weights: file with its state dict, for COCO's classes; of an R-CNN also for others, people being number 1.
        device: where to compute; None takes a GPU where there is one.

    Raises:
        ConfigError: torchvision is not installed, or has no such detector.
        CheckpointError: the weights cannot be read, or are another network's.
    """

    def __init__(self, name: str, weights: Path, device: str | None = None):
        require("torchvision", "a detector of torchvision", "detect", "take one as FILE.onnx or MODULE:FUNCTION")
        from torchvision import models

        known = models.list_models(module=models.detection)
        if name not in known:
            raise UnknownNameError("detector of torchvision", name, known)
        state = read_tensors(weights)
        _check_numbers(state, weights)
        rows = state.get(CLASSES)
        options: dict[str, Any] = {} if rows is None or not rows.ndim else {"num_classes": len(rows)}
        if options.get("num_classes", PERSON + 1) <= PERSON:
            raise CheckpointError(
                f"{weights} tells {len(state[CLASSES])} class apart, wanted two or more, 0 being nothing and 1 people; "
                "give weights of a detector of people"
            )
        network = models.get_model(name, weights=None, weights_backbone=None, **options)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise CheckpointError(
                f"{weights} does not fit {name} ({one_line(error)[:300]}), wanted its state dict; name the file that "
                "was saved of that detector"
            ) from None
        self._device = choose_device(device, "device")
        self._network = network.eval().to(self._device)
        self.digest = f"{name} {file_digest(weights)}"

    def __call__(self, picture: np.ndarray, /) -> np.ndarray:
        """Find people in (H, W, 3) uint8; (N, 5)."""
        image = torch.from_numpy(picture).to(self._device).permute(2, 0, 1).float() / 255
        with torch.inference_mode():
            (found,) = self._network([image])
        people = found["labels"] == PERSON
        return torch.cat([found["boxes"], found["scores"][:, None]], 1)[people].cpu().numpy().astype(np.float64)


def _check_numbers(state: Mapping[str, torch.Tensor], weights: Path) -> None:
    """Refuse weights with which nobody would be found, in silence.

    Raises:
        CheckpointError: one is NaN or infinite.
    """
    wrong = next((name for name, value in state.items() if not value.isfinite().all()), None)
    if wrong is not None:
        raise CheckpointError(
            f"{weights} has NaN or infinity in {wrong}, wanted finite numbers; give another checkpoint"
        )
