"""What regard exports, in another program: by its own loader, and in its tracker. Run in that program's environment.

    python benchmarks/consumers/check.py PROGRAM RUN CROWD [-o FOLDER]

Fails where a file is not what it was made for, where another program's file is taken, or where embeddings do not save
identity switches. ``make consumers`` runs it for all.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from sequence import Frame, sequence

import regard
from regard.cli.main import main as command
from regard.integrations.checking import LEAST, LOADERS, check_file, least_cosine

Tracks = Iterator[tuple[np.ndarray, np.ndarray]]
Tracker = Callable[[list[Frame], Path | None], Tracks]
"""Frames, and a file to embed with or None for motion alone -> ids and boxes, frame by frame."""

CAMERAS = (1, 2, 3)


def scored(frames: list[Frame]) -> np.ndarray:
    """Confidence and class beside each frame's detections, (N, 6)."""
    return [np.concatenate([f.detections, np.full((len(f.detections), 2), (0.9, 0.0))], 1) for f in frames]


def boxmot(frames: list[Frame], path: Path | None) -> Tracks:
    from boxmot import BotSort

    tracker = BotSort(reid_weights=path, use_embeddings=path is not None, use_cmc=False)
    for frame, rows in zip(frames, scored(frames)):
        out = np.asarray(tracker.update(rows.astype(np.float32), frame.pixels)).reshape(-1, 8)
        yield out[:, 4].astype(int), out[:, :4]


def ultralytics(frames: list[Frame], path: Path | None) -> Tracks:
    import yaml
    from ultralytics.engine.results import Boxes
    from ultralytics.trackers.bot_sort import BOTSORT

    settings = yaml.safe_load(TRACKER_YAML.read_text())
    assert settings["with_reid"] is True
    settings |= {"with_reid": path is not None, "gmc_method": "none", "device": "cpu"}
    tracker = BOTSORT(SimpleNamespace(**settings))
    for frame, rows in zip(frames, scored(frames)):
        out = tracker.update(Boxes(rows.astype(np.float32), frame.pixels.shape[:2]), frame.pixels)
        out = np.asarray(out).reshape(-1, 8)
        yield out[:, 4].astype(int), out[:, :4]


def libreyolo(frames: list[Frame], path: Path | None) -> Tracks:
    import torch
    from libreyolo.tracking.deepocsort import DeepOCSortTracker
    from libreyolo.tracking.ocsort import OCSortTracker
    from libreyolo.utils.results import Boxes, Results

    from regard.integrations.libreyolo import embedder

    tracker = OCSortTracker() if path is None else DeepOCSortTracker(embedder=embedder(regard.Encoder(path)))
    for frame, rows in zip(frames, scored(frames)):
        rows = torch.from_numpy(rows).float()
        seen = Results(boxes=Boxes(rows[:, :4], rows[:, 4], rows[:, 5]), orig_shape=frame.pixels.shape[:2])
        image = np.ascontiguousarray(frame.pixels[..., ::-1])
        out = tracker.update(seen, image) if path is not None else tracker.update(seen)
        yield np.asarray(out.track_id).astype(int), np.asarray(out.boxes.xyxy)


def deep_sort_realtime(frames: list[Frame], path: Path | None) -> Tracks:
    from deep_sort_realtime.deepsort_tracker import DeepSort

    from regard.integrations.deep_sort_realtime import with_embeds

    tracker, generator = DeepSort(embedder=None, n_init=1), np.random.default_rng(0)
    encoder = None if path is None else regard.Encoder(path)
    for frame in frames:
        seen = [([x0, y0, x1 - x0, y1 - y0], 0.9, "person") for x0, y0, x1, y1 in frame.detections.tolist()]
        if encoder is None:  # rows that are like no others: what is left is motion
            seen, rows = seen, list(generator.normal(size=(len(seen), 256)))
        else:
            seen, rows = with_embeds(encoder, frame.pixels, seen)
        out = [one for one in tracker.update_tracks(seen, rows) if one.is_confirmed() and one.time_since_update == 0]
        yield np.array([int(one.track_id) for one in out], int), np.array([one.to_ltrb() for one in out]).reshape(-1, 4)


def norfair(frames: list[Frame], path: Path | None) -> Tracks:
    from norfair import Tracker

    from regard.integrations.norfair import detections, near_and_alike

    how = {"distance_function": "iou", "distance_threshold": 0.6}
    if path is not None:
        how = {"distance_function": near_and_alike, "distance_threshold": 1.0, "past_detections_length": 5}
    tracker = Tracker(initialization_delay=0, **how)
    encoder = regard.Encoder(path or EXPORTED)
    for frame in frames:
        out = tracker.update(detections(encoder, frame.pixels, frame.detections))
        out = [one for one in out if one.live_points.all()]
        yield np.array([one.id for one in out], int), np.array([one.estimate.reshape(4) for one in out]).reshape(-1, 4)


TRACKERS: dict[str, Tracker] = {
    "boxmot": boxmot, "ultralytics": ultralytics, "libreyolo": libreyolo, "deep-sort-realtime": deep_sort_realtime,
    "norfair": norfair,
}  # fmt: skip
TRACKER_YAML = EXPORTED = Path()


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes, (len(a), len(b))."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clip(0).prod(2)
    return shared / ((a[:, 2:] - a[:, :2]).prod(1)[:, None] + (b[:, 2:] - b[:, :2]).prod(1)[None] - shared)


