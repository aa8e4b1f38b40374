"""The work of one process: build cameras, shoot people, encode and write their pictures.

A process opens one studio when it starts and keeps it; tasks are small and name everything else.
"""

from __future__ import annotations

import hashlib
import io
import mmap
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from regard.crowd.body.mesh import build_body
from regard.crowd.camera.city_cameras import Box
from regard.crowd.camera.detector import Frame, frame_figure
from regard.crowd.camera.spread import hang_spread
from regard.crowd.dataset.crowd_folder import CAMERAS, MASKS, pair_digest
from regard.crowd.dataset.label_files import Record
from regard.crowd.dataset.plan import JUNK, QUERY, Job, Shot, Visit
from regard.crowd.dataset.request import Request
from regard.crowd.identity_types import Identity
from regard.crowd.render.background import Set, build_set
from regard.crowd.render.dosed import Dosed, posed
from regard.crowd.render.raster import Figure, place_figure
from regard.crowd.render.relief import creased
from regard.crowd.render.shoot import Take, is_bare, shoot
from regard.crowd.render.walk import Moment, draw_moments, motion_of
from regard.crowd.rng import Rng

__all__ = ["Scene", "Studio", "make_set", "open_studio", "run_job"]

PALETTE = (
    *((0, 0, 0), (230, 180, 140), (90, 50, 30), (60, 120, 220), (240, 200, 170)),
    *((40, 170, 90), (250, 220, 200), (200, 60, 60), (220, 180, 40)),
)
"""Colors of the masks' labels for those who look at them."""
ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture before it is taken; in ``stance`` the body is as a cause may have bent it."""

    place: Set
    moment: Moment
    shot: Shot
    stance: Moment

    def phantom(self) -> Box:
        """Return where a person of usual size would be seen."""
        view, x, z = self.place.camera.view, self.moment.x, self.moment.z
        across, bottom, _ = view.project(x, 0.0, z)
        top = view.project(x, 1.7, z)[1]
        half = 0.2 * (bottom - top)
        return across - half, top, across + half, bottom


class Studio:
    """Everything a process keeps between jobs.

    Args:
        request: what was asked for.
        place: folder the data set is made in.
    """

    def __init__(self, request: Request, place: Path):
        self.request, self.place = request, place
        self.sets: dict[int, Set] = {}
        self.detail = request.height / 128
        self.texels = max(2, min(8, round(3 * self.detail)))  # along the side of a body's cell

    def make_set(self, index: int) -> None:
        """Build a camera's surroundings and leave them on disk for all processes."""
        request = self.request
        camera = hang_spread(*request.hung(index), request.knobs)
        there = build_set(replace(camera, index=index), request.knobs, self.texels, self.detail)
        save_shared(there, self.place / CAMERAS / str(index))

    def set_of(self, index: int) -> Set:
        """Return a camera with its surroundings."""
        if index not in self.sets:
            self.sets[index] = load_shared(self.place / CAMERAS / str(index))
        return self.sets[index]

    def run(self, job: Job) -> list[Record]:
        """Shoot and write everything of one job."""
        scenes = [scene for visit in job.visits for scene in self.stage(job, visit)]
        figures = upright = self.pose(job.person, scenes)
        if any(scene.stance is not scene.moment for scene in scenes):
            upright = self.pose(job.person, [replace(scene, stance=scene.moment) for scene in scenes])
        return [
            self.write(job.pid, scene.place.camera.index, scene.shot, self.take(job, scene, figure, plain))
            for scene, figure, plain in zip(scenes, figures, upright)
        ]

    def stage(self, job: Job, visit: Visit) -> Iterator[Scene]:
        """Yield the scenes of one visit."""
        place, arms = self.set_of(visit.camera), job.person.gait.arms if job.person else "swing"
        walked = [shot.walked for shot in visit.shots]
        who = self.request.seed, job.key, place.camera
        moments = draw_moments(*who, walked, arms=arms, walkers=len(place.walkers), knobs=self.request.knobs)
        for shot, moment in zip(visit.shots, moments):
            cause, stance = self.request.cause, moment
            if cause is not None and cause.name == "pose":
                stance = posed(moment, Rng("cause", "pose", *self.path(job, visit.camera, shot)), cause.dose)
            yield Scene(place, moment, shot, stance)

    def path(self, job: Job, camera: int, shot: Shot) -> tuple[str | int, ...]:
        """Return what names a picture's streams."""
        return self.request.seed, job.key, camera, shot.index

    def pose(self, person: Identity | None, scenes: list[Scene]) -> list[Figure | None]:
        """Return the figure of every scene; all scenes of a body are posed at once."""
        figures: list[Figure | None] = [None] * len(scenes)
        if person is None:
            return figures
        there, depth = person.bag.kind != "none", self.request.knobs.relief
        for bagless in (False, True):
            chosen = [i for i, scene in enumerate(scenes) if (there and scene.moment.bagless) == bagless]
            if not chosen:
                continue
            wearer = replace(person, bag=replace(person.bag, kind="none")) if bagless else person
            pose = build_body(wearer, self.texels).pose(motion_of([scenes[i].stance for i in chosen]))
            for frame, i in enumerate(chosen):
                view, moment = scenes[i].place.camera.view, scenes[i].stance
                figure = place_figure(pose, frame, view, heading=moment.heading, x=moment.x, z=moment.z)
                if depth > 0:
                    figure = creased(figure, Rng(self.request.seed, "relief", scenes[i].shot.name), depth)
                figures[i] = figure
        return figures

    def take(self, job: Job, scene: Scene, figure: Figure | None, plain: Figure | None) -> Take:
        """Take one picture; ``plain`` is the figure as it would stand without a cause."""
        request, camera = self.request, scene.place.camera
        rng, frame = self.frame(job, scene, figure)
        dosed = None
        if request.cause is not None:
            _, before = self.frame(job, scene, plain)
            bare = is_bare(scene.place, scene.moment, before, plain, request.knobs)
            path = self.path(job, camera.index, scene.shot)
            dosed = Dosed(request.cause, path, job.person, request.seed, bare)
            frame = dosed.framed(frame, request.knobs, camera.native_focal)
        return shoot(scene.place, scene.moment, frame, figure, rng=rng, knobs=request.knobs, dosed=dosed)

    def frame(self, job: Job, scene: Scene, figure: Figure | None) -> tuple[Rng, Frame]:
        """Return the stream of a picture and the crop that a detector makes of it, drawn from its start."""
        request, camera = self.request, scene.place.camera
        rng = Rng(request.seed, "image", job.key, camera.index, scene.shot.index)
        outline, size = figure.box if figure else scene.phantom(), (request.height, request.width)
        by_hand, junk = scene.shot.folder == QUERY, job.pid == JUNK
        return rng, frame_figure(
            outline, rng, request.knobs, camera=camera, size=size, by_hand=by_hand, junk=junk
        )  # fmt: skip

    def write(self, pid: int, camera: int, shot: Shot, take: Take) -> Record:
        """Encode a picture and its mask and write both."""
        jpeg, png = encode_picture(take.pixels, self.request.knobs.jpeg_quality), encode_mask(take.labels)
        (self.place / shot.folder / f"{shot.name}.jpg").write_bytes(jpeg)
        (self.place / MASKS / shot.folder / f"{shot.name}.png").write_bytes(png)
        return Record(
            file_name=f"{shot.folder}/{shot.name}.jpg",
            pid=pid,
            camid=camera,
            keypoints=take.keypoints,
            bbox=bounds(take.labels),
            area=int((take.labels > 0).sum()),
            visible=take.visible,
            shown=take.shown,
            native=take.native,
            file_digest=pair_digest(jpeg, png),
            pixel_digest=hashlib.sha256(take.pixels.tobytes() + take.labels.tobytes()).hexdigest(),
        )


