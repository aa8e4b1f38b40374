"""Batches: P identities with K images each, any images at random, or all of them by identity.

Shapes: P identities in a global batch, K images of each, R processes (ranks).

Every draw of an epoch is a function of (seed, epoch) alone. A sampler plans the whole epoch at once, the same on every
rank, and each rank takes its share of every batch; so the ranks' batches side by side are the batch one process would
have drawn, and an epoch can be entered in the middle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from regard.errors import ConfigError

__all__ = ["Draw", "PKBatchSampler", "PlannedBatchSampler", "Scarce", "ShuffleBatchSampler", "SortedBatchSampler"]

Scarce = Literal["draw", "repeat"]
"""How an identity with fewer than K images comes to K: by drawing with replacement, or by repeating all its images as
often as it takes and drawing K of those, so that none of them comes much oftener than another."""

ABSENT = -1
"""Stands in the plan of an epoch where its last batch has no image."""


class Draw(NamedTuple):
    """One image of a batch.

    Attributes:
        index: position in the list of samples.
        seed: 63-bit seed of its augmentation; follows from sampler seed, epoch and global position in the epoch.
    """

    index: int
    seed: int


@dataclass(eq=False, repr=False, kw_only=True)
class PlannedBatchSampler:
    """Batch sampler that plans a whole epoch, of which it takes one rank's share of every batch.

    A subclass implements :meth:`plan`.

    Args:
        seed: of everything drawn here.
        rank, world_size: this process among R; of a batch's U units it takes [rank * U / R, (rank + 1) * U / R).
        keep_last: whether what is left over at the end of an epoch is a smaller batch, as far as it divides among the
            R; else it is dropped.

    Raises:
        ConfigError: a number out of range.
    """

    seed: int = 0
    rank: int = 0
    world_size: int = 1
    keep_last: bool = False
    epoch: int = field(default=0, init=False)
    skip: int = field(default=0, init=False)
    _plan: np.ndarray | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}, expected 0 or more; set another")
        if not 0 <= self.rank < self.world_size:
            raise ConfigError(
                f"rank {self.rank} of {self.world_size} processes does not exist; expected 0 to {self.world_size - 1}"
            )

    def plan(self, rng: np.random.Generator) -> np.ndarray:
        """(batches, U, K) sample indices of an epoch: U units of K images in every batch, U a multiple of R.

        A batch with fewer units has :data:`ABSENT` for the others, as many of them in every rank's share.
        """
        raise NotImplementedError

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """Choose the epoch to iterate over, and how many of its batches were consumed before.

        Raises:
            ConfigError: a negative number, or more batches to skip than the epoch has.
        """
        if epoch < 0 or skip < 0:
            raise ConfigError(f"epoch {epoch} with {skip} batches skipped; expected 0 or more for both")
        if epoch != self.epoch:
            self.epoch, self._plan = epoch, None
        if skip and skip > self.num_batches:
            raise ConfigError(
                f"cannot skip {skip} batches of epoch {epoch}, it has {self.num_batches}; "
                "resume with the data set and batch size the run was started with"
            )
        self.skip = skip

    @property
    def num_batches(self) -> int:
        """Batches of the whole epoch, skipped ones included; may differ a little from epoch to epoch."""
        return len(self._planned())

    def __len__(self) -> int:
        return self.num_batches - self.skip

    def __iter__(self) -> Iterator[list[Draw]]:
        plan = self._planned()
        seeds = self._rng(1).integers(2**63, size=plan.shape)
        share = plan.shape[1] // self.world_size
        mine = slice(self.rank * share, (self.rank + 1) * share)
        for indices, batch_seeds in zip(plan[self.skip :, mine], seeds[self.skip :, mine]):
            drawn = zip(indices.ravel().tolist(), batch_seeds.ravel().tolist())
            yield [Draw(index, seed) for index, seed in drawn if index != ABSENT]

    def _planned(self) -> np.ndarray:
        """The current epoch, planned once."""
        if self._plan is None:
            self._plan = self.plan(self._rng(0))
        return self._plan

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, self.epoch, stream))


@dataclass(eq=False, repr=False)
class PKBatchSampler(PlannedBatchSampler):
    """Batch sampler for metric losses: every batch is full, the K images of an identity are neighbours.

    Without ``rounds``, the images of an identity are shuffled in each epoch and cut into groups of K (an identity with
    fewer has one group, see ``scarce``; what is left over waits for another epoch). While at least P identities still
    have groups, a batch is one group from each of P identities picked at random. (APNet's sampler, as many others'.)

    With ``rounds``, an epoch is so many rounds of one group of K from every identity in random order. P groups in a row
    are a batch, across the border of two rounds too; what does not fill a batch at the end is dropped, or with
    ``keep_last`` is a smaller batch. (3 rounds are MuDeep's sampler, 1 round is TriNet's.) Around a border the next
    round starts with those identities that the batch does not hold yet; without ``distinct_ids``, as in MuDeep's own
    code, it does not look, and a batch can hold an identity twice. The number of batches is the same.

    Args:
        pids: identity of every sample.
        ids_per_batch: P, over all ranks.
        images_per_id: K.
        seed: of everything drawn here.
        rank, world_size: this process among R; it takes identities [rank * P / R, (rank + 1) * P / R) of each batch.
        keep_last: whether groups left over at the end of the rounds are a batch, as far as they divide among the R.
        rounds: rounds of an epoch; None for as many groups as an identity has.
        scarce: how an identity with fewer than K images comes to K, see :data:`Scarce` ("repeat" is TriNet's).
        distinct_ids: whether the identities of every batch of ``rounds`` differ; without rounds they always do.

    Raises:
        ConfigError: fewer than P identities, P not divisible by R, a number out of range, or a last batch that cannot
            be kept.

    Examples:
        >>> sampler = PKBatchSampler([7, 7, 7, 9, 9, 5], ids_per_batch=2, images_per_id=2)
        >>> [len(batch) for batch in sampler]
        [4]
    """

    pids: Sequence[int] | np.ndarray
    ids_per_batch: int
    images_per_id: int
    _: KW_ONLY
    rounds: int | None = None
    scarce: Scarce = "draw"
    distinct_ids: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        p, k = self.ids_per_batch, self.images_per_id
        if p < 1 or k < 1:
            raise ConfigError(f"a batch of {p} identities with {k} images each is empty; set both to 1 or more")
        if self.scarce not in get_args(Scarce):
            raise ConfigError(f"scarce is {self.scarce!r}, wanted {' or '.join(get_args(Scarce))}")
        if self.rounds is not None and self.rounds < 1:
            raise ConfigError(f"an epoch of {self.rounds} rounds is empty; set rounds to 1 or more, or leave it out")
        if p % self.world_size:
            raise ConfigError(
                f"{p} identities per batch do not divide among {self.world_size} processes; "
                "set ids_per_batch to a multiple"
            )
        ids = len(np.unique(self.pids))
        if ids < p:
            raise ConfigError(
                f"a batch asks for {p} identities, the training split has {ids}; "
                "lower data.ids_per_batch or add identities"
            )
        if self.keep_last:
            if self.rounds is None:
                raise ConfigError("keep_last wants rounds, without which an epoch has no last batch; set rounds")
            check_last(self.rounds * ids % p, k, self.world_size)

    def plan(self, rng: np.random.Generator) -> np.ndarray:
        """(batches, P, K) sample indices of an epoch."""
        pids, p, k = np.asarray(self.pids), self.ids_per_batch, self.images_per_id
        if self.rounds:
            groups = draw_rounds(pids, p if self.distinct_ids else None, k, self.rounds, rng, scarce=self.scarce)
            return cut_batches(groups, p, keep_last=self.keep_last, ranks=self.world_size)
        groups, first, size = cut_groups(pids, k, rng, self.scarce)
        return groups[pick_groups(first, size, p, rng)]


@dataclass(eq=False, repr=False)
class ShuffleBatchSampler(PlannedBatchSampler):
    """Batch sampler for identity losses alone: all images in random order, each at most once in an epoch (as SA's).

    Args:
        length: number of samples.
        batch_size: images of a batch, over all ranks.
        seed, rank, world_size, keep_last: as of :class:`PlannedBatchSampler`.

    Raises:
        ConfigError: fewer samples than a batch takes, a batch not divisible by R, a number out of range, or a last
            batch that cannot be kept.
    """

    length: int
    batch_size: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 1 or self.batch_size % self.world_size:
            raise ConfigError(
                f"a batch of {self.batch_size} images does not divide among {self.world_size} processes; "
                "set ids_per_batch * images_per_id to a multiple"
            )
        if self.length < self.batch_size:
            raise ConfigError(
                f"a batch asks for {self.batch_size} images, the training split has {self.length}; "
                "lower data.ids_per_batch or data.images_per_id"
            )
        if self.keep_last:
            check_last(self.length % self.batch_size, 1, self.world_size)

    def plan(self, rng: np.random.Generator) -> np.ndarray:
        """(batches, B, 1) sample indices of an epoch."""
        order = self.order(rng)[:, None]
        return cut_batches(order, self.batch_size, keep_last=self.keep_last, ranks=self.world_size)

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """(length,) all sample indices, in the order of an epoch."""
        return rng.permutation(self.length)


class SortedBatchSampler(ShuffleBatchSampler):
    """Batch sampler of a loader that does not shuffle: the images by identity, the same batches in every epoch.

    A batch then shows very few people, and what does not fill a batch at the end is never trained on. (What DSP's
    released code does.)

    Args:
        pids: identity of every sample; those of an identity keep their order.
        batch_size: images of a batch, over all ranks.
        options: as of :class:`ShuffleBatchSampler`; the seed is of the augmentation alone.

    Raises:
        ConfigError: as :class:`ShuffleBatchSampler`.
    """

    def __init__(self, pids: Sequence[int] | np.ndarray, batch_size: int, **options: Any):
        super().__init__(len(pids), batch_size, **options)
        self.pids = np.asarray(pids)

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """(length,) all sample indices, by identity."""
        return np.argsort(self.pids, kind="stable")


def check_last(units: int, k: int, ranks: int) -> None:
    """Refuse to keep a last batch of one image, of which batch normalization has no statistics.

    Args:
        units: left over at the end of an epoch.
        k: images of a unit.
        ranks: processes that the batch is shared by.

    Raises:
        ConfigError: each process would get a single image.
    """
    if units // ranks * k == 1:
        raise ConfigError(
            "keep_last would leave a last batch of one image a process, too few for batch normalization; set "
            "keep_last=false, or another number of images in a batch"
        )


def cut_batches(units: np.ndarray, size: int, *, keep_last: bool, ranks: int) -> np.ndarray:
    """Cut units in a row into batches.

    Args:
        units: (n, K) sample indices.
        size: units of a batch, a multiple of ``ranks``.
        keep_last: whether what is left over is a batch; no more of it than gives all ranks the same number.
        ranks: processes that share every batch.

    Returns:
        (batches, size, K) sample indices; the last batch has :data:`ABSENT` where it is short.
    """
    whole = len(units) // size
    batches = units[: whole * size].reshape(whole, size, -1)
    share = len(units) % size // ranks
    if not keep_last or not share:
        return batches
    last = np.full((ranks, size // ranks, units.shape[1]), ABSENT)
    last[:, :share] = units[whole * size : whole * size + share * ranks].reshape(ranks, share, -1)
    return np.concatenate([batches, last.reshape(1, size, -1)])


def cut_groups(
    pids: np.ndarray, k: int, rng: np.random.Generator, scarce: Scarce = "draw", *, most: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shuffle the images of every identity and cut them into groups of K.

    Args:
        pids: (n,) identities.
        scarce: what becomes of identities with fewer.
        most: groups that an identity has; None for as many as its images make.

    Returns:
        (g, K) sample indices, the groups of an identity being neighbours; and for every identity, in ascending order,
        its first group and its number of groups.
    """
    shuffled = np.lexsort((rng.random(len(pids)), pids))
    _, start, images = np.unique(pids[shuffled], return_index=True, return_counts=True)
    size = np.clip(images // k, 1, most)
    first = np.cumsum(size) - size
    owner = np.repeat(np.arange(len(size)), size)
    offset = (np.arange(len(owner)) - first[owner])[:, None] * k + np.arange(k)
    few = images[owner] < k
    offset[few] = fill_up(images[owner][few], k, rng, scarce)
    return shuffled[start[owner][:, None] + offset], first, size


def fill_up(images: np.ndarray, k: int, rng: np.random.Generator, scarce: Scarce) -> np.ndarray:
    """Draw K times among the few images of each identity.

    Args:
        images: (n,) how many each has, fewer than K.

    Returns:
        (n, K) positions among the images of an identity.
    """
    if scarce == "draw":
        return rng.integers(images[:, None], size=(len(images), k))
    repeated = -(-k // images) * images
    keys = rng.random((len(images), 2 * k))
    keys[np.arange(2 * k) >= repeated[:, None]] = np.inf
    return np.argsort(keys, axis=1)[:, :k] % images[:, None]


def pick_groups(first: np.ndarray, size: np.ndarray, p: int, rng: np.random.Generator) -> np.ndarray:
    """Compose batches of groups from P different identities until fewer than P have any left.

    Args:
        first, size: first group and number of groups of every identity.

    Returns:
        (batches, P) groups, each at most once.
    """
    following, end = first.copy(), first + size
    alive = np.arange(len(first))
    batches = []
    while len(alive) >= p:
        picked = rng.choice(alive, p, replace=False)
        batches.append(following[picked])
        following[picked] += 1
        alive = alive[following[alive] < end[alive]]
    return np.array(batches)


def draw_rounds(
    pids: np.ndarray, p: int | None, k: int, rounds: int, rng: np.random.Generator, *, scarce: Scarce = "draw"
) -> np.ndarray:
    """Rounds of one group of K images from every identity in random order.

    Args:
        pids: (n,) identities.
        p: P where the rounds are to be ordered so that the groups of every batch differ in identity.
        scarce: what becomes of identities with fewer than K images.

    Returns:
        (rounds * identities, K) sample indices.
    """
    drawn = []
    order = np.empty(0, np.int64)
    for done in range(rounds):
        groups, _, size = cut_groups(pids, k, rng, scarce, most=1)
        before, order = order, rng.permutation(len(size))
        if p and (begun := before[len(before) - done * len(size) % p :]).size:
            # those that the batch begun does not hold yet go first, as many as it lacks
            first = order[~np.isin(order, begun)][: p - len(begun)]
            order = np.concatenate([first, order[~np.isin(order, first)]])
        drawn.append(groups[order])
    return np.concatenate(drawn)