def figures(frames: list[Frame], tracks: Tracks) -> dict[str, float]:
    """HOTA, IDF1 and identity switches, by TrackEval."""
    from trackeval.metrics import CLEAR, HOTA, Identity

    found = list(tracks)
    numbers = {number: row for row, number in enumerate(sorted({int(n) for ids, _ in found for n in ids}))}
    data = {
        "gt_ids": [frame.ids for frame in frames],
        "tracker_ids": [np.array([numbers[int(n)] for n in ids], int) for ids, _ in found],
        "similarity_scores": [overlaps(frame.boxes, boxes) for frame, (_, boxes) in zip(frames, found)],
        "num_timesteps": len(frames), "num_gt_ids": 8, "num_tracker_ids": len(numbers),
        "num_gt_dets": sum(len(frame.ids) for frame in frames), "num_tracker_dets": sum(len(ids) for ids, _ in found),
    }  # fmt: skip
    quiet = {"PRINT_CONFIG": False}
    clear, identity = CLEAR(quiet).eval_sequence(data), Identity(quiet).eval_sequence(data)
    hota = HOTA().eval_sequence(data)["HOTA"]
    return {"HOTA": float(np.mean(hota)), "IDF1": float(identity["IDF1"]), "switches": int(clear["IDSW"])}


def tracked(name: str, path: Path, crowd: Path) -> dict[str, dict[str, float]]:
    """Figures of a program's tracker with regard's embeddings and with motion alone, over all cameras."""
    told = {}
    for kind, file in (("with embeddings", path), ("motion alone", None)):
        each = []
        for camera in CAMERAS:
            frames = sequence(crowd, camera)
            each.append(figures(frames, TRACKERS[name](frames, file)))
        told[kind] = {
            "HOTA": round(float(np.mean([one["HOTA"] for one in each])), 3),
            "IDF1": round(float(np.mean([one["IDF1"] for one in each])), 3),
            "switches": int(sum(one["switches"] for one in each)),
        }
    return told


def loaded(profile: str, path: Path, other: Path, run: str, crowd: Path) -> dict[str, float]:
    """Cosines of what the program's loader makes of its file, and of the file of another program."""
    import importlib

    model = regard.load(run)
    told = {}
    for name, file in (("own file", path), ("another's", other)):
        try:
            compute = importlib.import_module(f"regard.integrations.{LOADERS[profile]}").by_loader(file)
            frame = sequence(crowd, 1)[0]
            boxes = np.round(frame.detections + np.array((8, 8, -8, -8))).astype(
                np.float32
            )  # no crop higher than the input
            rows, crops = compute(frame.pixels, boxes)
            told[name] = least_cosine(rows, model.embed_pictures(crops, color="bgr"))
        except Exception as error:  # it refuses the file
            if name == "own file":
                raise
            told[name] = -1.0
            print(f"another's file is refused: {type(error).__name__}: {str(error)[:120]}")
    return told


def documented(name: str, home: Path, crowd: Path) -> int:
    """Run the code that the documents show for a program; how many blocks there are."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "trackers.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", page, re.S | re.M)
    assert section is not None, name
    frames = sequence(crowd, 1)[:20]
    known = {"frames": [one.pixels for one in frames], "detections": [one.detections for one in frames]}
    blocks = re.findall(r"^```python\n(.*?)^```", section[1], re.S | re.M)
    with contextlib.chdir(home):
        for block in blocks:
            exec(compile(block, str(name), "exec"), known)
    assert len(known.get("tracks", known.get("rows"))) > 0
    return len(blocks)


def run(arguments: argparse.Namespace) -> dict:
    """Everything of one program."""
    global TRACKER_YAML, EXPORTED
    name, home = arguments.program, arguments.output
    profile = {"deep-sort-realtime": "libreyolo", "norfair": "libreyolo"}.get(name, name)
    other = "ultralytics" if profile == "boxmot" else "boxmot"
    files = {kind: home / (kind if kind == "reid" else f"{kind}.onnx") for kind in {profile, other}}
    for kind, file in files.items():
        if not file.exists():
            assert command(["export", arguments.run, "--for", kind, "-o", str(file), "--quiet"]) == 0
    path = files[profile]
    TRACKER_YAML, EXPORTED = path.with_suffix(".yaml"), path
    told: dict = {"program": name, "blocks of the documents": documented(name, home, arguments.crowd)}
    assert command(["export", "--check", str(files[other]), "--for", profile]) == 2
    if name in LOADERS:
        told["check"] = check_file(path, profile)
        told["cosine"] = loaded(profile, path, files[other], arguments.run, arguments.crowd) if name != "reid" else {}
        assert told["check"].rpartition("cosine to regard's ")[2].startswith(("1.0", "0.999")), told["check"]
        if told["cosine"]:
            assert told["cosine"]["own file"] >= LEAST, told
            assert name == "libreyolo" or told["cosine"]["another's"] < LEAST, told  # regard prepares what it reads
    if name in TRACKERS:
        told["tracker"] = tracked(name, path, arguments.crowd)
        assert told["tracker"]["with embeddings"]["switches"] < told["tracker"]["motion alone"]["switches"], told
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", choices=sorted({*TRACKERS, *LOADERS} - {"openvino-bgr"}))
    parser.add_argument("run")
    parser.add_argument("crowd", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/consumers"))
    arguments = parser.parse_args()
    told = run(arguments)
    (arguments.output / f"{arguments.program}.json").write_text(json.dumps(told, indent=2) + "\n")
    print(json.dumps(told, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
