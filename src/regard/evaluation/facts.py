"""What a run has to say of its model, for the card of a model on a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from regard.config import Config
from regard.data.datasets import detect
from regard.data.sources import source_name
from regard.errors import DataError, RegardError
from regard.evaluation.embed import SplitName
from regard.metrics import FeatureSet, RankingReport
from regard.metrics.significance import intervals, query_scores
from regard.models.model_card import Facts, Score
from regard.places import run_home
from regard.run_folder.folders import own_config, read_history
from regard.run_folder.origin import read_origin
from regard.structures import Splits

__all__ = ["TERMS", "gather_facts"]

TERMS = {
    "crowd": "yours, as what any program makes for you",
    "cuhk03": "research, on request",
    "dukemtmc": "withdrawn in 2019; was CC BY-NC-SA 4.0",
    "grid": "research",
    "market1501": "research; no licence file",
    "msmt17": "research, by a signed agreement",
    "occluded_duke": "withdrawn in 2019; was CC BY-NC-SA 4.0",
    "occluded_reid": "research; no licence file",
    "partial_ilids": "research; no licence file",
    "partial_reid": "research; no licence file",
    "prid": "research",
    "viper": "research",
}
"""Data set -> its terms, as docs/reference/licences.md has them."""

UNKNOWN = "not known to regard; whoever collected them has to say"
MOST_STARTS = 8
"""Runs in a row, each of which started from the weights of the one before."""


class Scored(Protocol):
    """What is asked of an opened run."""

    @property
    def folder(self) -> Path: ...
    @property
    def own(self) -> Config | None: ...
    @property
    def splits(self) -> Splits: ...
    def features(self, split: SplitName) -> FeatureSet: ...
    def report(self) -> RankingReport: ...
    def check_data(self) -> None: ...


def gather_facts(run: Scored) -> Facts:
    """Collect what is known of a run, and score it where its data set is there.

    Where it is not, the scores are those of the last evaluation in training, and the card says so.
    """
    recipe = read_origin(run_home(run.folder), run.own) if run.own else None
    known: dict[str, Any] = {"recipe": str(recipe or ""), "trained_on": training_sets(run.own) if run.own else {}}
    try:
        run.check_data()
        splits = run.splits
    except RegardError as error:
        return _from_training(run, known, error)
    report, pids = run.report(), np.asarray(run.features("query").pids)
    scores = query_scores(report)
    ends = intervals(scores, pids) if len(np.unique(pids[report.first_hit > 0])) > 1 else {}
    found = {name: Score(value, *(ends[name][1:] if name in ends else ())) for name, value in report.figures().items()}
    held = splits.options.get("held_out")
    return Facts(
        **known, tested_on=str(splits), dataset=splits.name, scores=found, options=report.options,
        note=f"Of people held out of the training part ({held}), not of the test part." if held else "",
    )  # fmt: skip


def _from_training(run: Scored, known: dict[str, Any], error: RegardError) -> Facts:
    evaluations = [one for one in read_history(run_home(run.folder)) if one.get("event") == "eval"]
    if not evaluations or run.own is None:
        return Facts(**known, note="None were measured: the data set was not there when the model was uploaded.")
    if not isinstance(error, DataError):
        raise error
    last, data = evaluations[-1], _data_names(run.own)
    return Facts(
        **known,
        tested_on=data[0] if data else "its own data set",
        dataset=data[0] if data else "unknown",
        scores={"mAP": Score(last["mAP"]), "rank-1": Score(last["rank1"])},
        options=last.get("options", {}),
        note="As at the last evaluation in training; the data set was not there when the model was uploaded, so there "
        "are no intervals.",
    )


def training_sets(config: Config, most: int = MOST_STARTS) -> dict[str, str]:
    """What a run was trained on, and the runs whose weights it started from: data set -> its terms."""
    found = {name: TERMS.get(name, UNKNOWN) for name in _data_names(config)}
    before = config.model.pretrained
    if isinstance(before, str) and before != "package" and most:
        try:
            earlier = own_config(Path(before)) if Path(before).is_dir() else None
        except RegardError:
            earlier = None
        found |= training_sets(earlier, most - 1) if earlier else {}
    return found


def _data_names(config: Config) -> list[str]:
    """The registered names of what a run was trained on; never a path, which is nobody's business."""
    texts = [*config.data.train] or ([config.data.name] if config.data.name else [])
    if not texts and config.data.root is None:
        return ["crowd"]
    names = []
    for text in texts or [None]:
        try:
            names.append(source_name(text) if text else detect(config.data.root or Path()))
        except RegardError:
            names.append("a folder of pictures")
    return list(dict.fromkeys(names))
