"""Two pictures: the same person or not, and how sure that is; and what a model learns from a data set to say so.

Shapes: D descriptor length, H x W pixels of the network's input, h x w of a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from regard.calibration.reliability import Reliability
from regard.calibration.similarity import RATES, Calibration, check_prior, fit_calibration
from regard.data.image import Picture, read_picture
from regard.data.sources import find_source, source_name
from regard.errors import CheckpointError, DataError
from regard.evaluation.embed import embed_batch, view_transform
from regard.evaluation.run import open_run
from regard.input_spec import InputSpec
from regard.metrics.distance import as_features, check_lengths, pair_distances
from regard.metrics.pair_sampling import sample_pairs, similarity_of
from regard.models import ReIDModel, load
from regard.models.checked import weight_of
from regard.models.folder import CALIBRATION, as_json, model_folder
from regard.models.saved import sealed, weights_digest
from regard.places import is_run, run_home
from regard.precision import Products
from regard.run_folder.opened_data import CROWD
from regard.storage import write_atomic
from regard.structures import Splits

__all__ = ["Calibrated", "Verdict", "calibrate_run", "compare", "verify"]


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
    model: ReIDModel | str | PathLike[str],
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
    if isinstance(item, str | PathLike | Image.Image) or (
        isinstance(item, np.ndarray) and item.shape[2:] == (3,) and item.dtype == np.uint8
    ):
        return _embed(read_picture(item), model, calibration)
    shape, kind = tuple(np.shape(item)), getattr(item, "dtype", type(item).__name__)
    if shape != (model.embed_dim,):
        raise DataError(
            f"got {kind} of shape {shape}: give a path, a Pillow image, an (h, w, 3) uint8 array, or a descriptor of "
            f"this model, ({model.embed_dim},)"
        )
    return as_features(item[None], "descriptor", "cpu")[0]


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
    with Products("fp32", weight_of(model).device):
        return embed_batch(model, pixels, seen, five_crops=how["five_crops"])[0].cpu()


class Calibrated(NamedTuple):
    """What calibrating a run gave.

    Attributes:
        calibration: fitted on all people of the data set.
        reliability: of fits that each left some people out, on these people.
        data: the data set, in words.
        file: where the calibration was stored.
        own_data: whether these are the people the run itself is scored on.
    """

    calibration: Calibration
    reliability: Reliability
    data: str
    file: Path
    own_data: bool


def calibrate_run(
    folder: Path,
    name: str | None = None,
    root: Path | None = None,
    *,
    curve: str = "auto",
    prior: float = 0.5,
    rates: Sequence[float] = RATES,
    limit: int = 200_000,
    seed: int = 0,
    quiet: bool = False,
) -> Calibrated:
    """Calibrate a run or a model folder on query and gallery of a data set, and write ``calibration.json`` into it.

    Descriptors are computed in float32, as :func:`regard.verify` does. People it was trained on are never used: they
    are more alike to themselves than people it has not seen.

    Args:
        folder: run folder or model folder; the weights that ``regard.load`` reads are calibrated.
        name, root: data set; both None takes the run's own.
        curve, prior, rates, seed: as for :func:`regard.calibration.similarity.fit_calibration`.
        limit: pairs of two people to draw.
        quiet: no progress bars.

    Raises:
        CheckpointError: no such run and no such model.
        ConfigError: an option is wrong, or a model folder alone does not say which data to use.
        DataError: the data set is not there, or too small.
    """
    home = model_folder(folder)
    run = open_run(folder, name, root, {"precision": "fp32"}, quiet=quiet)
    splits, config = run.splits, run.config
    metric = config.eval.metric
    pairs = sample_pairs(run.features("query"), run.features("gallery"), metric=metric, limit=limit, seed=seed)
    fitted, found = fit_calibration(pairs, curve=curve, prior=prior, metric=metric, rates=rates, seed=seed)
    embedding = run.input.to_dict() | {"five_crops": config.eval.five_crops}
    notes = {"data": str(splits), "fingerprint": run.fingerprint, "embedding": embedding}
    fitted = replace(fitted, about={**fitted.about, **notes})
    content = sealed(fitted.to_dict(), weights_digest(home))
    file = home / CALIBRATION
    write_atomic(file, as_json(content))
    fitted = Calibration.from_dict(content)
    return Calibrated(fitted, found, str(splits), file, own_data=_is_own(folder, splits))


def _is_own(folder: Path, splits: Splits) -> bool:
    """Whether the data set is the one the run is scored on."""
    if not is_run(run_home(folder)):
        return False
    own = open_run(folder).config.data
    named = own.name is not None and "=" in own.name  # NAME=FOLDER
    root = find_source(str(own.name), own.root, own.options).root if named else own.root or CROWD
    here = splits.root.resolve()
    return (own.name is None or source_name(own.name) == splits.name) and root.resolve() in (here, *here.parents)
