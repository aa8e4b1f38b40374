"""``regard demo``: a crowd is made, a network trained on it, and what it learned measured and shown.

Everything is real: JPEG files on disk, the training loop, the evaluation protocol and the report page are those every
other run uses. The people it is tested on are never seen in training.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from regard import __version__
from regard.config import Config
from regard.crowd import make_crowd
from regard.crowd.dataset.crowd_folder import is_complete, read_description
from regard.data import load_dataset
from regard.engine.run import resume_run, start_run
from regard.engine.train import build_model
from regard.errors import CheckpointError
from regard.evaluation.color_histogram import color_histograms
from regard.evaluation.embed import evaluate_splits
from regard.evaluation.run import Run
from regard.explain import attention_layers, similarity_cam
from regard.explain.figures.map_figures import figure_bytes
from regard.explain.figures.overlay import framed, heat_over, sheet
from regard.metrics import rank
from regard.models import ReIDModel
from regard.recipes import read_recipe
from regard.report import Command, Evaluation, HeatMaps, RankedList, Report, pick_queries, ranked_lists, write_report
from regard.report.ranked_figure import ranked_figure
from regard.run_folder.history import read_history
from regard.run_folder.saved_state import read_config, read_progress
from regard.storage import write_atomic
from regard.structures import Ranking, Splits
from regard.threads import allowed_cores
from regard.wording import count

__all__ = ["Demo", "run_demo"]

LEVELS = {
    "untrained": "level 1 of the last tap, random weights",
    "tap 3": "half-way up the trained network",
    "P2": "last tap after its finer level",
    "P1": "last tap after both levels",
}


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo found.

    Attributes:
        report: the page; None where it could not be drawn.
        metrics: the numbers file.
        scores: method -> mAP and rank-1, fractions.
        seconds: training time.
    """

    report: Path | None
    metrics: Path
    scores: dict[str, dict[str, float]]
    seconds: float


def run_demo(folder: Path, *, train_ids: int = 120, test_ids: int = 80, epochs: int = 50, quiet: bool = False) -> Demo:
    """Make a crowd, train on it, measure, and write the report page.

    A second call finds the crowd and the trained network in ``folder`` and only measures and draws again.

    Args:
        folder: receives crowd/, run/, report.html and metrics.json.
        train_ids, test_ids: people to train on, and other people to test on.
        epochs: length of the training.
        quiet: no progress bars.
    """
    say = (lambda text: None) if quiet else print
    say(f"1/4  a crowd of {train_ids} + {test_ids} people who do not exist")
    if _make_crowd(folder / "crowd", train_ids, test_ids, quiet) and (folder / "run").exists():
        shutil.rmtree(folder / "run")  # it was trained on another crowd
    splits = load_dataset("crowd", folder / "crowd")
    say(f"     {splits}")
    config = read_recipe("demo").config([f"data.root={folder / 'crowd'}", f"train.epochs={epochs}"])
    say("2/4  what color alone and an untrained network achieve")
    evaluations, untrained = _before(splits, config, quiet)
    say("3/4  training; stop with Ctrl-C at any time, the same command goes on")
    model = _trained(config, folder / "run", quiet)
    say("4/4  measuring, and looking at what was learned")
    run = Run.of(model, splits, config, "trained apnet", quiet)
    evaluations.append(Evaluation(run.label, run.report()))
    seconds = read_progress(folder / "run").seconds
    scores = {found.label: {"mAP": found.report.mAP, "rank1": found.report.rank(1)} for found in evaluations}
    metrics = folder / "metrics.json"
    page: Path | None = folder / "report.html"
    write_atomic(metrics, json.dumps(_metrics(evaluations, splits, config, seconds), indent=2).encode())
    gallery = run.features("gallery")
    ranking = rank(run.features("query"), gallery, k=len(gallery), metric=config.eval.metric)
    try:
        _show(folder, evaluations, run, untrained, ranking, seconds)
    except Exception as error:  # whatever it is, a training and its figures are not to end in it
        page = None
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(
            f"regard: the pictures of the demo failed ({reason}); the network is in {folder / 'run' / 'final'}, its "
            f"figures are in {metrics}; the same command draws again",
            file=sys.stderr,
        )
    return Demo(page, metrics, scores, seconds)


def _show(
    folder: Path,
    evaluations: list[Evaluation],
    run: Run,
    untrained: Run,
    ranking: Ranking,
    seconds: float,
) -> None:
    """Write the page and its pictures."""
    splits = run.splits
    ap = evaluations[-1].report.ap
    lists = ranked_lists(ranking, splits.query, splits.gallery, ap)
    heat = _heat_maps(run, untrained, ranking, ap)
    people = (len({sample.pid for sample in part}) for part in (splits.train, splits.query))
    lead = (
        "A small attention network (apnet) was trained on {} synthetic people and then asked to find {} others, whom "
        "it had never seen, in the pictures of other cameras."
    )
    write_report(
        Report(
            title="Finding a person again, across cameras",
            lead=lead.format(*people),
            evaluations=evaluations,
            history=read_history(folder / "run"),
            distances=_distances(ranking),
            ranked=lists,
            heat=heat,
            levels=LEVELS,
            facts=_facts(run, seconds),
            command="regard demo",
            next_commands=NEXT,
        ),
        folder / "report.html",
    )
    _draw(lists, heat, folder)


