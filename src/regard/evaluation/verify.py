"""Two pictures: the same person or not, and how sure that is.

Shapes: D descriptor length, H x W pixels of the network's input, h x w of a picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from regard.calibration.similarity import Calibration, check_prior
from regard.data.image import Picture, read_picture
from regard.errors import CheckpointError, DataError
from regard.evaluation.embed import embed_batch, view_transform
from regard.input_spec import InputSpec
from regard.metrics.distance import as_features, check_lengths, pair_distances
from regard.metrics.pair_sampling import similarity_of
from regard.models import ReIDModel, load
from regard.precision import Products

__all__ = ["Verdict", "compare", "verify"]


class Verdict(NamedTuple):
    """What is known about two pictures.

    Attributes:
        probability: that they show the same person.
        similarity: of their descriptors.
        prior: share of same-person pairs the probability assumes.
        same: false-alarm rate -> whether they are taken for one person at its threshold.
    """

    probability: float
    similarity: float
    prior: float
    same: dict[float, bool]


def verify(
    first: Picture | Tensor,
    second: Picture | Tensor,
    model: ReIDModel | str | Path,
    *,
    prior: float | None = None,
    cameras: tuple[int, int] | None = None,
) -> Verdict:
    """Probability that two pictures show the same person.

    Args:
        first, second: each the path of a picture, a Pillow image, an (h, w, 3) uint8 array in RGB, or a descriptor (D,)
            of this model, embedded as it was calibrated.
        model: calibrated by ``regard calibrate``; or its folder, which is read anew in each call.
        prior: share of same-person pairs among those one asks about; None takes the calibration's.
        cameras: numbers of the two cameras, where they are among those calibrated.

    Raises:
        CheckpointError: the model is not calibrated, or there is no model.
        ConfigError: the prior is not between 0 and 1.
        DataError: a picture cannot be read, is neither picture nor descriptor, or its descriptor is not finite or zero.
    """
    model = model if isinstance(model, ReIDModel) else load(model)
    if model.calibration is None:
        raise CheckpointError(
            "the model is not calibrated, so a similarity says nothing about probability; run 'regard calibrate RUN' "
            "and load it again"
        )
    calibration = Calibration.from_dict(model.calibration)
    prior = check_prior(calibration.prior if prior is None else prior)
    pair = [as_features(_descriptor(item, model, calibration)[None], "picture") for item in (first, second)]
    for number, descriptor in zip(("first", "second"), pair):
        check_lengths(descriptor, f"the {number} picture's", calibration.metric)
    distance = pair_distances(torch.cat(pair), torch.tensor([0]), torch.tensor([1]), calibration.metric)
    similarity = float(similarity_of(distance.double().numpy(), calibration.metric)[0])
    return Verdict(
        float(calibration.probability(similarity, cameras=cameras, prior=prior)),
        similarity,
        prior,
        {found.rate: similarity > found.similarity for found in calibration.thresholds},
    )


compare = verify
"""The name of :func:`verify` until 0.3."""


def _descriptor(item: Picture | Tensor, model: ReIDModel, calibration: Calibration) -> Tensor:
    """(D,) float32 on the CPU."""
    if isinstance(item, str | Path | Image.Image) or (isinstance(item, np.ndarray) and _is_picture(item)):
        return _embed(read_picture(item), model, calibration)
    shape, kind = tuple(np.shape(item)), getattr(item, "dtype", type(item).__name__)
    if shape != (model.embed_dim,):
        raise DataError(
            f"got {kind} of shape {shape}: give a path, a Pillow image, an (h, w, 3) uint8 array, or a descriptor of "
            f"this model, ({model.embed_dim},)"
        )
    return as_features(item[None], "descriptor", "cpu")[0]


def _is_picture(array: np.ndarray) -> bool:
    return array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8


def _embed(picture: np.ndarray, model: ReIDModel, calibration: Calibration) -> Tensor:
    """(D,) descriptor of an (h, w, 3) picture, embedded as the calibration's pictures were."""
    how: Mapping[str, Any] = calibration.about.get("embedding", {})
    if "height" not in how:
        raise CheckpointError(
            "the calibration does not say how pictures were embedded, so only descriptors can be compared; make it "
            "with 'regard calibrate RUN'"
        )
    seen = InputSpec.from_dict({key: value for key, value in how.items() if key != "five_crops"})
    pixels = torch.from_numpy(np.ascontiguousarray(view_transform(seen, five_crops=how["five_crops"])(picture)))[None]
    with Products("fp32", next(model.parameters()).device):
        return embed_batch(model, pixels, seen, five_crops=how["five_crops"])[0].cpu()
