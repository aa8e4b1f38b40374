"""The training loop.

Shapes: B = P x K images of P identities in a batch (on one rank), N identities, D descriptor length.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

from regard.config import Config
from regard.data.cache import PictureCache, open_cache
from regard.data.labels import TrainingLabels
from regard.data.loaders import train_loader
from regard.data.transforms import TrainTransform
from regard.engine.checkpoint import Progress, TrainingState, restore, save_state
from regard.engine.ema import Average
from regard.engine.extract import embed_run, evaluate_splits, loader_workers
from regard.engine.frozen import Frozen
from regard.engine.log import TrainingLog
from regard.engine.optim import build_criterion_optimizer, build_optimizer, lr_factor, set_lr, step_criterion
from regard.engine.profile import Laps
from regard.engine.recompute import recompute_blocks
from regard.engine.runtime import Runtime
from regard.engine.step import Learner, check_pieces
from regard.errors import ConfigError, RegardError
from regard.losses import Criterion, Term
from regard.models import ReIDModel, create_model
from regard.registry import LOSSES
from regard.storage import write_atomic
from regard.structures import Splits

__all__ = ["Interrupted", "build_criterion", "build_model", "train"]


class Interrupted(RegardError):
    """Training was asked to stop; its state is saved."""

    exit_code = 130


def train(
    config: Config, splits: Splits, folder: Path, runtime: Runtime, *, resume: bool = False, quiet: bool = False
) -> ReIDModel:
    """Train a model and leave the run in ``folder``: last.safetensors, best/, final/, metrics.jsonl, config.yaml.

    Args:
        config: everything that decides the result.
        splits: the data.
        folder: the run's folder; it exists.
        runtime: device and ranks.
        resume: go on from the folder's last.safetensors, to the same numbers as an uninterrupted run.
        quiet: no progress bars.

    Returns:
        The trained model on its device, in eval mode, with averaged weights where ``train.ema`` asks for them.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the state was saved at the end of the step.
    """
    torch.manual_seed(config.train.seed)
    model = build_model(config, splits.num_ids, started=resume)
    frozen = Frozen(model, config.optim.freeze)
    criterion = build_criterion(config, model).to(runtime.device)
    criterion_optimizer = build_criterion_optimizer(criterion)
    optimizer = build_optimizer(model, config.optim)
    if config.train.checkpointing:
        recompute_blocks(model)
    network, optimizer = runtime.setup(model, optimizer)
    average = Average(model, config.train.ema) if config.train.ema else None
    state = TrainingState(model, criterion, optimizer, average, Progress())
    torch.manual_seed(config.train.seed + 1000 * runtime.rank)
    if resume:
        restore(folder, state, runtime)
    elif runtime.is_main:
        write_atomic(folder / "config.yaml", config.to_yaml().encode())
    loader = build_loader(config, splits, folder, runtime)
    laps = Laps(folder, config.train.profile if runtime.is_main else 0, runtime.device)
    learn = Learner(network, model, criterion, runtime, check_pieces(config, runtime), laps)
    done, clock = state.progress, time.perf_counter()
    log = TrainingLog(folder, runtime, config.train.log_every, done.step, quiet)
    log.say(model.start_report)
    with log, _StopRequest() as stop:
        for epoch in range(done.epoch, config.train.epochs):
            loader.batch_sampler.set_epoch(epoch, skip=done.batch)
            batches = done.batch + len(loader)
            model.train()
            frozen.hold()
            shown = log.progress(loader, batches, done.batch, f"epoch {epoch + 1}/{config.train.epochs}")
            for batch in runtime.on_device(shown):
                laps("load")
                factor = lr_factor(config.schedule, epoch + done.batch / batches, config.train.epochs)
                lr = set_lr(optimizer, factor)
                loss, terms = learn(batch)
                if config.optim.clip_norm:
                    clip_grad_norm_(model.parameters(), config.optim.clip_norm)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if criterion_optimizer:
                    step_criterion(criterion_optimizer, runtime)
                if average:
                    average.update(model)
                laps("optimizer")
                done.batch, done.step = done.batch + 1, done.step + 1
                images = len(batch.pids) * runtime.world_size
                log.step({"epoch": epoch, "step": done.step, "lr": lr}, loss, terms, images)
                stopping = stop.agreed(runtime, done.step % config.train.log_every == 0)
                if stopping or (config.train.save_every and done.step % config.train.save_every == 0):
                    log.flush()
                    save_state(folder, state, config, runtime)
                if stopping:
                    raise Interrupted(f"stopped after step {done.step}; go on with: regard train --resume {folder}")
                laps("log")
                laps.finish_step()
            done.epoch, done.batch = epoch + 1, 0
            log.flush()
            now = time.perf_counter()
            done.seconds, clock = done.seconds + now - clock, now
            every = config.train.eval_every
            if done.epoch == config.train.epochs or (every and done.epoch % every == 0):
                evaluate(state, config, splits, folder, runtime, log)
            log.say(_epoch_line(config, state.progress, log.last))
            save_state(folder, state, config, runtime)
    return finish(state, folder, runtime)


def build_model(config: Config, num_ids: int, started: bool = False) -> ReIDModel:
    """The model a configuration describes, for ``num_ids`` identities.

    Args:
        config: says what to build, and what weights to start from.
        num_ids: of the training data.
        started: its weights come from a checkpoint of the run, so that those to start from are not needed any more.
    """
    pretrained = False if started else config.model.pretrained
    return create_model(config.model.name, num_ids, pretrained=pretrained, **config.model.options)


def build_criterion(config: Config, model: ReIDModel) -> Criterion:
    """The criterion a configuration describes, for the model it is to train.

    Raises:
        ConfigError: there is no loss, or one does not fit the model.
    """
    if not config.losses:
        raise ConfigError("losses is empty, so there is nothing to minimize; add at least one term")
    terms = []
    for name, term in config.losses.items():
        known = {}
        if "embed_dim" in LOSSES.options(term.loss):
            known = {"num_ids": model.num_ids, "embed_dim": output_length(config, model, name)}
        loss = LOSSES.create(term.loss, **known, **term.options)
        terms.append(Term(name, loss, term.on, term.weight, term.reduction, term.gather, term.target))
    return Criterion(terms)


def output_length(config: Config, model: ReIDModel, name: str) -> int:
    """Length D of the one output (B, D) that the term ``name`` is on, found out with a black image.

    Raises:
        ConfigError: there is no such output, there are several, or it is a map.
    """
    term = config.losses[name]
    model.eval()
    with torch.no_grad():
        black = torch.zeros(1, 3, config.data.height, config.data.width, device=next(model.parameters()).device)
        values = Term(name, torch.nn.Identity(), term.on).values(model(black))
    model.train()
    if len(values) > 1 or values[0].ndim != 2:
        found = "a map" if values[0].ndim != 2 else f"{len(values)} outputs"
        raise ConfigError(f"losses.{name}.on is {term.on!r}, which is {found}; {term.loss} wants one features.NAME")
    return values[0].shape[1]


def build_loader(config: Config, splits: Splits, folder: Path, runtime: Runtime) -> Any:
    """The training loader of this rank.

    Raises:
        DataError: the recipe trains on labels of which the data set has none, or a picture to cache cannot be read.
    """
    data = config.data
    transform = TrainTransform(
        data.height, data.width, flip=data.flip, pad=data.pad, erasing=data.erasing, erasing_fill=data.erasing_fill,
        erasing_area=data.erasing_area, enlarge=data.enlarge, interpolation=data.interpolation,
    )  # fmt: skip
    labels = None
    if data.labels:
        labels = TrainingLabels(
            transform, data.labels, data.label_stride, peak=data.label_peak, swap_on_flip=data.swap_on_flip
        )
        labels.check(splits.train)
    return train_loader(
        splits.train, transform, ids_per_batch=data.ids_per_batch, images_per_id=data.images_per_id,
        sampler=data.sampler, rounds=data.rounds, seed=config.train.seed,
        rank=runtime.rank, world_size=runtime.world_size, workers=loader_workers(data.workers, runtime.world_size),
        pin_memory=runtime.device.type == "cuda", labels=labels, cache=build_cache(config, splits, folder, runtime),
    )  # fmt: skip


def build_cache(config: Config, splits: Splits, folder: Path, runtime: Runtime) -> PictureCache | None:
    """The decoded pictures that the configuration asks for; one rank writes the file that all of them map."""
    data = config.data
    place = data.cache_folder or folder / "cache"
    if data.cache == "disk" and not runtime.is_main:
        runtime.barrier()
    cache = open_cache(data.cache, splits.train, place)
    if data.cache == "disk" and runtime.is_main:
        runtime.barrier()
    return cache


def evaluate(
    state: TrainingState, config: Config, splits: Splits, folder: Path, runtime: Runtime, log: TrainingLog
) -> None:
    """Score the model (its average where one is kept), log it, and keep it in best/ if it is the best.

    Every rank embeds a part of the pictures; rank 0 has the scores.
    """
    model, progress = state.model, state.progress
    if state.average:
        state.average.swap(model)
    runtime.align_buffers(model)
    features = embed_run(model, splits, config, runtime, log.quiet)
    if runtime.is_main:
        report = evaluate_splits(*features, splits, config.eval)
        scores = {"mAP": report.mAP, "mINP": report.mINP, **{f"rank{k}": report.rank(k) for k in (1, 5, 10)}}
        log.evaluation({"epoch": progress.epoch - 1, "step": progress.step, **scores})
        if report.mAP > progress.best:
            progress.best = report.mAP
            model.save(folder / "best")
        log.say(f"epoch {progress.epoch}: mAP {100 * report.mAP:.1f}, rank-1 {100 * report.rank(1):.1f}")
    if state.average:
        state.average.swap(model)
    runtime.barrier()


def finish(state: TrainingState, folder: Path, runtime: Runtime) -> ReIDModel:
    """Leave the model as training ended in final/ and return it ready for use."""
    model = state.model
    if state.average:
        state.average.swap(model)
    if runtime.is_main:
        model.save(folder / "final")
    runtime.barrier()
    return model.eval()


def _epoch_line(config: Config, done: Progress, last: dict[str, Any]) -> str:
    """What an epoch has come to; ``last`` is the record of its last step, empty where a resumed run had none left."""
    left = done.seconds / done.epoch * (config.train.epochs - done.epoch)
    parts = [f"{done.seconds:.0f} s", f"{left:.0f} s left"]
    if last:
        terms = ", ".join(f"{key.removeprefix('loss/')} {value:.3f}" for key, value in last.items() if "loss/" in key)
        parts = [f"loss {last['loss']:.3f} ({terms})", f"lr {last['lr']:.2e}", *parts]
    return f"epoch {done.epoch}/{config.train.epochs}: {', '.join(parts)}"


class _StopRequest:
    """Turns the first SIGINT or SIGTERM into a request to stop after the current step; a second one acts at once."""

    def __enter__(self) -> _StopRequest:
        self.requested = False
        self._previous: dict[int, Any] = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._request)
            except ValueError:  # not in the main thread: the caller handles signals
                return self
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self.requested and isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
            raise Interrupted(
                "stopped in the middle of a step, because the loader's processes were ended too; "
                "go on from the last checkpoint with: regard train --resume RUN"
            ) from error

    def agreed(self, runtime: Runtime, asking: bool) -> bool:
        """Whether any rank was asked to stop; several ranks exchange this only when ``asking``."""
        if runtime.world_size == 1:
            return self.requested
        return asking and runtime.any(self.requested)

    def _request(self, number: int, _: FrameType | None) -> None:
        self.requested = True
        signal.signal(number, self._previous[number])
