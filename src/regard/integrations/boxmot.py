"""BoxMOT (25): an encoder for its trackers, and its own loader for a file of ``regard export --for boxmot``.

Shapes: N boxes, D descriptor length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regard.errors import ConfigError
from regard.integrations.encoder import Encoder
from regard.integrations.programs import program

__all__ = ["BoxmotEncoder", "by_loader"]


class BoxmotEncoder:
    """What BoxMOT calls an appearance encoder, computed by regard.

    Args:
        encoder: of any run, model or file.

    Attributes:
        requirements: no masks.
    """

    def __init__(self, encoder: Encoder):
        self.encoder = encoder
        self.requirements = program("boxmot.reid.protocols").EncoderRequirements()

    @property
    def embedding_dim(self) -> int:
        """D."""
        return self.encoder.dim

    def encode(self, frames: Sequence[Any], detections: Sequence[Any]) -> list[torch.Tensor]:
        """Return the (N, D) float32 descriptors of each frame's detections.

        Raises:
            ConfigError: there are not as many of one as of the other, or boxes are turned.
        """
        if len(frames) != len(detections):
            raise ConfigError(f"got {len(frames)} frames and detections of {len(detections)}; give one for each")
        found = []
        for frame, seen in zip(frames, detections):
            boxes = seen.geometry.values.numpy()
            if boxes.shape[1:] != (4,):
                raise ConfigError(f"got boxes {boxes.shape}, wanted upright ones (N, 4), as turned ones have no crop")
            picture = frame.image.permute(1, 2, 0).contiguous().numpy()
            found.append(torch.from_numpy(self.encoder(picture, boxes, color="rgb")))
        return found


def by_loader(path: Path) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, list[np.ndarray]]]:
    """What BoxMOT makes of a file: (BGR frame, boxes) -> descriptors and the BGR crops that they are of."""
    runtime = program("boxmot.reid.core.runtime").ReID(path, device="cpu")
    cut = program("boxmot.reid.core.crops").extract_crops

    def compute(frame: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        found = runtime.model.get_features(boxes, frame)
        return np.asarray(found, np.float32), cut(boxes, frame, runtime.model.input_shape)

    return compute
