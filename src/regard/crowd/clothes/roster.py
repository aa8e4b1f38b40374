"""Draw identities: a roster of people, many of them in families of look-alikes."""

from __future__ import annotations

from dataclasses import replace

from regard.crowd.clothes import wardrobe
from regard.crowd.clothes.variety import varied
from regard.crowd.clothes.wardrobe import COLORS, Table
from regard.crowd.color import Rgb, three
from regard.crowd.identity_types import Bag, Bottom, Build, Gait, Head, Identity, Pattern, Print, Shoes, Top
from regard.crowd.knobs import Knobs
from regard.crowd.rng import Rng

__all__ = ["draw_identity", "draw_person", "roster"]

EDITS = (
    *("pattern", "print", "bottom color", "bottom kind", "shoes", "bag"),
    *("hair", "hat", "inner", "build", "sleeve", "shade"),
)
"""Details in which a look-alike may differ; ``build`` changes nothing, since the body is never copied."""
LOOSENESS = {"coat": 1.6, "hoodie": 1.7, "jacket": 1.6, "openjacket": 1.3, "openshirt": 1.2, "dress": 0.7, "vest": 0.6}
"""Distance of a garment from the body, as a factor; others 0.8."""
SLEEVES = {"tshirt": (0.26, 0.42), "polo": (0.26, 0.36), "vest": (0.0, 0.0)}
HEMS = {
    **{"coat": (0.30, 0.42), "hoodie": (0.475, 0.505), "jacket": (0.485, 0.53), "vest": (0.49, 0.54)},
    **{"openjacket": (0.455, 0.52), "openshirt": (0.445, 0.485), "dress": (0.24, 0.40)},
}
"""Bounds of the covered share of the arm, and of the lower edge as a share of the person's height."""


def roster(seed: int | str, people: int, knobs: Knobs) -> list[Identity]:
    """Draw the identities of a data set, of whom some may be look-alikes."""
    rng = Rng(seed, "roster", people)
    found: list[Identity] = []
    family = knobs.lookalike_family
    head_chance = knobs.lookalikes / (knobs.lookalikes + (1 - knobs.lookalikes) * family)
    while len(found) < people:
        head = draw_person(seed, f"{len(found)}", knobs)
        found.append(head)
        if rng.chance(head_chance):
            relatives = min(family - 1, people - len(found))
            found += [draw_lookalike(seed, f"{len(found) + i}", head, knobs) for i in range(relatives)]
    return rng.shuffled(found)


def draw_person(seed: int | str, key: str, knobs: Knobs) -> Identity:
    """Draw one identity as the knobs of variety have them."""
    return varied(draw_identity(seed, key), seed, key, knobs)


def draw_identity(seed: int | str, key: str) -> Identity:
    """Draw one identity from the stream of that key."""
    rng = Rng(seed, "identity", key)
    female = rng.chance(0.45)
    build, gait = draw_build(rng, female=female), draw_gait(rng)
    head, top = draw_head(rng, female=female), draw_top(rng, female=female)
    bottom = draw_bottom(rng, female=female)
    if top.kind == "dress":
        bottom = replace(bottom, kind="none")
    return Identity(female, build, gait, head, top, bottom, draw_shoes(rng), draw_bag(rng), rng.bits())


def vary(rng: Rng, rgb: Rgb, deviation: float = 9.0, lightness: float = 0.10) -> Rgb:
    """Return a color a little off the given one."""
    factor = min(1.35, max(0.65, 1.0 + rng.normal(0, lightness)))
    return three(min(245.0, max(10.0, c * factor + rng.normal(0, deviation))) for c in rgb)


def draw_color(rng: Rng, colors: Table, avoid: str = "") -> tuple[str, Rgb]:
    """Draw name and value of a color, seldom the one to avoid."""
    name = rng.weighted(colors)
    for _ in range(7):
        if name != avoid:
            break
        name = rng.weighted(colors)
    return name, vary(rng, COLORS[name])


def draw_build(rng: Rng, *, female: bool) -> Build:
    """Draw a body."""
    return Build(
        height=min(1.95, max(1.45, rng.normal(1.63 if female else 1.745, 0.065))),
        width=min(1.32, max(0.82, rng.normal(1.0, 0.10))),
        belly=max(0.0, rng.normal(0.15, 0.35)),
        shoulder=rng.normal(0.94 if female else 1.05, 0.045),
        hip=rng.normal(1.06 if female else 0.97, 0.05),
        leg=rng.normal(1.0, 0.022),
        head=rng.normal(1.0, 0.035),
        bust=rng.uniform(0.4, 1.0) if female else 0.0,
    )


