"""The request: every parameter that decides the bytes of a crowd."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from operator import index
from typing import Any

from regard.crowd.cause import Cause, checked_cause
from regard.crowd.knobs import PRESETS, VARIETY, Knobs, resolve
from regard.errors import ConfigError, check_kind, is_whole

__all__ = ["FORMAT", "VERSION", "Request", "checked_request", "checked_workers"]

FORMAT = "regard-crowd"
VERSION = 1
"""Counted up whenever the same request gives other bytes."""

BOUNDS = {
    **{"train_ids": (1, 100_000), "test_ids": (1, 100_000), "cameras": (2, 9), "per_camera": (1, 100)},
    **{"distractors": (0, 100_000), "junk": (0, 100_000), "seed": (-(2**63), 2**63)},
    **{"height": (32, 1024), "width": (16, 1024), "cities": (1, 100)},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A crowd in numbers.

    Attributes:
        train_ids, test_ids: identities of the two halves.
        cameras: cameras of a city.
        per_camera: pictures of a person by one camera, one more or less by chance.
        cameras_per_id: the fewest and the most cameras that see a person.
        distractors, junk: gallery pictures with pid 0 and -1.
        seed: who the people are and how they are shot.
        city: which cameras, light and backgrounds.
        difficulty: the preset the knobs started from.
        height, width: pixels of a picture.
        knobs: the difficulty in full.
        cause: the one cause that is added to it; None for none.
        test_only: whether the pictures to train on are left out.
        cities: how many there are, each with cameras and people of its own; the last is that of the people tested on.
    """

    train_ids: int
    test_ids: int
    cameras: int
    per_camera: int
    cameras_per_id: tuple[int, int]
    distractors: int
    junk: int
    seed: int
    city: str
    difficulty: str
    height: int
    width: int
    knobs: Knobs
    cause: Cause | None = None
    test_only: bool = False
    cities: int = 1

    @property
    def all_cameras(self) -> range:
        """Return the numbers of the cameras of all cities."""
        return range(1, self.cities * self.cameras + 1)

    def hung(self, camera: int) -> tuple[str, int]:
        """Return the city that a camera hangs in, and its number there."""
        city, place = divmod(camera - 1, self.cameras)
        return (self.city if self.cities == 1 else f"{self.city}.{city + 1}"), place + 1

    def parameters(self) -> dict[str, Any]:
        """Return the request as it is written to ``dataset.json``; what only some crowds have is there in those."""
        written: dict[str, Any] = asdict(self) | {"cameras_per_id": list(self.cameras_per_id)}
        cause, test_only, cities = (written.pop(name) for name in ("cause", "test_only", "cities"))
        more = {"cause": cause["name"], "dose": cause["dose"]} if cause else {}
        more |= ({"test_only": True} if test_only else {}) | ({"cities": cities} if cities > 1 else {})
        usual = Knobs()
        written["knobs"] = {
            name: value
            for name, value in written["knobs"].items()
            if name not in VARIETY or {value, getattr(PRESETS[self.difficulty], name)} != {getattr(usual, name)}
        }
        return written | more


def checked_request(**asked: Any) -> Request:
    """Return the request in full from parameters of :func:`regard.crowd.make_crowd`, bounds checked.

    Distractors and junk default to a quarter of the test identities each. ``cameras_per_id`` is cut to the number of
    cameras there are. A dose of 0 is no cause, so that it asks for the very crowd that has none.

    Raises:
        ConfigError: an unknown difficulty, knob or cause, or a number out of its bounds.
    """
    asked.setdefault("cities", 1)
    for name, (low, high) in BOUNDS.items():
        missing = asked[name] is None and name in ("distractors", "junk")
        asked[name] = asked["test_ids"] // 4 if missing else whole(name, asked[name], low, high)
    check_kind("city", asked["city"], (int, str), "a number or a name")
    span, height, width = checked_span(asked["cameras_per_id"], asked["cameras"]), asked["height"], asked["width"]
    if not 1 <= height / width <= 4:
        raise ConfigError(f"height x width is {height}x{width}, wanted a height of 1 to 4 widths, such as 256x128")
    check_kind("test_only", asked.setdefault("test_only", False), bool, "True or False")
    if asked["cities"] > 1 and asked["train_ids"] < asked["cities"] - 1:
        raise ConfigError(
            f"train_ids is {asked['train_ids']} in {asked['cities'] - 1} cities to train in, wanted one or more in each"
        )
    cause = checked_cause(asked.pop("cause", None), asked.pop("dose", None))
    knobs = resolve(asked["difficulty"], asked["knobs"])
    return Request(**asked | {"city": str(asked["city"]), "cameras_per_id": span, "knobs": knobs, "cause": cause})


def checked_span(cameras_per_id: tuple[int, int], cameras: int) -> tuple[int, int]:
    """Return the fewest and the most cameras that see a person, cut to those there are.

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
    if not is_whole(value) or not low <= value <= high:
        raise ConfigError(f"{name} is {value!r}, wanted a whole number from {low} to {high}")
    return int(value)