NEXT = (
    Command("regard train apnet", "the same system on a larger crowd and backbone"),
    Command("regard train apnet data.root=data/market1501", "the published recipe on Market-1501"),
    Command("regard eval runs/demo/run --rerank", "k-reciprocal re-ranking on top"),
    Command("regard data make data/fog --city 3 --difficulty hard", "a harder crowd in another city"),
    Command("regard eval runs/demo/run --root data/fog", "how far the network carries"),
    Command("regard models apnet", "the options of a system"),
)


def _make_crowd(root: Path, train_ids: int, test_ids: int, quiet: bool) -> bool:
    """Make the crowd, unless it is there to the byte; whether it was there as another one, or changed."""
    found = read_description(root)
    before = found if found and is_complete(root, found) else None
    made = make_crowd(
        root, train_ids=train_ids, test_ids=test_ids, workers=allowed_cores(), progress=not quiet, overwrite=True
    )
    return made != before


def _before(splits: Splits, config: Config, quiet: bool) -> tuple[list[Evaluation], Run]:
    """The two things learning is compared with, and the untrained network."""
    found = []
    for label, masked in (("color histogram", False), ("color histogram, true masks", True)):
        bar = None if quiet else label
        query, gallery = (
            color_histograms(part, masked=masked, progress=bar) for part in (splits.query, splits.gallery)
        )
        found.append(Evaluation(label, evaluate_splits(query, gallery, splits, config.eval)))
    torch.manual_seed(config.train.seed)
    run = Run.of(build_model(config, splits.num_ids).eval(), splits, config, "untrained apnet", quiet)
    found.append(Evaluation(run.label, run.report()))
    return found, run


def _trained(config: Config, run: Path, quiet: bool) -> ReIDModel:
    """The network after training: from the run folder where the same run stands there, else trained now."""
    try:
        if read_config(run) == config:
            return resume_run(run, quiet=quiet)
    except CheckpointError:
        pass
    if run.exists():
        print(f"     {run} was trained with other settings, or not to be read; it is trained anew", file=sys.stderr)
        shutil.rmtree(run)
    return start_run(config, run, quiet=quiet)


def _heat_maps(run: Run, untrained: Run, ranking: Ranking, ap: np.ndarray) -> list[HeatMaps]:
    """Where the network looks in six queries to find them similar to their nearest right match."""
    assert ranking.matches is not None
    model, splits = run.model, run.splits
    picks = pick_queries(ap, 6)
    pairs = [(q, int(ranking.indices[q, np.argmax(ranking.matches[q])])) for q in picks]
    images = run.batch([splits.query[q].path for q, _ in pairs])
    partners = run.batch([splits.gallery[g].path for _, g in pairs])
    layers = {"tap 3": attention_layers(model, 2)["P1"], **attention_layers(model)}
    maps = {name: similarity_cam(model, layer, images, partners) for name, layer in layers.items()}
    first = attention_layers(untrained.model)["P1"]
    maps = {"untrained": similarity_cam(untrained.model, first, images, partners), **maps}
    return [
        HeatMaps(
            splits.query[q].path,
            {name: stack[row].cpu().numpy() for name, stack in maps.items()},
            caption=f"person {splits.query[q].pid}, average precision {100 * ap[q]:.1f} %",
            partner=splits.gallery[g].path,
        )
        for row, (q, g) in enumerate(pairs)
    ]


def _distances(ranking: Ranking) -> tuple[np.ndarray, np.ndarray]:
    assert ranking.matches is not None
    return ranking.distances[ranking.matches], ranking.distances[~ranking.matches & (ranking.indices >= 0)]


def _facts(run: Run, seconds: float) -> dict[str, object]:
    splits, config, model = run.splits, run.config, run.model
    parameters = sum(p.numel() for p in model.parameters())
    query, gallery = count(len(splits.query), "query"), count(len(splits.gallery), "image")
    trained, epochs = count(len(splits.train), "image"), count(config.train.epochs, "epoch")
    threads = count(torch.get_num_threads(), "thread")
    return {
        "Network": f"apnet, level 2, on {config.model.options['backbone']}, {parameters:,} parameters",
        "Training": f"{epochs} in {seconds:.0f} s, {trained}, from scratch",
        "Test": f"{query} against {gallery}; same camera never counts",
        "Machine": f"{platform.machine()}, {threads}, {next(model.parameters()).device}",
        "Versions": f"regard {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "Made": time.strftime("%Y-%m-%d %H:%M"),
    }


def _metrics(evaluations: list[Evaluation], splits: Splits, config: Config, seconds: float) -> dict[str, object]:
    return {
        "regard": __version__,
        "data": str(splits),
        "train_seconds": round(seconds, 1),
        "evaluations": {found.label: found.report.to_dict() for found in evaluations},
        "config": config.to_dict(),
    }


def _draw(lists: list[RankedList], heat: list[HeatMaps], folder: Path) -> None:
    """The ranked lists and the heat maps as pictures of their own."""
    write_atomic(folder / "ranked.png", figure_bytes(ranked_figure({"apnet": lists})))
    rows = [
        [
            framed(maps.picture, "query", height=256),
            *(heat_over(maps.picture, heat_map) for heat_map in maps.maps.values()),
            framed(maps.partner, "right", height=256) if maps.partner is not None else None,
        ]
        for maps in heat
    ]
    sheet(rows).save(folder / "attention.png")
