"""Graphs in files, ONNX's, OpenVINO's and TensorFlow Lite's: read whole, described by a text beside them, and opened on
the processor.

Shapes: B pictures in a batch.
"""

from __future__ import annotations

import io
import math
import os
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from regard.errors import CheckpointError, ConfigError, RegardError, require
from regard.parsing import parse_yaml
from regard.storage import read_regular
from regard.threads import usable_threads
from regard.wording import one_line

__all__ = [
    "MOST", "TYPES", "ColorOrder", "Graph", "Layout", "Runtime", "View", "graph_content", "onnx_session", "open_graph",
    "read_beside", "refuse_shrunk", "runtime_of", "view_of",
]  # fmt: skip

Runtime = Literal["onnxruntime", "openvino"]
Layout = Literal["NCHW", "NHWC"]
ColorOrder = Literal["rgb", "bgr"]

ENDINGS = (".yaml", ".yml", ".json")
"""Of a description, behind the whole name of the file that it lies beside."""

TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
TYPES |= {"f32": "float32", "f16": "float16", "u8": "uint8"}
"""What a runtime calls the kind of numbers that a graph takes -> NumPy's name."""

LITE = b"TFL3"
"""What stands behind the first four bytes of a TensorFlow Lite file."""

Three = tuple[float, float, float]
"""Of red, green and blue."""

NEAREST, FARTHEST = 0.1, 500.0
"""How far apart black and white may be as they go in; what is beyond is a description in two units: ImageNet's
deviation of fractions on gray levels makes 1,138, and that of gray levels on fractions 0.017."""

MOST = 2**31 - 1
"""Bytes of a graph: what a protobuf can hold."""

NOWHERE = str(Path(os.devnull) / "nowhere")
"""Where a graph finds no weights of its own: what it holds is all there is."""


class Port(NamedTuple):
    """An input or output of a graph; sides that are open are None."""

    name: str
    shape: tuple[int | None, ...] | None
    kind: str


class View(NamedTuple):
    """How a graph sees a picture.

    Attributes:
        size: height and width.
        color: order of the channels.
        layout: order of the axes.
        kind: of numbers that go in, as NumPy calls it.
        batch: pictures that have to go in at a time; None: any number.
        scale: what gray levels are divided by.
        mean, std: of the scaled levels, red, green, blue.
    """

    size: tuple[int, int]
    color: ColorOrder
    layout: Layout
    kind: str
    batch: int | None
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def axes(self) -> tuple[int, ...]:
        """A picture's shape as it goes in, without the batch."""
        height, width = self.size
        return (3, height, width) if self.layout == "NCHW" else (height, width, 3)


class Graph(NamedTuple):
    """A graph that a runtime has opened; ``run`` computes the outputs of the names it is given of one input."""

    inputs: list[Port]
    outputs: list[Port]
    run: Callable[[np.ndarray, Sequence[str]], list[np.ndarray]]


def runtime_of(path: Path) -> Runtime:
    """What computes the graph of a file."""
    return "openvino" if path.suffix == ".xml" else "onnxruntime"


def open_graph(runtime: Runtime, files: list[bytes], at_once: int = 1, source: str = "the graph") -> Graph:
    """Open a graph in its runtime, on the processor.

    Args:
        runtime: what computes; of TensorFlow Lite's files OpenVINO does.
        files: content of the ONNX or TensorFlow Lite file, or of OpenVINO's two.
        at_once: threads that ask it at the same time; they share those that may be used.
        source: what to call it in an error.

    Raises:
        ConfigError: the runtime is not installed.
        CheckpointError: it does not take the file.
    """
    library = require(runtime, "a network in this format", "export")
    try:
        return _onnx(library, files) if runtime == "onnxruntime" else _openvino(library, files, at_once)
    except RegardError:
        raise
    except Exception as error:  # the runtimes raise types of their own
        raise CheckpointError(f"{runtime} does not take {source} ({one_line(error)}); export it again") from error


def onnx_session(runtime: Any, content: bytes, threads: int | None = None) -> Any:
    """Open an ONNX file's content in ONNX Runtime, on the processor; it reads no other file.

    Args:
        runtime: the module ``onnxruntime``.
        content: of the file.
        threads: that it computes with; None: all that may be used.
    """
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or usable_threads()
    options.log_severity_level = 4  # what fails is raised, and said once
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # half the CPU time, no slower
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    if hasattr(session, "_model_bytes"):
        session._model_bytes = None  # it keeps the file beside the weights, for another provider to fall back to
    return session


def _onnx(runtime: Any, files: list[bytes]) -> Graph:
    session = onnx_session(runtime, files[0])
    inputs, outputs = (
        [Port(one.name, tuple(side if isinstance(side, int) else None for side in one.shape), one.type) for one in side]
        for side in (session.get_inputs(), session.get_outputs())
    )
    return Graph(inputs, outputs, lambda x, names: session.run(list(names), {inputs[0].name: x}))


