"""A studio without files: pictures of a small crowd as arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from regard.crowd.dataset.crowd_folder import CAMERAS
from regard.crowd.dataset.plan import Job, Shot, plan_jobs
from regard.crowd.dataset.request import Request, checked_request
from regard.crowd.dataset.worker import Scene, Studio
from regard.crowd.render.raster import Figure
from regard.crowd.render.shoot import Take

SMALL = {"train_ids": 3, "test_ids": 1, "cameras": 2, "per_camera": 2, "cameras_per_id": (2, 2)}
CLEAR = {
    **{"native_scale": 2, "blur": 0, "noise": 0, "codec": 0, "motion_blur": 0},
    **{"camera_spread": 0, "light_jitter": 0, "places": 1},
}
"""Knobs of pictures in which every pixel is what was drawn."""


class Sitting(NamedTuple):
    """Everything that goes into a picture, and the picture."""

    job: Job
    scene: Scene
    figure: Figure | None
    take: Take

    @property
    def shot(self) -> Shot:
        return self.scene.shot


class Album:
    """The pictures of a request, taken in this process."""

    def __init__(self, folder: Path, **options: Any):
        self.request = small_request(**options)
        (folder / CAMERAS).mkdir(parents=True)
        self.studio = Studio(self.request, folder)
        for camera in range(1, self.request.cameras + 1):
            self.studio.make_set(camera)
        self.sittings = list(self.sit())

    def sit(self) -> Iterator[Sitting]:
        studio = self.studio
        for job in plan_jobs(self.request):
            scenes = [scene for visit in job.visits for scene in studio.stage(job, visit)]
            plain = studio.pose(job.person, [replace(scene, stance=scene.moment) for scene in scenes])
            for scene, figure, upright in zip(scenes, studio.pose(job.person, scenes), plain):
                yield Sitting(job, scene, figure, studio.take(job, scene, figure, upright))

    @property
    def takes(self) -> list[Take]:
        return [sitting.take for sitting in self.sittings]


def small_request(**options: Any) -> Request:
    defaults = SMALL | {"seed": 3, "city": 0, "difficulty": "normal", "knobs": None, "height": 128, "width": 64}
    return checked_request(**(defaults | {"distractors": 0, "junk": 0} | options))
