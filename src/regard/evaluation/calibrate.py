"""Calibrating a run: learn from a data set what its similarities say, and store that with the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from regard.calibration.reliability import Reliability
from regard.calibration.similarity import RATES, Calibration, fit_calibration, with_notes
from regard.config import Config
from regard.data.sources import find_source, source_name
from regard.errors import DataError
from regard.evaluation.compare_runs import fingerprint
from regard.evaluation.embed import extract, protocol_labels
from regard.evaluation.evaluate import run_config
from regard.metrics.pair_sampling import sample_pairs
from regard.models import ReIDModel, load
from regard.models.saved import CALIBRATION, as_json, model_folder, sealed, weights_digest
from regard.precision import Products
from regard.run_folder.folders import run_home
from regard.run_folder.opened_data import CROWD, open_data
from regard.runtime.fabric import Runtime
from regard.storage import write_atomic
from regard.structures import Splits

__all__ = ["Calibrated", "calibrate_run"]


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
    config = run_config(folder, name, root)
    splits = open_data(config, quiet=quiet)
    runtime = Runtime.for_scoring(config)
    query, gallery = _features(load(home).to(runtime.device), splits, config, quiet=quiet)
    metric = config.eval.metric
    pairs = sample_pairs(query, gallery, metric=metric, limit=limit, seed=seed, **protocol_labels(splits))
    fitted, found = fit_calibration(pairs, curve=curve, prior=prior, metric=metric, rates=rates, seed=seed)
    embedding = {
        "height": config.data.height,
        "width": config.data.width,
        "interpolation": config.data.interpolation,
        "flip": config.eval.flip,
        "five_crops": config.eval.five_crops,
    }
    fitted = with_notes(fitted, data=str(splits), fingerprint=fingerprint(splits), embedding=embedding)
    content = sealed(fitted.to_dict(), weights_digest(home))
    file = home / CALIBRATION
    write_atomic(file, as_json(content))
    fitted = Calibration.from_dict(content)
    return Calibrated(fitted, found, str(splits), file, own_data=_is_own(folder, splits))


def _is_own(folder: Path, splits: Splits) -> bool:
    """Whether the data set is the one the run is scored on."""
    if not (run_home(folder) / "config.yaml").is_file():
        return False
    own = run_config(folder).data
    named = own.name is not None and "=" in own.name  # NAME=FOLDER
    root = find_source(str(own.name), own.root, own.options).root if named else own.root or CROWD
    here = splits.root.resolve()
    return (own.name is None or source_name(own.name) == splits.name) and root.resolve() in (here, *here.parents)


def _features(model: ReIDModel, splits: Splits, config: Config, *, quiet: bool) -> tuple[np.ndarray, np.ndarray]:
    """(Q, D) and (G, D) descriptors in float32."""
    both = []
    for part in ("query", "gallery"):
        samples = getattr(splits, part)
        if not samples:
            raise DataError(f"the {part} of {splits.root} is empty, so there is nothing to calibrate on; add images")
        with torch.inference_mode(), Products("fp32", next(model.parameters()).device):
            both.append(
                extract(
                    model, samples, height=config.data.height, width=config.data.width,
                    interpolation=config.data.interpolation, flip=config.eval.flip,
                    five_crops=config.eval.five_crops, batch_size=config.eval.batch_size,
                    workers=config.data.workers, progress=None if quiet else f"embedding {part}",
                )
            )  # fmt: skip
    return both[0], both[1]
