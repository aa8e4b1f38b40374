"""Masks and keypoints for pictures that have none, by models that the user has.

::

    <out>/keypoints.json                      COCO keypoints of every photo
    <out>/masks/<folder>/<stem>.png           0 and 255
    <out>/keypoints.json.partial              what is done so far, a line per photo; removed at the end

A call that was interrupted goes on where it was; a photo with another content by now is labeled anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from regard.data.image import read_image
from regard.data.labels.coco import Person, write_coco
from regard.data.labels.convert import write_gray
from regard.data.labels.joints import PRESENT, VISIBLE, level_of
from regard.errors import ConfigError, DataError, StorageError
from regard.fingerprint import file_digest
from regard.parsing import parse_json
from regard.storage import open_regular, read_regular, write_atomic

__all__ = ["make_labels"]

Joints = tuple[tuple[float, float, float], ...]


def make_labels(
    photos: Mapping[str, Path],
    out: Path,
    pose: Callable[[np.ndarray], np.ndarray] | None,
    silhouette: Callable[[np.ndarray], np.ndarray] | None,
    description: str,
    *,
    visible: float = VISIBLE,
    present: float = PRESENT,
    progress: bool = True,
) -> Path:
    """Label photos.

    Args:
        photos: name below the data set's root -> file.
        out: folder to write.
        pose: gives (17, 3) x, y and score of a picture (h, w, 3); None makes no keypoints.
        silhouette: gives its (h, w) mask; None makes no masks.
        description: of the models, written into the JSON; a call with another one does not go on with this one's.
        visible, present: lowest score of a joint that counts as visible (2), and as there but hidden (1).
        progress: show a bar.

    Returns:
        The JSON file.

    Raises:
        ConfigError: neither model is given, or thresholds are out of order.
        DataError: a photo cannot be read, or the folder holds an unfinished call with other models.
        StorageError: the disk refused.
    """
    if pose is None and silhouette is None:
        raise ConfigError("no model is given, so there is nothing to make; give one for keypoints, masks or both")
    if not 0 <= present <= visible <= 1:
        raise ConfigError(f"thresholds are {present} and {visible}, expected 0 <= present <= visible <= 1; order them")
    path = out / "keypoints.json"
    diary = path.with_name(f"{path.name}.partial")
    done = read_diary(diary, description, photos)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with open_regular(diary, "a", encoding="utf-8") as file:
            if file.tell() == 0:
                file.write(json.dumps({"description": description}) + "\n")
            for name, photo in tqdm(photos.items(), "label", unit="photo", disable=not progress):
                if name in done:
                    continue
                picture, content = read_image(photo), file_digest(photo)
                if silhouette:
                    write_gray(out / "masks" / Path(name).with_suffix(".png"), silhouette(picture))
                joints = None if pose is None else tuple((float(x), float(y), float(s)) for x, y, s in pose(picture))
                done[name] = (picture.shape[0], picture.shape[1], joints)
                file.write(json.dumps({"name": name, "digest": content, "label": done[name]}) + "\n")
                file.flush()
    except OSError as error:
        raise StorageError(
            f"could not write {diary}: {error.strerror or error}; what is done is kept; mend that and call again"
        ) from error
    persons = [(name, person_of(done[name], visible, present)) for name in photos]
    write_coco(path, persons, description)
    diary.unlink(missing_ok=True)
    return path


def read_diary(diary: Path, description: str, photos: Mapping[str, Path]) -> dict[str, tuple[int, int, Joints | None]]:
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
    done: dict[str, tuple[int, int, Joints | None]] = {}
    contents: dict[str, str | None] = {}
    whole: list[str] = []
    for line in lines:
        try:
            entry = parse_json(line) if line.endswith("\n") else {}
            if not whole:
                same = entry["description"] == description
            else:
                height, width, joints = entry["label"]
                done[entry["name"]] = int(height), int(width), joints
                contents[entry["name"]] = entry.get("digest")
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
        name: entry
        for name, entry in done.items()
        if name in photos and photos[name].is_file() and contents[name] == file_digest(photos[name])
    }


def person_of(label: tuple[int, int, Joints | None], visible: float, present: float) -> Person:
    """A photo's annotation from its height, width and joints with scores."""
    height, width, joints = label
    if joints is None:
        return Person(height, width)
    scores = tuple(score for _, _, score in joints)
    levels = [level_of(score, visible, present) for score in scores]
    keypoints = tuple((x, y, level) if level else (0.0, 0.0, 0) for (x, y, _), level in zip(joints, levels))
    return Person(height, width, keypoints, scores)