def draw_gait(rng: Rng) -> Gait:
    """Draw a way of walking."""
    return Gait(
        stride=rng.normal(0.40, 0.06),
        arm=rng.normal(0.34, 0.11),
        lean=rng.normal(0.03, 0.035),
        toe=rng.normal(0.14, 0.07),
        elbow=rng.uniform(0.15, 0.55),
        spread=rng.uniform(0.06, 0.17),
        width=rng.normal(1.0, 0.15),
        arms=rng.weighted(wardrobe.ARMS),
    )


def draw_head(rng: Rng, *, female: bool) -> Head:
    """Draw skin, hair, face and hat."""
    return Head(
        skin=vary(rng, rng.weighted(wardrobe.SKIN_TONES), 4, 0.05),
        hair=rng.weighted(wardrobe.HAIRSTYLES[female]),
        hair_color=vary(rng, rng.weighted(wardrobe.HAIR_COLORS), 4, 0.12),
        beard=rng.chance(0.14) and not female,
        glasses=rng.chance(0.2),
        face_mask=rng.weighted(wardrobe.FACE_MASKS),
        hat=rng.weighted(wardrobe.HATS),
        hat_color=draw_color(rng, wardrobe.TOP_COLORS)[1],
    )


def draw_top(rng: Rng, *, female: bool) -> Top:
    """Draw a garment above the waist."""
    kind = rng.weighted(wardrobe.TOPS[female])
    name, color = draw_color(rng, wardrobe.TOP_COLORS)
    return Top(
        kind=kind,
        color_name=name,
        color=color,
        second=draw_color(rng, wardrobe.TOP_COLORS, name)[1],
        inner=draw_color(rng, wardrobe.TOP_COLORS, name)[1],
        pattern=draw_pattern(rng, kind),
        print=draw_print(rng, kind, name),
        sleeve=draw_sleeve(rng, kind),
        hem=rng.uniform(*HEMS.get(kind, (0.475, 0.53))),
        loose=LOOSENESS.get(kind, 0.8) * rng.uniform(0.7, 1.35),
        hood=kind == "hoodie" or (rng.chance(0.3) and kind in ("jacket", "coat")),
        scarf=rng.chance(0.06),
        scarf_color=draw_color(rng, wardrobe.TOP_COLORS, name)[1],
        opening=rng.uniform(0.25, 0.6),
        zip=rng.chance(0.5),
        tucked=rng.chance(0.15),
        belt=rng.chance(0.3),
    )


def draw_sleeve(rng: Rng, kind: str) -> float:
    """Draw the covered share of the arm."""
    if kind in SLEEVES:
        return rng.uniform(*SLEEVES[kind])
    if kind == "dress":
        return rng.choice((0.0, 0.3, 0.95))
    return rng.weighted(((0.965, 85), (0.62, 15)))


def draw_pattern(rng: Rng, kind: str) -> Pattern:
    """Draw a pattern that goes with the garment."""
    pattern = rng.weighted(wardrobe.OPENSHIRT_PATTERNS if kind == "openshirt" else wardrobe.PATTERNS)
    if kind == "coat" and pattern in ("hstripes", "dots", "raglan", "chestband"):
        pattern = "plain"
    return Pattern(
        kind=pattern,
        period=rng.uniform(0.045, 0.13),
        duty=rng.uniform(0.3, 0.62),
        phase=rng.uniform(),
        split=rng.uniform(0.66, 0.76),
        key=rng.below(1 << 30),
    )


def draw_print(rng: Rng, kind: str, avoid: str) -> Print:
    """Draw a print for the garment, not in its own color."""
    plain = kind in ("coat", "openshirt", "openjacket")
    return Print(
        kind="none" if plain else rng.weighted(wardrobe.PRINTS),
        color=draw_color(rng, wardrobe.TOP_COLORS, avoid)[1],
        second=draw_color(rng, wardrobe.TOP_COLORS, avoid)[1],
        width=rng.uniform(0.15, 0.27),
        height=rng.uniform(0.10, 0.24),
        center=rng.uniform(0.70, 0.755),
        shape=rng.below(6),
        key=rng.below(1 << 30),
        back=rng.weighted(wardrobe.BACK_PRINTS),
    )


