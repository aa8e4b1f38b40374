"""Plan who is seen where, how often, and under which file name: the whole data set before a pixel is drawn.

Names follow Market-1501: ``0002_c1s1_000451_03.jpg`` is person 2 seen by camera 1, recording 1, frame 451, box 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from regard.crowd.clothes.roster import draw_person, roster
from regard.crowd.dataset.request import Request
from regard.crowd.identity_types import Identity
from regard.crowd.rng import Rng

__all__ = ["DISTRACTOR", "FOLDERS", "GALLERY", "JUNK", "QUERY", "TRAIN", "Job", "Shot", "Visit", "plan_jobs"]

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
FOLDERS = (TRAIN, QUERY, GALLERY)

JUNK, DISTRACTOR = -1, 0
"""Market-1501's pids of a box that is neither right nor wrong, and of a picture of nobody who is asked for."""

FRAMES_PER_METER = 18
FALSE_ALARMS = 3
"""One distractor in this many shows nobody: the detector took a piece of background for a person."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture: where it goes, and how far the person has walked since the visit's first picture.

    Attributes:
        folder: one of ``FOLDERS``.
        name: file name without ending.
        index: number within the visit, from 0.
        walked: meters.
    """

    folder: str
    name: str
    index: int
    walked: float


@dataclass(frozen=True, slots=True)
class Visit:
    """Somebody passes a camera (numbered from 1)."""

    camera: int
    shots: tuple[Shot, ...]


@dataclass(frozen=True, slots=True)
class Citizen:
    """Somebody, the city they live in, from 0, and whether their pictures are to train on."""

    person: Identity
    city: int
    train: bool


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that is drawn of one person: the unit of work.

    Attributes:
        pid: published identity; 0 a distractor, -1 junk.
        key: name of the person's random streams.
        person: who is to be seen; None for nobody.
        visits: in order of cameras.
    """

    pid: int
    key: str
    person: Identity | None
    visits: tuple[Visit, ...]

    @property
    def num_images(self) -> int:
        """Return the number of pictures in all visits."""
        return sum(len(visit.shots) for visit in self.visits)


def plan_jobs(request: Request) -> list[Job]:
    """Plan the jobs of a data set, people first, then distractors, then junk.

    A test identity is shot at least twice by each of its cameras, one picture of which is a query unless a single
    camera saw it; so every query has a match by another camera.
    """
    plan = Plan(request)
    people = list(plan.people())
    jobs = [*people, *plan.distractors(), *plan.junk(people)]
    return [job for job in jobs if not request.test_only or job.visits[0].shots[0].folder != TRAIN]


class Plan:
    """A plan in the making, which gives no two pictures the same name."""

    def __init__(self, request: Request):
        self.request, self.seed = request, request.seed
        self.taken: set[tuple[int, int, int]] = set()

    def people(self) -> Iterator[Job]:
        """Plan the jobs of the identities, by pid; training and test numbers interleave as in Market-1501."""
        rng, count = Rng(self.seed, "plan"), self.request.train_ids + self.request.test_ids
        pids = rng.shuffled(range(1, count + 1))
        citizens = self.settle(rng)
        for row, pid in sorted(enumerate(pids), key=lambda pair: pair[1]):
            key, citizen = f"p{row}", citizens[row]
            visits = self.visits(pid, key, citizen.city, train=citizen.train)
            yield Job(pid, key, citizen.person, tuple(visits))

    def settle(self, rng: Rng) -> list[Citizen]:
        """Draw everybody; with several cities one after the other, look-alikes in the same, those to test on last."""
        knobs, train, test, last = (
            self.request.knobs,
            self.request.train_ids,
            self.request.test_ids,
            self.request.cities - 1,
        )
        if not last:
            chosen = set(rng.shuffled(range(train + test))[:train])
            return [Citizen(one, 0, row in chosen) for row, one in enumerate(roster(self.seed, train + test, knobs))]
        counts = [train * (city + 1) // last - train * city // last for city in range(last)]
        return [
            Citizen(one, city, city < last)
            for city, count in enumerate([*counts, test])
            for one in roster(f"{self.seed}.{city + 1}", count, knobs)
        ]

    def visits(self, pid: int, key: str, city: int, *, train: bool) -> Iterator[Visit]:
        """Plan all visits of one identity, who lives in a city, from 0."""
        rng, cast = Rng(self.seed, "visits", key), self.request
        fewest, most = cast.cameras_per_id
        seen_by = sorted(rng.shuffled(range(1, cast.cameras + 1))[: fewest + rng.below(most - fewest + 1)])
        for camera in seen_by:
            count = max(1 if train else 2, cast.per_camera + rng.below(3) - 1)
            query = rng.below(count) if not train and len(seen_by) > 1 else None
            folders = [TRAIN if train else QUERY if i == query else GALLERY for i in range(count)]
            yield self.visit(pid, key, city * cast.cameras + camera, folders)

    def distractors(self) -> Iterator[Job]:
        """Plan strangers seen once or twice, and boxes with nobody in them."""
        rng = Rng(self.seed, "distractors")
        left, index, strangers = self.request.distractors, 0, 0
        while left > 0:
            nobody = index % FALSE_ALARMS == FALSE_ALARMS - 1
            count = 1 if nobody else min(2, left)
            key, camera = f"d{index}", self.request.all_cameras[-self.request.cameras] + rng.below(self.request.cameras)
            visit = self.visit(DISTRACTOR, key, camera, [GALLERY] * count)
            stranger = None if nobody else draw_person(self.seed, f"stranger{strangers}", self.request.knobs)
            yield Job(DISTRACTOR, key, stranger, (visit,))
            left, index, strangers = left - count, index + 1, strangers + (not nobody)

    def junk(self, people: list[Job]) -> Iterator[Job]:
        """Plan bad boxes around test identities, by cameras that see them."""
        rng = Rng(self.seed, "junk")
        tested = [job for job in people if job.visits[0].shots[0].folder != TRAIN]
        for index in range(self.request.junk):
            job, key = rng.choice(tested), f"j{index}"
            yield Job(JUNK, key, job.person, (self.visit(JUNK, key, rng.choice(job.visits).camera, [GALLERY]),))

    def visit(self, pid: int, key: str, camera: int, folders: list[str]) -> Visit:
        """Plan one visit with a picture for each of ``folders``."""
        rng, numbers = Rng(self.seed, "walk", key, camera), Rng(self.seed, "frames", key, camera)
        recording, first = 1 + numbers.below(3), 200 + numbers.below(90000)
        while (pid, camera, first // 200) in self.taken:
            first += 200
        self.taken.add((pid, camera, first // 200))
        label = "-1" if pid == JUNK else f"{pid:04d}"
        walked, shots = 0.0, []
        for index, folder in enumerate(folders):
            frame = first + int(walked * FRAMES_PER_METER)
            box = 0 if folder == QUERY else 1 + index
            shots.append(Shot(folder, f"{label}_c{camera}s{recording}_{frame:06d}_{box:02d}", index, walked))
            walked += rng.uniform(0.25, 0.75)
        return Visit(camera, tuple(shots))
