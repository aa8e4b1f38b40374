"""Networks of other makers, as ONNX or OpenVINO files: read with a description of what they see, and then models as
others are, for galleries, searches, scores and comparisons.

Shapes: B pictures in a batch, H x W pixels, D descriptor length.

The graph is kept byte by byte in the model's folder, as a tensor of its ``model.safetensors``, so that one digest tells
whether anything has changed. It is computed on the processor, by ONNX Runtime or OpenVINO; nothing in it can be trained
or looked at.

A description is a YAML or JSON mapping::

    color: rgb                       # or bgr
    scale: 255                       # what gray levels are divided by before mean and std; 1 leaves 0 to 255
    mean: [0.485, 0.456, 0.406]      # in the order red, green, blue
    std: [0.229, 0.224, 0.225]
    size: [256, 128]                 # height, width; where the graph does not fix them
    layout: NCHW                     # or NHWC; where the graph's shape does not tell
    interpolation: bilinear          # how pictures are resized, antialiased; bicubic
    flip: false                      # average with the descriptor of the mirrored picture
    output: embedding                # where there are several
    licence: MIT                     # of the weights

A graph that takes whole gray levels (uint8) normalizes them itself: scale, mean and std stay out. The JSON that
``regard export`` writes beside a file is read as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from regard.errors import CheckpointError, ConfigError, RegardError, check_choice, is_whole, require
from regard.input_spec import InputSpec
from regard.models.contract import Attention, ReIDModel
from regard.models.folder import FOREIGN, WEIGHTS, read_description
from regard.parsing import parse_yaml
from regard.registry import MODELS
from regard.storage import as_path, read_regular
from regard.structures import Output
from regard.threads import usable_threads
from regard.wording import one_line

__all__ = ["Foreign", "Seen", "import_graph"]

ColorOrder = Literal["rgb", "bgr"]
Layout = Literal["NCHW", "NHWC"]
Runtime = Literal["onnxruntime", "openvino"]

ENDINGS = (".yaml", ".yml", ".json")
"""Of a description, behind the whole name of the file that it lies beside."""

EXAMPLE = "color: rgb, scale: 255, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], size: [256, 128]"
KEYS = ("color", "scale", "mean", "std", "size", "layout", "interpolation", "flip", "output", "licence")
TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
TYPES |= {"f32": "float32", "f16": "float16", "u8": "uint8"}
"""What a runtime calls the kind of numbers that a graph takes -> NumPy's name."""

MOST = 2**31 - 1
"""Bytes of a graph: what a protobuf can hold."""

MOST_AT_A_TIME = 1024
"""Pictures that a graph may want at a time; all of them are made, black, where fewer are asked for."""

NOWHERE = str(Path(os.devnull) / "nowhere")
"""Where a graph finds no weights of its own: what it holds is all there is."""


