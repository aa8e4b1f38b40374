"""CMC with a single gallery shot: every person of the gallery is shown once, drawn at random.

Shapes: Q queries, G gallery images, n queries of one block, I identities, R ranks of the curve.

The protocol of CUHK03: images by the query's own camera are left out altogether, one image of each person is drawn
from the rest, and the rank of the right one among them counts; the mean over many draws is the curve. A draw gives
every gallery image a random priority, and the image of highest priority that a query may see stands for its person:
all queries of a camera meet the same persons in the same pictures, and the block size changes nothing. Distractors
count as one more person.

Source: Li et al., DeepReID: Deep Filter Pairing Neural Network for Person Re-identification, CVPR 2014.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from regard.metrics.protocol import Protocol

__all__ = ["SingleShot"]


class SingleShot:
    """Ranks of the right images over repeated draws, gathered while distances go by.

    Args:
        protocol: who is right for whom.
        draws: how many times the gallery is drawn.
        seed: of the draws.
    """

    def __init__(self, protocol: Protocol, draws: int = 100, seed: int = 0):
        self._protocol = protocol
        self._pids, identity = np.unique(protocol.gallery_pids[protocol.kept], return_inverse=True)
        cameras = protocol.gallery_camids
        self._gallery_cameras = None if cameras is None else cameras[protocol.kept]
        self._identity = identity
        rng = np.random.default_rng(seed)
        self._priorities = [rng.permutation(len(identity)) for _ in range(draws)]
        self._shown: dict[int, Tensor] = {}
        self.ranks = np.full((draws, len(protocol.query_pids)), -1)
        """(draws, Q) int64 rank of the right person's image, from 1; -1 without one."""

    def watch(self, blocks: Iterable[tuple[slice, Tensor]]) -> Iterator[tuple[slice, Tensor]]:
        """Pass (n, G) distances to the gallery without junk on, and take the ranks on the way."""
        for rows, block in blocks:
            asked = self._protocol.query_camids
            cameras = np.zeros(rows.stop - rows.start, int) if asked is None else asked[rows]
            for camera in np.unique(cameras):
                which = np.flatnonzero(cameras == camera)
                self._rank(rows.start + which, block[torch.from_numpy(which).to(block.device)], int(camera))
            yield rows, block

    def curve(self, max_rank: int, unmatched: str = "skip") -> np.ndarray:
        """(max_rank,) mean over draws and queries; queries without a match are skipped or count as failures."""
        matched = np.all(self.ranks > 0, axis=0)
        ranks = self.ranks[:, matched]
        asked = ranks.shape[1] if unmatched == "skip" else len(matched)
        hits = np.bincount(ranks[ranks <= max_rank] - 1, minlength=max_rank).cumsum()
        return hits / max(1, len(self.ranks) * asked)

    def _rank(self, queries: np.ndarray, distances: Tensor, camera: int) -> None:
        """Rank the right images of some queries by one camera on their (n, G) distances."""
        if camera not in self._shown:
            self._shown[camera] = torch.from_numpy(self._draw(camera)).to(distances.device)
        pids = self._protocol.query_pids[queries]
        for draw, shown in enumerate(self._shown[camera]):
            shown = shown[shown >= 0]
            column = shown.sort().values  # in gallery order, for ties
            person = torch.from_numpy(self._pids[self._identity[column.cpu().numpy()]])
            right = (person == torch.from_numpy(pids)[:, None]) & (person > 0)
            found = right.any(1).nonzero().flatten()
            if not len(found):
                continue
            place = right[found].int().argmax(1).to(distances.device)
            seen = distances[found.to(distances.device)][:, column]
            own = seen.gather(1, place[:, None])
            before = torch.arange(len(column), device=distances.device) < place[:, None]
            rank = 1 + (seen < own).sum(1) + ((seen == own) & before).sum(1)
            self.ranks[draw, queries[found.numpy()]] = rank.cpu().numpy()

    def _draw(self, camera: int) -> np.ndarray:
        """(draws, I) gallery columns shown to queries by one camera, -1 where a person has none."""
        seen = np.ones(len(self._identity), bool)
        if self._gallery_cameras is not None:
            seen = self._gallery_cameras != camera
        shown = np.full((len(self._priorities), len(self._pids)), -1)
        for row, priority in zip(shown, self._priorities):
            order = np.argsort(priority)
            order = order[seen[order]]
            row[self._identity[order]] = order  # the last of each person, which has the highest priority, stays
        return shown
