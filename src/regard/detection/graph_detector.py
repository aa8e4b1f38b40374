"""Detectors as ONNX or OpenVINO files, with a description beside them, ``FILE.onnx.yaml``, of what they see and make::

    color: rgb                 # or bgr
    scale: 255                 # what gray levels are divided by before mean and std; 1 leaves 0 to 255
    mean: [0, 0, 0]            # in the order red, green, blue
    std: [1, 1, 1]
    size: [640, 640]           # height, width; where the graph does not fix them
    layout: NCHW               # or NHWC; where the graph's shape does not tell
    fit: letterbox             # the picture keeps its form, with a border around it; or stretch
    border: 114                # gray level of the border (114)
    place: center              # of the picture in its border; or corner: the upper left one
    interpolation: bilinear    # how pictures are resized, antialiased; bicubic
    format: yolov8             # yolov5, yolov8, ssd, xyxy, xywh or cxcywh: how rows lie and boxes are said
    units: pixels              # of the input (size); or fractions of it
    score: 4                   # column of the score; or ``scores: NAME`` of the output that holds it
    class: 5                   # column of the class; or ``labels: NAME``; neither: all are people
    classes: 5                 # or the column from which on each class has a score of its own
    person: 0                  # number of the class of people
    min_score: 0.5             # lowest score of a box that is kept
    overlap: 0.45              # part of two boxes from which on the less sure one goes; without it the graph did that
    output: NAME               # of the boxes, where there are several

``yolov5`` is (1, N, 5 + classes), ``yolov8`` (1, 4 + classes, N), both of boxes (center x, center y, width, height) in
pixels, with people as class 0 and an overlap of 0.45; ``ssd`` is (1, 1, N, 7) of (picture, class, score, x0, y0, x1,
y1) in fractions, with people as class 1. The others are (N, columns) or (1, N, columns) that begin with the box.

Shapes: H x W pixels of a picture, h x w of the network's input, N rows of its output.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from regard.data.boxes import in_fractions
from regard.data.resizing import resize
from regard.errors import CheckpointError, ConfigError, is_whole, shown
from regard.fingerprint import bytes_digest
from regard.models.graph_file import Graph, View, graph_content, open_graph, read_beside, runtime_of, view_of
from regard.wording import one_line

__all__ = ["GraphDetector", "suppressed"]

EXAMPLE = "color: rgb, scale: 255, mean: [0, 0, 0], std: [1, 1, 1], size: [640, 640], fit: letterbox, format: yolov8"
PAGE = "docs/how-to/scenes.md"

Format = Literal["yolov5", "yolov8", "ssd", "xyxy", "xywh", "cxcywh"]

CHOICES: dict[str, tuple[Any, ...]] = {
    "fit": ("letterbox", "stretch"), "place": ("center", "corner"), "interpolation": ("bilinear", "bicubic"),
    "format": get_args(Format), "units": ("pixels", "fractions"),
}  # fmt: skip
COLUMNS = ("score", "class", "classes", "person", "border")
PARTS = ("min_score", "overlap")
NAMES = ("output", "scores", "labels")
KEYS = ("color", "scale", "mean", "std", "size", "layout", *CHOICES, *COLUMNS, *PARTS, *NAMES)

SAID: dict[str, dict[str, Any]] = {
    "yolov5": {"score": 4, "classes": 5, "person": 0, "overlap": 0.45, "units": "pixels"},
    "yolov8": {"classes": 4, "person": 0, "overlap": 0.45, "units": "pixels"},
    "ssd": {"score": 2, "class": 1, "person": 1, "units": "fractions"},
}
"""What a format says by itself; a description may say otherwise."""

MAX_SIDE = 8192
"""Pixels of the input's sides."""

MOST_KEPT = 1001
"""Boxes after which no more are looked at for overlaps: one more than may be of one picture."""


