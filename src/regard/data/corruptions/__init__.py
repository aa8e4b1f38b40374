"""Corruptions of pictures, to find out how far a model's descriptors hold.

The 20 kinds of the corrupted re-ID benchmark (Chen, Wang and Zheng, "Benchmarks for Corruption Invariant Person
Re-identification", NeurIPS 2021 Datasets and Benchmarks) at five severities each, occlusion, and lower resolution.
They are callables of a stored picture and its name, ready for a loader's workers. The code is ours, and where a kind
departs from what is published, it says so (:mod:`regard.data.corruptions.kinds`).

What is drawn is drawn from the name of the picture, the kind and a seed: the same picture is corrupted the same way in
every run, whatever the number of workers, and at a higher severity the same draws get worse.

Lengths, published in pixels of 224 x 224, are multiplied by sqrt(h * w) / 224 for a stored picture of h x w, so that a
severity looks alike at every size. The benchmark does not do that: it applies them to crops as they are, which is far
stronger (``published_lengths``).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from regard.data.corruptions.kinds import KINDS, SEVERITIES, Kind
from regard.data.transforms import resize
from regard.errors import ConfigError, UnknownNameError

__all__ = [
    "FAMILIES",
    "KINDS",
    "SEVERITIES",
    "Corruption",
    "Kind",
    "Mixed",
    "Occlusion",
    "Resolution",
    "choose_kinds",
]

FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(kind.family for kind in KINDS.values()))


def choose_kinds(names: list[str] | tuple[str, ...]) -> list[str]:
    """Kinds meant by names of kinds and families, in the order of ``KINDS``; all of them for no names.

    Raises:
        UnknownNameError: there is no such kind or family.
    """
    for name in names:
        if name not in KINDS and name not in FAMILIES:
            raise UnknownNameError("corruption", name, [*FAMILIES, *KINDS])
    return [kind.name for kind in KINDS.values() if not names or kind.name in names or kind.family in names]


@dataclass(frozen=True, slots=True)
class Corruption:
    """One kind at one severity.

    Attributes:
        kind: a name in ``KINDS``.
        severity: 1 to 5, or 0 for the picture as it is.
        seed: of the draws.
        published_lengths: take lengths in pixels as published, whatever the size of the picture, as the corrupted
            re-ID benchmark does; else they are scaled to it.

    Raises:
        UnknownNameError: there is no such kind.
        ConfigError: there is no such severity.
    """

    kind: str
    severity: int
    seed: int = 0
    published_lengths: bool = False

    def __post_init__(self):
        if self.kind not in KINDS:
            raise UnknownNameError("corruption", self.kind, KINDS)
        if self.severity not in (0, *SEVERITIES):
            raise ConfigError(f"severity is {self.severity}, expected 0 to {SEVERITIES[-1]}; choose one of them")

    def __call__(self, picture: np.ndarray, name: str) -> np.ndarray:
        """Corrupt an (h, w, 3) uint8 picture of that name; the result is a new one of that shape and type."""
        if self.severity == 0:
            return picture
        kind = KINDS[self.kind]
        scale = 1.0 if self.published_lengths else kind.scale(*picture.shape[:2])
        return _run(kind, kind.levels[self.severity - 1], picture, scale, draws(name, self.kind, self.seed))


@dataclass(frozen=True, slots=True)
class Mixed:
    """Kind and severity drawn for every picture: the test set of the corrupted re-ID benchmark.

    Attributes:
        kinds: names in ``KINDS``, all alike.
        severities: 1 to 5, all alike.
        seed, published_lengths: as for :class:`Corruption`.
    """

    kinds: tuple[str, ...]
    severities: tuple[int, ...] = SEVERITIES
    seed: int = 0
    published_lengths: bool = False

    def __call__(self, picture: np.ndarray, name: str) -> np.ndarray:
        """Corrupt an (h, w, 3) uint8 picture of that name."""
        rng = draws(name, "mixed", self.seed)
        kind = self.kinds[int(rng.integers(len(self.kinds)))]
        severity = self.severities[int(rng.integers(len(self.severities)))]
        return Corruption(kind, severity, self.seed, self.published_lengths)(picture, name)


@dataclass(frozen=True, slots=True)
class Resolution:
    """The picture as a camera with fewer pixels on the person would have stored it.

    Attributes:
        height: pixels; a picture that has no more stays as it is.

    Raises:
        ConfigError: no pixels.
    """

    height: int

    def __post_init__(self):
        if self.height < 1:
            raise ConfigError(f"resolution is {self.height} pixels, expected the height of a crop; set it to 1 or more")

    def __call__(self, picture: np.ndarray, name: str) -> np.ndarray:
        """Shrink an (h, w, 3) uint8 picture, antialiased, its aspect kept."""
        height, width = picture.shape[:2]
        if height <= self.height:
            return picture
        return resize(picture, self.height, max(1, round(width * self.height / height)))


@dataclass(frozen=True, slots=True)
class Occlusion:
    """A patch over a share of the picture, see :func:`regard.data.corruptions.kinds.occlusion`.

    Attributes:
        share: of the pixels, 0 to 1.
        seed: of the draws.

    Raises:
        ConfigError: the share is none.
    """

    share: float
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.share <= 1:
            raise ConfigError(f"occlusion is {self.share}, expected a share of the picture; set it between 0 and 1")

    def __call__(self, picture: np.ndarray, name: str) -> np.ndarray:
        """Cover a part of an (h, w, 3) uint8 picture of that name."""
        if self.share == 0:
            return picture
        return _run(KINDS["occlusion"], self.share, picture, 1.0, draws(name, "occlusion", self.seed))


def draws(name: str, kind: str, seed: int) -> np.random.Generator:
    """The source of draws that belongs to a picture, a kind and a seed."""
    digest = hashlib.blake2b(f"{seed}/{kind}/{name}".encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def _run(kind: Kind, level: object, picture: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    corrupted = kind.apply(picture.astype(np.float32) / 255, level, scale, rng)
    return np.rint(255 * corrupted.clip(0, 1)).astype(np.uint8)
