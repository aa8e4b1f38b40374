"""Loaders: from lists of samples to batches.

Shapes: B images in a batch, H x W pixels of the network's input, P identities with K images each.

A worker process reads, augments and assembles whole batches; pixels travel as uint8 and channels last. Nothing here
touches the global random state: a training picture is augmented from the seed its :class:`~regard.data.samplers.Draw`
carries, so the batches are the same for any number of workers.
"""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from regard.data.cache import PictureCache
from regard.data.image import read_image
from regard.data.labels import stack_targets
from regard.data.samplers import (
    Draw,
    PKBatchSampler,
    PlannedBatchSampler,
    Scarce,
    ShuffleBatchSampler,
    SortedBatchSampler,
)
from regard.errors import ConfigError, DataError, check_choice
from regard.structures import Batch, Sample

__all__ = [
    "Corrupt", "Crops", "Loader", "WorkerLost", "class_pids", "picture_name", "test_loader", "train_batches",
    "train_loader",
]  # fmt: skip


class Transform(Protocol):
    """What makes input of a picture; the transforms of :mod:`regard.data.transforms` do."""

    @property
    def height(self) -> int:
        """H."""
        ...

    @property
    def width(self) -> int:
        """W."""
        ...

    def __call__(self, picture: np.ndarray, generator: random.Random, out: np.ndarray | None = None, /) -> np.ndarray:
        """(h, w, 3) uint8 picture, source of draws, (H, W, 3) uint8 to put the result into -> (3, H, W)."""
        ...


SamplerKind = Literal["pk", "shuffle", "sorted"]
"""How batches are drawn, see :func:`train_loader`."""

GROUP = 32
"""Pictures decoded before the first of them is transformed: for the processor's caches a sixth faster than by turns."""

Corrupt = Callable[[np.ndarray, str], np.ndarray]
"""(h, w, 3) uint8 picture and its name -> a corrupted one, such as :class:`~regard.data.corruptions.Corruption`."""

Labels = Callable[[Sample, tuple[int, int], int], Mapping[str, Any]]
"""Sample, height and width of its stored picture, seed of the draws -> named targets for
:func:`~regard.data.labels.stack_targets`, such as :class:`~regard.data.labels.TrainingLabels` gives."""


