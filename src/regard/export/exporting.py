"""Making exports: of a run into files, and into memory for an engine.

Shapes: N pictures, H x W pixels.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from regard.data.image import read_image
from regard.data.transforms import TestTransform
from regard.errors import CheckpointError, ConfigError, DataError, StorageError
from regard.export.engines import RUNS
from regard.export.formats import (
    FORMATS,
    PLANS,
    check_format,
    quantize,
    to_onnx,
    to_openvino,
    to_torch_export,
)
from regard.export.graph import trace
from regard.export.kept import exports_folder
from regard.export.manifest import Card, Precision, card_file, read_export, with_files
from regard.export.packages import is_installed
from regard.export.parity import Parity, check_parity, made_pictures, measure_drift, measure_parity, reference
from regard.export.profiles import Form
from regard.export.sidecars import beside, in_repository
from regard.export.torch_engine import open_files
from regard.input_spec import known_input
from regard.models import ReIDModel, load
from regard.models.folder import MODEL_WANTED, model_folder, saved_input
from regard.models.saved import model_config, saved_system, weights_digest
from regard.storage import as_path, write_together

__all__ = ["Exported", "describe", "export_run", "exported_onnx", "read_pictures"]

OPENVINO_ENDINGS: tuple[str, ...] = (".xml", ".bin")


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Attributes:
        files: the exported file first, then what goes with it.
        card: what the JSON beside it says.
        parity: engine that the file was tried with -> how far it is from the network.
    """

    files: list[Path]
    card: Card
    parity: dict[str, Parity]


def describe(source: ReIDModel | Path | str, size: tuple[int, int] | None = None) -> tuple[ReIDModel, Card]:
    """Return a model with its card; of a folder the model is read, and stripped.

    Raises:
        CheckpointError: there is no model, or it is damaged.
        ConfigError: neither model nor caller says the size.
    """
    model = source if isinstance(source, ReIDModel) else load(source).strip()
    seen = known_input(model.input, size, "the model" if isinstance(source, ReIDModel) else source)
    card = Card.of(str(model_config(model)["model"]), model.embed_dim, seen, weights_digest(model))
    return model, replace(card, origin=model.origin or {}, dispensable=model.dispensable_parts(model.options))


def exported_onnx(
    source: ReIDModel | Path | str, size: tuple[int, int] | None = None, precision: Precision = "fp32"
) -> tuple[bytes, Card]:
    """A network as an ONNX file for an engine; of a folder it is kept in ``exports``, where that can be written.

    Raises:
        ConfigError: there is no int8 export, which wants pictures to be calibrated on.
        CheckpointError: the export is not the network.
    """
    kind: Precision = precision if precision in ("int8", "fp16") else "fp32"
    if not isinstance(source, ReIDModel) and (kept := find_export(as_path("source", source, MODEL_WANTED), size, kind)):
        card, (data,) = read_export(kept)
        return data, card
    if kind != "fp32":
        where = "the model" if isinstance(source, ReIDModel) else source
        raise ConfigError(
            f"there is no {kind} export of {where} for this size; make one: regard export RUN --to onnx --{kind}"
        )
    model, card = describe(source, size)
    files, card, _ = make_files(model, card, "onnx")
    data, card = files[".onnx"], with_files(card, files)
    if not isinstance(source, ReIDModel):
        path = exports_folder(as_path("source", source, MODEL_WANTED)) / f"{card.stem}.onnx"
        with contextlib.suppress(StorageError):  # a folder that is only read: it is made anew each time
            write_together({path: data, card_file(path): card.to_json().encode()})
    return data, card


def find_export(folder: Path, size: tuple[int, int] | None, precision: Precision) -> Path | None:
    """The ONNX export of the weights in a run, or model folder; None where there is none that is whole."""
    weights = model_folder(folder)
    seen = known_input(saved_input(weights), size, folder)
    card = Card.of(saved_system(weights), 0, seen, weights_digest(weights), precision)
    path = exports_folder(folder) / f"{card.stem}.onnx"
    try:
        kept, _ = read_export(path)
    except CheckpointError:
        return None
    return path if replace(kept, calibrated="").fingerprint == card.fingerprint else None


def export_run(
    folder: Path | str,
    to: str,
    output: Path | None = None,
    *,
    size: tuple[int, int] | None = None,
    pictures: Sequence[np.ndarray] | None = None,
    int8: bool = False,
    tolerance: float | None = None,
    form: Form | None = None,
) -> Exported:
    """Export a run, or a saved model, and try what was made; nothing is written where it is not the network.

    Args:
        folder: of the run or the model.
        to: one of ``FORMATS``.
        output: file to write; None names one in the run's ``exports``.
        size: height and width of the pictures; None takes the model's own.
        pictures: (h, w, 3) uint8 each, of any size: real ones to compare, besides made-up ones, and to calibrate on.
        int8: compute in int8, with ranges of ``pictures``.
        tolerance: see :func:`~regard.export.parity.check_parity`.
        form: for another program, of an opset, a fixed batch, in half precision; None: none of them.

    Raises:
        UnknownNameError: no such format.
        ConfigError: a package is missing, the size does not fit, or int8 cannot be had.
        CheckpointError: there is no model, or what was made is not the network.
        StorageError: the disk refused.
    """
    form = form or Form()
    check_format(to, int8=int8)
    form.check(to, int8=int8)
    model, card = describe(folder, size)
    card = form.card(card)
    real = None if pictures is None else resized(pictures, card)
    files, card, parity = make_files(model, card, to, pictures=real, int8=int8, tolerance=tolerance)
    if form.profile is not None and form.profile.resize != "regard" and pictures:
        card = replace(card, drift=measure_drift(model, pictures, card))
    card = with_files(card, files)
    path = output or exports_folder(as_path("folder", folder, MODEL_WANTED)) / f"{card.stem}{FORMATS[to]}"
    path = in_repository(path, card) if card.made_for == "triton" else path
    if path.suffix != FORMATS[to]:
        raise ConfigError(f"{path} does not end in {FORMATS[to]}, as {to} files do; name it so")
    contents = {path.with_suffix(suffix): data for suffix, data in files.items()}
    others = {card_file(path): card.to_json().encode(), **beside(card, path)}
    write_together({**contents, **others})
    return Exported([*contents, *others], card, parity)


