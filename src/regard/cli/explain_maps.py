"""The actions of ``regard explain`` that draw maps over pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regard.cli.explain_runs import described, names_of, opened_runs, write_arrays, write_figure, write_json
from regard.errors import ConfigError
from regard.evaluation.run import Run
from regard.explain.attention import attention_of, spatial_map
from regard.explain.features import feature_maps, reduce_channels
from regard.explain.figures.attention_figure import attention_figure
from regard.explain.figures.map_figures import FORMATS, figure_bytes
from regard.explain.figures.map_grids import MapRow, feature_grid, feature_pictures, pair_figure, paper_sheet
from regard.explain.figures.overlay import png_bytes
from regard.explain.gradcam import attention_layers, similarity_cam
from regard.explain.heads import head_heat, pair_heat
from regard.storage import plain_text, write_atomic
from regard.wording import file_name

__all__ = ["attention", "cam", "features", "pair", "sheet"]


def attention(arguments: argparse.Namespace) -> None:
    """Per picture a figure and its arrays; one JSON file for all."""
    (opened,) = opened_runs([arguments.run], arguments.size)
    found = attention_of(opened.model, opened.batch(arguments.images))
    said = {}
    for index, (path, name) in enumerate(zip(arguments.images, names_of(arguments.images))):
        write_figure(attention_figure(path, found, index), arguments.output / name, arguments)
        write_arrays(arguments.output / f"{name}.npz", {key: value.values[index] for key, value in found.items()})
        said[name] = {
            key: {"over": value.over, "meaning": value.meaning, **_figures(value.values[index])}
            for key, value in found.items()
        }
    write_json(arguments.output / "attention.json", {**described(opened), "pictures": said})


def pair(arguments: argparse.Namespace) -> None:
    """A figure of both pictures, the maps, and how similar they are."""
    (opened,) = opened_runs([arguments.run], arguments.size)
    first, second = opened.batch([arguments.first, arguments.second])
    tap = None if arguments.all_taps else -1
    found = pair_heat(opened.model, first, second, tap=tap, heads=arguments.heads)
    embeddings = opened.model.embed(torch.stack([first, second]))
    cosine = float(torch.cosine_similarity(embeddings[0], embeddings[1], dim=0))
    names = plain_text(f"{arguments.first.name} and {arguments.second.name}")
    title = f"{opened.label}: {names}, cosine {cosine:.2f}"
    figure = pair_figure(arguments.first, arguments.second, found, title)
    write_figure(figure, arguments.output / "pair", arguments)
    maps = {f"{name}.{side}": getattr(heat, side) for name, heat in found.items() for side in ("first", "second")}
    write_arrays(arguments.output / "pair.npz", maps)
    pictures = {"first": str(arguments.first), "second": str(arguments.second)}
    similarity = {name: heat.similarity for name, heat in found.items()}
    content = {**described(opened), **pictures, "cosine": cosine, "similarity": similarity}
    write_json(arguments.output / "pair.json", content)


def cam(arguments: argparse.Namespace) -> None:
    """Per picture and head the map as an array and as pictures of four kinds; a grid of all, a line per picture."""
    (opened,) = opened_runs([arguments.run], arguments.size)
    images = opened.batch(arguments.images)
    found = head_heat(opened.model, images, arguments.head, arguments.label)
    names, rows = names_of(arguments.images), []
    for index, (path, name) in enumerate(zip(arguments.images, names)):
        maps = {head: heat.maps[index] for head, heat in found.items()}
        rows.append(MapRow(name, path, maps, {head: f"label {heat.labels[index]}" for head, heat in found.items()}))
        for head, values in maps.items():
            _write_map(arguments.output / name / head.replace(" ", "."), path, values, values)
    write_figure(feature_grid(rows), arguments.output / "cam", arguments)
    write_arrays(arguments.output / "cam.npz", {head: heat.maps for head, heat in found.items()})
    said = {
        head: {"exact": heat.exact, "labels": heat.labels.tolist(), "scores": heat.scores.tolist()}
        for head, heat in found.items()
    }
    write_json(arguments.output / "cam.json", {**described(opened), "pictures": names, "heads": said})


def features(arguments: argparse.Namespace) -> None:
    """Per run, picture and layer the map as an array and as pictures of four kinds; one grid of all."""
    limits = tuple(arguments.range) if arguments.range else None
    if limits and limits[1] <= limits[0]:
        raise ConfigError(f"--range {limits[0]:g} {limits[1]:g} is empty, wanted the lower value first")
    rows, said = [], []
    for opened in opened_runs(
        [arguments.run, *arguments.compare], arguments.size, transposed=arguments.legacy_transposed
    ):
        maps = feature_maps(opened.model, opened.batch(arguments.images), arguments.layer)
        for index, (path, name) in enumerate(zip(arguments.images, names_of(arguments.images))):
            values = {layer: reduce_channels(found[index], arguments.channel) for layer, found in maps.items()}
            rows.append(MapRow(f"{opened.label}\n{name}", path, values))
            for layer, found in maps.items():
                stem = arguments.output / file_name(opened.label) / f"{name}.{layer}"
                _write_map(stem, path, found[index : index + 1], values[layer], limits)
                said.append({**described(opened), "picture": name, "layer": layer, **_figures(found[index])})
    write_figure(feature_grid(rows, limits), arguments.output / "grid", arguments)
    write_json(arguments.output / "features.json", {"channel": arguments.channel, "maps": said})


def _write_map(
    stem: Path, picture: Path, array: np.ndarray, values: np.ndarray, limits: tuple[float, float] | None = None
) -> None:
    """An array, and the map (h, w) that is made of it as pictures of four kinds."""
    write_arrays(stem.with_name(f"{stem.name}.npy"), array)
    for kind, image in feature_pictures(picture, values, limits).items():
        write_atomic(stem.with_name(f"{stem.name}.{kind}.png"), png_bytes(image))


def sheet(arguments: argparse.Namespace) -> None:
    """One file, in the form that its ending says."""
    form = arguments.output.suffix.removeprefix(".").lower()
    if form not in FORMATS:
        raise ConfigError(f"-o {arguments.output} ends in {form!r}, wanted .png, .svg or .pdf")
    systems = {run.label: _shown(run, arguments) for run in opened_runs(arguments.runs, arguments.size)}
    partner = arguments.partner.name if arguments.partner else "the mirrored picture"
    note = {
        "cam": f"Grad-CAM of the similarity to {partner}",
        "attention": "attention, each map from its lowest to its highest value",
        "features": "mean over channels, each map from its lowest to its highest value",
    }[arguments.show]
    figure = paper_sheet(arguments.images, systems, width=arguments.width, dpi=arguments.dpi, note=note)
    write_atomic(arguments.output, figure_bytes(figure, form, arguments.dpi))
    print(arguments.output)


def _shown(opened: Run, arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """Level -> maps (B, h, w) of what the sheet is about."""
    images = opened.batch(arguments.images)
    if arguments.show == "attention":
        maps = {name: spatial_map(found) for name, found in attention_of(opened.model, images).items()}
        shown = {name: values for name, values in maps.items() if values is not None}
        if not shown:
            raise ConfigError(f"{opened.label} attends to channels alone and has no map; take --show cam or features")
        return shown
    if arguments.show == "features":
        return {layer: reduce_channels(found) for layer, found in feature_maps(opened.model, images).items()}
    partners = opened.batch([arguments.partner]).expand_as(images) if arguments.partner else images.flip(3)
    return {
        name: similarity_cam(opened.model, layer, images, partners).cpu().numpy()
        for name, layer in attention_layers(opened.model).items()
    }


def _figures(values: np.ndarray) -> dict[str, Any]:
    return {"shape": values.shape, "lowest": values.min(), "highest": values.max(), "mean": values.mean()}