@dataclass(eq=False, repr=False)
class Crops(Dataset[Any]):
    """Samples as a map-style data set that is asked for whole batches.

    Args:
        samples: what to read.
        pids: the number each sample gets in ``Batch.pids``.
        transform: applied to every decoded picture.
        labels: what goes into ``Batch.extra`` besides.
        cache: the samples' pictures, decoded; None reads them from their files.
        corruptions: what is done to a decoded picture first: the first of n to the first n-th of the samples, and so
            on.
    """

    samples: Sequence[Sample]
    pids: Sequence[int]
    transform: Transform
    labels: Labels | None = None
    cache: PictureCache | None = None
    corruptions: Sequence[Corrupt] = ()

    def __post_init__(self) -> None:
        self._pids = torch.tensor(self.pids, dtype=torch.int64)
        self._camids = torch.tensor([sample.camid for sample in self.samples], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, draws: Sequence[Draw]) -> Batch | DataError:
        """A batch, or what went wrong: an error crosses from a worker in one piece only as a value."""
        pixels = np.empty((len(draws), self.transform.height, self.transform.width, 3), np.uint8)
        labels: list[Mapping[str, Any]] = []
        try:
            for start in range(0, len(draws), GROUP):
                group = draws[start : start + GROUP]
                pictures = [self._picture(draw.index) for draw in group]
                for draw, picture, place in zip(group, pictures, pixels[start:]):
                    self.transform(picture, random.Random(draw.seed), place)
                if self.labels:
                    labels += [
                        self.labels(self.samples[draw.index], picture.shape[:2], draw.seed)
                        for draw, picture in zip(group, pictures)
                    ]
        except DataError as error:
            return error
        indices = [draw.index for draw in draws]
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        extra = {**stack_targets(labels)} if labels else {}
        return Batch(images, self._pids[indices], self._camids[indices], extra)

    def _picture(self, index: int) -> np.ndarray:
        """(h, w, 3) uint8 picture of a sample; raises DataError for one that cannot be read."""
        sample = self.samples[index]
        picture = read_image(sample.path) if self.cache is None else self.cache[index]
        if not self.corruptions:
            return picture
        corrupt = self.corruptions[index * len(self.corruptions) // len(self.samples)]
        return corrupt(picture, picture_name(sample))


def picture_name(sample: Sample) -> str:
    """What corruptions are drawn by: folder and file name, the same wherever the data set lies."""
    return f"{sample.path.parent.name}/{sample.path.name}"


class InOrder:
    """Batch sampler of evaluation: every sample once, in order, nothing random; the last batch may be smaller."""

    def __init__(self, length: int, batch_size: int):
        self.length = length
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-self.length // self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        for start in range(0, self.length, self.batch_size):
            yield [Draw(index, 0) for index in range(start, min(start + self.batch_size, self.length))]


class Loader(DataLoader[Any]):
    """A DataLoader of :class:`~regard.structures.Batch` that raises a worker's ``DataError`` as it was.

    It raises between two batches only: a worker that was ended from outside is told of as :class:`WorkerLost` where its
    batch is asked for, a few seconds later, and not in the middle of whatever the program is doing.

    Args:
        crops: the samples.
        batches: batch sampler of draws.
        seed: of the loader's own generator.
        workers: processes that read; 0 reads in this one. They live as long as the loader.
        pin_memory: whether batches come in page-locked memory, for copies to a GPU that do not wait.
    """

    def __init__(self, crops: Crops, batches: Any, *, seed: int, workers: int, pin_memory: bool):
        super().__init__(
            crops,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=as_is,
            pin_memory=pin_memory,
            worker_init_fn=leave_signals_to_the_parent,
            generator=torch.Generator().manual_seed(seed),
            persistent_workers=workers > 0,
        )

    def __iter__(self) -> Iterator[Batch]:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            for batch in super().__iter__():
                if isinstance(batch, DataError):
                    break
                yield batch
            else:
                return
        except (RuntimeError, OSError, EOFError) as error:
            workers = getattr(self._iterator, "_workers", ())
            if not any(_has_ended(worker) for worker in workers):
                raise
            end_workers(workers)  # those left may wait for ever for what the lost one held
            self._iterator = None
            raise WorkerLost(
                "a process that loads pictures was ended from outside, as happens where memory runs out; free some, or "
                "set data.workers=1 or data.workers=0"
            ) from error
        end_workers(getattr(self._iterator, "_workers", ()))
        self._iterator = None
        raise DataError(str(batch))

    def _get_iterator(self) -> Any:
        """Start the workers, and see that they end with the loader: by themselves, each would take five seconds."""
        with _children_unwatched():
            batches = super()._get_iterator()
        workers = getattr(batches, "_workers", ())
        for worker in workers:
            worker.terminate = worker.kill  # it ignores the signal by which a loader ends those that hang
        weakref.finalize(self, end_workers, workers)
        return batches


def as_is(batch: Any) -> Any:
    """Collate nothing: the data set assembles batches itself."""
    return batch


class WorkerLost(DataError):
    """A loader's process is no more; what was asked of it is lost, and nothing else."""


def end_workers(workers: Iterable[Any]) -> None:
    """End a loader's processes, whatever they are doing: they ignore what usually ends a program's children with it."""
    for worker in workers:
        with contextlib.suppress(ValueError, AssertionError):  # closed already, or of the program that forked this one
            worker.kill()


def _has_ended(worker: Any) -> bool:
    worker.join(timeout=0.5)  # its sockets close a moment before it is gone
    return not worker.is_alive()


@contextlib.contextmanager
def _children_unwatched() -> Iterator[None]:
    """Undo that a loader, when it starts its workers, makes their end an error wherever the program just is."""
    handler = signal.getsignal(signal.SIGCHLD)
    yield
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, handler)


