"""People beyond those of the roster's tables: other bodies, clothes for the cold, colors of any kind, things to carry.

Every knob has a stream of its own, named after it and the person, so that turning one changes nothing else about them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from regard.crowd.clothes import wardrobe
from regard.crowd.clothes.wardrobe import COLORS
from regard.crowd.color import Rgb, three
from regard.crowd.identity_types import Identity
from regard.crowd.knobs import Knobs
from regard.crowd.rng import Rng

__all__ = ["varied"]

DYED = {
    "top": ("color", "second", "inner", "scarf_color"),
    "bottom": ("color", "second"),
    "shoes": ("color",),
    "bag": ("color", "second"),
    "head": ("hat_color",),
}
"""Colors of an identity that may be any at all, by noun."""


def varied(person: Identity, seed: int | str, key: str, knobs: Knobs) -> Identity:
    """Return a person as the knobs of variety leave them; with all of these at 0 it is the same person.

    Args:
        person: as drawn from the roster's tables.
        seed, key: name of the person's streams.
        knobs: of which ``bodies``, ``layers``, ``carrying``, ``headwear`` and ``dyes`` are read.
    """
    for name, change in CHANGES.items():
        share, rng = getattr(knobs, name), Rng(seed, name, key)
        if share > 0 and rng.chance(share):
            person = change(person, rng)
    return person if knobs.dyes <= 0 else dyed(person, Rng(seed, "dyes", key), knobs.dyes)


def reshaped(person: Identity, rng: Rng) -> Identity:
    """Return a child, or somebody heavy, thin, tall or old."""
    build, gait = person.build, person.gait
    kind = rng.weighted((("heavy", 4.0), ("thin", 3.0), ("child", 2.0), ("tall", 1.5), ("old", 2.5)))
    if kind == "child":
        height = rng.uniform(1.05, 1.45)
        head = 1.0 + 0.55 * (1.62 - height)
        build = replace(build, height=height, head=head, width=rng.uniform(0.88, 1.08), belly=0.2, bust=0.0, leg=0.97)
        gait = replace(gait, stride=gait.stride * 1.1)
    elif kind == "heavy":
        build = replace(build, width=rng.uniform(1.15, 1.5), belly=rng.uniform(0.5, 1.9))
    elif kind == "thin":
        build = replace(build, width=rng.uniform(0.74, 0.88), belly=0.0)
    elif kind == "tall":
        build = replace(build, height=rng.uniform(1.85, 2.02), leg=rng.uniform(1.0, 1.06))
    else:
        build = replace(build, height=build.height * rng.uniform(0.92, 0.98), belly=rng.uniform(0.1, 0.9))
        gait = replace(gait, lean=rng.uniform(0.10, 0.30), stride=gait.stride * rng.uniform(0.55, 0.85))
    return replace(person, build=build, gait=gait)


def wrapped(person: Identity, rng: Rng) -> Identity:
    """Return a person dressed for the cold: a coat, a padded jacket or a hoodie, and long trousers."""
    kind = rng.weighted((("coat", 4.0), ("jacket", 5.0), ("hoodie", 2.0), ("openjacket", 1.5)))
    pattern = rng.weighted((("plain", 10.0), ("quilt", 5.0), ("block", 3.0), ("plaid", 1.0), ("sides", 1.0)))
    name = rng.weighted(wardrobe.COLD_COLORS)
    hem = rng.uniform(0.27, 0.46) if kind == "coat" else rng.uniform(0.45, 0.535)
    top, bottom = person.top, person.bottom
    top = replace(
        top,
        kind=kind,
        color_name=name,
        color=near(rng, COLORS[name]),
        pattern=replace(top.pattern, kind=pattern, period=rng.uniform(0.07, 0.14), split=rng.uniform(0.68, 0.77)),
        print=replace(top.print, kind="small" if rng.chance(0.15) else "none", back="none"),
        sleeve=0.965,
        hem=hem,
        loose=rng.uniform(1.3, 2.8),
        hood=kind == "hoodie" or rng.chance(0.45),
        scarf=rng.chance(0.2),
        zip=rng.chance(0.7),
        tucked=False,
    )
    if bottom.kind in ("shorts", "skirt", "none", "longskirt") and rng.chance(0.85):
        bottom = replace(bottom, kind=rng.choice(("jeans", "trousers", "leggings")), length=rng.uniform(0.94, 1.0))
    shoes = replace(person.shoes, kind="boot") if rng.chance(0.35) else person.shoes
    return replace(person, top=top, bottom=bottom, shoes=shoes)


def laden(person: Identity, rng: Rng) -> Identity:
    """Return a person with something to carry that hangs, rolls or is held otherwise than the roster's bags."""
    kind = rng.weighted(wardrobe.LOADS)
    color = near(rng, (232.0, 231.0, 226.0)) if kind == "paper" and rng.chance(0.75) else person.bag.color
    size = rng.uniform(0.22, 0.42), rng.uniform(0.30, 0.58), rng.uniform(0.08, 0.24)
    bag = replace(person.bag, kind=kind, color=color, side=rng.sign())
    return replace(person, bag=replace(bag, width=size[0], height=size[1], depth=size[2], drop=rng.uniform()))


