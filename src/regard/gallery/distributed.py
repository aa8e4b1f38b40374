"""The processes of one job, as torchrun starts them; one process alone needs nothing.

Bytes are exchanged, never pickled objects.
"""

from __future__ import annotations

import os
from typing import Self

import numpy as np
import torch
import torch.distributed as dist

from regard.layers.collective import all_gather

__all__ = ["Ranks"]


class Ranks:
    """This process among all; a context manager.

    Attributes:
        rank, size: this process and how many there are.
    """

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.size = int(os.environ.get("WORLD_SIZE", "1"))

    @property
    def is_main(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def __enter__(self) -> Self:
        if self.size > 1:
            dist.init_process_group("gloo")
        return self

    def __exit__(self, *error: object) -> None:
        if self.size > 1:
            dist.destroy_process_group()

    def from_main(self, data: bytes) -> bytes:
        """What the main process gives, for all."""
        return self.to_all(data)[0]

    def to_all(self, data: bytes) -> list[bytes]:
        """What every process gives, in the order of the ranks."""
        if self.size == 1:
            return [data]
        lengths = all_gather(torch.tensor([len(data)])).tolist()
        padded = torch.zeros(1, max(*lengths, 1), dtype=torch.uint8)
        padded[0, : len(data)] = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
        return [row[:length].numpy().tobytes() for row, length in zip(all_gather(padded), lengths)]
