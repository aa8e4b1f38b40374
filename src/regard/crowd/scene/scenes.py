"""Kinds of places: what one walks on, what is behind, and what stands about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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


def scene(grounds: str, walls: str, behind: str, before: str, **rest: Any) -> Scene:
    """Return a kind of place from names with spaces between them."""
    return Scene(*grounds.split(), *(tuple(names.split()) for names in (walls, behind, before)), **rest)


INDOOR = {"indoor": True, "wall_height": (6.0, 6.0)}
SCENES = {
    "plaza": scene("tiles concrete", "windows glass", "tree bench bin pole bike", "pole bollard bench"),
    "lawn": scene(
        *("concrete grass", "hedge windows", "tree bush bench tree pole", "bush bush pole"), wall_height=(2.5, 4.5)
    ),
    "street": scene("asphalt tiles", "shops windows", "car car pole sign bollard", "bollard pole car"),
    "corridor": scene("polished polished", "corridor panels", "bin sign", "bin pole", **INDOOR),
    "market": scene("tiles asphalt", "shops brickwall", "tent tent bike bin pole", "bike pole bin"),
    "campus": scene("bricks grass", "brickwall windows", "bike bike tree rail bin", "rail bike bush"),
    "station": scene("polished concrete", "panels glass", "rail sign bench bollard", "rail bollard", **INDOOR),
    "alley": scene("asphalt concrete", "brickwall panels", "car bike bin pole", "bike bin pole"),
}