def crowned(person: Identity, rng: Rng) -> Identity:
    """Return a person with a hood up, a headscarf, a helmet, or hair of another kind."""
    head, top = person.head, person.top
    kind = rng.weighted(
        (("hood", 3.0), ("headscarf", 2.0), ("beanie", 2.0), ("curly", 4.0), ("gray", 3.0), ("bald", 2.0))
    )
    if kind == "hood":
        return replace(
            person, head=replace(head, hat=kind, hat_color=top.color, hair="short"), top=replace(top, hood=False)
        )
    if kind == "headscarf":
        color = near(rng, COLORS[rng.weighted(wardrobe.TOP_COLORS)])
        worn = replace(head, hat=kind, hat_color=color, hair="short", beard=False)
        return replace(person, female=True, head=worn, top=replace(top, scarf=True, scarf_color=color, hood=False))
    if kind == "beanie":
        return replace(person, head=replace(head, hat=kind))
    if kind == "gray":
        return replace(person, head=replace(head, hair_color=near(rng, (176.0, 174.0, 170.0))))
    return replace(person, head=replace(head, hair=kind, hat="none"))


def dyed(person: Identity, rng: Rng, share: float) -> Identity:
    """Return a person of whose colors a share is any at all; names of colors follow."""
    for noun, colors in DYED.items():
        worn = getattr(person, noun)
        for name in colors:
            fresh = any_color(rng)
            if rng.chance(share):
                worn = replace(worn, **{name: fresh})
        if hasattr(worn, "color_name"):
            worn = replace(
                worn,
                color_name=nearest_name(worn.color) if worn.color != getattr(person, noun).color else worn.color_name,
            )
        person = replace(person, **{noun: worn})
    return person


def any_color(rng: Rng) -> Rgb:
    """Return a color of any hue, from gray to bright and from near black to near white."""
    channels = [rng.uniform() for _ in range(3)]
    gray, strength, level = sum(channels) / 3, rng.uniform(0.1, 1.3), rng.uniform(0.25, 1.25)
    return three(min(248.0, max(6.0, 255 * level * (gray + strength * (c - gray)))) for c in channels)


def near(rng: Rng, rgb: Rgb) -> Rgb:
    """Return a color a little off the given one."""
    factor = 1 + rng.normal(0, 0.12)
    return three(min(248.0, max(6.0, c * factor + rng.normal(0, 6.0))) for c in rgb)


def nearest_name(rgb: Rgb) -> str:
    """Return the name of the wardrobe's color that is closest."""
    return min(COLORS, key=lambda name: sum((a - b) ** 2 for a, b in zip(COLORS[name], rgb)))


CHANGES: dict[str, Callable[[Identity, Rng], Identity]] = {
    "bodies": reshaped,
    "layers": wrapped,
    "carrying": laden,
    "headwear": crowned,
}
"""What knobs change about a person, in their order."""
