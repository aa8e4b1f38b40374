"""The programs' trackers on a video, with regard's embeddings or by motion alone, and what TrackEval says of them.

Each takes frames and what embeds: the file that was exported for it, loaded by the program itself; an encoder of
regard, by the program's adapter; or None. It gives ids and boxes (N, 4), frame by frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from sequence import PEOPLE, Frame

import regard
from regard.integrations import boxmot as for_boxmot
from regard.integrations import deep_sort_realtime as for_deep_sort
from regard.integrations import libreyolo as for_libreyolo
from regard.integrations import norfair as for_norfair
from regard.integrations import ultralytics as for_ultralytics

__all__ = ["TRACKERS", "figures"]

Embeds = Path | regard.Encoder | None
Tracks = Iterator[tuple[np.ndarray, np.ndarray]]


def boxmot(frames: list[Frame], embeds: Embeds) -> Tracks:
    from boxmot import BotSort
    from boxmot.pipelines.tracking import TrackingPipeline

    tracker = BotSort(
        reid_weights=embeds if isinstance(embeds, Path) else None, use_embeddings=embeds is not None, use_cmc=False
    )
    if isinstance(embeds, regard.Encoder):
        pipeline = TrackingPipeline(None, tracker, reid=for_boxmot.BoxmotEncoder(embeds))
        for frame in frames:
            out = pipeline.step_detections(*boxmots(frame.pixels, frame.detections)).tracks
            yield out.track_ids.numpy(), out.geometry.values.numpy()
        return
    for frame in frames:
        out = np.asarray(tracker.update(scored(frame), frame.pixels)).reshape(-1, 8)
        yield out[:, 4].astype(int), out[:, :4]


def boxmots(pixels: np.ndarray, boxes: np.ndarray) -> tuple:
    """BoxMOT's own frame and detections."""
    from boxmot import structures

    image = torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1)))
    where = structures.Boxes(torch.from_numpy(boxes).float())
    sure, kinds = torch.full((len(boxes),), 0.9), torch.zeros(len(boxes), dtype=torch.long)
    return structures.Frame(image, "frame"), structures.Detections(where, sure, kinds, "frame")


def ultralytics(frames: list[Frame], embeds: Embeds) -> Tracks:
    import yaml
    from ultralytics.engine.results import Boxes
    from ultralytics.trackers.bot_sort import BOTSORT
    from ultralytics.utils import ROOT

    beside = embeds.with_suffix(".yaml") if isinstance(embeds, Path) else ROOT / "cfg/trackers/botsort.yaml"
    settings = yaml.safe_load(beside.read_text())
    assert settings["with_reid"] is isinstance(embeds, Path)
    tracker = BOTSORT(SimpleNamespace(**settings | {"gmc_method": "none", "device": "cpu"}))
    if isinstance(embeds, regard.Encoder):
        for_ultralytics.attach(tracker, embeds)
    for frame in frames:
        out = tracker.update(Boxes(scored(frame), frame.pixels.shape[:2]), frame.pixels)
        out = np.asarray(out).reshape(-1, 8)
        yield out[:, 4].astype(int), out[:, :4]


def libreyolo(frames: list[Frame], embeds: Embeds) -> Tracks:
    from libreyolo.tracking.deepocsort import DeepOCSortTracker
    from libreyolo.tracking.ocsort import OCSortTracker
    from libreyolo.utils.results import Boxes, Results

    how = None if embeds is None else for_libreyolo.embedder(opened(embeds))
    tracker = OCSortTracker() if how is None else DeepOCSortTracker(embedder=how)
    for frame in frames:
        rows = torch.from_numpy(scored(frame))
        seen = Results(boxes=Boxes(rows[:, :4], rows[:, 4], rows[:, 5]), orig_shape=frame.pixels.shape[:2])
        image = () if how is None else (np.ascontiguousarray(frame.pixels[..., ::-1]),)
        out = tracker.update(seen, *image)
        yield np.asarray(out.track_id).astype(int), np.asarray(out.boxes.xyxy)


def deep_sort_realtime(frames: list[Frame], embeds: Embeds) -> Tracks:
    from deep_sort_realtime.deepsort_tracker import DeepSort

    tracker, generator = DeepSort(embedder=None, n_init=1), np.random.default_rng(0)
    encoder = None if embeds is None else opened(embeds)
    for frame in frames:
        seen = [([x0, y0, x1 - x0, y1 - y0], 0.9, "person") for x0, y0, x1, y1 in frame.detections.tolist()]
        if encoder is None:  # rows that are like no others: what is left is motion
            rows = list(generator.normal(size=(len(seen), 256)))
        else:
            seen, rows = for_deep_sort.with_embeds(encoder, frame.pixels, seen)
        out = [one for one in tracker.update_tracks(seen, rows) if one.is_confirmed() and one.time_since_update == 0]
        yield np.array([int(one.track_id) for one in out], int), np.array([one.to_ltrb() for one in out]).reshape(-1, 4)


def norfair(frames: list[Frame], embeds: Embeds) -> Tracks:
    from norfair import Detection, Tracker

    how = {"distance_function": "iou", "distance_threshold": 0.6}
    encoder = None
    if embeds is not None:
        encoder = opened(embeds)
        how = {"distance_function": for_norfair.near_and_alike, "distance_threshold": 1.0, "past_detections_length": 5}
    tracker = Tracker(initialization_delay=0, **how)
    for frame in frames:
        if encoder is None:
            seen = [Detection(box.reshape(2, 2)) for box in frame.detections]
        else:
            seen = for_norfair.detections(encoder, frame.pixels, frame.detections)
        out = [one for one in tracker.update(seen) if one.live_points.all()]
        yield np.array([one.id for one in out], int), np.array([one.estimate.reshape(4) for one in out]).reshape(-1, 4)


TRACKERS: dict[str, Callable[[list[Frame], Embeds], Tracks]] = {
    "boxmot": boxmot, "ultralytics": ultralytics, "libreyolo": libreyolo, "deep-sort-realtime": deep_sort_realtime,
    "norfair": norfair,
}  # fmt: skip


def opened(embeds: Path | regard.Encoder) -> regard.Encoder:
    """An encoder, of a file where it is one."""
    return embeds if isinstance(embeds, regard.Encoder) else regard.Encoder(embeds)


def scored(frame: Frame) -> np.ndarray:
    """Confidence and class beside a frame's detections, (N, 6) float32."""
    more = np.full((len(frame.detections), 2), (0.9, 0.0))
    return np.concatenate([frame.detections, more], 1).astype(np.float32)


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
        "num_timesteps": len(frames), "num_gt_ids": PEOPLE, "num_tracker_ids": len(numbers),
        "num_gt_dets": sum(len(frame.ids) for frame in frames), "num_tracker_dets": sum(len(ids) for ids, _ in found),
    }  # fmt: skip
    quiet = {"PRINT_CONFIG": False}
    clear, identity = CLEAR(quiet).eval_sequence(data), Identity(quiet).eval_sequence(data)
    hota = HOTA().eval_sequence(data)["HOTA"]
    return {"HOTA": float(np.mean(hota)), "IDF1": float(identity["IDF1"]), "switches": int(clear["IDSW"])}
