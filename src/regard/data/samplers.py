"""Batches of P identities with K images each.

Shapes: P identities in a global batch, K images of each, R processes (ranks).

Every draw of an epoch is a function of (seed, epoch) alone. A sampler plans the whole epoch at once, the same on every
rank, and each rank takes its share of every batch; so the ranks' batches side by side are the batch one process would
have drawn, and an epoch can be entered in the middle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from regard.errors import ConfigError

__all__ = ["Draw", "PKBatchSampler"]


class Draw(NamedTuple):
    """One image of a batch.

    Attributes:
        index: position in the list of samples.
        seed: 63-bit seed of its augmentation; follows from sampler seed, epoch and global position in the epoch.
    """

    index: int
    seed: int


class PKBatchSampler:
    """Batch sampler for metric losses: every batch is full, the K images of an identity are neighbours.

    In each epoch the images of an identity are shuffled and cut into groups of K (an identity with fewer draws K with
    replacement; what is left over waits for another epoch). While at least P identities still have groups, a batch is
    one group from each of P identities picked at random. (APNet's sampler, as many others'.)

    Args:
        pids: identity of every sample.
        ids_per_batch: P, over all ranks.
        images_per_id: K.
        seed: of everything drawn here.
        rank, world_size: this process among R; it takes identities [rank * P / R, (rank + 1) * P / R) of each batch.

    Raises:
        ConfigError: fewer than P identities, P not divisible by R, or a number out of range.

    Example:
        >>> sampler = PKBatchSampler([7, 7, 7, 9, 9, 5], ids_per_batch=2, images_per_id=2)
        >>> [len(batch) for batch in sampler]
        [4]
    """

    def __init__(
        self,
        pids: Sequence[int] | np.ndarray,
        ids_per_batch: int,
        images_per_id: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.pids = np.asarray(pids, dtype=np.int64)
        self.ids_per_batch = ids_per_batch
        self.images_per_id = images_per_id
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self._check()
        self.epoch = 0
        self.skip = 0
        self._plan: np.ndarray | None = None

    def _check(self) -> None:
        p, k, ranks = self.ids_per_batch, self.images_per_id, self.world_size
        if p < 1 or k < 1:
            raise ConfigError(f"a batch of {p} identities with {k} images each is empty; set both to 1 or more")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}, expected 0 or more; set another")
        if not 0 <= self.rank < ranks:
            raise ConfigError(f"rank {self.rank} of {ranks} processes does not exist; expected 0 to {ranks - 1}")
        if p % ranks:
            raise ConfigError(
                f"{p} identities per batch do not divide among {ranks} processes; set ids_per_batch to a multiple"
            )
        ids = len(np.unique(self.pids))
        if ids < p:
            raise ConfigError(
                f"a batch asks for {p} identities, the training split has {ids}; lower ids_per_batch or add identities"
            )

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
        """Batches of the whole epoch, skipped ones included; differs a little from epoch to epoch."""
        return len(self._planned())

    def __len__(self) -> int:
        return self.num_batches - self.skip

    def __iter__(self) -> Iterator[list[Draw]]:
        plan = self._planned()
        seeds = self._rng(1).integers(2**63, size=plan.shape)
        share = self.ids_per_batch // self.world_size
        mine = slice(self.rank * share, (self.rank + 1) * share)
        for indices, batch_seeds in zip(plan[self.skip :, mine], seeds[self.skip :, mine]):
            yield [Draw(index, seed) for index, seed in zip(indices.ravel().tolist(), batch_seeds.ravel().tolist())]

    def _planned(self) -> np.ndarray:
        """(batches, P, K) sample indices of the current epoch, planned once."""
        if self._plan is None:
            rng = self._rng(0)
            groups, first, size = cut_groups(self.pids, self.images_per_id, rng)
            self._plan = groups[pick_groups(first, size, self.ids_per_batch, rng)]
        return self._plan

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, self.epoch, stream))


def cut_groups(pids: np.ndarray, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shuffle the images of every identity and cut them into groups of K.

    Args:
        pids: (n,) identities.

    Returns:
        (g, K) sample indices, the groups of an identity being neighbours; and for every identity, in ascending order,
        its first group and its number of groups.
    """
    shuffled = np.lexsort((rng.random(len(pids)), pids))
    _, start, images = np.unique(pids[shuffled], return_index=True, return_counts=True)
    size = np.maximum(images // k, 1)
    first = np.cumsum(size) - size
    owner = np.repeat(np.arange(len(size)), size)
    offset = (np.arange(len(owner)) - first[owner])[:, None] * k + np.arange(k)
    scarce = images[owner] < k
    offset[scarce] = rng.integers(images[owner][scarce, None], size=(scarce.sum(), k))
    return shuffled[start[owner][:, None] + offset], first, size


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