class Port(NamedTuple):
    """An input or output of a graph; sides that are open are None."""

    name: str
    shape: tuple[int | None, ...] | None
    kind: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What a graph takes.

    Attributes:
        input: size, resampling, mean and deviation in fractions of white, mirrored averaging.
        color: order of the channels.
        layout: order of the axes.
        output: name of the output that is the descriptor; None: there is one alone.
        licence: of the weights.
    """

    input: InputSpec
    color: ColorOrder
    layout: Layout
    output: str | None = None
    licence: str = "unknown"


@MODELS.register(FOREIGN, listed=False)
class Foreign(ReIDModel):
    """A network of another maker; :func:`import_graph` makes it.

    Args:
        num_ids: 1; it classifies nobody.
        runtime: what computes.
        sizes: bytes of the graph, and of the weights beside it.
        embed_dim: D.
        color: order of the channels.
        layout: order of the axes.
        kind: of numbers that go in, as NumPy calls it.
        batch: pictures that have to go in at a time; None: any number.
        output: name of the output.
        source: digest of the file and of its description.
    """

    def __init__(
        self,
        num_ids: int,
        *,
        runtime: Runtime,
        sizes: list[int],
        embed_dim: int,
        color: ColorOrder,
        layout: Layout,
        kind: str,
        batch: int | None,
        output: str,
        source: str,
    ):
        check_choice("runtime", runtime, Runtime)
        check_choice("color", color, ColorOrder)
        check_choice("layout", layout, Layout)
        if kind not in TYPES.values() or not all(is_whole(size) and 0 <= size <= MOST for size in sizes):
            raise ConfigError(f"a graph of {sizes} bytes that takes {kind!r} is none; import it again")
        if batch is not None and (not is_whole(batch) or batch < 1):
            raise ConfigError(f"batch is {batch!r}, wanted how many pictures go in at a time, or null")
        super().__init__(num_ids, embed_dim)
        self.runtime: Runtime = runtime
        self.color, self.layout, self.kind, self.batch, self.output = color, layout, kind, batch, output
        for number, size in enumerate(sizes):
            self.register_buffer(f"file{number}", torch.zeros(size, dtype=torch.uint8))
        told = torch.frombuffer(bytearray(source.encode()), dtype=torch.uint8)
        self.register_buffer("described", told.clone())  # what is fed to the graph decides descriptors as weights do
        self._run: Callable[[np.ndarray], np.ndarray] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy opens the graph itself."""
        return {**self.__dict__, "_run": None}

    def _apply(self, fn: Any, recurse: bool = True) -> Any:  # noqa: FBT001, FBT002 - torch has it so
        """Stay on the processor in bytes, wherever the model is moved to."""
        return self

    def files(self) -> list[bytes]:
        """Content of the graph's file, and of the weights' where there is one beside it."""
        return [buffer.numpy().tobytes() for name, buffer in self.named_buffers() if name.startswith("file")]

    def forward(self, images: Tensor) -> Output:
        """Descriptors of normalized pictures; there is nothing else."""
        if self._run is None:
            if self.get_buffer("described").numpy().tobytes() != self.options["source"].encode():
                raise CheckpointError("the graph is not the one that its description is of; import it again")
            self._run = opened(self.runtime, self.files(), str(self.output)).run
        x = np.ascontiguousarray(images.detach().cpu().numpy(), np.float32)
        if self.kind == "uint8":
            x = x.round().clip(0, 255)
        x = x[:, ::-1] if self.color == "bgr" else x
        x = x if self.layout == "NCHW" else x.transpose(0, 2, 3, 1)
        found = self._in_batches(np.ascontiguousarray(x, self.kind), self._run)
        return Output(torch.from_numpy(found).to(images.device), features={}, logits={}, maps={})

    def _in_batches(self, x: np.ndarray, run: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """(B, D) float32; where the number is fixed, the last batch is filled up with black pictures."""
        if not len(x):
            return np.empty((0, self.embed_dim), np.float32)
        step = self.batch or len(x)
        missing = -len(x) % step
        whole = np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) if missing else x
        parts = [computed(run, whole[start : start + step]) for start in range(0, len(whole), step)]
        return np.concatenate(parts)[: len(x)]

    def attention_on(self, images: Tensor) -> dict[str, Attention]:
        """See :meth:`map_layers`."""
        self.map_layers()
        return {}

    def map_layers(self) -> Mapping[str, nn.Module | str]:
        """Refuse: a runtime tells nothing of what lies between picture and descriptor.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"this network came as a file for {self.runtime}, and nothing in it can be looked at; explanations want a "
            "network of regard's, or one added by a plug-in"
        )

    @staticmethod
    def kept_beside(path: Path) -> Path:
        """The model folder of a graph's file, which lies beside it: made where it is not there, or of another content.

        Args:
            path: an ``.onnx`` or ``.xml`` file with its description beside it.

        Raises:
            ConfigError, CheckpointError: as of :func:`import_graph`.
            StorageError: the folder cannot be written.
        """
        place = path.with_name(f"{path.name}.regard")
        if not _is_of(place, _digest(_content(path), _description(path, None)[1])):
            import_graph(path).save(place)
        return place


def _is_of(place: Path, source: str) -> bool:
    """Whether a folder holds, whole, the graph and description of that digest."""
    with contextlib.suppress(RegardError, SafetensorError, OSError, KeyError, TypeError):
        told = read_description(place)["options"]["source"]
        with safe_open(place / WEIGHTS, "pt") as file:
            return told == source and file.get_tensor("described").numpy().tobytes() == source.encode()
    return False


def computed(run: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """Descriptors of pictures as the graph takes them: (B, D) float32.

    Raises:
        CheckpointError: it makes something else of them, or does not compute.
    """
    try:
        found = np.asarray(run(x))
    except Exception as error:  # the runtimes raise types of their own
        raise CheckpointError(
            f"the graph does not compute {len(x)} pictures of {x.shape} ({one_line(error)})"
        ) from error
    if found.ndim < 2 or len(found) != len(x) or found.dtype.kind != "f" or found[0].size != max(found.shape[1:]):
        raise CheckpointError(
            f"the graph makes {found.shape} {found.dtype} of {len(x)} pictures, wanted a row of numbers for each; name "
            "another one with 'output:' in its description, or export it for any number of pictures"
        )
    return found.reshape(len(x), -1).astype(np.float32)


class Graph(NamedTuple):
    """A graph that a runtime has opened."""

    inputs: list[Port]
    outputs: list[Port]
    run: Callable[[np.ndarray], np.ndarray]


def opened(runtime: Runtime, files: list[bytes], output: str | None = None) -> Graph:
    """A graph in its runtime, on the processor.

    Args:
        runtime: what computes.
        files: content of the ONNX file, or of OpenVINO's two.
        output: the one that is asked for; None: the first.

    Raises:
        ConfigError: the runtime is not installed.
        CheckpointError: it does not take the file.
    """
    library = require(runtime, "a network in this format", "export")
    try:
        return (_onnx if runtime == "onnxruntime" else _openvino)(library, files, output)
    except RegardError:
        raise
    except Exception as error:  # the runtimes raise types of their own
        raise CheckpointError(f"{runtime} does not take the graph ({one_line(error)}); export it again") from error


def _onnx(runtime: Any, files: list[bytes], output: str | None) -> Graph:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = usable_threads()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
    session = runtime.InferenceSession(files[0], options, providers=["CPUExecutionProvider"])
    ports = [
        [Port(one.name, tuple(side if isinstance(side, int) else None for side in one.shape), one.type) for one in side]
        for side in (session.get_inputs(), session.get_outputs())
    ]
    name, wanted = ports[0][0].name, [output or ports[1][0].name]
    return Graph(ports[0], ports[1], lambda x: session.run(wanted, {name: x})[0])


def _openvino(runtime: Any, files: list[bytes], output: str | None) -> Graph:
    core = runtime.Core()
    model = core.read_model(*files) if len(files) == 2 else core.read_model(io.BytesIO(files[0]))
    ports = [
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
    ]
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": usable_threads()}
    network = core.compile_model(model, "CPU", settings)
    number = [port.name for port in ports[1]].index(output) if output else 0
    return Graph(ports[0], ports[1], lambda x: np.array(network(x)[number]))


def import_graph(path: str | PathLike[str], described: str | PathLike[str] | None = None) -> Foreign:
    """Read a network of another maker.

    Args:
        path: an ``.onnx`` file, or OpenVINO's ``.xml`` with its ``.bin`` beside it.
        described: file that says what it sees; None: the one beside it, its name with ``.yaml`` or ``.json`` behind.

    Returns:
        The model, in evaluation mode; :meth:`~regard.models.ReIDModel.save` makes a folder that everything takes.

    Raises:
        ConfigError: the description is missing, incomplete or says something else than the graph.
        CheckpointError: the file cannot be read, or is no network from pictures to descriptors.
    """
    path = as_path("path", path, "an .onnx or .xml file")
    files = _content(path)
    told, text = _description(path, None if described is None else Path(described))
    runtime: Runtime = "openvino" if path.suffix == ".xml" else "onnxruntime"
    graph = opened(runtime, files)
    seen, port = _matched(told, graph, str(path))
    output = _output(graph, seen.output, str(path))
    run = opened(runtime, files, output).run
    batch, kind = port.shape[0] if port.shape else None, TYPES[port.kind]
    if batch is not None and not 1 <= batch <= MOST_AT_A_TIME:
        raise CheckpointError(
            f"{path} wants {batch:,} pictures at a time, more than {MOST_AT_A_TIME:,}; export it anew"
        )
    try:
        found = computed(run, np.zeros((batch or 2, *_axes(seen)), kind))
    except CheckpointError as error:
        raise CheckpointError(f"{path}, tried on black pictures: {error}") from error
    model = Foreign(
        1, runtime=runtime, sizes=[len(content) for content in files], embed_dim=found[0].size, color=seen.color,
        layout=seen.layout, kind=kind, batch=batch, output=output, source=_digest(files, text),
    )  # fmt: skip
    for number, content in enumerate(files):
        model.get_buffer(f"file{number}").copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    model.input, model.imported = seen.input, FOREIGN
    model.origin = {"source": path.name, "licence": seen.licence}
    return model.eval()


def _content(path: Path) -> list[bytes]:
    """The file, and OpenVINO's weights beside it.

    Raises:
        CheckpointError: one cannot be read, or is larger than a graph can be.
    """
    paths = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    try:
        found = [read_regular(each) for each in paths]
    except OSError as error:
        raise CheckpointError(f"cannot read {error.filename or path} ({error.strerror or error})") from error
    if max(map(len, found)) > MOST:
        raise CheckpointError(f"{path} has more than {MOST:,} bytes, which is more than an ONNX file can hold")
    return found if path.suffix == ".xml" else [_with_weights(path, found[0])]


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


def _digest(files: list[bytes], text: str) -> str:
    """Digest of a graph and of its description: 32 hex digits."""
    digest = hashlib.sha256(text.encode())
    for content in files:
        digest.update(content)
    return digest.hexdigest()[:32]


def _description(path: Path, described: Path | None) -> tuple[dict[str, Any], str]:
    """What is said of a graph, and the text that says it.

    Raises:
        ConfigError: nothing is, or no mapping.
    """
    beside = [path.with_name(path.name + ending) for ending in ENDINGS]
    place = described or next((each for each in beside if each.is_file()), None)
    if place is None:
        raise ConfigError(
            f"nothing says what {path} sees; write {beside[0].name} beside it: {EXAMPLE} (docs/how-to/foreign.md)"
        )
    try:
        text = read_regular(place).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {place} ({error}); it is to hold {EXAMPLE}") from None
    told = parse_yaml(text, str(place))
    if not isinstance(told, dict):
        raise ConfigError(f"{place} holds {type(told).__name__}, wanted a mapping: {EXAMPLE}")
    if "fingerprint" in told:  # regard export's
        names = {"interpolation": told.get("interpolation"), "flip": told.get("flip"), "layout": told.get("layout")}
        size = [told.get("height"), told.get("width")]
        origin = told.get("origin") or {}
        told = {"color": "rgb", "size": size, "licence": origin.get("licence", "unknown"), **names}
    if unknown := [key for key in told if key not in KEYS]:
        raise ConfigError(f"{place} says {unknown[0]!r}, wanted {', '.join(KEYS)}")
    return told, text


def _matched(told: Mapping[str, Any], graph: Graph, source: str) -> tuple[Seen, Port]:
    """What a graph sees, by its description and its own shape, which have to agree; and its input.

    Raises:
        ConfigError: they do not, or something is left open.
        CheckpointError: it takes something else than pictures.
    """
    port = graph.inputs[0] if len(graph.inputs) == 1 else Port("", (), "")
    if not graph.outputs or port.kind not in TYPES or (port.shape is not None and len(port.shape) != 4):
        inputs = ", ".join(f"{one.name} {one.shape} {one.kind}" for one in graph.inputs) or "nothing"
        raise CheckpointError(f"{source} takes {inputs}; wanted one input, (B, 3, H, W) or (B, H, W, 3) of numbers")
    layout = _layout(told.get("layout"), port, source)
    where = (2, 3) if layout == "NCHW" else (1, 2)
    fixed = [port.shape[side] if port.shape else None for side in where]
    size = told.get("size", fixed)
    if not isinstance(size, list) or len(size) != 2 or None in size:
        raise ConfigError(f"{source} leaves the size of its pictures open; describe it: size: [HEIGHT, WIDTH]")
    if any(known not in (None, given) for known, given in zip(fixed, size)):
        raise ConfigError(f"{source} takes pictures of {fixed[0]} x {fixed[1]}, and its description says {size}")
    if told.get("color") not in ("rgb", "bgr"):
        raise ConfigError(f"the description of {source} says color: {told.get('color')!r}, wanted rgb or bgr")
    whole = TYPES[port.kind] == "uint8"
    given = [key for key in ("scale", "mean", "std") if key in told]
    if whole and given:
        raise ConfigError(f"{source} takes gray levels and normalizes them itself; leave out {', '.join(given)}")
    if not whole and len(given) < 3:
        wanted = next(key for key in ("scale", "mean", "std") if key not in told)
        raise ConfigError(f"the description of {source} does not say {wanted}; it wants {EXAMPLE}")
    scale, mean, std = (told.get("scale"), told.get("mean"), told.get("std")) if given else (1, [0] * 3, [1] * 3)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < 1e6:
        raise ConfigError(f"the description of {source} says scale: {scale!r}, wanted 255, or 1 for gray levels")
    shown = InputSpec(
        *size, interpolation=told.get("interpolation", "bilinear"), mean=_white("mean", mean, scale),
        std=_white("std", std, scale), flip=told.get("flip", False),
    )  # fmt: skip
    return Seen(shown, told["color"], layout, told.get("output"), str(told.get("licence", "unknown"))), port


def _white(name: str, values: Any, scale: float) -> tuple[float, float, float]:
    """Three numbers of scaled gray levels in fractions of white."""
    if (
        not isinstance(values, list)
        or len(values) != 3
        or not all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)
    ):
        raise ConfigError(f"{name} is {values!r}, wanted three numbers, of red, green and blue")
    red, green, blue = (each * scale / 255 for each in values)
    return red, green, blue


def _layout(told: Any, port: Port, source: str) -> Layout:
    """The order of the axes, by the shape where it tells.

    Raises:
        ConfigError: it does not, and nothing else does, or they differ.
    """
    shape = port.shape or (None,) * 4
    sides: dict[Layout, int] = {"NCHW": 1, "NHWC": 3}
    can: list[Layout] = [name for name, side in sides.items() if shape[side] in (3, None)]
    sure: list[Layout] = [name for name in can if shape[sides[name]] == 3]
    if told is None and len(sure) == 1:
        return sure[0]
    if told not in can:
        said = f"its description says {told!r}" if told is not None else "which axis is color is not told"
        raise ConfigError(f"{source} takes {port.shape}, and {said}; say layout: {' or '.join(can) or 'another file'}")
    return told


def _output(graph: Graph, wanted: str | None, source: str) -> str:
    """Name of the output that is the descriptor.

    Raises:
        ConfigError: there is none of that name, or there are several and none is named.
    """
    names = [port.name for port in graph.outputs]
    if (wanted is None and len(names) == 1) or wanted in names:
        return wanted or names[0]
    raise ConfigError(
        f"{source} has the outputs {', '.join(names)}, and its description names {wanted or 'none'}; say output: NAME"
    )


def _axes(seen: Seen) -> tuple[int, ...]:
    """A picture as the graph takes it, without the batch."""
    height, width = seen.input.size
    return (3, height, width) if seen.layout == "NCHW" else (height, width, 3)
