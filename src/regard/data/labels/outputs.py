"""What networks of other makers say of joints and masks, read by a description.

Shapes: h x w pixels of the picture, H x W of the canvas a network saw it on, g x v of its maps, K points, C channels.

A description says ``joints``, ``mask`` or both::

    joints:
      kind: heatmaps            # (K, g, v); simcc: (K, columns) and (K, rows); coordinates: (K, numbers)
      output: heatmaps          # its name, of simcc two; may stay out where there is one alone
      order: coco17             # mediapipe33, halpe26, wholebody133, or a list of the 17 names and null
      scores: probabilities     # or logits: what tells how sure a point is
      columns: [x, y, score]    # of coordinates: x, y, null, and what counts: score, visibility, presence
      unit: pixels              # of coordinates: of the canvas, counted from its edge; or fractions of it
      channels: first           # of heat maps: whether the K come before g and v or behind them: last
    mask:
      kind: probabilities       # or logits, of one channel; or classes: the strongest of C channels, or their numbers
      output: mask
      channel: 0                # of probabilities and logits where there are several
      threshold: 0.5            # probability from which a pixel is the person's
      person: 15                # of classes: the person's, one or a list
      background: 0             # of classes: or those that are not the person's
      channels: first
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from regard.data.labels.canvas import Canvas
from regard.data.labels.joints import BLAZEPOSE, JOINTS, find_peaks
from regard.data.labels.teacher import in_fractions, in_our_order
from regard.errors import ConfigError, DataError, check_choice, is_whole, nearest, shown

__all__ = ["ORDERS", "JointReader", "MaskReader"]

Axis = Literal["first", "last"]
Scores = Literal["probabilities", "logits"]
JointKind = Literal["heatmaps", "simcc", "coordinates"]
MaskKind = Literal["probabilities", "logits", "classes"]
Unit = Literal["pixels", "fractions"]

ORDERS: dict[str, tuple[str | None, ...]] = {
    "coco17": JOINTS,
    "mediapipe33": BLAZEPOSE,
    "mediapipe39": (*BLAZEPOSE, *(None,) * 6),
    "halpe26": (*JOINTS, *(None,) * 9),
    "wholebody133": (*JOINTS, *(None,) * 116),
}
"""Orders of points by name -> which of the 17 joints each is."""

SURE = ("score", "visibility", "presence")
MOST_POINTS, MOST_CLASSES = 1000, 100_000

ROUNDING = 1e-2
"""What rounding may put a mask's probability beyond 0 and 1, in half precision, too."""

HIGH = 2.0
"""Score above which one is no probability: peaks of heat maps, which learned to be 1, may be a little higher."""

IN_PIXELS = 10.0
"""Sides of the canvas that half of the points are away, both ways, where they are pixels and not fractions."""


