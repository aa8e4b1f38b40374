"""Twins: pairs of pictures that are the same but for one thing somebody wears, and where that thing is.

Both are taken in the same moment by the same camera: pose, light, surroundings, box, noise and all that is behind are
equal. The mask is what differs, on the person, by ``LEVELS`` gray levels or more where the same two pictures are taken
by a camera without blur, noise and video compression; a shadow on the ground is left out.
"""

from __future__ import annotations

import io
import json
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from regard.crowd.camera.detector import frame_figure
from regard.crowd.camera.spread import hang_spread
from regard.crowd.clothes.roster import draw_identity, draw_person
from regard.crowd.dataset.plan import QUERY, Job, Shot, Visit
from regard.crowd.dataset.request import Request, checked_request, whole
from regard.crowd.dataset.worker import Studio, encode_picture
from regard.crowd.identity_types import Identity
from regard.crowd.render.background import build_set
from regard.crowd.render.shoot import Take, shoot
from regard.crowd.rng import Rng
from regard.errors import ConfigError, DataError, StorageError, nearest
from regard.progress import progress_bar
from regard.storage import as_path

__all__ = ["LIST", "PARTS", "make_twins"]

PARTS = ("bag", "shoes", "upper", "lower")
"""What twins may differ in: a bag or none, or the color of shoes, of what is worn above the waist, or below it."""

LIST = "twins.json"
"""File of a folder of twins that says which pictures belong together."""

LEVELS = 8
"""Gray levels, of 255, by which a pixel of the mask differs at least."""

LEAST = 0.003
"""Share of a picture that the difference fills at least; a bag behind the back is no difference."""

APART = 90.0
"""Distance in sRGB of two colors of the same thing, at least."""

TRIES = 40
"""Walks past cameras on which somebody's difference is looked for."""


class Twins(NamedTuple):
    """Two takes, and (H, W) bool where they differ."""

    first: Take
    second: Take
    mask: np.ndarray


def make_twins(
    root: str | Path,
    *,
    people: int = 40,
    parts: Sequence[str] = PARTS,
    cameras: int = 6,
    seed: int = 0,
    city: int | str = 0,
    difficulty: str = "normal",
    knobs: Mapping[str, Any] | None = None,
    height: int = 128,
    width: int = 64,
    progress: bool = True,
) -> dict[str, Any]:
    """Write pairs of pictures that differ in one thing, with masks of the difference.

    People are none of a crowd's, whatever its seed; nothing stands in front of them. Written are
    ``PART/0001_a.jpg``, ``PART/0001_b.jpg``, ``PART/0001.png`` (255 where they differ) and ``twins.json``.

    Args:
        root: folder to make, new or empty.
        people: pairs, which take the parts in turn.
        parts: of ``PARTS``.
        cameras, seed, city, difficulty, knobs, height, width: as for :func:`regard.crowd.make_crowd`.
        progress: show a progress bar on stderr.

    Returns:
        The contents of ``twins.json``.

    Raises:
        ConfigError: an unknown part, difficulty or knob, or a number out of its bounds.
        DataError: there is something in ``root``.
        StorageError: the disk refused a write; nothing half-made is left.
    """
    root = as_path("root", root, "a folder to write").absolute()
    whole("people", people, 1, 100_000)
    for part in parts:
        if part not in PARTS:
            raise ConfigError(f"unknown part {part!r}{nearest(str(part), PARTS)}; parts: {', '.join(PARTS)}")
    if not parts:
        raise ConfigError(f"parts is empty, wanted at least one of {', '.join(PARTS)}")
    request = checked_request(
        train_ids=1, test_ids=people, cameras=cameras, per_camera=1, cameras_per_id=(2, 2), seed=seed, city=city,
        difficulty=difficulty, knobs=dict(knobs or {}) | {"occlusion": 0, "bag_change": 0}, height=height, width=width,
        distractors=0, junk=0,
    )  # fmt: skip
    try:
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise DataError(f"'{root}' exists and is not empty, wanted a new folder for twins; choose another one")
        return _write(root, request, people, list(dict.fromkeys(parts)), progress=progress)
    except OSError as error:
        raise StorageError(
            f"cannot write twins to '{root}' ({error.strerror or error}); nothing was kept; free some space or choose "
            "another folder"
        ) from error


