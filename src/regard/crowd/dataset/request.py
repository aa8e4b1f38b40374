"""The request: every parameter that decides the bytes of a crowd."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from operator import index
from typing import Any

from regard.crowd.dataset.plan import Cast
from regard.crowd.knobs import Knobs, resolve
from regard.errors import ConfigError, check_kind

__all__ = ["FORMAT", "VERSION", "Request", "checked_request", "checked_workers"]

FORMAT = "regard-crowd"
VERSION = 1
"""Counted up whenever the same request gives other bytes."""

MOST_CAMERAS = 9
SMALLEST = (32, 16)
LARGEST = 1024


@dataclass(frozen=True, slots=True)
class Request:
    """A crowd in numbers.

    Attributes:
        cast: how many of whom.
        seed: who the people are and how they are shot.
        city: which cameras, light and backgrounds.
        difficulty: the preset the knobs started from.
        knobs: the difficulty in full.
        height, width: pixels of a picture.
    """

    cast: Cast
    seed: int
    city: str
    difficulty: str
    knobs: Knobs
    height: int
    width: int

    def parameters(self) -> dict[str, Any]:
        """Return the request as it is written to ``dataset.json``."""
        cast = asdict(self.cast) | {"cameras_per_id": list(self.cast.cameras_per_id)}
        rest = {name: getattr(self, name) for name in ("seed", "city", "difficulty", "height", "width")}
        return cast | rest | {"knobs": asdict(self.knobs)}


def checked_request(
    *,
    train_ids: int,
    test_ids: int,
    cameras: int,
    per_camera: int,
    cameras_per_id: tuple[int, int],
    seed: int,
    city: int | str,
    difficulty: str,
    knobs: Mapping[str, Any] | None,
    height: int,
    width: int,
    distractors: int | None,
    junk: int | None,
) -> Request:
    """Return the request in full, defaults filled in and bounds checked.

    Distractors and junk default to a quarter of the test identities each. ``cameras_per_id`` is cut to the number of
    cameras there are.

    Raises:
        ConfigError: an unknown difficulty or knob, or a number out of its bounds.
    """
    whole("train_ids", train_ids, 1, 100_000)
    whole("test_ids", test_ids, 1, 100_000)
    whole("cameras", cameras, 2, MOST_CAMERAS)
    whole("per_camera", per_camera, 1, 100)
    check_kind("city", city, (int, str), "a number or a name")
    whole("seed", seed, -(2**63), 2**63)
    whole("height", height, SMALLEST[0], LARGEST)
    whole("width", width, SMALLEST[1], LARGEST)
    distractors = test_ids // 4 if distractors is None else whole("distractors", distractors, 0, 100_000)
    junk = test_ids // 4 if junk is None else whole("junk", junk, 0, 100_000)
    span = checked_span(cameras_per_id, cameras)
    if not 1 <= height / width <= 4:
        raise ConfigError(f"height x width is {height}x{width}, wanted a height of 1 to 4 widths, such as 256x128")
    cast = Cast(train_ids, test_ids, cameras, per_camera, span, distractors, junk)
    return Request(cast, int(seed), str(city), difficulty, resolve(difficulty, knobs), height, width)


def checked_span(cameras_per_id: tuple[int, int], cameras: int) -> tuple[int, int]:
    """Check the fewest and the most cameras that see a person.

    Raises:
        ConfigError: they are no such pair, or nobody would be seen by two cameras.
    """
    try:
        fewest, most = (index(count) for count in cameras_per_id)
    except (TypeError, ValueError):
        fewest, most = 0, 0
    if not 1 <= fewest <= most or most < 2:
        raise ConfigError(
            f"cameras_per_id is {cameras_per_id!r}, wanted the fewest and the most cameras that see a person, "
            "such as (3, 6); a query needs a match by a second camera"
        )
    return min(fewest, cameras), min(most, cameras)


def checked_workers(workers: int | None) -> int:
    """Return how many processes shall work: as many as asked for, or one per processor that there is.

    Raises:
        ConfigError: it is no such number, or so large that they would only fill this machine's memory.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return there if workers is None else whole("workers", workers, 1, max(16, 4 * there))


def whole(name: str, value: Any, low: int, high: int) -> int:
    """Return ``value`` if it is a whole number within bounds.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or not low <= value <= high:
        raise ConfigError(f"{name} is {value!r}, wanted a whole number from {low} to {high}")
    return int(value)
