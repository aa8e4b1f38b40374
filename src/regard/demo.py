"""``regard demo``: a crowd is made, a network trained on it, and what it learned measured and shown.

Everything is real: JPEG files on disk, the training loop, the evaluation protocol and the report page are those every
other run uses. The people it is tested on are never seen in training.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from regard.config import Config
from regard.crowd import make_crowd
from regard.crowd.dataset.crowd_folder import is_complete, read_description
from regard.data import load_dataset
from regard.engine.build import build_model
from regard.engine.run import resume_run, start_run
from regard.errors import CheckpointError
from regard.evaluation.embed import color_histograms, evaluate_splits
from regard.evaluation.run import Run
from regard.explain import attention_layers, similarity_cam
from regard.explain.figures.map_figures import figure_bytes
from regard.explain.figures.overlay import framed, heat_over, sheet
from regard.metrics import RankingReport, rank
from regard.models import ReIDModel
from regard.recipes import read_recipe
from regard.report import Command, gather, pick_queries, ranked_lists, write_runs
from regard.report.ranked_figure import ranked_figure
from regard.run_folder.saved_state import read_saved
from regard.storage import write_atomic
from regard.structures import Ranking, Splits
from regard.threads import allowed_cores
from regard.version import __version__

__all__ = ["Demo", "run_demo"]

TRAINED, UNTRAINED = "trained apnet", "untrained apnet"


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
    if _make_crowd(folder / "crowd", train_ids, test_ids, quiet=quiet) and (folder / "run").exists():
        shutil.rmtree(folder / "run")  # it was trained on another crowd
    splits = load_dataset("crowd", folder / "crowd")
    say(f"     {splits}")
    config = read_recipe("demo").config([f"data.root={folder / 'crowd'}", f"train.epochs={epochs}"])
    say("2/4  what color alone and an untrained network achieve")
    reports, untrained = _before(splits, config, quiet=quiet)
    say("3/4  training; stop with Ctrl-C at any time, the same command goes on")
    model = _trained(config, folder / "run", quiet=quiet)
    say("4/4  measuring, and looking at what was learned")
    run = Run.of(model, splits, config, TRAINED, quiet=quiet)
    reports[TRAINED] = run.report()
    seconds = read_saved(folder / "run").progress.seconds
    scores = {label: {"mAP": report.mAP, "rank1": report.rank(1)} for label, report in reports.items()}
    metrics = folder / "metrics.json"
    page: Path | None = folder / "report.html"
    figures = {
        "regard": __version__,
        "data": str(splits),
        "train_seconds": round(seconds, 1),
        "evaluations": {label: report.to_dict() for label, report in reports.items()},
        "config": config.to_dict(),
    }
    write_atomic(metrics, json.dumps(figures, indent=2).encode())
    gallery = run.features("gallery")
    ranking = rank(run.features("query"), gallery, k=len(gallery), metric=config.eval.metric)
    try:
        _draw(folder, run, untrained, ranking)
        _write_page(folder, reports, splits, quiet=quiet)
    except Exception as error:  # whatever it is, a training and its figures are not to end in it
        page = None
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(
            f"regard: the pictures of the demo failed ({reason}); the network is in {folder / 'run' / 'final'}, its "
            f"figures are in {metrics}; the same command draws again",
            file=sys.stderr,
        )
    return Demo(page, metrics, scores, seconds)


def _write_page(folder: Path, reports: dict[str, RankingReport], splits: Splits, *, quiet: bool) -> None:
    """Write the page of the run, with what it is compared with and how to go on."""
    found = gather({TRAINED: folder / "run"}, method="pca", command="regard demo", quiet=quiet)
    trained, others = (len({sample.pid for sample in part}) for part in (splits.train, splits.query))
    page = replace(
        found,
        title="Finding a person again, across cameras",
        lead=f"A small attention network (apnet) was trained on {trained} synthetic people and then asked to find "
        f"{others} others, whom it had never seen, in the pictures of other cameras.",
        baselines={label: report for label, report in reports.items() if label != TRAINED},
        next_commands=NEXT,
    )
    write_runs(page, folder / "report.html")


NEXT = (
    Command("regard report runs/demo/run", "this page with a map by t-SNE, or with other queries"),
    Command("regard train apnet", "the same system on a larger crowd and backbone"),
    Command("regard train apnet data.root=data/market1501", "the published recipe on Market-1501"),
    Command("regard eval runs/demo/run --rerank", "k-reciprocal re-ranking on top"),
    Command("regard data make data/fog --city 3 --difficulty hard", "a harder crowd in another city"),
    Command("regard eval runs/demo/run --root data/fog", "how far the network carries"),
    Command("regard models apnet", "the options of a system"),
)


def _make_crowd(root: Path, train_ids: int, test_ids: int, *, quiet: bool) -> bool:
    """Make the crowd, unless it is there to the byte; whether it was there as another one, or changed."""
    found = read_description(root)
    before = found if found and is_complete(root, found) else None
    made = make_crowd(
        root, train_ids=train_ids, test_ids=test_ids, workers=allowed_cores(), progress=not quiet, overwrite=True
    )
    return made != before


def _before(splits: Splits, config: Config, *, quiet: bool) -> tuple[dict[str, RankingReport], Run]:
    """Scores of what learning is compared with, and the untrained network."""
    found, parts = {}, (splits.query, splits.gallery)
    for label, masked in (("color histogram", False), ("color histogram, true masks", True)):
        bar = None if quiet else label
        query, gallery = (color_histograms(part, masked=masked, progress=bar) for part in parts)
        found[label] = evaluate_splits(query, gallery, splits, config.eval)
    torch.manual_seed(config.train.seed)
    run = Run.of(build_model(config, splits.num_ids).eval(), splits, config, UNTRAINED, quiet=quiet)
    found[UNTRAINED] = run.report()
    return found, run


def _trained(config: Config, run: Path, *, quiet: bool) -> ReIDModel:
    """The network after training: from the run folder where the same run stands there, else trained now."""
    try:
        if read_saved(run).config == config:
            return resume_run(run, quiet=quiet)
    except CheckpointError:
        pass
    if run.exists():
        print(f"     {run} was trained with other settings, or not to be read; it is trained anew", file=sys.stderr)
        shutil.rmtree(run)
    return start_run(config, run, quiet=quiet)


def _draw(folder: Path, run: Run, untrained: Run, ranking: Ranking) -> None:
    """Draw ranked.png, and attention.png: why six queries are similar to their nearest right match.

    Args:
        folder: receives them.
        run, untrained: of the trained and the untrained network.
        ranking: of the trained one.
    """
    splits, ap = run.splits, run.report().ap
    lists = ranked_lists(ranking, splits.query, splits.gallery, ap)
    write_atomic(folder / "ranked.png", figure_bytes(ranked_figure({"apnet": lists})))
    assert ranking.matches is not None
    pairs = [
        (splits.query[q], splits.gallery[ranking.indices[q, np.argmax(ranking.matches[q])]])
        for q in pick_queries(ap, 6)
    ]
    images, partners = (run.batch([sample.path for sample in side]) for side in zip(*pairs))
    layers = [attention_layers(run.model, 2)["P1"], *attention_layers(run.model).values()]
    maps = [similarity_cam(untrained.model, attention_layers(untrained.model)["P1"], images, partners)]
    maps += [similarity_cam(run.model, layer, images, partners) for layer in layers]
    rows = [
        [
            framed(query.path, "query", height=256),
            *(heat_over(query.path, stack[row].cpu().numpy()) for stack in maps),
            framed(partner.path, "right", height=256),
        ]
        for row, (query, partner) in enumerate(pairs)
    ]
    sheet(rows).save(folder / "attention.png")
