"""The knobs of difficulty and of variety, their bounds, and four presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from numbers import Real
from typing import Any

from regard.errors import ConfigError, check_kind, nearest

__all__ = ["PRESETS", "VARIETY", "Knobs", "resolve"]


def knob(default: float, low: float, high: float, doc: str) -> Any:
    """Return a field with bounds; an int default means that only whole numbers make sense."""
    return field(default=default, metadata={"low": low, "high": high, "doc": doc})


@dataclass(frozen=True)
class Knobs:
    """The difficulties of telling people apart. The defaults are the preset ``normal``."""

    lookalikes: float = knob(0.9, 0, 1, "share of people who belong to a family of look-alikes (clothing similarity)")
    lookalike_family: int = knob(6, 2, 50, "people in a family of look-alikes")
    lookalike_edits: int = knob(3, 0, 12, "details in which a member may differ from the family's outfit")
    bag_change: float = knob(0.05, 0, 1, "share of passes on which somebody's bag is left at home")
    places: int = knob(3, 1, 8, "different surroundings that the cameras share among them")
    camera_spread: float = knob(1.2, 0, 3, "differences in white balance, exposure, contrast and saturation of cameras")
    light_jitter: float = knob(1.1, 0, 3, "changes of light between passes of the same camera")
    native_scale: float = knob(0.9, 0.2, 2, "size of people in the video before the crop is enlarged")
    blur: float = knob(1.0, 0, 5, "softness of the optics")
    noise: float = knob(1.0, 0, 5, "sensor noise")
    codec: float = knob(1.0, 0, 5, "video compression")
    motion_blur: float = knob(1.0, 0, 5, "smear of people who walk across the picture")
    jpeg_quality: int = knob(92, 20, 100, "quality of the files, as JPEG counts it")
    occlusion: float = knob(0.5, 0, 1, "how often poles, bushes, cars, rails or other walkers stand in front")
    passersby: float = knob(0.7, 0, 1, "other walkers behind the person")
    min_visible: float = knob(0.4, 0, 1, "visible share of the silhouette below which what stands in front is dropped")
    plain_background: int = knob(
        0, 0, 1, "1: an even ground and nobody else, to take the background out of the question"
    )
    view_spread: float = knob(0.4, 0, 3.2, "radians around the camera's walking direction")
    standing: float = knob(0.12, 0, 1, "share of people who stand still")
    detector_jitter: float = knob(1.15, 0, 4, "errors of the detector: shift and scale of the box")
    truncation: float = knob(0.15, 0, 1, "errors of the detector: feet, head or a side cut off, or a loose box")
    bodies: float = knob(0.0, 0, 1, "share of people who are children, heavy, thin, tall or old")
    layers: float = knob(0.0, 0, 1, "share of people in coats, padded jackets and hoodies, with long trousers")
    dyes: float = knob(0.0, 0, 1, "share of colors of clothes and bags that are any at all, not one of the wardrobe's")
    carrying: float = knob(
        0.0, 0, 1, "share of people with another kind of bag, a trolley, a sheet of paper, or nothing"
    )
    headwear: float = knob(0.0, 0, 1, "share of people with a hood up, a headscarf, curls, gray hair or none")
    gestures: float = knob(
        0.0, 0, 1, "share of passes on which arms, head and steps are not those of the person's habit"
    )
    downward: float = knob(0.0, 0, 1, "share of cameras that hang high and look down steeply")
    zoom_spread: float = knob(0.0, 0, 3, "octaves by which cameras differ in the pixels that people have in the video")
    tone_spread: float = knob(0.0, 0, 2, "differences of exposure, black level, color, noise and sharpening of cameras")
    box_fit: float = knob(0.0, 0, 1, "share of cameras whose boxes follow the figure, whatever the picture's shape")
    scenery: float = knob(0.0, 0, 1, "share of places of further kinds, with marked grounds in many colors")
    shade: float = knob(0.0, 0, 1, "share of passes on which a shadow falls on people")
    relief: float = knob(0.0, 0, 2, "depth of creases in clothes, which differ from picture to picture")


NAMES = [field.name for field in fields(Knobs)]
VARIETY = tuple(NAMES[NAMES.index("bodies") :])
"""Knobs of variety: at 0 in the presets of difficulty, whose crowds do not mention them."""

PRESETS: dict[str, Knobs] = {
    "easy": Knobs(
        lookalikes=0.3, lookalike_family=3, lookalike_edits=5, bag_change=0.0, camera_spread=0.6, light_jitter=0.5,
        native_scale=1.0, noise=0.6, codec=0.6, occlusion=0.1, passersby=0.2, view_spread=0.25, detector_jitter=0.4,
        truncation=0.0,
    ),
    "normal": Knobs(),
    "hard": Knobs(
        lookalikes=0.95, lookalike_family=8, lookalike_edits=2, bag_change=0.1, camera_spread=1.8, light_jitter=1.8,
        native_scale=0.6, blur=1.2, noise=1.5, codec=1.6, occlusion=0.9, passersby=1.0, view_spread=0.6,
        detector_jitter=1.4, truncation=0.25,
    ),
    "diverse": Knobs(
        lookalikes=0.6, lookalike_family=4, lookalike_edits=4, places=6, camera_spread=1.5, light_jitter=1.2,
        native_scale=1.0, noise=0.7, codec=0.9, occlusion=0.5, view_spread=1.2, standing=0.15, detector_jitter=1.0,
        bodies=0.35, layers=0.45, dyes=0.2, carrying=0.4, headwear=0.3, gestures=0.5, downward=0.5, zoom_spread=0.8,
        tone_spread=0.7, box_fit=0.6, scenery=0.7, shade=0.3, relief=0.7,
    ),
}  # fmt: skip


def resolve(difficulty: str, overrides: Mapping[str, Any] | None = None) -> Knobs:
    """Return a preset with single knobs turned.

    Raises:
        ConfigError: no such preset or knob (answers with the nearest), or a value out of its bounds.
    """
    check_kind("difficulty", difficulty, str, "one of " + ", ".join(PRESETS))
    check_kind("knobs", overrides or {}, Mapping, "knobs by name, such as {'occlusion': 0.9}")
    if difficulty not in PRESETS:
        raise ConfigError(
            f"unknown difficulty {difficulty!r}{nearest(difficulty, PRESETS)}; known: {', '.join(PRESETS)}"
        )
    known = {f.name: f for f in fields(Knobs)}
    turned: dict[str, Any] = {}
    for name, value in (overrides or {}).items():
        if name not in known:
            raise ConfigError(f"unknown knob {name!r}{nearest(name, known)}; known: {', '.join(known)}")
        turned[name] = checked(known[name], value)
    return replace(PRESETS[difficulty], **turned)


def checked(entry: Field[Any], value: Any) -> Any:
    """Return a knob's value in the type of its default.

    Raises:
        ConfigError: it is no number, not a whole one where only those make sense, or out of bounds.
    """
    low, high, whole = entry.metadata["low"], entry.metadata["high"], isinstance(entry.default, int)
    wanted = f"{'a whole number' if whole else 'a number'} from {low:g} to {high:g} ({entry.metadata['doc']})"
    check_kind(f"knob {entry.name!r}", value, (Real, bool), wanted)
    if not low <= value <= high or (whole and value != int(value)):
        raise ConfigError(f"knob {entry.name!r} is {value!r}, wanted {wanted}")
    return int(value) if whole else float(value)
