"""Make a crowd: plan it, render it on all cores, write it, and only then give the folder its name."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regard.crowd.dataset.crowd_folder import existing_crowd, publish, staging
from regard.crowd.dataset.label_files import Record, coco_json, digests
from regard.crowd.dataset.plan import FOLDERS, Job, plan_jobs
from regard.crowd.dataset.request import FORMAT, VERSION, Request, checked_request, checked_workers
from regard.crowd.dataset.worker import enlist, make_set, open_studio, run_job
from regard.crowd.identity_types import describe
from regard.errors import ConfigError, RegardError
from regard.progress import progress_bar
from regard.storage import as_path

__all__ = ["make_crowd"]


def make_crowd(
    root: str | Path,
    *,
    train_ids: int = 200,
    test_ids: int = 200,
    cameras: int = 6,
    per_camera: int = 3,
    cameras_per_id: tuple[int, int] = (3, 6),
    seed: int = 0,
    city: int | str = 0,
    difficulty: str = "normal",
    knobs: Mapping[str, Any] | None = None,
    cause: str | None = None,
    dose: float | None = None,
    test_only: bool = False,
    cities: int = 1,
    height: int = 128,
    width: int = 64,
    distractors: int | None = None,
    junk: int | None = None,
    workers: int | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a data set of synthetic pedestrians, in Market-1501's layout with masks and keypoints.

    The same parameters give the same bytes, whatever the number of workers. A folder that already holds this very
    crowd is left as it is. The crowd is made in a hidden folder beside ``root`` and renamed when it is complete.

    Args:
        root: folder to make; missing parents are made too.
        train_ids, test_ids: identities to train on and to test on; no person is in both.
        cameras: cameras of a city, 2 to 9.
        per_camera: pictures of a person by each camera that sees them, one more or less by chance.
        cameras_per_id: the fewest and the most cameras that see a person, cut to ``cameras``.
        seed: who the people are, what they wear and how they are shot.
        city: number or name that decides cameras, light and backgrounds, independently of ``seed``.
        difficulty: ``"easy"``, ``"normal"``, ``"hard"`` or ``"diverse"``.
        knobs: single knobs turned away from the preset, see :class:`regard.crowd.knobs.Knobs`.
        cause, dose: one cause, of ``regard.crowd.CAUSES``, that is added to the difficulty, and how much of it: 0 for
            none, 1 for heavy. People, cameras and every other draw are those of the crowd without.
        test_only: leave the pictures to train on out; query and gallery stay the same to the byte.
        cities: how many; each has cameras, places, light and people of its own. With more than one, the people to
            test on live in the last, which nobody to train on has seen, and cameras are numbered through.
        height, width: pixels of a picture; larger ones show more detail.
        distractors: gallery pictures with pid 0; None for a quarter of ``test_ids``.
        junk: gallery pictures with pid -1; None for a quarter of ``test_ids``.
        workers: processes; None for one per processor that this process may run on. A container may be granted
            less processor time than that, which ``regard.threads.allowed_cores`` counts.
        progress: show a progress bar on stderr.
        overwrite: replace another crowd in ``root``; anything else there is never touched.

    Returns:
        The contents of ``dataset.json``.

    Raises:
        ConfigError: an unknown difficulty, knob or cause, a number out of its bounds, or an argument of another kind.
        DataError: ``root`` holds something else.
        StorageError: the disk refused a write; nothing half-made is left.
    """
    root = as_path("root", root, "a folder to write")
    if "\0" in str(root) or not str(root):
        raise ConfigError(f"root is {str(root)!r}, wanted a folder to write; give its name")
    root = root.absolute()
    request = checked_request(
        train_ids=train_ids, test_ids=test_ids, cameras=cameras, per_camera=per_camera, cameras_per_id=cameras_per_id,
        seed=seed, city=city, difficulty=difficulty, knobs=knobs, height=height, width=width,
        distractors=distractors, junk=junk, cause=cause, dose=dose, test_only=test_only, cities=cities,
    )  # fmt: skip
    workers = checked_workers(workers)
    found = existing_crowd(root, request, overwrite=overwrite)
    if found is not None:
        return found
    jobs = plan_jobs(request)
    with staging(root) as place:
        records = render(request, jobs, place, workers=workers, progress=progress)
        description = write_labels(place, request, jobs, records)
        publish(place, root, request)
    return description


def render(request: Request, jobs: list[Job], place: Path, *, workers: int, progress: bool) -> list[Record]:
    """Draw and write every picture; records in order of file names."""
    total = sum(job.num_images for job in jobs)
    cameras = sorted({visit.camera for job in jobs for visit in job.visits})
    records: list[Record] = []
    with crew(min(workers, len(jobs)), request, place) as shared:
        with progress_bar(total=len(cameras), title="cameras", unit="cameras", quiet=not progress) as bar:
            for _ in shared(make_set, cameras):
                bar.update()
        with progress_bar(total=total, title="crowd", unit="images", quiet=not progress, leave=True) as bar:
            for made in shared(run_job, jobs):
                records += made
                bar.update(len(made))
    return sorted(records, key=lambda record: record.file_name)


@contextmanager
def crew(workers: int, request: Request, place: Path) -> Iterator[Callable[..., Iterable[Any]]]:
    """Yield what maps a function over items, in any order: in several processes, or in this one alone."""
    if workers == 1:
        open_studio(request, place)
        yield map
        return
    pool = ProcessPoolExecutor(workers, initializer=enlist, initargs=(request, place))

    def shared(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterable[Any]:
        with warnings.catch_warnings():
            # Python 3.12 warns of forking beside threads; ours hold no lock that rendering needs
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            futures = [pool.submit(function, item) for item in items]
        return (future.result() for future in as_completed(futures))

    try:
        yield shared
    except BrokenProcessPool as error:
        raise RegardError(
            "a process that rendered the crowd ended early, wanted it to finish; it ran out of memory, or a "
            "script lacks `if __name__ == '__main__':`; try fewer workers, or workers=1"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def write_labels(place: Path, request: Request, jobs: list[Job], records: list[Record]) -> dict[str, Any]:
    """Write keypoints, attributes and, last, the description, which is returned."""
    named = {f"{job.pid:04d}": describe(job.person) for job in jobs if job.pid > 0 and job.person}
    images = {folder: sum(record.file_name.startswith(f"{folder}/") for record in records) for folder in FOLDERS}
    description = {
        "format": FORMAT,
        "version": VERSION,
        "parameters": request.parameters(),
        "images": images | {"total": len(records)},
        "sha256": digests(records),
    }
    (place / "keypoints.json").write_text(coco_json(records, request.height, request.width), encoding="utf-8")
    (place / "attributes.json").write_text(json.dumps(named, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (place / "dataset.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    return description
