"""What an export costs in retrieval: the run's own query and gallery, by the network and by the export.

Shapes: N images, D descriptor length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from regard.config import EvalConfig
from regard.data.listing import noting, walk_images
from regard.data.loaders import test_loader
from regard.data.transforms import TestTransform
from regard.errors import ConfigError, DataError
from regard.evaluation.embed import evaluate_splits, loader_workers, samples_of
from regard.evaluation.run import Run, open_run
from regard.evaluation.scoring import embedding_options, with_options
from regard.export.engines import Engine
from regard.export.exporting import Exported, read_pictures
from regard.export.manifest import card_file
from regard.export.opening import open_engine
from regard.metrics import RankingReport
from regard.progress import progress_bar
from regard.storage import write_atomic
from regard.structures import Sample, Splits

__all__ = ["Loss", "find_pictures", "int8_loss", "open_scored", "score_engine"]

COMPARED = 32
CALIBRATED = 128


@dataclass(frozen=True)
class Loss:
    """Scores of the network in fp32 and of its int8 export.

    Attributes:
        fp32, int8: figures of each, as fractions.
    """

    fp32: RankingReport
    int8: RankingReport

    def __str__(self) -> str:
        (mean, first), (mean_int8, first_int8) = ((one.mAP, one.cmc[0]) for one in (self.fp32, self.int8))
        return (
            f"mAP {100 * mean:.2f} in fp32, {100 * mean_int8:.2f} in int8: {100 * (mean_int8 - mean):+.2f} points; "
            f"rank-1 {100 * first:.2f} and {100 * first_int8:.2f}: {100 * (first_int8 - first):+.2f} points"
        )


def open_scored(folder: Path, name: str | None = None, root: Path | None = None, *, quiet: bool = False) -> Run | None:
    """The run with the data set to score it on; None where nothing says which, or where the run's own is gone.

    Raises:
        DataError: one was named and is not there.
    """
    run = open_run(folder, name, root, quiet=quiet)
    if root is None and name is None and (run.own is None or run.own.data.root is None):
        return None
    try:
        return run if run.splits else None
    except DataError:
        if root or name:
            raise
        return None


def find_pictures(folder: Path | None, splits: Splits | None, *, int8: bool) -> list[np.ndarray] | None:
    """Pictures to compare with and to calibrate on: of a folder, else of a data set; None where there is neither.

    A data set's are of its training part where it has one, so that an int8 network is not scored on what it has seen.

    Raises:
        DataError: the folder holds none, or one cannot be read.
    """
    count = CALIBRATED if int8 else COMPARED
    if folder is not None:
        with noting() as skipped:
            files = walk_images(folder)
        if not files:
            besides = f", only {skipped}" if skipped else ""
            raise DataError(f"found no pictures in {folder}{besides}; name a folder that holds some with --pictures")
        return read_pictures(files, count)
    if splits is None:
        return None
    return read_pictures([sample.path for sample in splits.train or splits.gallery], count)


def int8_loss(run: Run, exported: Exported) -> Loss:
    """Score the network and its int8 export, and write both into the JSON beside the export.

    Raises:
        ConfigError: the export is not int8.
        DataError: the data set has no query or no gallery.
    """
    if exported.card.precision != "int8":
        raise ConfigError(f"{exported.files[0]} is {exported.card.precision}, wanted an int8 export")
    network = open_engine(run.folder, "torch", size=exported.card.seen.size)
    quantized = open_engine(exported.files[0], precision="int8")
    splits, how = run.splits, run.config.eval
    loss = Loss(*(score_engine(engine, splits, how, quiet=run.quiet) for engine in (network, quantized)))
    scores = {name: {"mAP": float(each.mAP), "rank1": float(each.cmc[0])} for name, each in vars(loss).items()}
    about = {"data": splits.label, "root": str(splits.root), "options": dict(loss.fp32.options)}
    card = replace(exported.card, scores={**about, **scores})
    write_atomic(card_file(exported.files[0]), card.to_json().encode())
    return loss


def score_engine(engine: Engine, splits: Splits, config: EvalConfig, *, quiet: bool = False) -> RankingReport:
    """Score an engine on query and gallery.

    Raises:
        DataError: one of them is empty.
    """
    parts = samples_of(splits, "query"), samples_of(splits, "gallery")
    title = None if quiet else f"scoring {engine.precision}"
    query, gallery = (embed_samples(engine, part, config, title) for part in parts)
    seen = replace(engine.card.seen, flip=config.flip)
    options = embedding_options(config.model_copy(update={"five_crops": False}), seen, engine.card.precision)
    return with_options(evaluate_splits(query, gallery, splits, config), options)


def embed_samples(engine: Engine, samples: Sequence[Sample], config: EvalConfig, title: str | None) -> np.ndarray:
    """Descriptors (N, D) of images on disk, by an engine."""
    transform = TestTransform.of(engine.card.seen)
    loader = test_loader(samples, transform, batch_size=min(config.batch_size, 32), workers=loader_workers(None))
    parts = []
    with progress_bar(total=len(samples), title=title, unit="image", quiet=title is None) as bar:
        for batch in loader:
            parts.append(engine.embed(batch.images.permute(0, 2, 3, 1).numpy(), flip=config.flip))
            bar.update(len(batch.images))
    return np.concatenate(parts)
