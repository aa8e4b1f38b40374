"""What other programs want beside a network's file: their metadata, settings and folders."""

from __future__ import annotations

import json
from pathlib import Path

from regard.export.manifest import Card

__all__ = ["beside", "in_repository"]

TRACKER = """\
# BoT-SORT of Ultralytics, at its own defaults, with the re-ID network beside this file.
tracker_type: botsort
track_high_thresh: 0.25
track_low_thresh: 0.1
new_track_thresh: 0.25
track_buffer: 30
match_thresh: 0.8
fuse_score: True
gmc_method: sparseOptFlow
proximity_thresh: 0.5
appearance_thresh: 0.8
with_reid: True
model: {file}
"""

DEEPSTREAM = """\
# The ReID section of a tracker's settings (Gst-nvtracker, NvDCF or NvDeepSORT); not run where regard is developed.
ReID:
  reidType: 2
  batchSize: {batch}
  workspaceSize: 1000
  reidFeatureSize: {dim}
  reidHistorySize: 100
  inferDims: [3, {height}, {width}]
  networkMode: {mode}
  inputOrder: 0
  colorFormat: 0
  offsets: [0.0, 0.0, 0.0]
  netScaleFactor: 1.0
  keepAspc: 0
  addFeatureNormalization: 1
  onnxFile: {file}
"""

TRITON = """\
name: "{name}"
platform: "onnxruntime_onnx"
max_batch_size: {batch}
input [ {{ name: "{input}", data_type: TYPE_UINT8, dims: [ {height}, {width}, 3 ] }} ]
output [ {{ name: "{output}", data_type: TYPE_FP32, dims: [ {dim} ] }} ]
dynamic_batching {{ }}
"""

LARGEST = 64
"""Pictures at a time where a file leaves their number open."""


def beside(card: Card, path: Path) -> dict[Path, bytes]:
    """The files that go with the file at ``path`` where it was made for a program: place -> content."""
    told = {
        "file": json.dumps(str(path.absolute())), "batch": card.batch or LARGEST, "dim": card.embed_dim,
        "height": card.height, "width": card.width, "input": card.input, "output": card.output,
        "name": path.parent.parent.name, "mode": {"fp16": 1, "int8": 2}.get(card.precision, 0),
    }  # fmt: skip
    if card.made_for == "boxmot":
        about = {
            "schema_version": 1, "model_name": f"regard_{card.system}", "preprocess": "resize",
            "img_size": [card.height, card.width],
        }  # fmt: skip
        return {path.with_name(f"{path.name}.metadata.json"): (json.dumps(about, indent=2) + "\n").encode()}
    if card.made_for == "ultralytics":
        return {path.with_suffix(".yaml"): TRACKER.format(**told).encode()}
    if card.made_for == "deepstream":
        return {path.with_suffix(".deepstream.yml"): DEEPSTREAM.format(**told).encode()}
    if card.made_for == "triton":
        return {path.parent.parent / "config.pbtxt": TRITON.format(**told).encode()}
    return {}


def in_repository(folder: Path, card: Card) -> Path:
    """Where a model repository of Triton keeps the file: below its folder, which may have been named as a file."""
    home = folder.with_suffix("") if folder.suffix == ".onnx" else folder
    return home / f"regard_{card.system}" / "1" / "model.onnx"
