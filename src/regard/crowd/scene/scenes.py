"""Kinds of places: what one walks on, what is behind, and what stands about."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SCENES", "Scene"]


@dataclass(frozen=True, slots=True)
class Scene:
    """A kind of place.

    Attributes:
        path, beside: grounds people walk on, and next to it.
        walls: what may close the view.
        behind, before: things that stand behind people, and in front of them.
        indoor: whether it has artificial light.
        wall_height: lowest and highest, meters.
    """

    path: str
    beside: str
    walls: tuple[str, ...]
    behind: tuple[str, ...]
    before: tuple[str, ...]
    indoor: bool = False
    wall_height: tuple[float, float] = (5.5, 12.0)


SCENES: dict[str, Scene] = {
    "plaza": Scene(
        *("tiles", "concrete", ("windows", "glass")),
        behind=("tree", "bench", "bin", "pole", "bike"),
        before=("pole", "bollard", "bench"),
    ),
    "lawn": Scene(
        *("concrete", "grass", ("hedge", "windows")),
        behind=("tree", "bush", "bench", "tree", "pole"),
        before=("bush", "bush", "pole"),
        wall_height=(2.5, 4.5),
    ),
    "street": Scene(
        *("asphalt", "tiles", ("shops", "windows")),
        behind=("car", "car", "pole", "sign", "bollard"),
        before=("bollard", "pole", "car"),
    ),
    "corridor": Scene(
        *("polished", "polished", ("corridor", "panels")),
        behind=("bin", "sign"),
        before=("bin", "pole"),
        indoor=True,
        wall_height=(6.0, 6.0),
    ),
    "market": Scene(
        *("tiles", "asphalt", ("shops", "brickwall")),
        behind=("tent", "tent", "bike", "bin", "pole"),
        before=("bike", "pole", "bin"),
    ),
    "campus": Scene(
        *("bricks", "grass", ("brickwall", "windows")),
        behind=("bike", "bike", "tree", "rail", "bin"),
        before=("rail", "bike", "bush"),
    ),
    "station": Scene(
        *("polished", "concrete", ("panels", "glass")),
        behind=("rail", "sign", "bench", "bollard"),
        before=("rail", "bollard"),
        indoor=True,
        wall_height=(6.0, 6.0),
    ),
    "alley": Scene(
        *("asphalt", "concrete", ("brickwall", "panels")),
        behind=("car", "bike", "bin", "pole"),
        before=("bike", "bin", "pole"),
    ),
}
