"""Networks of other makers that find joints, masks or both on pictures of one person, for labels.

They are ONNX, TensorFlow Lite or OpenVINO files, computed by OpenVINO on the processor, several pictures at the same
time. A YAML or JSON file beside one, ``pose.onnx.yaml``, says what it sees, as of any graph, and what it makes::

    color: rgb                   # or bgr
    scale: 255                   # gray levels are divided by it, then mean and std
    mean: [0.485, 0.456, 0.406]
    std: [0.229, 0.224, 0.225]
    size: [256, 192]             # height, width; where the graph leaves them open
    layout: NCHW                 # or NHWC; where its shape does not tell
    interpolation: bilinear      # or bicubic
    fit: letterbox               # how a crop fills it: stretch, letterbox (a gray border), edge (its own, repeated)
    margin: 1.25                 # of letterbox and edge: how many times larger than the crop
    fill: 0                      # of letterbox: the gray
    licence: Apache-2.0          # of the weights
    joints: {kind: simcc, output: [simcc_x, simcc_y], order: coco17}
    mask: {kind: logits, output: mask}

What ``joints`` and ``mask`` say is in :mod:`regard.data.labels.outputs`. Some files are known and need none; see
:data:`PRESETS`.

Shapes: B pictures in a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from regard.data.labels.canvas import Canvas, Fit, lay_out
from regard.data.labels.outputs import Axis, JointReader, MaskReader
from regard.data.labels.teacher import Found, Teacher
from regard.errors import CheckpointError, ConfigError, DataError, check_choice, is_whole, nearest, shown
from regard.fingerprint import bytes_digest
from regard.input_spec import Interpolation
from regard.models.graph_file import Graph, View, graph_content, open_graph, read_beside, view_of
from regard.threads import usable_threads
from regard.wording import one_line

__all__ = ["ENDINGS", "PRESETS", "GraphTeacher", "open_teacher"]

ENDINGS = (".onnx", ".tflite", ".xml")

PRESETS: dict[str, dict[str, Any]] = {
    "mediapipe": {
        "color": "rgb", "scale": 255, "mean": [0, 0, 0], "std": [1, 1, 1], "fit": "edge", "margin": 1.15,
        "licence": "Apache-2.0",
        "joints": {
            "kind": "coordinates", "output": "Identity", "order": "mediapipe39", "scores": "logits",
            "columns": ["x", "y", None, "visibility", "presence"],
        },
        "mask": {"kind": "logits", "output": "Identity_2"},
    }
}  # fmt: skip
"""Files that need no description -> what they see and make. ``mediapipe``: pose_landmark_{lite,full,heavy}.tflite of
@mediapipe/pose; of its 39 points the first 33 are landmarks."""

SEEN = ("color", "scale", "mean", "std", "size", "layout", "interpolation", "fit", "margin", "fill", "licence")
EXAMPLE = (
    "color: rgb, scale: 255, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], fit: letterbox, "
    "joints: {kind: heatmaps, order: coco17}"
)
PAGE = "docs/how-to/labels.md"
MOST_AT_A_TIME, USUAL = 64, 4
"""Pictures that a graph may want at a time, and that one is given that takes any number."""

LARGEST_MARGIN = 4.0


@dataclass(frozen=True, slots=True)
class GraphTeacher:
    """A graph with what is said of it.

    Attributes:
        graph: opened.
        view: how it sees pictures.
        fit, margin, fill, interpolation: how a crop is laid on its canvas.
        joints, mask: what reads its outputs, with the names of these.
        licence: of the weights.
        digest: of the file.
    """

    graph: Graph
    view: View
    fit: Fit
    margin: float
    fill: int
    interpolation: Interpolation
    joints: JointReader | None
    mask: MaskReader | None
    licence: str
    digest: str

    def teacher(self, *, joints: bool = True, mask: bool = True) -> Teacher:
        """What labels are made with: joints, masks, or both in one pass, of those that it finds."""
        only = replace(self, joints=self.joints if joints else None, mask=self.mask if mask else None)
        return Teacher(only.find, self.view.batch or USUAL, usable_threads())

    def find(self, pictures: Sequence[np.ndarray]) -> list[Found]:
        """What is on each picture, (h, w, 3) uint8; several threads may ask.

        Raises:
            CheckpointError: the graph does not compute.
            ConfigError: it makes something else than was said.
            DataError: it makes what is no number.
        """
        laid = [
            lay_out(
                picture, self.view.size, self.fit, margin=self.margin, fill=self.fill, interpolation=self.interpolation
            )
            for picture in pictures
        ]
        joints = self.joints.outputs if self.joints else ()
        names = list(dict.fromkeys([*joints, *(self.mask.outputs if self.mask else ())]))
        step = self.view.batch or len(laid)
        found: list[Found] = []
        for start in range(0, len(laid), step):
            some = laid[start : start + step]
            arrays = dict(zip(names, self._run([picture for picture, _ in some], names)))
            found += [
                self._read({name: array[number] for name, array in arrays.items()}, canvas)
                for number, (_, canvas) in enumerate(some)
            ]
        return found

    def _run(self, pictures: list[np.ndarray], names: list[str]) -> list[np.ndarray]:
        """The outputs of those names, (B, ...) each; where the number is fixed, black pictures fill it up."""
        view = self.view
        x = np.zeros((view.batch or len(pictures), *view.size, 3), np.uint8)
        x[: len(pictures)] = pictures
        if view.kind != "uint8":
            x = (x / np.float32(view.scale) - np.array(view.mean, np.float32)) / np.array(view.std, np.float32)
        x = x[..., ::-1] if view.color == "bgr" else x
        x = x if view.layout == "NHWC" else x.transpose(0, 3, 1, 2)
        try:
            arrays = self.graph.run(np.ascontiguousarray(x, view.kind), names)
        except Exception as error:  # the runtime raises types of its own
            raise CheckpointError(f"the graph does not compute {x.shape} ({one_line(error)})") from error
        if any(array.ndim < 1 or len(array) != len(x) for array in arrays):
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise ConfigError(f"the graph makes {shapes} of {len(x)} pictures, wanted a part for each; export it again")
        return arrays

    def _read(self, arrays: Mapping[str, np.ndarray], canvas: Canvas) -> Found:
        return Found(
            self.joints.read([arrays[name] for name in self.joints.outputs], canvas) if self.joints else None,
            self.mask.read(arrays[self.mask.outputs[0]], canvas) if self.mask else None,
        )


def open_teacher(path: Path, preset: str | None = None, described: Path | None = None) -> GraphTeacher:
    """Open a network that finds joints or masks.

    Args:
        path: an ONNX or TensorFlow Lite file, or OpenVINO's ``.xml`` with its ``.bin`` beside it.
        preset: name of what is known of it; None: it is described.
        described: file that does; None: the one beside it.

    Raises:
        ConfigError: there is no such preset, or the description is missing, incomplete or says something else than the
            graph.
        CheckpointError: the file cannot be read.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"no preset is called {preset!r}{nearest(preset, PRESETS)}; known: {', '.join(PRESETS)}")
    if path.suffix not in ENDINGS:
        raise ConfigError(f"{path} ends in {path.suffix or 'nothing'}, wanted a file in {', '.join(ENDINGS)}")
    content = graph_content(path)
    told, text = (PRESETS[preset], "") if preset else read_beside(path, described, EXAMPLE, PAGE)
    source = preset or f"the description of {path}"
    keys = (*SEEN, "joints", "mask")
    if unknown := [str(key) for key in told if key not in keys]:
        raise ConfigError(f"{source} says {unknown[0]!r}{nearest(unknown[0], keys)}; wanted {', '.join(keys)}")
    if "joints" not in told and "mask" not in told:
        raise ConfigError(f"{source} says neither joints nor mask, so nothing of it can be read; {EXAMPLE} ({PAGE})")
    fitted = _fit(told, source)
    graph = open_graph("openvino", content, usable_threads(), str(path))
    view = view_of(told, graph, str(path), EXAMPLE)
    if view.batch is not None and not 1 <= view.batch <= MOST_AT_A_TIME:
        raise CheckpointError(f"{path} wants {view.batch:,} pictures at a time, more than {MOST_AT_A_TIME}")
    channels: Axis = "first" if view.layout == "NCHW" else "last"
    joints = JointReader.told(told["joints"], channels, source) if "joints" in told else None
    mask = MaskReader.told(told["mask"], channels, source) if "mask" in told else None
    made = GraphTeacher(
        graph, view, *fitted, _named(joints, graph, path), _named(mask, graph, path),
        str(told.get("licence", "unknown")), bytes_digest(b"".join([*content, text.encode()])),
    )  # fmt: skip
    _try(made, path)
    return made