def _write(root: Path, request: Request, people: int, parts: Sequence[str], *, progress: bool) -> dict[str, Any]:
    """Shoot and write all pairs beside ``root``, then give the folder its name."""
    place = root.parent / f".{root.name}.{secrets.token_hex(4)}.partial"
    try:
        for part in parts:
            (place / part).mkdir(parents=True)
        studio, listed = Studio(request, place), []
        with progress_bar(total=people, title="twins", unit="pairs", quiet=not progress) as bar:
            for number in range(people):
                part = parts[number % len(parts)]
                camera, twins = next(_tried(studio, f"twin{number}", part))
                listed.append({
                    "part": part, "pid": number + 1, "camid": camera,
                    **_keep(place, f"{part}/{number + 1:04d}", twins, request.knobs.jpeg_quality),
                    "area": round(float(twins.mask.mean()), 5),
                })  # fmt: skip
                bar.update()
        parameters = {name: getattr(request, name) for name in ("seed", "city", "difficulty", "height", "width")}
        content = {"format": "regard-twins", "version": 1, "parameters": parameters, "twins": listed}
        (place / LIST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        if root.exists():
            root.rmdir()
        place.rename(root)
        return content
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _tried(studio: Studio, key: str, part: str) -> Iterator[tuple[int, Twins]]:
    """Yield pairs of somebody in which the difference can be seen, and by which camera, until one is taken."""
    request = studio.request
    for walk in range(TRIES):
        name = f"{key}-{walk}"
        person = draw_person(request.seed, name, request.knobs)
        person = _dressed(person, Rng(request.seed, "twin", name), part)
        camera = 1 + Rng(request.seed, "twin camera", name).below(request.cameras)
        twins = shoot_twins(studio, name, (person, _changed(person, Rng(request.seed, "change", name), part)), camera)
        if twins.mask.mean() >= LEAST:
            yield camera, twins
    raise ConfigError(f"no difference of {part} can be seen in {TRIES} walks; take larger pictures or easier knobs")


def _dressed(person: Identity, rng: Rng, part: str) -> Identity:
    """Return the person with something of that part on; a bag hangs on the body, so that no arm carries it."""
    if part == "bag":
        return replace(person, bag=replace(person.bag, kind=rng.choice(("backpack", "crossbody"))))
    if part == "lower" and person.bottom.kind == "none":
        return replace(person, bottom=replace(person.bottom, kind="trousers"), top=replace(person.top, kind="tshirt"))
    return person


def _changed(person: Identity, rng: Rng, part: str) -> Identity:
    """Return the person without the bag, or with other shoes, or another color above or below the waist."""
    if part == "bag":
        return replace(person, bag=replace(person.bag, kind="none"))
    name = {"upper": "top", "lower": "bottom"}.get(part, part)
    worn, others = getattr(person, name), range(1000)
    for other in others:
        new = getattr(draw_identity(f"twin {rng.bits()}", f"{other}"), name)
        if np.linalg.norm(np.subtract(new.color, worn.color)) >= APART:
            break
    return replace(person, **{name: replace(worn, color=new.color, color_name=new.color_name)})


def shoot_twins(studio: Studio, key: str, people: tuple[Identity, Identity], camera: int) -> Twins:
    """Take two people in the same moment of the same walk.

    Args:
        studio: whose request decides the rest.
        key: name of the walk.
        people: of one body and gait.
        camera: from 1.
    """
    request, knobs = studio.request, studio.request.knobs
    if camera not in studio.sets:
        hung = hang_spread(request.city, camera, knobs)
        studio.sets[camera] = build_set(hung, knobs, studio.texels, studio.detail)
    visit = Visit(camera, (Shot(QUERY, key, 0, 0.0),))
    (scene,) = studio.stage(Job(1, key, people[0], (visit,)), visit)
    figures = [studio.pose(person, [scene])[0] for person in people]
    place, size = scene.place, (request.height, request.width)
    assert figures[0] is not None
    rng = Rng(request.seed, "twin box", key)
    frame = frame_figure(figures[0].box, rng, knobs, camera=place.camera, size=size, by_hand=True, junk=False)
    sharp = replace(place.camera.sensor, noise=0.0, blur=0.0, sharpen=0.0, codec=0.0)
    takes = []
    for where, seen in ((place, knobs), (replace(place, camera=replace(place.camera, sensor=sharp)),
                                         replace(knobs, motion_blur=0.0))):  # fmt: skip
        for figure in figures:
            rng = Rng(request.seed, "twin image", key)
            takes.append(shoot(where, scene.moment, frame, figure, rng=rng, knobs=seen))
    first, second, *sharply = takes
    apart = np.abs(np.subtract(*(take.pixels.astype(np.int16) for take in sharply))).max(2)
    return Twins(first, second, (apart >= LEVELS) & ((first.labels > 0) | (second.labels > 0)))


def _keep(place: Path, stem: str, twins: Twins, quality: int) -> dict[str, str]:
    """Write a pair and its mask; what they are -> file."""
    named = {"first": f"{stem}_a.jpg", "second": f"{stem}_b.jpg", "mask": f"{stem}.png"}
    mask = io.BytesIO()
    Image.fromarray(twins.mask.astype(np.uint8) * 255).save(mask, "PNG")
    pictures = (encode_picture(take.pixels, quality) for take in (twins.first, twins.second))
    for name, content in zip(named.values(), (*pictures, mask.getvalue())):
        (place / name).write_bytes(content)
    return named
