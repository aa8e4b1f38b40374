"""Plan who is seen where, how often, and under which file name: the whole data set before a pixel is drawn.

Names follow Market-1501: ``0002_c1s1_000451_03.jpg`` is person 2 seen by camera 1, recording 1, frame 451, box 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from regard.crowd.rng import Rng

__all__ = ["DISTRACTOR", "FOLDERS", "GALLERY", "JUNK", "QUERY", "TRAIN", "Cast", "Job", "Shot", "Visit", "plan_jobs"]

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
class Job:
    """Everything that is drawn of one person: the unit of work.

    Attributes:
        pid: published identity; 0 a distractor, -1 junk.
        key: name of the person's random streams.
        person: row of the roster; None where nobody is to be seen.
        visits: in order of cameras.
    """

    pid: int
    key: str
    person: int | None
    visits: tuple[Visit, ...]

    @property
    def num_images(self) -> int:
        """Return the number of pictures in all visits."""
        return sum(len(visit.shots) for visit in self.visits)


@dataclass(frozen=True, slots=True)
class Cast:
    """The numbers of people, cameras and pictures.

    Attributes:
        train_ids, test_ids: identities of the two halves.
        cameras: cameras of the city.
        per_camera: pictures of a person by one camera, one more or less by chance.
        cameras_per_id: the fewest and the most cameras that see a person.
        distractors: gallery pictures with pid 0.
        junk: gallery pictures with pid -1.
    """

    train_ids: int
    test_ids: int
    cameras: int
    per_camera: int
    cameras_per_id: tuple[int, int]
    distractors: int
    junk: int


def plan_jobs(seed: int, cast: Cast) -> list[Job]:
    """Plan the jobs of a data set, people first, then distractors, then junk.

    The roster holds the identities first and then one stranger per distractor. A test identity is shot at least
    twice by each of its cameras, one picture of which is a query unless a single camera saw it; so every query has a
    match by another camera.
    """
    frames = FrameNumbers(seed)
    people = list(plan_people(seed, cast, frames))
    strangers = list(plan_distractors(seed, cast, frames))
    return [*people, *strangers, *plan_junk(seed, cast, people, frames)]


class FrameNumbers:
    """Hands out recordings and frame numbers so that no two pictures get the same name."""

    def __init__(self, seed: int):
        self.seed = seed
        self.taken: set[tuple[int, int, int]] = set()

    def begin(self, pid: int, key: str, camera: int) -> tuple[int, int]:
        """Return recording and first frame of a visit."""
        rng = Rng(self.seed, "frames", key, camera)
        sequence, frame = 1 + rng.below(3), 200 + rng.below(90000)
        while (pid, camera, frame // 200) in self.taken:
            frame += 200
        self.taken.add((pid, camera, frame // 200))
        return sequence, frame


def plan_people(seed: int, cast: Cast, frames: FrameNumbers) -> Iterator[Job]:
    """Plan the jobs of the identities, by pid; training and test numbers interleave as in Market-1501."""
    rng = Rng(seed, "plan")
    count = cast.train_ids + cast.test_ids
    pids = rng.shuffled(range(1, count + 1))
    order = rng.shuffled(range(count))
    rank_of = {person: rank for rank, person in enumerate(order)}
    person_of = {pid: person for person, pid in enumerate(pids)}
    for pid in range(1, count + 1):
        person = person_of[pid]
        train = rank_of[person] < cast.train_ids
        yield plan_person(seed, cast, frames, pid=pid, person=person, train=train)


def plan_person(seed: int, cast: Cast, frames: FrameNumbers, *, pid: int, person: int, train: bool) -> Job:
    """Plan all visits of one identity."""
    key = f"p{person}"
    rng = Rng(seed, "visits", key)
    fewest, most = cast.cameras_per_id
    seen_by = sorted(rng.shuffled(range(1, cast.cameras + 1))[: fewest + rng.below(most - fewest + 1)])
    visits = []
    for camera in seen_by:
        count = max(1 if train else 2, cast.per_camera + rng.below(3) - 1)
        query = rng.below(count) if not train and len(seen_by) > 1 else None
        folders = [TRAIN if train else QUERY if i == query else GALLERY for i in range(count)]
        visits.append(plan_visit(seed, frames, pid, key=key, camera=camera, folders=folders))
    return Job(pid, key, person, tuple(visits))


def plan_distractors(seed: int, cast: Cast, frames: FrameNumbers) -> Iterator[Job]:
    """Plan strangers seen once or twice, and boxes with nobody in them."""
    rng = Rng(seed, "distractors")
    left, index, stranger = cast.distractors, 0, cast.train_ids + cast.test_ids
    while left > 0:
        nobody = index % FALSE_ALARMS == FALSE_ALARMS - 1
        count = 1 if nobody else min(2, left)
        key, camera = f"d{index}", 1 + rng.below(cast.cameras)
        visit = plan_visit(seed, frames, DISTRACTOR, key=key, camera=camera, folders=[GALLERY] * count)
        yield Job(DISTRACTOR, key, None if nobody else stranger, (visit,))
        left, index, stranger = left - count, index + 1, stranger + (not nobody)


def plan_junk(seed: int, cast: Cast, people: list[Job], frames: FrameNumbers) -> Iterator[Job]:
    """Plan bad boxes around test identities, by cameras that see them."""
    rng = Rng(seed, "junk")
    tested = [job for job in people if job.visits[0].shots[0].folder != TRAIN]
    for index in range(cast.junk):
        job = rng.choice(tested)
        key, camera = f"j{index}", rng.choice(job.visits).camera
        yield Job(JUNK, key, job.person, (plan_visit(seed, frames, JUNK, key=key, camera=camera, folders=[GALLERY]),))


def plan_visit(seed: int, frames: FrameNumbers, pid: int, *, key: str, camera: int, folders: list[str]) -> Visit:
    """Plan one visit with a picture for each of ``folders``."""
    rng = Rng(seed, "walk", key, camera)
    sequence, first = frames.begin(pid, key, camera)
    label = "-1" if pid == JUNK else f"{pid:04d}"
    walked, shots = 0.0, []
    for index, folder in enumerate(folders):
        frame = first + int(walked * FRAMES_PER_METER)
        box = 0 if folder == QUERY else 1 + index
        shots.append(Shot(folder, f"{label}_c{camera}s{sequence}_{frame:06d}_{box:02d}", index, walked))
        walked += rng.uniform(0.25, 0.75)
    return Visit(camera, tuple(shots))
