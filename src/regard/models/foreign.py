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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from regard.errors import CheckpointError, ConfigError, RegardError, check_choice, is_whole
from regard.input_spec import InputSpec
from regard.models.contract import Attention, ReIDModel
from regard.models.folder import FOREIGN, WEIGHTS, read_description
from regard.models.graph_file import (
    MOST,
    TYPES,
    ColorOrder,
    Graph,
    Layout,
    Runtime,
    View,
    graph_content,
    open_graph,
    read_beside,
    refuse_shrunk,
    runtime_of,
    view_of,
)
from regard.registry import MODELS
from regard.storage import as_path
from regard.structures import Output
from regard.wording import one_line

__all__ = ["Foreign", "Seen", "import_graph"]

EXAMPLE = "color: rgb, scale: 255, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], size: [256, 128]"
KEYS = ("color", "scale", "mean", "std", "size", "layout", "interpolation", "flip", "output", "licence")

BESIDE, SAME = 0.02, 1e-6
"""Of the largest number of a descriptor: what it may change with the pictures beside it, which in half precision and in
int8 is rounding; and what is no difference between pictures."""

MOST_AT_A_TIME = 1024
"""Pictures that a graph may want at a time; all of them are made, black, where fewer are asked for."""


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

    cost_known = False

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
            graph, names = open_graph(self.runtime, self.files()), [str(self.output)]
            self._run = lambda x: graph.run(x, names)[0]
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
        if not _is_of(place, _digest(graph_content(path), _description(path, None)[1])):
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


def _tried(run: Callable[[np.ndarray], np.ndarray], view: View) -> int:
    """Length of the descriptors of a graph that makes one of each picture by itself.

    It is tried on black pictures, on noise, and on the same noise beside other pictures. Where a batch is of one
    picture by the graph, nothing can lie beside it.

    Raises:
        CheckpointError: it does not, or its descriptors say nothing; the message begins with the pictures.
    """
    count = view.batch or 2
    noise = np.random.default_rng(0).integers(0, 256, (2 * count, *view.axes))
    mean, std = (np.reshape(each, (3, 1, 1) if view.layout == "NCHW" else (1, 1, 3)) for each in (view.mean, view.std))
    made = noise if view.kind == "uint8" else (noise / view.scale - mean) / std
    made = np.ascontiguousarray(made, view.kind)
    try:
        computed(run, np.zeros_like(made[:count]))
    except CheckpointError as error:
        raise CheckpointError(f"black pictures: {error}") from error
    beside = made[count:].copy()
    beside[0] = made[0]
    found, again = computed(run, made[:count]), computed(run, beside)
    if not (np.isfinite(found).all() and np.isfinite(again).all()):
        raise CheckpointError("noise: its descriptors hold numbers that are not finite; check the export, fp16 perhaps")
    size = np.abs(found).max() or 1.0
    if found.shape[1] < 2:
        raise CheckpointError("noise: its descriptors are one number each, wanted some dozens; name another output")
    if np.abs(found[0] - again[0]).max() > BESIDE * size:
        raise CheckpointError(
            "noise: the descriptor of a picture changes with the pictures beside it; export it in evaluation mode"
        )
    other = computed(run, made[count:])
    if np.abs(found[0] - other[0]).max() <= SAME * size:
        raise CheckpointError("noise: it makes the same descriptor of any picture; name another output, or export anew")
    return found.shape[1]


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
    files = graph_content(path)
    told, text = _description(path, None if described is None else Path(described))
    runtime = runtime_of(path)
    graph = open_graph(runtime, files, source=str(path))
    view = view_of(told, graph, str(path), EXAMPLE)
    seen = _seen(told, view)
    output = _output(graph, seen.output, str(path))
    batch, kind = view.batch, view.kind
    if batch is not None and not 1 <= batch <= MOST_AT_A_TIME:
        raise CheckpointError(
            f"{path} wants {batch:,} pictures at a time, more than {MOST_AT_A_TIME:,}; export it anew"
        )
    try:
        dim = _tried(lambda x: graph.run(x, [output])[0], view)
    except CheckpointError as error:
        raise CheckpointError(f"{path}, tried on {error}") from error
    model = Foreign(
        1, runtime=runtime, sizes=[len(content) for content in files], embed_dim=dim, color=seen.color,
        layout=seen.layout, kind=kind, batch=batch, output=output, source=_digest(files, text),
    )  # fmt: skip
    for number, content in enumerate(files):
        model.get_buffer(f"file{number}").copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    model.input, model.imported = seen.input, FOREIGN
    model.origin = {"source": path.name, "licence": seen.licence}
    return model.eval()


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
    told, text = read_beside(path, described, EXAMPLE, "docs/how-to/foreign.md")
    if "fingerprint" in told:
        told = _of_export(told, path)
    if unknown := [key for key in told if key not in KEYS]:
        raise ConfigError(f"the description of {path} says {unknown[0]!r}, wanted {', '.join(KEYS)}")
    return told, text


def _of_export(told: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What the JSON of ``regard export`` says, in the words of a description.

    Raises:
        ConfigError: the file wants pictures that are larger than the network's, by ``--antialias``.
    """
    refuse_shrunk(path, told.get("shrink", 1), told.get("made_for", ""))
    size, color = [told.get("height"), told.get("width")], str(told.get("color", "RGB")).lower()
    same = {key: told.get(key) for key in ("interpolation", "layout")}
    licence = (told.get("origin") or {}).get("licence", "unknown")
    flip = told.get("flip", True) and not told.get("flip_averaged", False)
    pixels: dict[str, Any] = {}
    if told.get("dtype", "uint8") != "uint8":
        mean, std = told.get("caller_mean") or [0, 0, 0], told.get("caller_std") or [1, 1, 1]
        pixels = {"scale": told.get("scale", 1.0), "mean": mean, "std": std}
    return {"color": color, "size": size, "licence": licence, "flip": flip, **same, **pixels}


def _seen(told: Mapping[str, Any], view: View) -> Seen:
    """What a graph sees, as networks of ours say it: mean and deviation in fractions of white."""
    mean, std = ([each * view.scale / 255 for each in numbers] for numbers in (view.mean, view.std))
    shown = InputSpec(
        *view.size, interpolation=told.get("interpolation", "bilinear"), mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]), flip=told.get("flip", False),
    )  # fmt: skip
    licence = told.get("licence") or "unknown"
    if not isinstance(licence, str):
        raise ConfigError(f"the description says licence: {licence!r:.90}, wanted its name in one line: licence: MIT")
    return Seen(shown, view.color, view.layout, told.get("output"), " ".join(licence.split()))


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
