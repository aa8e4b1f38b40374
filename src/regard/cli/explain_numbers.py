"""The actions of ``regard explain`` whose answer is a number: correlation and attention precision."""

from __future__ import annotations

import argparse
import fnmatch
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from regard.cli.explain_runs import names_of, opened_runs, write_arrays, write_figure, write_json
from regard.data.labels import LabelRoots, attach_labels, has_label
from regard.data.sources import find_source
from regard.errors import ConfigError, DataError
from regard.explain.attention_precision import (
    PrecisionRow,
    measure_precision,
    pair_up,
    precision_figure,
    precision_row,
    precision_table,
)
from regard.explain.correlation import Correlation, correlate, correlation_figure
from regard.explain.features import feature_maps
from regard.models.build import from_config
from regard.models.saved import model_config
from regard.progress import progress_bar
from regard.run_folder.folders import own_config
from regard.run_folder.opened_data import label_roots
from regard.structures import Sample, Splits
from regard.wording import count

__all__ = ["correlation", "masked_samples", "precision"]


def correlation(arguments: argparse.Namespace) -> None:
    """Matrices as .npy, side by side as a figure, and their figures as a table and as JSON."""
    found: dict[str, Correlation] = {}
    for label, array in _maps(arguments).items():
        found[label] = correlate(array, arguments.axis)
        name = label.replace(" ", ".").replace("/", "_")
        write_arrays(arguments.output / f"{name}.{arguments.axis}.npy", found[label].matrix)
    write_figure(correlation_figure(found), arguments.output / "correlation", arguments)
    write_json(arguments.output / "correlation.json", {label: result.to_dict() for label, result in found.items()})
    width = max(map(len, found))
    for label, result in found.items():
        print(
            f"{label:<{width}}  mean {result.mean:.3f}  off the diagonal {result.mean_off_diagonal:.3f}  "
            f"{result.n:,} {result.axis}, {result.dead} dead"
        )


def _maps(arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """Label -> (1, C, h, w), from files or from runs and pictures."""
    given = [*arguments.inputs, *arguments.compare]
    maps_alone = arguments.inputs[0].suffix == ".npy"
    if maps_alone or any(path.suffix == ".npy" for path in arguments.compare):  # behind a run they are pictures
        if arguments.layer or arguments.legacy_transposed or not all(path.suffix == ".npy" for path in given):
            raise ConfigError(
                "got maps as .npy together with runs, or with options of runs; give .npy files alone, or a run and "
                "pictures"
            )
        return {name: _read(path) for name, path in zip(names_of(given), given)}
    folder, *images = arguments.inputs
    if not images:
        raise ConfigError(f"got the run {folder} without pictures; say which, or give maps as .npy files")
    maps = {}
    for opened in opened_runs([folder, *arguments.compare], arguments.size, transposed=arguments.legacy_transposed):
        found = feature_maps(opened.model, opened.batch(images), arguments.layer)
        for index, name in enumerate(names_of(images)):
            for layer, values in found.items():
                maps[f"{opened.label} {name} {layer}"] = values[index : index + 1]
    return maps


def _read(path: Path) -> np.ndarray:
    try:
        values = np.load(path, allow_pickle=False)
        if not isinstance(values, np.ndarray):
            raise ValueError("it is an archive")
        return values
    except Exception as error:  # NumPy raises whatever a damaged header makes it stumble over
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise DataError(f"cannot read {path}: {reason}; give maps as 'regard explain features' writes them") from error


def precision(arguments: argparse.Namespace) -> None:
    """A table, its chart, and everything as JSON."""
    if arguments.images < 1:
        raise ConfigError(f"--images is {arguments.images}, wanted 1 or more")
    splits = find_source(arguments.data or str(arguments.root), arguments.root).read()
    shown, others = masked_samples(splits, arguments), splits.gallery if arguments.split == "query" else splits.query
    pairs = pair_up(shown, others, arguments.images)
    pids = np.array([sample.pid for sample, _ in pairs])
    rows: list[PrecisionRow] = []
    for opened in opened_runs(arguments.runs, arguments.size):
        described = model_config(opened.model)
        torch.manual_seed(arguments.seed)
        untrained = from_config(described).to(opened.runtime.device)
        with progress_bar(total=2 * len(pairs), title=opened.label, unit="image", quiet=arguments.quiet) as bar:
            after = measure_precision(opened.model, pairs, opened.input, bar.update)
            before = measure_precision(untrained, pairs, opened.input, bar.update)
        names = [name for name in after if name != "chance" and _wanted(name, arguments.map)]
        rows += [precision_row(opened.label, name, before, after, pids) for name in names]
    if not rows:
        raise ConfigError(f"no map of these runs is named {', '.join(arguments.map or ())}; leave --map out to see all")
    noun = "query" if arguments.split == "query" else "gallery picture"
    print(f"{splits.label}: {count(len(pairs), noun)} of {count(len(set(pids.tolist())), 'person')}\n")
    print(precision_table(rows), end="\n\n")
    write_figure(precision_figure(rows), arguments.output / "precision", arguments)
    write_json(arguments.output / "precision.json", [row._asdict() for row in rows])


def masked_samples(splits: Splits, arguments: argparse.Namespace) -> list[Sample]:
    """The pictures of ``split`` to look at, with masks: those that were named, the data set's own, or a run's."""
    samples: list[Sample] = getattr(splits, arguments.split)
    roots = LabelRoots(
        mask_root=arguments.masks, coco=arguments.coco, mask_threshold=arguments.mask_threshold, tolerance=1
    )
    if not _places(roots) and not any(has_label(sample, "mask") for sample in samples):
        configs = (own_config(folder) for folder in arguments.runs)
        files = [config.data.label_files.get(splits.name) for config in configs if config]
        found = [one for one in files if one and (one.mask_root or one.coco)]
        if found:
            told = {"mask_threshold": roots.mask_threshold} if roots else {}
            roots = label_roots(found[0], keypoint_root=None, tolerance=1, **told)
    if not roots:
        return samples
    if roots.mask_threshold and not roots.mask_root:
        samples, _ = attach_labels(samples, splits.root, LabelRoots(mask_threshold=roots.mask_threshold))
    elsewhere, own, more = _places(roots), samples, ""
    if elsewhere:
        own = [replace(sample, mask=None) for sample in samples]
    named, coverage = attach_labels(own, splits.root, roots)
    if elsewhere:
        named = [found if has_label(found, "mask") else sample for found, sample in zip(named, samples)]
        rest = sum(has_label(sample, "mask") for sample in named) - coverage.masks
        more = f"; {rest:,} of the others have the data set's own" if rest else ""
    pictures = count(coverage.photos, f"{arguments.split} picture")
    print(f"masks in {elsewhere or splits.label}: {coverage.masks:,} of {pictures}{more}")
    return named


def _places(roots: LabelRoots) -> str:
    """Where masks are looked for besides the data set, in words."""
    return " and ".join(str(place) for place in (roots.mask_root, roots.coco) if place)


def _wanted(name: str, patterns: list[str] | None) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