def make_files(
    model: ReIDModel,
    card: Card,
    to: str,
    *,
    pictures: np.ndarray | None = None,
    int8: bool = False,
    tolerance: float | None = None,
) -> tuple[dict[str, bytes], Card, dict[str, Parity]]:
    """The files of an export by how their names end, tried on every engine that is installed and reads them."""
    program = trace(model, card.height, card.width, None if card.plain else card)
    kinds = {} if pictures is None else {"real": pictures}
    if int8:  # made-up pictures are left out: it knows the ranges of real ones only
        return make_int8(to_onnx(program, card), model, card, to, kinds, tolerance=tolerance)
    kinds["made-up"] = made_pictures(card.height, card.width)
    if to == "torch-export":
        files = {".pt2": to_torch_export(program, card)}
    else:
        files = as_files(to_onnx(program, card), card, to)
    parity = try_files(files, card, kinds, model, tolerance)
    return files, with_parity(card, parity), parity


def make_int8(
    onnx: bytes, model: ReIDModel, card: Card, to: str, pictures: dict[str, np.ndarray], *, tolerance: float | None
) -> tuple[dict[str, bytes], Card, dict[str, Parity]]:
    """The files of an int8 export, by the fastest plan that the network stands."""
    if not pictures:
        raise ConfigError("int8 wants pictures to be calibrated on; give a folder of them with --pictures")
    digest = hashlib.sha256(pictures["real"].tobytes()).hexdigest()[:16]
    for plan in PLANS:
        planned = replace(card, precision="int8", calibrated=f"{digest} {plan.sums} {plan.small}")
        files = as_files(quantize(onnx, pictures["real"], planned, plan), planned, to)
        try:
            parity = try_files(files, planned, pictures, model, tolerance)
        except CheckpointError:
            if plan is PLANS[-1]:
                raise
        else:
            return files, with_parity(planned, parity), parity
    raise AssertionError("there is no plan")


def as_files(onnx: bytes, card: Card, to: str) -> dict[str, bytes]:
    """An ONNX file, or OpenVINO's two that are made of it, by how their names end."""
    return {".onnx": onnx} if to == "onnx" else dict(zip(OPENVINO_ENDINGS, to_openvino(onnx, card)))


def with_parity(card: Card, parity: dict[str, Parity]) -> Card:
    """The card with what was measured on it."""
    return replace(card, parity={name: each.to_dict() for name, each in parity.items()})


def try_files(
    files: dict[str, bytes], card: Card, pictures: dict[str, np.ndarray], model: ReIDModel, tolerance: float | None
) -> dict[str, Parity]:
    """Compare an export with the network, on every engine that is installed and reads it.

    An int8 ONNX file has to be right on one of them; it is opened with those alone (OpenVINO 2026.4 miscomputes some).
    """
    suffix = next(iter(files))
    names = [name for name in RUNS[suffix] if name == "torch" or is_installed(name)]
    if not names:
        raise ConfigError("neither onnxruntime nor openvino is there to try the file; pip install 'regard[export]'")
    wanted = {kind: reference(model, images, card) for kind, images in pictures.items()}
    parity, faults = {}, []
    for name in names:
        engine = open_files(name, tuple(files.values()), card)
        found = measure_parity(engine.embed, pictures, wanted)
        try:
            check_parity(found, card.precision, tolerance, f"the {suffix} file, run by {name},")
            parity[name] = found
        except CheckpointError as fault:
            faults.append(fault)
    if faults and (card.precision == "fp32" or not parity):
        raise faults[0]
    return parity


def resized(pictures: Sequence[np.ndarray] | np.ndarray, card: Card) -> np.ndarray:
    """Pictures (h, w, 3) of any size as (N, H, W, 3) of the network's."""
    transform = TestTransform.of(card.seen)
    return np.stack([transform(picture).transpose(1, 2, 0) for picture in pictures])


def read_pictures(paths: Sequence[Path], count: int) -> list[np.ndarray]:
    """Pictures of any size, at most ``count`` of the files, evenly spread over them.

    Raises:
        DataError: there are none, or one cannot be read.
    """
    if not paths:
        raise DataError("found no pictures to compare and calibrate with; name a folder that holds some")
    chosen = sorted({round(place) for place in np.linspace(0, len(paths) - 1, min(count, len(paths)))})
    return [read_image(paths[place]) for place in chosen]
