"""The networks that a training has left, epoch by epoch, scored: one table, one curve.

What was scored is kept in ``scores.json`` beside the networks, so that a command that was ended goes on where it was,
and epochs that come later are added to those that are there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from regard.config import Config
from regard.data.sources import place_of
from regard.errors import CheckpointError
from regard.evaluation.compare_runs import data_digest, score_digest
from regard.evaluation.evaluate import Score, labels_of, open_sources, places_of, score_each
from regard.evaluation.run import fingerprint, open_run
from regard.fingerprint import values_digest
from regard.metrics.average_precision import RANKS
from regard.metrics.ranking_report import in_words
from regard.models.folder import WEIGHTS, as_json
from regard.parsing import parse_json
from regard.places import EPOCHS
from regard.run_folder.folders import own_config
from regard.run_folder.saved_state import read_saved
from regard.runtime.fabric import Runtime
from regard.storage import check_writable, read_regular, write_atomic
from regard.wording import table

__all__ = ["Checkpoint", "EpochScores", "epochs_folder", "find_checkpoints", "score_epochs"]

SCORES = "scores.json"


class Checkpoint(NamedTuple):
    """A network as it was after an epoch.

    Attributes:
        epoch: from 1.
        folder: its model folder.
    """

    epoch: int
    folder: Path


class EpochScores(NamedTuple):
    """What the networks of a training reach on a data set.

    Attributes:
        label: what the data set is called.
        data: the data set in words, and where it lies.
        rows: one per epoch, in order: ``epoch``, ``model``, ``mAP``, ``mINP``, ``cmc`` (from rank 1), ``options``.
    """

    label: str
    data: str
    rows: list[dict[str, Any]]

    def figures(self) -> list[tuple[int, dict[str, float]]]:
        """Epochs with their figures, as fractions."""
        ranks = [{f"rank-{k}": row["cmc"][k - 1] for k in RANKS} for row in self.rows]
        return [(row["epoch"], {"mAP": row["mAP"], "mINP": row["mINP"], **at}) for row, at in zip(self.rows, ranks)]

    def __str__(self) -> str:
        """One line per epoch, in percent, and how it was scored."""
        found = self.figures()
        names = list(found[0][1])
        cells = ((str(epoch), *(f"{100 * row[name]:.2f}" for name in names)) for epoch, row in found)
        lines = table([("epoch", *names), *cells], left=())
        said = dict.fromkeys(in_words(row["options"]) for row in self.rows)
        return "\n".join([self.data, *lines, *(f"  in %; {options}" for options in said)])


def epochs_folder(folder: Path) -> Path:
    """The folder that holds the networks of a run's epochs: its ``epochs``, or the folder itself."""
    return folder / EPOCHS if (folder / EPOCHS).is_dir() else folder


def find_checkpoints(folder: Path) -> list[Checkpoint]:
    """The networks of a training, in order of epochs.

    Args:
        folder: a run that kept some (``train.keep_every``), to which its ``final`` is added; or any folder of model
            folders whose names end in their epoch.

    Raises:
        CheckpointError: there are none, a name does not end in a number, or two are of one epoch.
    """
    place, own = epochs_folder(folder), own_config(folder)
    if place == folder and own is not None:
        raise CheckpointError(
            f"{folder} has kept the networks of no epochs; train with train.keep_every=N to keep some"
        )
    found: dict[int, Path] = {}
    for model in sorted(path.parent for path in place.glob(f"*/{WEIGHTS}")):
        number = re.search(r"\d+$", model.name)
        if number is None:
            raise CheckpointError(
                f"{model} does not say which epoch it is of; let its name end in a number, or move it elsewhere"
            )
        epoch = int(number[0])
        if epoch in found:
            raise CheckpointError(f"{found[epoch]} and {model} are both of epoch {epoch}; keep one of them")
        found[epoch] = model
    last = _last_epoch(folder, own) if own is not None else None
    if last is not None and (folder / "final" / WEIGHTS).is_file():
        found.setdefault(last, folder / "final")
    if not found:
        raise CheckpointError(f"{place} holds no model folders; give a run with train.keep_every, or a folder of them")
    return [Checkpoint(epoch, found[epoch]) for epoch in sorted(found)]