def leave_signals_to_the_parent(worker: int) -> None:
    """Let the parent decide what a signal to the whole group means; it ends its workers by a message to each."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def class_pids(samples: Sequence[Sample]) -> list[int]:
    """Published pid of every class: the identities of ``samples``, ascending."""
    return sorted({sample.pid for sample in samples})


def train_loader(
    samples: Sequence[Sample],
    transform: Transform,
    *,
    ids_per_batch: int,
    images_per_id: int,
    sampler: SamplerKind = "pk",
    rounds: int | None = None,
    keep_last: bool = False,
    scarce: Scarce = "draw",
    distinct_ids: bool = True,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
    labels: Labels | None = None,
    cache: PictureCache | None = None,
) -> Loader:
    """Batches of P x K images, shuffled and augmented.

    ``loader.batch_sampler.set_epoch(epoch, skip)`` chooses the epoch, and the batch to enter it at.

    Args:
        samples: the training split.
        transform: of pictures, such as :class:`~regard.data.transforms.TrainTransform`.
        ids_per_batch, images_per_id: P (over all ranks) and K.
        sampler: "pk" for P identities with K images each, "shuffle" for any P x K images, "sorted" for those that
            follow one another by identity.
        rounds, scarce, distinct_ids: of "pk", see :class:`~regard.data.samplers.PKBatchSampler`.
        keep_last: whether what does not fill a batch at the end of an epoch is a smaller batch.
        seed: of the order of the samples and of their augmentation.
        rank, world_size: this process among how many; it gets its share of every batch.
        workers: processes that read; they change nothing but speed.
        pin_memory: see :class:`Loader`.
        labels: draws what ``Batch.extra`` holds, such as :class:`~regard.data.labels.TrainingLabels`; None for nothing.
        cache: decoded pictures of the samples (:func:`~regard.data.cache.open_cache`); it changes nothing but speed.

    Returns:
        A loader of batches of P / world_size * K images; ``pids`` are classes, positions in :func:`class_pids`.

    Raises:
        ConfigError: too few identities or images for a batch, or a batch that does not divide among the processes.
        DataError: while iterating, for an image that cannot be read.
    """
    check_choice("sampler", sampler, SamplerKind)
    classes = {pid: label for label, pid in enumerate(class_pids(samples))}
    pids = [classes[sample.pid] for sample in samples]
    batches = train_batches(
        pids, ids_per_batch=ids_per_batch, images_per_id=images_per_id, sampler=sampler, rounds=rounds,
        keep_last=keep_last, scarce=scarce, distinct_ids=distinct_ids, seed=seed, rank=rank, world_size=world_size,
    )  # fmt: skip
    crops = Crops(samples, pids, transform, labels, cache)
    return Loader(crops, batches, seed=seed, workers=workers, pin_memory=pin_memory)


def train_batches(
    pids: Sequence[int],
    *,
    ids_per_batch: int,
    images_per_id: int,
    sampler: SamplerKind,
    rounds: int | None,
    scarce: Scarce,
    distinct_ids: bool,
    **shared: Any,
) -> PlannedBatchSampler:
    """Which samples make the batches of :func:`train_loader`, whose arguments these are.

    Args:
        pids: identity of every sample.
        shared: ``seed``, ``rank``, ``world_size`` and ``keep_last``.
    """
    images = ids_per_batch * images_per_id
    if sampler == "shuffle":
        return ShuffleBatchSampler(len(pids), images, **shared)
    if sampler == "sorted":
        return SortedBatchSampler(pids, images, **shared)
    return PKBatchSampler(
        pids, ids_per_batch, images_per_id, rounds=rounds, scarce=scarce, distinct_ids=distinct_ids, **shared
    )


def test_loader(
    samples: Sequence[Sample],
    transform: Transform,
    *,
    batch_size: int,
    workers: int = 0,  # noqa: PT028
    pin_memory: bool = False,  # noqa: PT028
    corruptions: Sequence[Corrupt] = (),  # noqa: PT028
) -> Loader:
    """Batches of query or gallery, every sample once and in order.

    Args:
        samples: a split.
        transform: of pictures, such as :class:`~regard.data.transforms.TestTransform`.
        batch_size: images in every batch but the last.
        workers: processes that read; they change nothing but speed.
        pin_memory: see :class:`Loader`.
        corruptions: all samples come under the first, then under the next, and so on; one loader for all of them spares
            its workers from starting over, and a batch may hold the end of one round and the beginning of the next.

    Returns:
        A loader of batches; ``pids`` are as published.

    Raises:
        ConfigError: a batch size below 1.
        DataError: while iterating, for an image that cannot be read.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}, expected 1 or more; raise it")
    samples = [*samples] * max(1, len(corruptions))
    crops = Crops(samples, [sample.pid for sample in samples], transform, corruptions=corruptions)
    return Loader(crops, InOrder(len(samples), batch_size), seed=0, workers=workers, pin_memory=pin_memory)


test_loader.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]