STUDIO: list[Studio] = []
"""The studio of this process, once it is open."""


def open_studio(request: Request, place: Path) -> None:
    """Start work on a request in this process."""
    STUDIO[:] = [Studio(request, place)]


def enlist(request: Request, place: Path) -> None:
    """Start work in a process of a pool, which leaves the interrupt key to its parent and does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=follow, args=(os.getppid(),), daemon=True).start()
    open_studio(request, place)


def follow(parent: int) -> None:
    """End this process soon after its parent."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def make_set(index: int) -> None:
    """Build a camera in this process's studio."""
    STUDIO[0].make_set(index)


def run_job(job: Job) -> list[Record]:
    """Shoot and write a job in this process's studio."""
    return STUDIO[0].run(job)


def save_shared(thing: Any, path: Path) -> None:
    """Write an object for several processes: its arrays to ``path``, the rest to the same path with ``.pickle``."""
    buffers: list[pickle.PickleBuffer] = []
    frame = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    spans, end = [], 0
    with path.open("wb") as file:
        for buffer in buffers:
            raw = buffer.raw()
            file.seek(end)
            file.write(raw)
            spans.append((end, raw.nbytes))
            end += -(-raw.nbytes // ALIGNMENT) * ALIGNMENT
        file.truncate(max(end, 1))
    path.with_suffix(".pickle").write_bytes(pickle.dumps((frame, spans)))


def load_shared(path: Path) -> Any:
    """Read an object written by :func:`save_shared`.

    Its arrays are mapped, so that they are in memory once however many processes use them; none can be written to.
    """
    frame, spans = pickle.loads(path.with_suffix(".pickle").read_bytes())
    with path.open("rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return pickle.loads(frame, buffers=[view[start : start + size] for start, size in spans])


def encode_picture(pixels: np.ndarray, quality: int) -> bytes:
    """Encode (H, W, 3) uint8 as JPEG, the color at full resolution from quality 90 on."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=2 if quality < 90 else 0)
    return buffer.getvalue()


def encode_mask(labels: np.ndarray) -> bytes:
    """Encode (H, W) uint8 labels as PNG with a palette."""
    buffer = io.BytesIO()
    image = Image.fromarray(labels)
    image.putpalette([channel for color in PALETTE for channel in color])
    image.save(buffer, "PNG")
    return buffer.getvalue()


def bounds(labels: np.ndarray) -> tuple[int, int, int, int]:
    """Return (x, y, width, height) around everything that is not 0."""
    rows, columns = (np.flatnonzero(labels.any(axis)) for axis in (1, 0))
    if not len(rows):
        return 0, 0, 0, 0
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y