def draw_bottom(rng: Rng, *, female: bool) -> Bottom:
    """Draw a garment below the waist."""
    kind = rng.weighted(wardrobe.BOTTOMS[female])
    name, color = draw_color(rng, wardrobe.JEANS_COLORS if kind == "jeans" else wardrobe.BOTTOM_COLORS)
    return Bottom(
        kind=kind,
        color_name=name,
        color=color,
        second=draw_color(rng, wardrobe.TOP_COLORS, name)[1],
        fade=rng.uniform(0, 0.3),
        cuff=rng.chance(0.25),
        stripe=rng.chance(0.8),
        rip=rng.chance(0.12),
        short=rng.uniform(0.36, 0.55),
        length=rng.uniform(0.95, 1.0) if rng.chance(0.8) else rng.uniform(0.72, 0.92),
        skirt=rng.uniform(0.28, 0.42) if kind == "skirt" else rng.uniform(0.10, 0.2),
    )


def draw_shoes(rng: Rng) -> Shoes:
    """Draw shoes and socks."""
    name, color = draw_color(rng, wardrobe.SHOE_COLORS)
    return Shoes(
        kind=rng.weighted(wardrobe.SHOES),
        color_name=name,
        color=color,
        sole=COLORS[rng.weighted(wardrobe.SOLE_COLORS)],
        sock=COLORS[rng.weighted(wardrobe.SOCK_COLORS)],
        sock_length=rng.uniform(0.0, 0.2),
    )


def draw_bag(rng: Rng) -> Bag:
    """Draw something to carry, more often than not."""
    kind = rng.weighted(wardrobe.BAGS)
    name, color = draw_color(rng, wardrobe.BAG_COLORS)
    return Bag(
        kind=kind,
        color=color,
        second=draw_color(rng, wardrobe.BAG_COLORS, name)[1],
        side=rng.sign(),
        width=rng.uniform(0.26, 0.36),
        height=rng.uniform(0.36, 0.52),
        depth=rng.uniform(0.11, 0.21),
        drop=rng.uniform(),
        style=rng.below(4),
        strap=color if rng.chance(0.6) else COLORS["black"],
    )


def draw_lookalike(seed: int | str, key: str, head: Identity, knobs: Knobs) -> Identity:
    """Draw somebody with a body, face and gait of their own, dressed like ``head`` in all but a few details."""
    own = draw_person(seed, key, knobs)
    rng = Rng(seed, "lookalike", key)
    build = own.build if own.female == head.female else draw_build(rng, female=head.female)
    face = replace(
        own.head,
        hair=head.head.hair,
        hair_color=head.head.hair_color,
        beard=own.head.beard and not head.female,
        hat=head.head.hat,
        hat_color=head.head.hat_color,
    )
    person = replace(head, build=build, gait=own.gait, head=face, texture=own.texture)
    for edit in rng.shuffled(EDITS)[: knobs.lookalike_edits]:
        person = edited(rng, person, own, edit)
    return person


def edited(rng: Rng, person: Identity, own: Identity, edit: str) -> Identity:
    """Return the person with one detail taken from their ``own`` wardrobe or drawn anew."""
    head, top, bottom = person.head, person.top, person.bottom
    if edit == "pattern":
        fresh = own.top.pattern.kind != top.pattern.kind
        kind = own.top.pattern.kind if fresh else rng.weighted(wardrobe.PATTERNS)
        top = replace(top, pattern=replace(own.top.pattern, kind=kind), second=own.top.second)
    elif edit == "print":
        top = replace(top, print=own.top.print)
    elif edit == "inner":
        top = replace(top, inner=own.top.inner, zip=own.top.zip)
    elif edit == "sleeve" and top.kind in ("tshirt", "longsleeve", "polo"):
        kind = rng.choice(("tshirt", "longsleeve", "polo"))
        top = replace(top, kind=kind, sleeve=draw_sleeve(rng, kind))
    elif edit == "shade":
        top = replace(top, color=vary(rng, top.color, 14, 0.2))
    elif edit == "bottom color":
        bottom = replace(bottom, color=vary(rng, bottom.color, 18, 0.22))
    elif edit == "bottom kind" and bottom.kind != "none":
        kind = rng.weighted(wardrobe.BOTTOMS[person.female])
        bottom = replace(own.bottom, kind=kind, color_name=bottom.color_name, color=bottom.color, second=bottom.second)
    elif edit == "hair":
        hair = rng.weighted(wardrobe.HAIRSTYLES[person.female])
        head = replace(head, hair=hair, hair_color=own.head.hair_color)
    elif edit == "hat":
        head = replace(head, hat=own.head.hat, hat_color=own.head.hat_color)
    shoes = own.shoes if edit == "shoes" else person.shoes
    bag = own.bag if edit == "bag" else person.bag
    return replace(person, head=head, top=top, bottom=bottom, shoes=shoes, bag=bag)