def _openvino_model(core: Any, files: list[bytes]) -> Any:
    if len(files) == 2:
        return core.read_model(*files)
    if files[0][4:8] != LITE:
        return core.read_model(io.BytesIO(files[0]))
    core.set_property({"ENABLE_MMAP": False})
    with tempfile.TemporaryDirectory() as folder:  # it takes those as files alone
        place = Path(folder, "graph.tflite")
        place.write_bytes(files[0])
        return core.read_model(str(place))


def _openvino(runtime: Any, files: list[bytes], at_once: int) -> Graph:
    core = runtime.Core()
    model = _openvino_model(core, files)
    inputs, outputs = (
        [
            Port(
                next(iter(one.get_names()), one.node.get_friendly_name()),
                tuple(side.get_length() if side.is_static else None for side in one.partial_shape)
                if one.partial_shape.rank.is_static
                else None,
                one.element_type.get_type_name(),
            )
            for one in side
        ]
        for side in (model.inputs, model.outputs)
    )
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": usable_threads(), "NUM_STREAMS": at_once}
    network, own = core.compile_model(model, "CPU", settings), threading.local()
    places = {port.name: number for number, port in enumerate(outputs)}

    def run(x: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
        if not hasattr(own, "request"):
            own.request = network.create_infer_request()
        found = own.request.infer(x)
        return [np.array(found[places[name]]) for name in names]

    return Graph(inputs, outputs, run)


def refuse_shrunk(path: str | Path, shrink: int, made_for: str) -> None:
    """Refuse an exported graph that is fed larger pictures than the network sees, by ``regard export --antialias``.

    Args:
        path: the file.
        shrink: how many times as high and wide they are.
        made_for: name of the profile.

    Raises:
        ConfigError: it is one.
    """
    if shrink != 1:
        raise ConfigError(
            f"{path} was made with --antialias for {made_for}, which feeds it larger pictures, and would make other "
            "descriptors here; take the run it is of, or export it without"
        )


def graph_content(path: Path) -> list[bytes]:
    """Read a graph's file, and OpenVINO's weights beside it.

    Raises:
        CheckpointError: one cannot be read, or is larger than a graph can be.
    """
    paths = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    try:
        found = [read_regular(each) for each in paths]
    except OSError as error:
        beside = f"; copy the {path.stem}.bin that belongs to {path.name} beside it" if path.suffix == ".xml" else ""
        raise CheckpointError(f"cannot read {error.filename or path} ({error.strerror or error}){beside}") from error
    if max(map(len, found)) > MOST:
        raise CheckpointError(f"{path} has more than {MOST:,} bytes, which is more than an ONNX file can hold")
    return found if path.suffix in (".xml", ".tflite") else [_with_weights(path, found[0])]


def _with_weights(path: Path, content: bytes) -> bytes:
    """An ONNX file's content with the weights in it that it keeps in files beside it.

    Raises:
        CheckpointError: it is none, or a file it names is not there or not below its folder.
    """
    onnx: Any = require("onnx", "a network in this format", "export")
    from onnx.external_data_helper import load_external_data_for_model

    try:
        graph = onnx.load_model_from_string(content)
        before = graph.ByteSize()
        load_external_data_for_model(graph, str(path.parent.absolute()))
        return content if graph.ByteSize() == before else graph.SerializeToString()
    except Exception as error:  # protobuf and onnx raise types of their own
        raise CheckpointError(f"{path} is no ONNX file that is whole ({one_line(error)}); export it again") from error


def read_beside(path: Path, described: Path | None, example: str, page: str) -> tuple[dict[str, Any], str]:
    """Read what is said of a graph, and the text that says it.

    Args:
        path: of the graph.
        described: file that says it; None: the one beside it.
        example: of a description, in a line.
        page: of the documents that explains it.

    Raises:
        ConfigError: nothing is said, or no mapping.
    """
    beside = [path.with_name(path.name + ending) for ending in ENDINGS]
    place = described or next((each for each in beside if each.is_file()), None)
    if place is None:
        raise ConfigError(f"nothing says what {path} sees; write {beside[0].name} beside it: {example} ({page})")
    try:
        text = read_regular(place).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {place} ({error}); it is to hold {example}") from None
    told = parse_yaml(text, str(place))
    if not isinstance(told, dict):
        raise ConfigError(f"{place} holds {type(told).__name__}, wanted a mapping: {example}")
    return told, text


def view_of(told: Mapping[str, Any], graph: Graph, source: str, example: str) -> View:
    """How a graph sees a picture, by its description and its own shape, which have to agree.

    Args:
        told: the description: color, and scale, mean, std, size and layout where the graph leaves them open.
        graph: it.
        source: what to call it in an error.
        example: of a description.

    Raises:
        ConfigError: they do not agree, or something is left open.
        CheckpointError: it takes something else than pictures in color.
    """
    port = graph.inputs[0] if len(graph.inputs) == 1 else Port("", (), "")
    if not graph.outputs or port.kind not in TYPES or (port.shape is not None and len(port.shape) != 4):
        inputs = ", ".join(f"{one.name} {one.shape} {one.kind}" for one in graph.inputs) or "nothing"
        raise CheckpointError(f"{source} takes {inputs}; wanted one input, (B, 3, H, W) or (B, H, W, 3) of numbers")
    layout = _layout(told.get("layout"), port, source)
    fixed = [port.shape[side] if port.shape else None for side in ((2, 3) if layout == "NCHW" else (1, 2))]
    size = told.get("size", fixed)
    if not isinstance(size, list) or len(size) != 2:
        raise ConfigError(f"the description of {source} says size: {size!r}, wanted size: [HEIGHT, WIDTH]")
    if None in size:
        raise ConfigError(f"{source} leaves the size of its pictures open; describe it: size: [HEIGHT, WIDTH]")
    if any(known not in (None, given) for known, given in zip(fixed, size)):
        raise ConfigError(f"{source} takes pictures of {fixed[0]} x {fixed[1]}, and its description says {size}")
    if told.get("color") not in ("rgb", "bgr"):
        raise ConfigError(f"the description of {source} says color: {told.get('color')!r}, wanted rgb or bgr")
    given = [key for key in ("scale", "mean", "std") if key in told]
    if (whole := TYPES[port.kind] == "uint8") and given:
        raise ConfigError(f"{source} takes gray levels and normalizes them itself; leave out {', '.join(given)}")
    if not whole and len(given) < 3:
        wanted = next(key for key in ("scale", "mean", "std") if key not in told)
        raise ConfigError(f"the description of {source} does not say {wanted}; it wants {example}")
    numbers = _pixels(told, source) if given else (1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    batch = port.shape[0] if port.shape else None
    return View((size[0], size[1]), told["color"], layout, TYPES[port.kind], batch, *numbers)


def _pixels(told: Mapping[str, Any], source: str) -> tuple[float, Three, Three]:
    """Scale, mean and deviation, which have to be of one unit: gray levels, or fractions of white.

    Raises:
        ConfigError: they are no such numbers, or of two units, by what black and white become: a mean beyond white,
            or black and white nearer than 0.1 or farther apart than 500.
    """
    scale, mean, std = told["scale"], _three("mean", told["mean"]), _three("std", told["std"])
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < 1e6:
        raise ConfigError(f"the description of {source} says scale: {scale!r}, wanted 255, or 1 for gray levels")
    if not all(0 < each < math.inf for each in std):
        raise ConfigError(f"std in the description of {source} is {list(std)}, wanted three numbers above 0")
    white = 255 / scale
    if not all(0 <= each <= white for each in mean):
        raise ConfigError(
            f"the description of {source} says mean: {list(mean)} of levels divided by {scale:g}, wanted 0 to "
            f"{white:g}; say scale: 1 where mean and std are gray levels, 255 where they are fractions"
        )
    spread = [white / each for each in std]
    if min(spread) < NEAREST or max(spread) > FARTHEST:
        wrong = min(spread) if min(spread) < NEAREST else max(spread)
        raise ConfigError(
            f"by the description of {source} black and white are {wrong:.4g} apart (scale {scale:g}, std {list(std)}), "
            f"wanted {NEAREST:g} to {FARTHEST:g}: 1 for fractions, 255 for gray levels, 4.4 for ImageNet's std of "
            "fractions; say scale: 1 where mean and std are gray levels, 255 where they are fractions"
        )
    return scale, mean, std


def _three(name: str, values: Any) -> tuple[float, float, float]:
    """Three numbers, of red, green and blue."""
    if (
        not isinstance(values, list)
        or len(values) != 3
        or not all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)
    ):
        raise ConfigError(f"{name} is {values!r}, wanted three numbers, of red, green and blue")
    red, green, blue = values
    return red, green, blue


def _layout(told: Any, port: Port, source: str) -> Layout:
    """The order of the axes of pictures, by the shape of the input where it tells.

    Raises:
        ConfigError: it does not, and nothing else does, or they differ.
        CheckpointError: no axis is color.
    """
    shape = port.shape or (None,) * 4
    sides: dict[Layout, int] = {"NCHW": 1, "NHWC": 3}
    can: list[Layout] = [name for name, side in sides.items() if shape[side] in (3, None)]
    sure: list[Layout] = [name for name in can if shape[sides[name]] == 3]
    if told is None and len(sure) == 1:
        return sure[0]
    if not can:
        raise CheckpointError(f"{source} takes {port.shape}, wanted pictures of 3 colors: (B, 3, H, W) or (B, H, W, 3)")
    if told not in can:
        said = f"its description says {told!r}" if told is not None else "which axis is color is not told"
        raise ConfigError(f"{source} takes {port.shape}, and {said}; say layout: {' or '.join(can)}")
    return told
