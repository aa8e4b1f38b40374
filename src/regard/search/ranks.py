"""The processes of one job, as torchrun starts them; one process alone needs nothing.

Bytes are exchanged, never pickled objects.
"""

from __future__ import annotations

import os
from typing import Self

import torch
import torch.distributed as dist

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
        length = torch.tensor([len(data)])
        lengths = [torch.zeros_like(length) for _ in range(self.size)]
        dist.all_gather(lengths, length)
        longest = int(max(lengths))
        padded = torch.zeros(longest + 1, dtype=torch.uint8)
        padded[: len(data)] = torch.frombuffer(bytearray(data or b"\0"), dtype=torch.uint8)[: len(data)]
        gathered = [torch.zeros_like(padded) for _ in range(self.size)]
        dist.all_gather(gathered, padded)
        return [part[: int(n)].numpy().tobytes() for part, n in zip(gathered, lengths)]
