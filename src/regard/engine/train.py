"""The training loop.

Shapes: B = P x K images of P identities in a batch (on one rank), N identities, D descriptor length.
"""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from regard.config import Config
from regard.engine import checks
from regard.engine.build import build_criterion, build_loader, build_model, freeze, leave_unreached, recompute_blocks
from regard.engine.log import TrainingLog
from regard.engine.step import (
    StepTimer,
    TrainStep,
    build_criterion_optimizer,
    build_optimizer,
    check_pieces,
    clip_gradient,
    lr_factor,
    set_lr,
)
from regard.engine.training_state import Average, TrainingState, machine_of, restore, save_state
from regard.errors import ConfigError, RegardError
from regard.evaluation.embed import embed_run, run_input, run_options
from regard.evaluation.scoring import score_features, with_options
from regard.models import ReIDModel
from regard.models.folder import WEIGHTS
from regard.places import EPOCHS
from regard.run_folder.saved_state import PICTURES, Progress, Saved, keep_good_one
from regard.runtime.fabric import Network, Runtime
from regard.storage import encode_text, write_atomic
from regard.structures import Splits
from regard.wording import count

__all__ = ["Interrupted", "StopRequest", "train"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def train(
    config: Config,
    splits: Splits,
    folder: Path,
    runtime: Runtime,
    *,
    resume: Saved | None = None,
    quiet: bool = False,
) -> ReIDModel:
    """Train a model and leave the run in ``folder``: last.safetensors, best/, final/, metrics.jsonl, config.yaml,
    and the networks of some epochs in epochs/, where that is asked for.

    What can be checked is checked before the first step. Once the last step is done, final/ is written before anything
    else; an evaluation that fails is told of, and takes nothing with it.

    Args:
        config: everything that decides the result.
        splits: the data.
        folder: the run's folder; it exists.
        runtime: device and ranks.
        resume: go on from this state of the folder, to the same numbers as an uninterrupted run.
        quiet: no progress bars.

    Returns:
        The trained model on its device, in eval mode, with averaged weights where ``train.ema`` asks for them.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the state was saved at the end of the step.
        DataError: a picture cannot be read, or a loader's process was lost; in one process, the state after the last
            whole step was saved.
        RegardError: the data, the settings or the folder will not do; nothing has been trained.
    """
    pictures = list_pictures(splits, folder, runtime, resume)
    state, network, frozen = build_state(config, splits, folder, runtime, resume)
    state.pictures = pictures
    criterion, criterion_optimizer = state.criterion, build_criterion_optimizer(state.criterion)
    model, optimizer, done = state.model, state.optimizer, state.progress
    start(state, splits, resume)
    loader = build_loader(config, splits, folder, runtime, run_input(config, model.input))
    timer = StepTimer(folder, config.train.profile if runtime.is_main else 0, runtime.device)
    learn = TrainStep(network, model, criterion, runtime, check_pieces(config, runtime), timer=timer)
    clock = time.perf_counter()
    log = TrainingLog(folder, runtime, config, step=done.step, quiet=quiet, evaluating=evaluation_is_due(config, done))

    def save() -> None:
        log.flush()
        save_state(state)

    log.say(model.start_report)
    announce_kept(state, log)
    with log, runtime.threads() as threads, StopRequest() as stop:
        if resume:
            catch_up(state, splits, log, resume)
        for epoch in range(done.epoch, config.train.epochs):
            loader.batch_sampler.set_epoch(epoch, skip=done.batch)
            batches = done.batch + len(loader)
            model.train()
            for part in frozen:
                part.eval()
            shown = log.progress(loader, batches, done.batch, f"epoch {epoch + 1}/{config.train.epochs}")
            for batch in threads.each(runtime.on_device(saving(shown, state, save))):
                timer("load")
                factor = lr_factor(config.schedule, epoch + done.batch / batches, config.train.epochs)
                lr = set_lr(optimizer, factor)
                loss, terms = learn(batch)
                norm = clip_gradient(model, criterion, config.optim.clip_norm)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if criterion_optimizer:
                    criterion_optimizer.step()
                    criterion_optimizer.zero_grad(set_to_none=True)
                if state.average:
                    state.average.update(model)
                timer("optimizer")
                done.batch, done.step = done.batch + 1, done.step + 1
                images = len(batch.pids) * runtime.world_size
                log.step({"epoch": epoch + 1, "step": done.step, "lr": lr}, loss, terms, images, norm)
                stopping = stop.agreed(runtime, asking=done.step % config.train.log_every == 0)
                if stopping or (config.train.save_every and done.step % config.train.save_every == 0):
                    save()
                if stopping:
                    raise Interrupted(f"stopped after step {done.step}; go on with: {resuming(folder)}")
                timer("log")
                timer.finish_step(threads)
            done.epoch, done.batch = epoch + 1, 0
            log.flush()
            now = time.perf_counter()
            done.seconds, clock = done.seconds + now - clock, now
            try:
                write_models(state, models_due(state))
            finally:
                save_state(state)
            evaluate_where_due(state, splits, log)
            log.say(_epoch_line(config, done, log.last))
    if state.average:
        state.average.swap(model)
    return model.eval()


def build_state(
    config: Config, splits: Splits, folder: Path, runtime: Runtime, resume: Saved | None
) -> tuple[TrainingState, Network, list[nn.Module]]:
    """Build what is trained, as it was saved or anew, and what to call instead of it, and what of it is frozen."""
    torch.manual_seed(config.train.seed)
    model = build_model(config, splits.num_ids, started=resume is not None)
    frozen = freeze(model, config.optim.freeze)
    criterion = build_criterion(config, model).to(runtime.device)
    optimizer = build_optimizer(model, config.optim, criterion)
    if runtime.world_size > 1:
        leave_unreached(model, criterion, config.data.height, config.data.width)
    if config.train.checkpointing and not recompute_blocks(model):
        raise ConfigError(
            f"train.checkpointing is true, but {config.model.name} has no block that can be computed again: neither "
            "regard's backbone nor its attention is in it; leave it out"
        )
    network, optimizer = runtime.setup(model, optimizer)
    average = Average(model, config.train.ema) if config.train.ema else None
    state = TrainingState(config, folder, runtime, model, criterion, optimizer, average)
    torch.manual_seed(config.train.seed + 1000 * runtime.rank)
    if resume:
        restore(resume, state)
    return state, network, frozen


def list_pictures(splits: Splits, folder: Path, runtime: Runtime, resume: Saved | None) -> Tensor:
    """Digests of the training pictures on rank 0, which saves them; empty on others.

    Raises:
        CheckpointError: a resumed run was trained on others.
        DataError: one cannot be read.
    """
    found = torch.empty(0)

    def check() -> None:
        nonlocal found
        found = checks.picture_digests(splits.train)
        if resume and PICTURES in resume.tensors:
            checks.check_pictures(resume.tensors[PICTURES], found, splits.train, str(folder))

    runtime.on_main(check)
    return found


def start(state: TrainingState, splits: Splits, resume: Saved | None) -> None:
    """Check what the training needs to its end, and put the folder in order for it.

    Raises:
        RegardError: something is missing.
    """
    config = state.config
    changed = resume is None or config != resume.config

    def check() -> None:
        checks.check_evaluation(splits, config.eval)
        checks.remove_leftovers(state.folder)
        checks.check_folder(state)
        if resume:
            keep_good_one(resume)
        if changed:
            write_atomic(state.folder / "config.yaml", encode_text(config.to_yaml()))

    state.runtime.on_main(check)
    if resume and changed:
        save_state(state)


def catch_up(state: TrainingState, splits: Splits, log: TrainingLog, resume: Saved) -> None:
    """Say what is other than it was, and do what the run had still to do when it ended."""
    train = state.config.train
    if resume.fault:
        log.warn(f"{resume.fault}; going on from the state before it, of step {resume.progress.step}")
    if PICTURES not in resume.tensors:
        where = state.folder
        log.warn(f"{where} was saved without a list of its pictures, so whether they are the same is not checked")
    now = machine_of(state.runtime)
    then = {**now, **resume.machine}
    changes = [f"{key} {then[key]} -> {now[key]}" for key in now if then[key] != now[key]]
    if changes:
        shared = now["processes"] != then["processes"] and not train.sync_bn and train.bn_share == 1
        more = ", and batch statistics are of a process's share (train.sync_bn=false)" if shared else ""
        log.warn(f"from here on: {', '.join(changes)}; sums are rounded differently{more}")
    shortened = train.epochs != resume.config.train.epochs
    due = models_due(state) if not state.progress.batch else []
    lacking = [place for place in due if not (place / WEIGHTS).is_file() or (shortened and place.name == "final")]
    write_models(state, lacking)
    evaluate_where_due(state, splits, log)


def saving(batches: Iterable[Any], state: TrainingState, save: Callable[[], None]) -> Iterator[Any]:
    """The batches; where the next one fails to come, the state after the last step is saved before that is told.

    Several ranks do not save: those without a failure are in the next step already.
    """
    try:
        yield from batches
    except Exception as error:
        if not state.progress.step or state.runtime.world_size > 1:
            raise
        save()
        if isinstance(error, RegardError):
            kept = f"the state after step {state.progress.step} is saved, go on with: {resuming(state.folder)}"
            raise type(error)(f"{error}; {kept}") from error
        raise


def resuming(folder: Path) -> str:
    """The command that goes on with a run."""
    return f"regard train --resume {shlex.quote(str(folder))}"


def evaluate_where_due(state: TrainingState, splits: Splits, log: TrainingLog) -> None:
    """Evaluate after an epoch that asks for it; where that fails, say so, and how to repeat it."""
    done, folder = state.progress, state.folder
    if not evaluation_is_due(state.config, done):
        return
    before = done.evaluated
    try:
        done.evaluated = done.epoch
        evaluate(state, splits, log)
        save_state(state)
    except Exception as error:  # whatever it is, the weights are saved, and worth more than their score
        done.evaluated = before
        reason = str(error) if isinstance(error, RegardError) else f"{type(error).__name__}: {error}"
        kept = "the training goes on"
        if done.epoch == state.config.train.epochs:
            again = f"regard eval {shlex.quote(str(folder))}"
            kept = f"the trained weights are safe in {folder / 'final'}; repeat it with: {again}"
        log.warn(f"the evaluation after epoch {done.epoch} failed: {' '.join(reason.split())}; {kept}")


def evaluation_is_due(config: Config, done: Progress) -> bool:
    """Whether the epoch that has just ended asks for an evaluation that has not been made."""
    every = config.train.eval_every
    wanted = done.epoch == config.train.epochs or (every and done.epoch and done.epoch % every == 0)
    return bool(wanted) and not done.batch and done.evaluated < done.epoch


def evaluate(state: TrainingState, splits: Splits, log: TrainingLog) -> None:
    """Score the model (its average where one is kept), log it, and keep it in best/ if it is the best.

    Every rank embeds a part of the pictures; rank 0 has the scores.
    """
    config, runtime, model, progress = state.config, state.runtime, state.model, state.progress
    with state.averaged():
        runtime.align_buffers(model)
        features = embed_run(model, splits, config, runtime, quiet=log.quiet)

        def score() -> None:
            report = with_options(score_features(*features, config.eval, splits), run_options(config, runtime))
            figures = report.figures()
            scores = {name.replace("rank-", "rank"): value for name, value in figures.items()}
            said = {"precision": report.options["precision"], "options": report.options}
            log.evaluation({"epoch": progress.epoch, "step": progress.step, **scores, **said})
            shown = (f"{name} {100 * value:.1f}" for name, value in figures.items() if name != "mINP")
            whom = " on people held out" if config.data.val_ids else ""
            log.say(f"epoch {progress.epoch}{whom}: {', '.join(shown)}", asked=True)
            if report.mAP > progress.best:
                model.save(state.folder / "best")
                progress.best = report.mAP

        runtime.on_main(score)


def models_due(state: TrainingState) -> list[Path]:
    """Model folders to write where an epoch has just ended: to keep it, and as the end of training."""
    train, epoch = state.config.train, state.progress.epoch
    kept = [f"{EPOCHS}/{number:04d}" for number in checks.epochs_to_keep(train, epoch - 1, epoch)]
    return [state.folder / name for name in (*kept, *(["final"] if epoch == train.epochs else []))]


def write_models(state: TrainingState, places: Sequence[Path]) -> None:
    """Leave the model as it is, its average where one is kept, in these folders."""

    def write() -> None:
        for place in places:
            state.model.save(place)

    if places:
        with state.averaged():
            state.runtime.on_main(write)


def announce_kept(state: TrainingState, log: TrainingLog) -> None:
    """Say what keeping networks will take of the disk."""
    train = state.config.train
    if left := len(checks.epochs_to_keep(train, state.progress.epoch)):
        size = checks.weights_size(state.model)
        log.say(
            f"keeping every network of train.keep_every={train.keep_every} in {state.folder / EPOCHS}: "
            f"{count(left, 'model')} to come, {size / 1e6:,.1f} MB each, {left * size / 1e6:,.0f} MB in all"
        )


def _epoch_line(config: Config, done: Progress, last: dict[str, Any]) -> str:
    """What an epoch has come to; ``last`` is the record of its last step, empty where a resumed run had none left."""
    left = done.seconds / done.epoch * (config.train.epochs - done.epoch)
    parts = [f"{done.seconds:.0f} s", f"{left:.0f} s left"]
    if last:
        terms = ", ".join(f"{key.removeprefix('loss/')} {value:.3f}" for key, value in last.items() if "loss/" in key)
        parts = [f"loss {last['loss']:.3f} ({terms})", f"lr {last['lr']:.2e}", *parts]
    return f"epoch {done.epoch}/{config.train.epochs}: {', '.join(parts)}"


class Interrupted(RegardError):
    """Training was asked to stop; its state is saved."""

    exit_code = 130


class StopRequest:
    """Turns the first SIGINT, SIGTERM or SIGHUP into a request to stop after the current step; a second acts at once.

    SIGHUP stays ignored where the program was started so, by ``nohup``; shells start their background jobs without
    SIGINT, which whoever sends it means all the same. The loaders' processes leave signals to this one, so that one to
    the whole group ends nothing that the step needs.
    """

    def __enter__(self) -> StopRequest:
        self.requested = False
        self._previous: dict[int, Any] = {}
        for number in SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            try:
                self._previous[number] = signal.signal(number, self._request)
            except ValueError:  # not in the main thread: the caller handles signals
                return self
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agreed(self, runtime: Runtime, *, asking: bool) -> bool:
        """Whether any rank was asked to stop; several ranks exchange this only when ``asking``."""
        if runtime.world_size == 1:
            return self.requested
        return asking and runtime.any(self.requested)

    def _request(self, number: int, _: FrameType | None) -> None:
        self.requested = True
        signal.signal(number, self._previous[number])