@dataclass(frozen=True, slots=True)
class JointReader:
    """Reads joints; see the file's text.

    Raises:
        ConfigError: a part of the description is missing or wrong.
    """

    kind: JointKind
    order: tuple[str | None, ...]
    outputs: tuple[str, ...] = ()
    scores: Scores = "probabilities"
    columns: tuple[str | None, ...] = ("x", "y", "score")
    unit: Unit = "pixels"
    channels: Axis = "first"

    @classmethod
    def told(cls, told: Any, channels: Axis, source: str) -> JointReader:
        """Read what a description says under ``joints``.

        Args:
            told: it.
            channels: where they are unless it says.
            source: what to call the description in an error.
        """
        name = f"joints in {source}"
        says = _mapping(told, name, ("kind", "output", "order", "scores", "columns", "unit", "channels"))
        kind: Any = says.get("kind")
        check_choice(f"kind of {name}", kind, JointKind)
        for key, choices in (("scores", Scores), ("unit", Unit), ("channels", Axis)):
            if key in says:
                check_choice(f"{key} of {name}", says[key], choices)
        wanted = {"coordinates": ("columns", "unit"), "heatmaps": ("channels",)}.get(kind, ())
        _only(says, {"columns", "unit", "channels"}, wanted, f"{kind} of {name}")
        columns = says.get("columns", ["x", "y", "score"])
        if not isinstance(columns, list) or any(columns.count(axis) != 1 for axis in "xy"):
            raise ConfigError(f"columns of {name} are {shown(columns)}, wanted a list with x and y in it")
        if bad := [one for one in columns if one not in ("x", "y", *SURE, None)]:
            raise ConfigError(f"columns of {name} hold {shown(bad[0])}, wanted x, y, {', '.join(SURE)} or null")
        if len(found := [one for one in columns if one]) != len(set(found)) or len(columns) > MOST_POINTS:
            raise ConfigError(f"columns of {name} are {shown(columns)}, wanted each name once")
        outputs = _names(says.get("output"), name)
        if kind == "simcc" and len(outputs) != 2:
            raise ConfigError(f"output of {name} is {shown(says.get('output'))}, wanted [OF COLUMNS, OF ROWS] of simcc")
        if kind != "simcc" and len(outputs) > 1:
            raise ConfigError(f"output of {name} is {shown(outputs)}, wanted one name")
        return cls(
            kind, _order(says.get("order"), name), outputs, says.get("scores", "probabilities"), tuple(columns),
            says.get("unit", "pixels"), says.get("channels", channels),
        )  # fmt: skip

    def read(self, arrays: Sequence[np.ndarray], canvas: Canvas) -> np.ndarray:
        """Joints of one picture.

        Args:
            arrays: the outputs, without the axis of the batch.
            canvas: where the picture lay.

        Returns:
            (17, 3) x and y in pixels of the picture, and a score from 0 to 1, which is 0 outside of it.

        Raises:
            ConfigError: the arrays have another shape than was said.
            DataError: they hold what is no number.
        """
        points, scores = getattr(self, f"_{self.kind}")(arrays, canvas.size)
        if not (np.isfinite(points).all() and np.isfinite(scores).all()):
            raise DataError("the teacher's joints are no numbers")
        joints = np.zeros((len(points), 3))
        joints[:, :2], joints[:, 2] = canvas.points_back(points), scores.clip(0, 1)
        height, width = canvas.picture
        x, y = joints[:, 0], joints[:, 1]
        joints[(x < -0.5) | (y < -0.5) | (x >= width - 0.5) | (y >= height - 0.5), 2] = 0
        return in_our_order(joints, self.order)

    def _heatmaps(self, arrays: Sequence[np.ndarray], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        maps = arrays[0] if self.channels == "first" or arrays[0].ndim != 3 else np.moveaxis(arrays[0], -1, 0)
        if maps.ndim != 3 or len(maps) != len(self.order):
            raise self._refusal(arrays, f"a map (rows, columns) for each, channels {self.channels}")
        points, heights = find_peaks(maps)
        return (points + 0.5) * (np.array(size[::-1]) / maps.shape[:0:-1]), self._sure(heights)

    def _simcc(self, arrays: Sequence[np.ndarray], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        if any(array.ndim != 2 or len(array) != len(self.order) or not array.size for array in arrays):
            raise self._refusal(arrays, "a row of numbers for each, twice")
        places = [(array.argmax(1) + 0.5) * (length / array.shape[1]) for array, length in zip(arrays, size[::-1])]
        return np.stack(places, 1), self._sure(np.minimum(*(array.max(1) for array in arrays)))

    def _coordinates(self, arrays: Sequence[np.ndarray], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        if arrays[0].size != len(self.order) * len(self.columns):
            raise self._refusal(arrays, f"{len(self.columns)} numbers ({', '.join(map(str, self.columns))}) for each")
        rows = arrays[0].reshape(len(self.order), -1).astype(np.float64)
        points = rows[:, [self.columns.index("x"), self.columns.index("y")]]
        sure = [self._sure(rows[:, self.columns.index(name)]) for name in SURE if name in self.columns]
        if self.unit == "pixels" and in_fractions(points, size):
            raise DataError("the output for joints is of points from 0 to 1, wanted pixels; say unit: fractions")
        if self.unit == "fractions" and np.isfinite(points).all() and (np.median(abs(points), 0) > IN_PIXELS).all():
            raise ConfigError(
                f"the output for joints is of points such as {points[0, 0]:g}, {points[0, 1]:g}, wanted fractions from "
                "0 to 1; say unit: pixels"
            )
        return points * (np.array(size[::-1]) if self.unit == "fractions" else 1), np.prod(
            [np.ones(len(rows)), *sure], 0
        )

    def _sure(self, numbers: np.ndarray) -> np.ndarray:
        if self.scores == "logits":
            return sigmoid(numbers)
        if self.kind != "simcc" and (np.asarray(numbers) > HIGH).any():  # whose makers take what there is for scores
            raise ConfigError(
                f"the output for joints tells how sure they are by numbers up to {np.max(numbers):g}, wanted 0 to 1; "
                "say scores: logits, or export what is from 0 to 1"
            )
        return np.asarray(numbers, np.float64)

    def _refusal(self, arrays: Sequence[np.ndarray], wanted: str) -> ConfigError:
        got = " and ".join(str(array.shape) for array in arrays)
        return ConfigError(
            f"the output for joints is {got} for a picture, wanted {self.kind} of {len(self.order)} points: {wanted}; "
            "correct the description"
        )


@dataclass(frozen=True, slots=True)
class MaskReader:
    """Reads a mask; see the file's text.

    Raises:
        ConfigError: a part of the description is missing or wrong.
    """

    kind: MaskKind
    outputs: tuple[str, ...] = ()
    channel: int | None = None
    threshold: float = 0.5
    classes: tuple[int, ...] = ()
    others: bool = False
    channels: Axis = "first"

    @classmethod
    def told(cls, told: Any, channels: Axis, source: str) -> MaskReader:
        """Read what a description says under ``mask``; see :meth:`JointReader.told`."""
        name = f"mask in {source}"
        says = _mapping(told, name, ("kind", "output", "channel", "threshold", "person", "background", "channels"))
        kind: Any = says.get("kind")
        check_choice(f"kind of {name}", kind, MaskKind)
        if "channels" in says:
            check_choice(f"channels of {name}", says["channels"], Axis)
        given = [key for key in ("person", "background") if key in says]
        wanted = ("person", "background") if kind == "classes" else ("channel", "threshold")
        _only(says, {"person", "background", "channel", "threshold"}, wanted, f"{kind} of {name}")
        if kind == "classes" and len(given) != 1:
            raise ConfigError(f"{name} says {' and '.join(given) or 'no class'}, wanted person: NUMBER or background")
        numbers = says[given[0]] if given else []
        numbers = numbers if isinstance(numbers, list) else [numbers]
        channel, threshold = says.get("channel"), says.get("threshold", 0.5)
        for number in [*numbers, *([] if channel is None else [channel])]:
            if not is_whole(number) or not 0 <= number < MOST_CLASSES:
                raise ConfigError(f"{name} says the number {shown(number)}, wanted one from 0 up")
        if given and not numbers:
            raise ConfigError(f"{given[0]} of {name} is an empty list, wanted the numbers of classes")
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold < 1:
            raise ConfigError(f"threshold of {name} is {shown(threshold)}, wanted a probability between 0 and 1")
        outputs = _names(says.get("output"), name)
        if len(outputs) > 1:
            raise ConfigError(f"output of {name} is {shown(outputs)}, wanted one name")
        return cls(
            kind, outputs, channel, float(threshold), tuple(numbers), given == ["background"],
            says.get("channels", channels),
        )  # fmt: skip

    def read(self, array: np.ndarray, canvas: Canvas) -> np.ndarray:
        """The mask of one picture.

        Args:
            array: the output, without the axis of the batch: (C, g, v), (g, v, C) or (g, v).
            canvas: where the picture lay.

        Returns:
            (h, w) uint8, 255 on the person and 0 elsewhere.

        Raises:
            ConfigError: the array has another shape than was said.
            DataError: it holds what is no number.
        """
        maps = array[None] if array.ndim == 2 else array
        if maps.ndim == 3 and array.ndim == 3 and self.channels == "last":
            maps = np.moveaxis(maps, -1, 0)
        if maps.ndim != 3 or not maps.size or (self.kind != "classes" and self.channel is None and len(maps) > 1):
            more = "; say channel: NUMBER" if maps.ndim == 3 and len(maps) > 1 else ""
            raise ConfigError(f"the output for masks is {array.shape} for a picture, wanted one map{more}")
        last = max([*self.classes, self.channel or 0])
        if last >= len(maps) > 1 or (self.channel or 0) >= len(maps):
            raise ConfigError(f"the output for masks has {len(maps)} channels, {self.channels}; there is no {last}")
        if not np.isfinite(maps).all():
            raise DataError("the teacher's mask holds what is no number")
        person = canvas.map_back(self._person(maps)) >= self.threshold
        return person.view(np.uint8) * np.uint8(255)

    def _person(self, maps: np.ndarray) -> np.ndarray:
        """(g, v) shares of the person from 0 to 1, of (C, g, v) numbers."""
        if self.kind != "classes":
            numbers = maps[self.channel or 0]
            if self.kind == "logits":
                return sigmoid(numbers)
            if numbers.min() < -ROUNDING or numbers.max() > 1 + ROUNDING:
                raise ConfigError(
                    f"the output for masks is of numbers from {numbers.min():g} to {numbers.max():g}, wanted "
                    "probabilities from 0 to 1; say kind: logits, or export what is from 0 to 1"
                )
            return numbers
        labels = maps[0].round() if len(maps) == 1 else maps.argmax(0)
        return (np.isin(labels, self.classes) != self.others).astype(np.float32)


def sigmoid(numbers: np.ndarray) -> np.ndarray:
    """Probabilities of logits."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(numbers, np.float64)))


def _mapping(told: Any, name: str, keys: Sequence[str]) -> Mapping[str, Any]:
    """What is said, checked for keys that nobody reads."""
    if not isinstance(told, dict):
        raise ConfigError(f"{name} is {shown(told)}, wanted a mapping with kind and output")
    if unknown := [str(key) for key in told if key not in keys]:
        raise ConfigError(f"{name} says {unknown[0]!r}{nearest(unknown[0], keys)}; wanted {', '.join(keys)}")
    return told


def _only(says: Mapping[str, Any], some: set[str], wanted: Sequence[str], what: str) -> None:
    """Refuse keys that mean something of another kind of output only."""
    if vain := sorted(key for key in some.intersection(says) if key not in wanted):
        raise ConfigError(f"{what}: {vain[0]} means nothing there; leave it out")


def _names(told: Any, name: str) -> tuple[str, ...]:
    """Names of outputs; none where nothing is said."""
    names = [] if told is None else told if isinstance(told, list) else [told]
    if not all(isinstance(one, str) for one in names):
        raise ConfigError(f"output of {name} is {shown(told)}, wanted the name of an output")
    return tuple(names)


def _order(told: Any, name: str) -> tuple[str | None, ...]:
    """Which of the 17 joints each point is.

    Raises:
        ConfigError: it names none, or one twice, or something that is none of the 17.
    """
    if isinstance(told, str) and told in ORDERS:
        return ORDERS[told]
    if not isinstance(told, list) or not 0 < len(told) <= MOST_POINTS:
        raise ConfigError(f"order of {name} is {shown(told)}, wanted {', '.join(ORDERS)}, or a list of names")
    for one in told:
        if one is not None and one not in JOINTS:
            near = nearest(str(one), JOINTS)
            raise ConfigError(
                f"order of {name} holds {shown(one)}{near}; wanted {', '.join(JOINTS)}, or null for others"
            )
    known = [one for one in told if one]
    if not known or len(known) != len(set(known)):
        raise ConfigError(f"order of {name} is {shown(told)}, wanted each of the joints it knows once")
    return tuple(told)
