"""What an exported file was made for, and whether it is that: by what is written in it, and by its own signature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regard.errors import CheckpointError, ConfigError
from regard.export.manifest import Card, read_export
from regard.export.packages import install
from regard.export.profiles import PROFILES, Profile
from regard.parsing import parse_json
from regard.wording import one_line

__all__ = ["check_made_for"]


def check_made_for(path: Path, profile: Profile) -> Card:
    """Return the card of a file that was made for a program; of a folder of ``reid``, that of its weights.

    Raises:
        ConfigError: there is no such file, it was made for another program, or says not for which.
        CheckpointError: it is damaged, or takes something else than it says.
    """
    place = path / "weights.safetensors" if profile.to == "reid" and path.is_dir() else path
    if not place.is_file():
        raise ConfigError(f"there is no {place}; make it with 'regard export RUN --for {profile.name}'")
    if profile.to == "reid":
        card, _ = read_export(place)
        _same(card.made_for, profile, place)
        return card
    told, ports = _onnx(place) if place.suffix == ".onnx" else _openvino(place)
    written = told.get("made_for") if isinstance(told, dict) else None
    if not isinstance(written, str):
        raise ConfigError(
            f"nothing in {place} says what it was made for; export it again: regard export RUN --for {profile.name}"
        )
    _same(written, profile, place)
    card, _ = read_export(place)
    _same(card.made_for, profile, place)
    shape = (
        (card.batch, 3, card.height, card.width) if card.layout == "NCHW" else (card.batch, card.height, card.width, 3)
    )
    wanted = {card.input: (list(shape), profile.dtype), card.output: ([card.batch, card.embed_dim], "float32")}
    if ports != wanted or (card.layout, card.color, card.scale) != (profile.layout, profile.color, profile.scale):
        raise CheckpointError(f"{place} takes and gives {ports}, wanted {wanted} for {profile.name}; export it again")
    return card


def _same(written: str, profile: Profile, place: Path) -> None:
    """Refuse a file of another profile."""
    if written == profile.name:
        return
    told = f"{written} ({PROFILES[written]})" if written in PROFILES else written or "regard's own engines"
    raise ConfigError(
        f"{place} was made for {told}, not for {profile.name} ({profile}): it would run there and be wrong; "
        f"regard export RUN --for {profile.name}"
    )


def _onnx(path: Path) -> tuple[Any, dict[str, Any]]:
    """What is written in an ONNX file, and its inputs and outputs: name -> shape, open sides None, and type."""
    onnx = install("onnx")
    kinds = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.FLOAT16: "float16"}
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises types of its own
        raise CheckpointError(f"{path} is no ONNX file that is whole ({one_line(error)}); export it again") from error
    ports = {}
    for port in (*model.graph.input, *model.graph.output):
        kind = port.type.tensor_type
        shape = [side.dim_value if side.HasField("dim_value") else None for side in kind.shape.dim]
        ports[port.name] = shape, kinds.get(kind.elem_type, str(kind.elem_type))
    return _told({each.key: each.value for each in model.metadata_props}.get("regard", "")), ports


def _openvino(path: Path) -> tuple[Any, dict[str, Any]]:
    """The same of OpenVINO's XML."""
    openvino = install("openvino")
    kinds = {"f32": "float32", "u8": "uint8", "f16": "float16"}
    try:
        model = openvino.Core().read_model(path)
        told = model.get_rt_info(["regard"]).astype(str) if model.has_rt_info(["regard"]) else ""
        ports = {}
        for port in (*model.inputs, *model.outputs):
            shape = [side.get_length() if side.is_static else None for side in port.partial_shape]
            ports[port.any_name] = shape, kinds.get(port.element_type.get_type_name(), "another")
    except Exception as error:  # OpenVINO raises types of its own
        raise CheckpointError(f"{path} is no file of OpenVINO's ({one_line(error)}); export it again") from error
    return _told(told), ports


def _told(text: str) -> Any:
    """What the text says that an export leaves in a file; None where there is none."""
    try:
        return parse_json(text.encode())
    except ValueError:
        return None
