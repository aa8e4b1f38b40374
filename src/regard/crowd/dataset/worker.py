"""The work of one process: build cameras, shoot people, encode and write their pictures.

A process opens one studio when it starts and keeps it; tasks are small and name everything else.
"""

from __future__ import annotations

import hashlib
import io
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from regard.crowd.body.mesh import Body, build_body
from regard.crowd.camera.city_cameras import hang_camera
from regard.crowd.camera.view import Box, Figure, place_figure
from regard.crowd.dataset.crowd_folder import CAMERAS, MASKS
from regard.crowd.dataset.label_files import Record, pair_digest
from regard.crowd.dataset.mmap_pickle import load_shared, save_shared
from regard.crowd.dataset.plan import JUNK, QUERY, Job, Shot
from regard.crowd.dataset.request import Request
from regard.crowd.identity_types import Identity
from regard.crowd.render.background import expose_plate, stand_props
from regard.crowd.render.passersby import draw_walkers
from regard.crowd.render.shoot import Set, Take, frame_figure, shoot
from regard.crowd.render.walk import Moment, Walk, draw_moments, draw_walk, motion_of
from regard.crowd.rng import Rng

__all__ = ["Studio", "Task", "make_set", "open_studio", "run_task"]

PALETTE = (
    *((0, 0, 0), (230, 180, 140), (90, 50, 30), (60, 120, 220), (240, 200, 170)),
    *((40, 170, 90), (250, 220, 200), (200, 60, 60), (220, 180, 40)),
)
"""Colors of the masks' labels for those who look at them."""


@dataclass(frozen=True, slots=True)
class Task:
    """A job and the identity it is about; None where nobody is to be seen."""

    job: Job
    person: Identity | None


class Studio:
    """Everything a process keeps between tasks.

    Args:
        request: what was asked for.
        place: folder the data set is made in.
    """

    def __init__(self, request: Request, place: Path):
        self.request = request
        self.place = place
        self.sets: dict[int, Set] = {}

    @property
    def detail(self) -> float:
        """Return the height of the pictures against 128 pixels."""
        return self.request.height / 128

    @property
    def texels(self) -> int:
        """Return the number of texels along the side of a body's cell."""
        return max(2, min(8, round(3 * self.detail)))

    def make_set(self, index: int) -> None:
        """Build a camera's surroundings and leave them on disk for all processes."""
        camera = hang_camera(self.request.city, index, self.request.knobs)
        plate, props = expose_plate(camera, self.detail), stand_props(camera, self.detail)
        walkers = draw_walkers(camera, self.texels, self.detail)
        save_shared(Set(camera, plate, tuple(props), tuple(walkers)), self.place / CAMERAS / str(index))

    def set_of(self, index: int) -> Set:
        """Return a camera with its surroundings."""
        if index not in self.sets:
            self.sets[index] = load_shared(self.place / CAMERAS / str(index))
        return self.sets[index]

    def run(self, task: Task) -> list[Record]:
        """Shoot and write everything of one job."""
        return [self.write(task.job.pid, camera, shot, take) for camera, shot, take in self.takes(task)]

    def takes(self, task: Task) -> Iterator[tuple[int, Shot, Take]]:
        """Yield every picture of a job with its camera and its plan."""
        scenes = [scene for visit in task.job.visits for scene in self.stage(task, visit.camera, visit.shots)]
        figures = self.pose(task.person, scenes)
        for scene, (body, figure) in zip(scenes, figures):
            yield scene.place.camera.index, scene.shot, self.take(task, scene, body, figure)

    def stage(self, task: Task, camera: int, shots: tuple[Shot, ...]) -> Iterator[Scene]:
        """Yield the scenes of one visit."""
        seed, key, knobs = self.request.seed, task.job.key, self.request.knobs
        place = self.set_of(camera)
        arms = task.person.gait.arms if task.person else "swing"
        walk = draw_walk(seed, key, place.camera, arms=arms, walkers=len(place.walkers), knobs=knobs)
        moments = draw_moments(seed, key, place.camera, walk, [shot.walked for shot in shots])
        for shot, moment in zip(shots, moments):
            yield Scene(place, walk, moment, shot)

    def pose(self, person: Identity | None, scenes: list[Scene]) -> list[tuple[Body | None, Figure | None]]:
        """Return body and figure of every scene; all scenes of a body are posed at once."""
        found: list[tuple[Body | None, Figure | None]] = [(None, None)] * len(scenes)
        if person is None:
            return found
        for bagless in (False, True):
            chosen = [i for i, scene in enumerate(scenes) if scene.without_bag(person) == bagless]
            if not chosen:
                continue
            wearer = replace(person, bag=replace(person.bag, kind="none")) if bagless else person
            body = build_body(wearer, self.texels)
            pose = body.pose(motion_of([scenes[i].walk for i in chosen], [scenes[i].moment for i in chosen]))
            for frame, i in enumerate(chosen):
                view, walk, moment = scenes[i].place.camera.view, scenes[i].walk, scenes[i].moment
                figure = place_figure(*pose.at(frame), view, heading=walk.heading, x=moment.x, z=moment.z)
                found[i] = body, figure
        return found

    def take(self, task: Task, scene: Scene, body: Body | None, figure: Figure | None) -> Take:
        """Take one picture."""
        request, camera = self.request, scene.place.camera
        rng = Rng(request.seed, "image", task.job.key, camera.index, scene.shot.index)
        outline = figure.box if figure is not None else scene.phantom()
        by_hand = scene.shot.folder == QUERY
        size = request.height, request.width
        frame = frame_figure(camera, outline, rng, request.knobs, size=size, by_hand=by_hand, junk=task.job.pid == JUNK)
        walk, moment = scene.walk, scene.moment
        return shoot(scene.place, frame, body, figure, walk=walk, moment=moment, rng=rng, knobs=request.knobs)

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
            native=take.native,
            file_digest=pair_digest(jpeg, png),
            pixel_digest=hashlib.sha256(take.pixels.tobytes() + take.labels.tobytes()).hexdigest(),
        )


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture before it is taken."""

    place: Set
    walk: Walk
    moment: Moment
    shot: Shot

    def without_bag(self, person: Identity) -> bool:
        """Return whether the person left a bag at home."""
        return self.walk.bagless and person.bag.kind != "none"

    def phantom(self) -> Box:
        """Return where a person of usual size would be seen."""
        view = self.place.camera.view
        x, bottom = view.project_point(self.moment.x, 0.0, self.moment.z)
        _, top = view.project_point(self.moment.x, 1.7, self.moment.z)
        half = 0.2 * (bottom - top)
        return x - half, top, x + half, bottom


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


def run_task(task: Task) -> list[Record]:
    """Shoot and write a job in this process's studio."""
    return STUDIO[0].run(task)


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