def _fit(told: Mapping[str, Any], source: str) -> tuple[Fit, float, int, Interpolation]:
    """How a crop is laid on the canvas.

    Raises:
        ConfigError: it is not said, or said wrongly.
    """
    fit: Any = told.get("fit")
    way: Any = told.get("interpolation", "bilinear")
    check_choice(f"fit in {source}", fit, Fit)
    check_choice(f"interpolation in {source}", way, Interpolation)
    margin, fill = told.get("margin", 1.0), told.get("fill", 0)
    for key, of in (("margin", ("letterbox", "edge")), ("fill", ("letterbox",))):
        if key in told and fit not in of:
            raise ConfigError(f"{source} says {key}, which means nothing where fit is {fit}; leave it out")
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 1 <= margin <= LARGEST_MARGIN:
        raise ConfigError(f"margin in {source} is {shown(margin)}, wanted a number from 1 to {LARGEST_MARGIN:g}")
    if not is_whole(fill) or not 0 <= fill <= 255:
        raise ConfigError(f"fill in {source} is {shown(fill)}, wanted a gray level from 0 to 255")
    return fit, float(margin), fill, way


def _named(reader: Any, graph: Graph, path: Path) -> Any:
    """A reader that knows the names of its outputs.

    Raises:
        ConfigError: there is none of that name, or there are several and none is named.
    """
    names = [port.name for port in graph.outputs]
    if reader is None or (reader.outputs and all(name in names for name in reader.outputs)):
        return reader
    if reader.outputs or len(names) != 1:
        asked = ", ".join(reader.outputs) or "none"
        raise ConfigError(
            f"{path} has the outputs {', '.join(names)}, and {asked} of them is asked for; say output: NAME"
        )
    return replace(reader, outputs=(names[0],))


def _try(teacher: GraphTeacher, path: Path) -> None:
    """Look at a gray picture, so that what does not fit is said before any work is done.

    Raises:
        CheckpointError, ConfigError: it does not.
    """
    try:
        teacher.find([np.full((64, 32, 3), 128, np.uint8)])
    except CheckpointError as error:
        raise CheckpointError(f"{path}, tried on a gray picture: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}, tried on a gray picture: {error}") from error
    except DataError:
        return  # of that picture alone
