"""One photo after the other gets its labels: several at the same time, and what is done is written down.

Shapes: h x w pixels of a picture.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from regard.data.image import read_image
from regard.data.labels.coco import Person, keypoints_of
from regard.data.labels.convert import write_gray
from regard.data.labels.facing import FACE, is_back
from regard.data.labels.teacher import Found, Teacher
from regard.errors import CheckpointError, ConfigError, DataError
from regard.fingerprint import file_digest
from regard.parsing import parse_json
from regard.storage import read_regular, write_atomic
from regard.wording import one_line

__all__ = [
    "Attempt", "Label", "annotation_of", "label_some", "mask_file", "needs_hiding", "read_diary", "side_by_side",
    "write_down",
]  # fmt: skip

Joints = tuple[tuple[float, float, float], ...]
Label = tuple[int, int, Joints | None]
"""Height, width and joints of a photo."""

T = TypeVar("T")
R = TypeVar("R")

HOPELESS = 20
"""Photos that fail one after the other, from the first on, before the rest is given up."""


class Attempt(NamedTuple):
    """What came of a photo: its label and the digest of its content, or what is wrong."""

    name: str
    label: Label | None = None
    digest: str = ""
    mask: bool = False
    wrong: str = ""


def label_some(teacher: Teacher, group: Sequence[tuple[str, Path]], out: Path) -> list[Attempt]:
    """Try to label some photos; masks are written, joints handed back. Where all together fail, one by one.

    Raises:
        StorageError, OSError: a mask cannot be written.
    """
    attempts: dict[str, Attempt] = {}
    pictures: dict[str, tuple[np.ndarray, str]] = {}
    for name, photo in group:
        try:
            pictures[name] = read_image(photo), file_digest(photo)
        except (DataError, OSError) as error:
            attempts[name] = Attempt(name, wrong=one_line(error))
    for name, found in found_on(teacher, {name: picture for name, (picture, _) in pictures.items()}).items():
        picture, content = pictures[name]
        if isinstance(found, str):
            attempts[name] = Attempt(name, wrong=found)
            mask_file(out, name).unlink(missing_ok=True)  # of a photo that was another one
            continue
        if found.mask is not None:
            write_gray(mask_file(out, name), found.mask)
        joints = found.joints
        points = None if joints is None else tuple((float(x), float(y), float(s)) for x, y, s in joints)
        attempts[name] = Attempt(name, (*picture.shape[:2], points), content, found.mask is not None)
    return [attempts[name] for name, _ in group]


def mask_file(out: Path, name: str) -> Path:
    """Where the mask of a photo is written."""
    return out / "masks" / Path(name).with_suffix(".png")


def found_on(teacher: Teacher, pictures: Mapping[str, np.ndarray]) -> dict[str, Found | str]:
    """What a teacher finds on pictures, or what is wrong with one."""
    if not pictures:
        return {}
    try:
        found = teacher.find(list(pictures.values()))
        if len(found) != len(pictures):
            raise DataError(f"the teacher found something on {len(found)} of {len(pictures)} pictures, wanted all")
        for one in found:
            check_joints(one.joints)
    except (Exception, SystemExit) as error:  # a model of somebody else's raises what it likes, and may end its program
        if len(pictures) > 1:
            parts = (found_on(teacher, {name: picture}) for name, picture in pictures.items())
            return {name: found for part in parts for name, found in part.items()}
        kind = "" if isinstance(error, DataError | ConfigError | CheckpointError) else f"{type(error).__name__}: "
        return dict.fromkeys(pictures, f"{kind}{one_line(error)}")
    return dict(zip(pictures, found))


def check_joints(joints: np.ndarray | None) -> None:
    """Refuse joints that no label can be made of.

    Raises:
        DataError: a number is none, or a score is not from 0 to 1.
    """
    if joints is None:
        return
    if joints.shape != (17, 3) or not np.isfinite(joints).all():
        raise DataError(f"joints of {joints.shape}, some of them no numbers; wanted (17, 3)")
    if not ((joints[:, 2] >= 0) & (joints[:, 2] <= 1)).all():
        raise DataError(f"scores of joints from {joints[:, 2].min():g} to {joints[:, 2].max():g}, wanted 0 to 1")


def write_down(attempts: Sequence[Attempt], diary: Any, done: dict[str, Label], failed: dict[str, str]) -> None:
    """Keep what came of some photos.

    Raises:
        DataError: nothing has come of any so far, and there were many.
    """
    for attempt in attempts:
        if attempt.label is None:
            failed[attempt.name] = attempt.wrong
            continue
        done[attempt.name] = attempt.label
        diary.write(json.dumps({"name": attempt.name, "digest": attempt.digest, "label": attempt.label}) + "\n")
    diary.flush()
    if not done and len(failed) >= HOPELESS:
        name, wrong = next(iter(failed.items()))
        raise DataError(f"the first {len(failed)} photos all fail; {name}: {wrong}")


def side_by_side(work: Callable[[T], R], things: Iterable[T], workers: int) -> Iterator[R]:
    """Yield what is made of each thing, in their order, by that many threads; by this one where it is one.

    No more things are taken than the threads can soon use, and none after an error.
    """
    if workers == 1:
        yield from map(work, things)
        return
    row: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="regard-label") as threads:
        try:
            for thing in things:
                row.append(threads.submit(work, thing))
                if len(row) > 2 * workers:
                    yield row.popleft().result()
            while row:
                yield row.popleft().result()
        finally:
            for future in row:
                future.cancel()


def read_diary(diary: Path, description: str, photos: Mapping[str, Path]) -> dict[str, Label]:
    """Height, width and joints of the photos that an interrupted call has done, and that are the same by their content.

    The last line may be cut off.

    Raises:
        DataError: that call was made with other models, or what it has left cannot be read.
    """
    try:
        lines = read_regular(diary).decode(errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"cannot read {diary} ({error.strerror}); delete it to begin anew") from error
    done: dict[str, tuple[str | None, Label]] = {}
    whole: list[str] = []
    for line in lines:
        try:
            entry = parse_json(line) if line.endswith("\n") else {}
            if not whole:
                same = entry["description"] == description
            else:
                height, width, joints = entry["label"]
                done[entry["name"]] = entry.get("digest"), (int(height), int(width), joints)
        except (ValueError, KeyError, TypeError):
            break
        if not same:
            raise DataError(
                f"'{diary}' is an unfinished call with other models ({entry['description']}); finish that one, or "
                "delete the file to begin anew"
            )
        whole.append(line)
    write_atomic(diary, "".join(whole).encode())
    return {
        name: label
        for name, (content, label) in done.items()
        if name in photos and photos[name].is_file() and content == file_digest(photos[name])
    }


def needs_hiding(label: Label, visible: float) -> bool:
    """Whether the face of somebody seen from behind counts as visible."""
    if label[2] is None:
        return False
    joints = np.array(label[2])
    return bool((joints[FACE, 2] >= visible).any()) and is_back(joints[:, :2], joints[:, 2] > 0)


def annotation_of(label: Label, visible: float, present: float, *, back: bool = False) -> Person:
    """A photo's annotation from its height, width and joints with scores; of a back the face is hidden."""
    height, width, joints = label
    if joints is None:
        return Person(height, width)
    if back:
        most = present if present < visible else 0.0
        joints = tuple(
            (x, y, min(score, most) if joint in FACE else score) for joint, (x, y, score) in enumerate(joints)
        )
    return Person(height, width, keypoints_of(joints, visible, present), tuple(score for _, _, score in joints))