def _last_epoch(folder: Path, own: Config) -> int | None:
    """The epoch that a run's ``final`` is of; None where the run goes on and that is of an earlier end."""
    try:
        done = read_saved(folder).progress
    except CheckpointError:
        return own.train.epochs
    return done.epoch if done.epoch == own.train.epochs else None


def score_epochs(
    folder: Path,
    data: Sequence[str] = (),
    root: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    size: tuple[int, int] | None = None,
    how: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> list[EpochScores]:
    """Score every network of a training on data sets; what was scored before is taken from ``scores.json``.

    Args:
        folder: see :func:`find_checkpoints`.
        data, root, changes, size, quiet: as of :func:`regard.evaluation.evaluate.evaluate_on`.
        how: ``queries`` and ``leave_one_out`` of it.

    Returns:
        One for each data set on rank 0, nothing on others.

    Raises:
        CheckpointError: there are no networks, or one is damaged; those before it have been scored.
        ConfigError: nothing says which data to use, or options do not go together.
        DataError: a data set is not there or not complete.
        StorageError: the scores cannot be written.
    """
    checkpoints = find_checkpoints(folder)
    asked = {"queries": "single", "leave_one_out": False, **(how or {}), "details": ()}
    runs = [open_run(each.folder, None, root, changes, size=size, quiet=quiet) for each in checkpoints]
    runtime = runs[0].runtime
    try:
        opened = open_sources(runs[0], data)
        seen = places_of(runs[0], opened)
        store = Store(epochs_folder(folder) / SCORES, runtime)
        rows: list[list[dict[str, Any]]] = [[] for _ in opened]
        prints = [data_digest(splits, fingerprint(splits), runs[0].config.eval) for _, splits in opened]
        for checkpoint, run in zip(checkpoints, runs):
            run.runtime = runtime
            keys = [score_digest(run, digest, epoch=checkpoint.epoch, **asked) for digest in prints]
            for place in (place for place, key in enumerate(keys) if key not in store.rows):
                if not quiet and runtime.is_main:
                    print(f"scoring epoch {checkpoint.epoch} on {opened[place][1].name}")
                store.add(keys[place], checkpoint, score_each(run, [opened[place]], seen, asked))
            run.release()
            for found, key in zip(rows, keys):
                found += [store.rows[key]] if runtime.is_main else []
        if not runtime.is_main:
            return []
        words = [f"{splits}; {place_of(source, splits)[1]}" for source, splits in opened]
        return [EpochScores(*one) for one in zip(labels_of(opened), words, rows)]
    finally:
        runtime.close()


class Store:
    """Scores by what was asked, in a file; rank 0 reads and writes it, all know what is in it.

    Args:
        path: of the file.
        runtime: the ranks.

    Raises:
        StorageError: it cannot be written.
    """

    def __init__(self, path: Path, runtime: Runtime):
        self.path, self.runtime = path, runtime
        runtime.on_main(lambda: check_writable(path))
        self.rows: dict[str, dict[str, Any]] = runtime.broadcast(self._read() if runtime.is_main else {})

    def _read(self) -> dict[str, dict[str, Any]]:
        """What earlier commands have found; nothing where the file is not as it was written."""
        try:
            content = parse_json(read_regular(self.path))
            return content["scores"] if content["digest"] == values_digest(content["scores"]) else {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def add(self, key: str, checkpoint: Checkpoint, scores: Sequence[Score]) -> None:
        """Keep a score; without one, on ranks that have none, that it is there."""
        self.rows[key] = {}
        for score in scores:
            about = {"epoch": checkpoint.epoch, "model": checkpoint.folder.name}
            about |= {"data": str(score.splits), "root": str(score.place)}
            self.rows[key] = about | score.report.to_dict()
        content = {"scores": self.rows, "digest": values_digest(self.rows)}
        self.runtime.on_main(lambda: write_atomic(self.path, as_json(content)))
