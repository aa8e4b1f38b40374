"""Descriptors of boxes in a frame: what a tracker asks of re-identification, of any network and by any engine.

Shapes: N boxes, h x w pixels of a frame, D descriptor length.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, Literal

import numpy as np

from regard.data.boxes import as_boxes, crops, in_fractions
from regard.data.resizing import TestTransform
from regard.errors import CheckpointError, ConfigError, DataError, RegardWarning, check_choice, check_kind, is_whole
from regard.export.engines import RUNS, Engine, EngineName
from regard.export.manifest import is_export, read_card
from regard.input_spec import known_input
from regard.models import ReIDModel, load
from regard.models.folder import FOREIGN, SCHEME, model_folder, read_description
from regard.models.foreign import import_graph
from regard.models.graph_file import refuse_shrunk
from regard.models.saved import model_config
from regard.storage import as_path

__all__ = ["Encoder"]

Color = Literal["rgb", "bgr"]
WANTED = "a run, a model or the folder of one, or an exported file"


class Encoder:
    """Makes the descriptors of boxes in frames, as ``regard embed`` makes those of the crops.

    Args:
        source: a run or its folder, a model, its folder or name, a file of ``regard export``, or an ``.onnx`` or
            ``.xml`` of another maker with a description beside it.
        engine: what computes, as of :func:`regard.export.open_engine`. A run's export is made at the first use and kept
            with it. "auto" computes with the network as it is where it cannot be exported.
        batch_size: crops at a time.

    Attributes:
        engine: name of what computes; "network" for the network as it is.
        dim: D.
        note: why the network as it is computes; empty where an engine does.

    Raises:
        ConfigError: the engine is not installed or does not take the source, or nothing says what the network sees.
        CheckpointError: there is no network, or it is damaged.

    >>> model = regard.create_model("baseline", num_ids=10, backbone="test_resnet.r160_in1k")
    >>> model.input = regard.InputSpec(64, 32)
    >>> encoder = regard.Encoder(model, "torch")
    >>> frame = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)
    >>> encoder(frame, [[10, 5, 40, 80], [-8, 20, 30, 200]]).shape
    (2, 96)
    """

    def __init__(
        self, source: ReIDModel | PathLike[str] | str, engine: EngineName = "auto", *, batch_size: int = 32
    ) -> None:
        check_choice("engine", engine, EngineName)
        if not is_whole(batch_size) or batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size!r}, wanted 1 or more crops at a time")
        self._batch, self._busy, self.note = int(batch_size), threading.Lock(), ""
        made = _opened(source, engine)
        if isinstance(made, Engine):
            self.engine, self.dim, self._embed = made.name, made.dim, _by_engine(made)
            return
        model, self.note = made
        known_input(model.input, whose=source if not isinstance(source, ReIDModel) else "the model")
        self.engine, self.dim = "network", model.embed_dim
        self._embed: Callable[[Sequence[np.ndarray]], np.ndarray] = model.embed_pictures

    def __repr__(self) -> str:
        return f"Encoder({self.engine}, D = {self.dim})"

    def __call__(self, frame: np.ndarray, boxes_xyxy: Any, color: Color = "bgr") -> np.ndarray:
        """Return the descriptors of boxes in a frame.

        Boxes are cut out by the rule of :mod:`regard.data.boxes`: what lies over the edge is cut off.

        Args:
            frame: (h, w, 3) uint8.
            boxes_xyxy: (N, 4), x0, y0, x1, y1 in pixels; of fractions it warns.
            color: order of the frame's channels; OpenCV's is "bgr".

        Returns:
            (N, D) float32 in the order of the boxes, each row of length 1; zeros for a box that is empty, one outside
            the frame or without a pixel, whose cosine to anything is 0.

        Raises:
            ConfigError: there is no such order.
            DataError: frame or boxes are of another shape or kind, or a descriptor is zero or not finite.
        """
        check_choice("color", color, Color)
        boxes = as_boxes(boxes_xyxy)
        if in_fractions(boxes):
            told = "boxes lie within the frame's first pixel, as fractions do; wanted pixels"
            warnings.warn(RegardWarning(f"{told}: multiply x by the width and y by the height"), stacklevel=2)
        return self._rows([crop if color == "rgb" else crop[..., ::-1] for crop in crops(frame, boxes)])

    def embed(self, pictures: Sequence[np.ndarray], color: Color = "rgb") -> np.ndarray:
        """Return the descriptors of crops that are cut out already, as of :meth:`__call__`.

        Args:
            pictures: (h, w, 3) uint8 each, of any size.
            color: order of their channels.
        """
        check_choice("color", color, Color)
        for picture in pictures:
            check_kind("picture", picture, np.ndarray, "an (h, w, 3) uint8 array")
            if picture.shape[2:] != (3,) or picture.dtype != np.uint8:
                raise DataError(f"got a picture {picture.shape} {picture.dtype}, wanted (h, w, 3) uint8; convert it")
        return self._rows([each if color == "rgb" else each[..., ::-1] for each in pictures])

    def _rows(self, pictures: list[np.ndarray]) -> np.ndarray:
        """(N, D) of RGB pictures, of which some may have no pixels."""
        out = np.zeros((len(pictures), self.dim), np.float32)
        there = [row for row, picture in enumerate(pictures) if picture.size]
        for start in range(0, len(there), self._batch):
            rows = there[start : start + self._batch]
            with self._busy:
                out[rows] = self._embed([pictures[row] for row in rows])
        return out


def _opened(source: Any, engine: EngineName) -> Engine | tuple[ReIDModel, str]:
    """The engine for a source; or the network itself, and why it computes."""
    from regard.export.opening import open_engine

    model: Any = source
    if not isinstance(source, ReIDModel):
        path = as_path("source", source, WANTED)
        if path.suffix in RUNS and not path.is_dir():
            if is_export(path):
                card = read_card(path)
                refuse_shrunk(path, card.shrink, card.made_for)
                return open_engine(path, engine, card.precision)
            if path.suffix == ".pt2" or not path.is_file():
                return open_engine(path, engine)
            model = import_graph(path)
        elif str(path).startswith(SCHEME) or read_description(model_folder(path)).get("model") == FOREIGN:
            model = load(path)
        else:
            model = path
    if isinstance(model, ReIDModel) and model_config(model)["model"] == FOREIGN:
        if engine not in ("auto", model.options["runtime"]):
            raise ConfigError(f"{source} is computed by {model.options['runtime']}, not by {engine}; leave engine out")
        return model, ""
    try:
        return open_engine(model, engine)
    except (ConfigError, CheckpointError) as error:
        if engine != "auto":
            raise
        return (model if isinstance(model, ReIDModel) else load(model).strip()), str(error)


def _by_engine(engine: Engine) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
    """What embeds RGB pictures of any size with an engine: (N, D) of length 1."""
    seen = engine.card.seen
    transform = TestTransform.of(seen)

    def embed(pictures: Sequence[np.ndarray]) -> np.ndarray:
        resized = np.empty((len(pictures), *seen.size, 3), np.uint8)
        for place, picture in zip(resized, pictures):
            transform(picture, out=place)
        vectors = engine.embed(resized, flip=seen.flip).astype(np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and lengths.all()):
            raise DataError("got a descriptor that is zero or not finite; check the picture and the model")
        return (vectors / lengths).astype(np.float32)

    return embed
