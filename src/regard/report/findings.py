"""From trained runs to the page about them: what ``regard report`` finds out, for Python too.

>>> from regard.report import write_runs# doctest: +SKIP
>>> report = gather([Path("runs/apnet_crowd"), Path("runs/dsp_crowd")])                     # doctest: +SKIP
>>> write_runs(report, "report.html")                                                       # doctest: +SKIP

Every array behind a figure of the page is an attribute of what :func:`gather` returns.

Shapes: Q queries, G gallery images, D descriptor length, N pictures.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regard.config import Config
from regard.data.labels import has_label
from regard.errors import CheckpointError, ConfigError, nearest
from regard.evaluation.run import Run, open_runs
from regard.explain.attention import attention_of
from regard.explain.attention_precision import PrecisionRow, measure_precision, pair_up, precision_row
from regard.explain.correlation import Correlation, correlate
from regard.explain.features import feature_maps
from regard.explain.heads import pair_heat
from regard.explain.kept_scores import read_faults
from regard.metrics import evaluate_camera_pairs, rank
from regard.metrics.pair_sampling import sample_pairs
from regard.metrics.ranking_report import option_lines
from regard.models.build import from_config
from regard.models.checked import asked, weight_of
from regard.models.folder import FOREIGN, WEIGHTS, model_folder
from regard.models.saved import model_config
from regard.places import run_home
from regard.progress import progress_bar
from regard.report.answers import run_answers, run_lists
from regard.report.charts import PairHistogram, pair_histogram
from regard.report.embedding_map import EmbeddingMap, MapMethod, aligned, check_method, embedding_map, pick_people
from regard.report.ranked import FailureKind, RankedList, hardest, pick_queries, random_queries
from regard.report.runs_page import Match, RunFindings, RunsReport, ShownQuery
from regard.run_folder.folders import read_history
from regard.run_folder.origin import read_origin
from regard.run_folder.saved_state import read_saved
from regard.structures import Splits
from regard.version import __version__
from regard.wording import count

__all__ = ["SECTIONS", "gather"]

SECTIONS = ("training", "curves", "cameras", "map", "lists", "attention", "pairs", "correlation", "precision")
"""What may be left out of a page."""

INSIDE = ("attention", "pairs", "correlation", "precision")
"""Parts that look into the network, which a file of another maker does not let anybody do."""

LENGTH = 12
"""Pictures in a ranked list, junk among them."""

MASKED, MASKED_IN_FULL = 24, 200
"""Queries that attention precision is measured on."""


def gather(
    folders: Sequence[Path] | Mapping[str, Path],
    *,
    name: str | None = None,
    root: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    queries: int = 4,
    pictures: int = 4,
    people: int = 40,
    method: MapMethod = "tsne",
    seed: int = 0,
    full: bool = False,
    without: Sequence[str] = (),
    command: str = "",
    quiet: bool = False,
) -> RunsReport:
    """Find out everything the page of some runs shows.

    Args:
        folders: run folders or model folders, or label -> such a folder.
        name, root: data set for all; both None takes each run's own, which must be the same.
        changes: settings of the ``eval`` section for all. The form of AP is ``step`` for all unless said here.
        queries: random queries whose ranked lists are shown, and hardest failures besides.
        pictures: queries that attention is shown for, from easy to hard.
        people: on the embedding map.
        method: of the embedding map.
        seed: of everything that is drawn.
        full: attention precision on 200 queries instead of 24.
        without: parts to leave out, of ``SECTIONS``.
        command: the command line to write on the page.
        quiet: no progress bars.

    Raises:
        ConfigError: no run, one twice, an unknown part, a number below one, or runs on different data.
        CheckpointError: a folder without a model.
        DataError: a data set that is not there or not complete.
    """
    _check(without, {"queries": queries, "pictures": pictures, "people": people})
    wanted = [section for section in SECTIONS if section not in without]
    if "map" in wanted:
        check_method(method)
    opened = open_runs(folders, name, root, {"ap": "step"} | dict(changes or {}), quiet=quiet)
    with progress_bar(total=len(opened) * (1 + len(wanted)), unit="stage", quiet=quiet) as bar:
        splits = _score(opened, bar)
        shown = _queries(opened, splits, queries, seed) if "lists" in wanted else {}
        looked = pick_queries(np.mean([run.report().ap for run in opened], axis=0), pictures)
        mapped = pick_people(splits.gallery, people, seed=seed) if "map" in wanted else []
        finder = Finder(splits, bar, wanted, list(shown), looked, mapped, method, seed, full)
        found = [finder.look_at(run) for run in opened]
    attended = {"attention", "pairs", "correlation"} & set(wanted) and any(_looked_into(run) for run in opened)
    return RunsReport(
        title=_title([run.label for run in opened]),
        lead=f"Trained, measured and looked into on {splits}.",
        runs=_turned(found),
        query_pids=np.array([sample.pid for sample in splits.query], np.int64),
        queries=list(shown.values()),
        mapped=[splits.gallery[index] for index in mapped],
        pictures=[splits.query[index] for index in looked] if attended else [],
        facts=_facts(splits, opened),
        command=command,
    )


def _check(without: Sequence[str], numbers: Mapping[str, int]) -> None:
    for section in without:
        if section not in SECTIONS:
            known = ", ".join(SECTIONS)
            raise ConfigError(f"there is no part {section!r} to leave out{nearest(section, SECTIONS)}; parts: {known}")
    for what, number in numbers.items():
        if number < 1:
            raise ConfigError(f"{what} is {number}, wanted 1 or more; to leave a part out, use without")


@contextmanager
def _stage(bar: Any, text: str) -> Iterator[None]:
    bar.set_description(text)
    yield
    bar.update()


def _score(runs: Sequence[Run], bar: Any) -> Splits:
    """Read and score the runs, all on the same pictures, which are returned."""
    first, *others = runs
    for run in others:
        if run.fingerprint != first.fingerprint:
            raise ConfigError(
                f"{first.label} and {run.label} are evaluated on different pictures ({first.splits.root}, "
                f"{run.splits.root}); give all the same data with --root FOLDER"
            )
        run.splits = first.splits
    for run in runs:
        with _stage(bar, f"{run.label}: scores"):
            run.report()
    return first.splits


def _queries(runs: Sequence[Run], splits: Splits, count: int, seed: int) -> dict[int, ShownQuery]:
    """Random queries, then the hardest failures: in turn from the runs, and in turn of both kinds."""
    drawn = random_queries(runs[0].report().ap, count, seed)
    shown = {index: ShownQuery(splits.query[index], "a random query") for index in drawn}
    said: list[tuple[FailureKind, str]] = [("buried", "right answers come late"), ("fooled", "wrong, and sure of it")]
    found = []
    for turn in range(len(said)):
        for number, run in enumerate(runs):
            kind, text = said[(number + turn) % len(said)]
            failures = hardest(run_answers(run, 1), run.report(), count, (kind,))
            found.append([(failure.query, f"hard for {run.label}: {text}") for failure in failures])
    most = len(shown) + count
    for turn in zip_longest(*found):
        for query, why in filter(None, turn):
            if query not in shown and len(shown) < most:
                shown[query] = ShownQuery(splits.query[query], why)
    return shown


@dataclass
class Finder:
    """Looks at one run after the other, at the same pictures."""

    splits: Splits
    bar: Any
    wanted: Sequence[str]  # parts of the page
    listed: Sequence[int]  # queries whose ranked lists are shown
    looked: Sequence[int]  # queries that attention is shown for
    mapped: Sequence[int]  # gallery pictures on the map
    method: MapMethod
    seed: int
    full: bool  # attention precision on more pictures

    def look_at(self, run: Run) -> RunFindings:
        """Everything the page says of a run."""
        makers = {
            "training": ("history", lambda run: read_history(run_home(run.folder))),
            "curves": ("pairs", self._pairs),
            "cameras": ("cameras", self._cameras),
            "map": ("places", self._places),
            "lists": ("lists", self._lists),
            "attention": ("attention", lambda run: attention_of(run.model, run.batch(self._paths()))),
            "pairs": ("matches", self._matches),
            "correlation": ("correlation", self._correlation),
            "precision": ("precision", self._precision),
        }
        doubted = {"attention", "pairs", "precision"} & set(self.wanted)
        found: dict[str, Any] = {}
        for section in self.wanted:
            attribute, make = makers[section]
            with _stage(self.bar, f"{run.label}: {section}"):
                if _looked_into(run) or section not in INSIDE:
                    found[attribute] = make(run)
        return RunFindings(
            label=run.label,
            report=run.report(),
            parameters=run.cost.inference_parameters if run.cost else None,
            gflops=run.cost.gflops if run.cost else None,
            facts=_run_facts(run),
            settings=run.own.to_yaml() if run.own else "",
            faults=read_faults(run.folder, run.model) if doubted and _looked_into(run) else {},
            **found,
        )

    def _paths(self) -> list[Path]:
        return [self.splits.query[index].path for index in self.looked]

    def _pairs(self, run: Run) -> PairHistogram | None:
        metric = run.config.eval.metric
        pairs = sample_pairs(run.features("query"), run.features("gallery"), metric=metric, seed=self.seed)
        cosine = metric == "cosine"
        values, quantity = (pairs.similarity, "cosine similarity") if cosine else (-pairs.similarity, "distance")
        return pair_histogram(values[pairs.same], values[~pairs.same], quantity=quantity)

    def _cameras(self, run: Run) -> Any:
        how = run.config.eval
        return evaluate_camera_pairs(run.features("query"), run.features("gallery"), metric=how.metric, ap=how.ap)

    def _places(self, run: Run) -> EmbeddingMap:
        shown = run.features("gallery")[list(self.mapped)]
        metric = run.config.eval.metric
        return embedding_map(shown.embeddings, shown.pids, metric=metric, method=self.method, seed=self.seed)

    def _lists(self, run: Run) -> list[RankedList]:
        """Answers as the evaluation orders them, junk where it stands unless the order was made without it."""
        how, picks = run.config.eval, dict.fromkeys(self.listed, "")
        junk = how.junk == "query" or not (how.rerank or how.expansion)
        return run_lists(run, LENGTH, picks, junk=junk)

    def _matches(self, run: Run) -> list[Match | None]:
        asked, shown = run.features("query")[list(self.looked)], run.features("gallery")
        if run.config.eval.ignore_cameras:
            asked, shown = (replace(side, camids=None) for side in (asked, shown))
        ranking = rank(asked, shown, k=len(shown), metric=run.config.eval.metric)
        assert ranking.matches is not None
        found: list[Match | None] = []
        for row, path in enumerate(self._paths()):
            if not ranking.matches[row].any():
                found.append(None)
                continue
            partner = self.splits.gallery[ranking.indices[row, ranking.matches[row].argmax()]]
            first, second = run.batch([path, partner.path])
            found.append(Match(partner, pair_heat(run.model, first, second)))
        return found

    def _correlation(self, run: Run) -> dict[str, Correlation]:
        """Of the first picture, before and after the first and the last attention; of the last map without any."""
        names = list(asked(run.model, "map_layers"))
        stems = [name.removesuffix(".before") for name in names if name.endswith(".before")]
        layers = [f"{stem}.{side}" for stem in dict.fromkeys(stems[:1] + stems[-1:]) for side in ("before", "after")]
        maps = feature_maps(run.model, run.batch(self._paths()[:1]), layers or names[-1:])
        return {layer: correlate(values) for layer, values in maps.items()}

    def _precision(self, run: Run) -> list[PrecisionRow]:
        """Before and after training; nothing where the data has no masks."""
        if not any(has_label(sample, "mask") for sample in self.splits.query):
            return []
        pairs = pair_up(self.splits.query, self.splits.gallery, MASKED_IN_FULL if self.full else MASKED)
        pids = np.array([sample.pid for sample, _ in pairs])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            untrained = from_config(model_config(run.model)).to(weight_of(run.model).device)
        after, before = (measure_precision(model, pairs, run.input) for model in (run.model, untrained))
        return [precision_row(run.label, name, before, after, pids) for name in after if name != "chance"]


def _looked_into(run: Run) -> bool:
    """Whether there is anything to look at between picture and descriptor."""
    return model_config(run.model)["model"] != FOREIGN


def _turned(found: Sequence[RunFindings]) -> list[RunFindings]:
    """The maps of all runs lie as well as they can over that of the first."""
    first = found[0].places
    if first is None:
        return list(found)
    turned = [run.places and run.places._replace(places=aligned(run.places.places, first.places)) for run in found]
    return [replace(run, places=places) for run, places in zip(found, turned)]


def _title(labels: Sequence[str]) -> str:
    if len(labels) == 1:
        return f"What {labels[0]} learned"
    shown = ", ".join(labels[:-1]) + f" and {labels[-1]}" if len(labels) <= 4 else f"{len(labels)} runs"
    return f"{shown}, side by side"


def _run_facts(run: Run) -> dict[str, object]:
    """How a run was made."""
    own = run.own
    described = model_config(run.model)
    options = {key: value for key, value in described["options"].items() if key != "backbone"}
    weights = model_folder(run.folder) / WEIGHTS
    facts: dict[str, object] = {
        "System": described["model"],
        "Options": ", ".join(f"{key} {value}" for key, value in options.items()) or "none",
        "Backbone": described["options"].get("backbone", "–"),
        "Input, descriptor": f"{run.input.height} × {run.input.width}, {run.model.embed_dim:,} numbers",
    }
    if own:
        origin = read_origin(run_home(run.folder), own)
        facts |= {"Recipe": str(origin)} if origin else {}
        data, schedule = own.data, own.schedule
        facts |= {
            "Trained on": ", ".join(map(str, data.train)) or data.name or str(data.root),
            "Batches": f"{count(data.ids_per_batch, 'person')} × {count(data.images_per_id, 'picture')}",
            "Losses": ", ".join(f"{name} ({term.loss} on {term.on})" for name, term in own.losses.items()),
            "Optimizer": f"{own.optim.name}, learning rate {own.optim.lr:g}, {schedule.name}",
            "Length": _length(run.folder, own),
            "Seed": own.train.seed,
            "The same again": f"regard train {run_home(run.folder) / 'config.yaml'} -o NEW",
        }
    if not _looked_into(run):
        facts["Not shown"] = f"{', '.join(INSIDE)}: nothing in a network that came as a file can be looked at"
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(weights.stat().st_mtime))
    return facts | {"Weights": f"{weights.parent.name}, of {made}", "Folder": str(run.folder)}


def _length(folder: Path, own: Config) -> str:
    """Epochs, and how long they took where that is still known."""
    try:
        progress = read_saved(run_home(folder)).progress
    except CheckpointError:
        return count(own.train.epochs, "epoch")
    return f"{count(progress.epoch, 'epoch')}, {count(progress.step, 'step')}, {progress.seconds / 60:.1f} min"


def _facts(splits: Splits, runs: Sequence[Run]) -> dict[str, object]:
    """What was measured, and with what."""
    device = weight_of(runs[0].model).device
    options = option_lines([run.label for run in runs], [run.report().options for run in runs])
    return {
        "Data": f"{splits} in {splits.root}",
        "Protocol": "; ".join(options),
        "Machine": f"{platform.machine()}, {count(torch.get_num_threads(), 'thread')}, {device}",
        "Versions": f"regard {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "Made": time.strftime("%Y-%m-%d %H:%M"),
    }