class GraphDetector:
    """A detector in a file.

    Args:
        path: of the graph, its description beside it.

    Attributes:
        digest: of graph and description.
        min_score: that the description asks for.

    Raises:
        ConfigError: the description is missing, incomplete, or says something else than the graph.
        CheckpointError: the file cannot be read, or makes nothing of that form.
    """

    def __init__(self, path: Path):
        files = graph_content(path)
        told, text = read_beside(path, None, EXAMPLE, PAGE)
        self._source = str(path)
        self._graph = open_graph(runtime_of(path), files, source=self._source)
        self._told = _checked(told, self._source)
        self._view = view_of(told, self._graph, self._source, EXAMPLE)
        size, batch = self._view.size, self._view.batch
        if not all(is_whole(side) and 1 <= side <= MAX_SIDE for side in size) or batch not in (None, 1):
            raise ConfigError(
                f"{path} sees {batch or 1} of {size[0]} x {size[1]} pixels, wanted 1 picture at a time of {MAX_SIDE:,} "
                "pixels a side at most; export it so"
            )
        self._outputs = _outputs(self._told, self._graph, self._source)
        self.min_score = self._told["min_score"]
        self.digest = bytes_digest(b"\0".join([text.encode(), *files]))
        self(np.zeros((8, 4, 3), np.uint8))

    def __call__(self, picture: np.ndarray, /) -> np.ndarray:
        """Find people in (H, W, 3) uint8; (N, 5)."""
        seen, shift, ratio = fitted(picture, self._view.size, self._told)
        x = as_input(seen, self._view)
        try:
            found = [np.asarray(each, np.float64) for each in self._graph.run(x, self._outputs)]
        except Exception as error:  # the runtimes raise types of their own
            raise CheckpointError(f"{self._source} does not compute a picture ({one_line(error)})") from error
        with np.errstate(all="ignore"):  # numbers that are none are no boxes, whoever made them
            boxes, scores = self._people(found)
            if self._told["units"] == "pixels" and in_fractions(boxes[scores >= self.min_score]):
                raise ConfigError(
                    f"{self._source} makes boxes from 0 to 1, and its description says units: pixels; say units: "
                    "fractions"
                )
            if self._told["units"] == "fractions":
                boxes = boxes * np.tile(self._view.size[::-1], 2)
            boxes = (boxes - np.tile(shift, 2)) / np.tile(ratio, 2)
            people = np.concatenate([boxes, scores[:, None]], 1)
            return people if self._told["overlap"] is None else suppressed(people, self._told["overlap"])

    def _people(self, found: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (N, 4) as corners, in the units of the output, and scores (N,), of the people the outputs speak of."""
        told, rows = self._told, rows_of(found[0], self._told["format"], self._source)
        extra = {name: each.reshape(-1) for name, each in zip([n for n in NAMES[1:] if told[n]], found[1:])}
        if wrong := next((name for name, each in extra.items() if len(each) != len(rows)), None):
            raise CheckpointError(
                f"{self._source} makes {len(rows):,} boxes and {len(extra[wrong]):,} {wrong}; name other outputs"
            )
        at = {key: column(rows, told[key], key, self._source) for key in ("score", "class") if told[key] is not None}
        score = extra.get("scores", at.get("score", np.ones(len(rows))))
        kind = extra.get("labels", at.get("class"))
        if told["classes"] is not None:
            score = score * column(rows, told["classes"] + told["person"], "classes", self._source)
        keep = score >= self.min_score if told["overlap"] is not None else np.ones(len(rows), bool)
        if kind is not None:
            keep &= kind == told["person"]
        if told["format"] == "ssd":
            ends = np.flatnonzero(rows[:, 0] < 0)
            keep &= np.arange(len(rows)) < (ends[0] if len(ends) else len(rows))
        first = 3 if told["format"] == "ssd" else 0
        return corners(rows[keep, first : first + 4], told["format"]), score[keep]


def _checked(told: Mapping[str, Any], source: str) -> dict[str, Any]:
    """A description with what its format says, and None where nothing is said.

    Raises:
        ConfigError: it has another key, or a value that none can be.
    """
    whose = f"the description of {source}"
    if unknown := [key for key in told if key not in KEYS]:
        raise ConfigError(f"{whose} says {unknown[0]!r}, wanted {', '.join(KEYS)}")
    usual = {"border": 114, "place": "center", "interpolation": "bilinear", "min_score": 0.5}
    kind = told.get("format")
    whole: dict[str, Any] = (
        dict.fromkeys(KEYS) | usual | SAID.get(kind if isinstance(kind, str) else "", {}) | dict(told)
    )
    for key, choices in CHOICES.items():
        if whole[key] not in choices:
            raise ConfigError(f"{whose} says {key}: {shown(whole[key])}, wanted {' or '.join(map(str, choices))}")
    for key in COLUMNS:
        if whole[key] is not None and not (is_whole(whole[key]) and 0 <= whole[key] <= 100_000):
            raise ConfigError(f"{whose} says {key}: {shown(whole[key])}, wanted a whole number from 0")
    for key in PARTS:
        number = whole[key]
        if number is not None and (
            isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 1
        ):
            raise ConfigError(f"{whose} says {key}: {shown(number)}, wanted a number from 0 to 1")
    for key in NAMES:
        if whole[key] is not None and not isinstance(whole[key], str):
            raise ConfigError(f"{whose} says {key}: {shown(whole[key])}, wanted an output's name")
    has_classes = any(whole[key] is not None for key in ("class", "classes", "labels"))
    if has_classes and whole["person"] is None:
        raise ConfigError(f"{whose} does not say which class people are; say person: NUMBER")
    if whole["border"] > 255:
        raise ConfigError(f"{whose} says border: {whole['border']}, wanted a gray level, 0 to 255")
    return whole


def _outputs(told: Mapping[str, Any], graph: Graph, source: str) -> list[str]:
    """Names of the outputs that are read: boxes, then scores and labels where they stand apart.

    Raises:
        ConfigError: there is none of such a name, or several and none is named.
    """
    there = [port.name for port in graph.outputs]
    wanted = [told["output"] or there[0], *(told[name] for name in NAMES[1:] if told[name])]
    if (told["output"] is None and len(there) > 1) or not set(wanted) <= set(there):
        raise ConfigError(
            f"{source} has the outputs {', '.join(there)}, and its description names "
            f"{', '.join(wanted) if told['output'] else 'none for boxes'}; say output: NAME"
        )
    return wanted


def fitted(
    picture: np.ndarray, size: tuple[int, int], told: Mapping[str, Any]
) -> tuple[np.ndarray, tuple[int, int], tuple[float, float]]:
    """A picture as it lies in the network's input.

    Args:
        picture: (H, W, 3) uint8.
        size: h and w.
        told: fit, place, border and interpolation.

    Returns:
        (h, w, 3) uint8; x and y of its upper left corner in it; by how much its width and height were multiplied, which
        is not quite the same of both, since it has whole pixels.
    """
    (height, width), (high, wide) = picture.shape[:2], size
    left = top = 0
    if told["fit"] == "letterbox":
        ratio = min(high / height, wide / width)
        inner = max(round(height * ratio), 1), max(round(width * ratio), 1)
        seen = np.full((high, wide, 3), told["border"], np.uint8)
        if told["place"] == "center":
            top, left = (high - inner[0]) // 2, (wide - inner[1]) // 2
        small = resize(picture, *inner, interpolation=told["interpolation"])
        seen[top : top + inner[0], left : left + inner[1]] = small
    else:
        inner, seen = size, resize(picture, high, wide, interpolation=told["interpolation"])
    return seen, (left, top), (inner[1] / width, inner[0] / height)


def as_input(seen: np.ndarray, view: View) -> np.ndarray:
    """(h, w, 3) uint8 RGB as a batch of one, as the graph sees it."""
    mean, std = np.array(view.mean, np.float32), np.array(view.std, np.float32)
    x = seen if view.kind == "uint8" else (seen / np.float32(view.scale) - mean) / std
    x = x[..., ::-1] if view.color == "bgr" else x
    x = x.transpose(2, 0, 1) if view.layout == "NCHW" else x
    return np.ascontiguousarray(x[None], view.kind)


def rows_of(found: np.ndarray, kind: str, source: str) -> np.ndarray:
    """An output as (N, columns), a row a box.

    Raises:
        CheckpointError: it has another shape.
    """
    rows = found
    while rows.ndim > 2 and len(rows) == 1:
        rows = rows[0]
    if kind == "yolov8" and rows.ndim == 2:
        rows = rows.T
    least = {"ssd": 7, "yolov5": 6, "yolov8": 5}.get(kind, 4)
    if found.size == 0:
        return np.empty((0, 100_001))
    if rows.ndim != 2 or rows.shape[1] < least:
        wanted = {"yolov8": "(1, 4 + classes, N)", "ssd": "(1, 1, N, 7)"}.get(kind, f"(1, N, {least} or more)")
        raise CheckpointError(
            f"{source} makes {found.shape}, wanted {wanted} for format: {kind}; describe what it makes"
        )
    return rows


def column(rows: np.ndarray, number: int, key: str, source: str) -> np.ndarray:
    """A column of the rows.

    Raises:
        ConfigError: there are not as many.
    """
    if number >= rows.shape[1]:
        raise ConfigError(
            f"the description of {source} says {key}: column {number}, and it makes {rows.shape[1]} columns"
        )
    return rows[:, number]


def corners(boxes: np.ndarray, kind: str) -> np.ndarray:
    """(N, 4) boxes of a format as x0, y0, x1, y1."""
    if kind in ("ssd", "xyxy"):
        return boxes
    first, size = boxes[:, :2], boxes[:, 2:]
    first = first if kind == "xywh" else first - size / 2
    return np.concatenate([first, first + size], 1)


def suppressed(people: np.ndarray, overlap: float) -> np.ndarray:
    """Boxes without those that a surer one covers: greedy non-maximum suppression.

    Args:
        people: (N, 5) corners and score.
        overlap: intersection over union above which the less sure one goes.

    Returns:
        Those that are left, the surest first; a thousand and one of more.
    """
    rest = people[np.argsort(-people[:, 4], kind="stable")]
    kept: list[np.ndarray] = []
    while len(rest) and len(kept) < MOST_KEPT:
        best, rest = rest[0], rest[1:]
        kept.append(best)
        inner = np.maximum(np.minimum(rest[:, 2:4], best[2:4]) - np.maximum(rest[:, :2], best[:2]), 0).prod(1)
        areas = (rest[:, 2:4] - rest[:, :2]).prod(1) + (best[2:4] - best[:2]).prod()
        rest = rest[~(inner > overlap * (areas - inner))]
    return np.stack(kept) if kept else people[:0]
