"""The nouns of an identity: body, gait, head, clothes and bag."""

from __future__ import annotations

from dataclasses import dataclass

from regard.crowd.color import Rgb

__all__ = ["Bag", "Bottom", "Build", "Gait", "Head", "Identity", "Shoes", "Top", "describe"]


@dataclass(frozen=True, slots=True)
class Build:
    """The body. ``height`` is in meters, the rest are factors around 1 (``belly`` and ``bust`` from 0)."""

    height: float
    width: float
    belly: float
    shoulder: float
    hip: float
    leg: float
    head: float
    bust: float


@dataclass(frozen=True, slots=True)
class Gait:
    """The way of walking: angles in radians; ``width`` is a factor, ``arms`` what the hands do."""

    stride: float
    arm: float
    lean: float
    toe: float
    elbow: float
    spread: float
    width: float
    arms: str


@dataclass(frozen=True, slots=True)
class Head:
    """Skin, hair and what is on the face and head."""

    skin: Rgb
    hair: str
    hair_color: Rgb
    beard: bool
    glasses: bool
    face_mask: Rgb | None
    hat: str
    hat_color: Rgb


@dataclass(frozen=True, slots=True)
class Pattern:
    """The pattern of a garment: kind, period in meters, share of the second color, phase, dividing height, stream."""

    kind: str
    period: float
    duty: float
    phase: float
    split: float
    key: int


@dataclass(frozen=True, slots=True)
class Print:
    """A print on the chest and back: size in meters, height as a share of the person's, shape and stream."""

    kind: str
    color: Rgb
    second: Rgb
    width: float
    height: float
    center: float
    shape: int
    key: int
    back: str


@dataclass(frozen=True, slots=True)
class Top:
    """The garment above the waist.

    Attributes:
        kind: one of ``wardrobe.TOPS``.
        color_name: the color's name.
        color, second, inner: of the garment, its pattern, and what is worn below it.
        pattern, print: what is on it.
        sleeve: covered share of the arm.
        hem: lower edge as a share of the person's height.
        loose: how far it stands off.
        hood, scarf, zip, tucked, belt: whether there is one, or whether it is so.
        scarf_color: of the scarf.
        opening: half angle of an open front in radians.
    """

    kind: str
    color_name: str
    color: Rgb
    second: Rgb
    inner: Rgb
    pattern: Pattern
    print: Print
    sleeve: float
    hem: float
    loose: float
    hood: bool
    scarf: bool
    scarf_color: Rgb
    opening: float
    zip: bool
    tucked: bool
    belt: bool

    @property
    def tail(self) -> bool:
        """Return whether it falls over the hips like a skirt."""
        return self.kind in ("dress", "coat") or self.hem < 0.47


@dataclass(frozen=True, slots=True)
class Bottom:
    """The garment below the waist.

    Attributes:
        kind: one of ``wardrobe.BOTTOMS``, or ``"none"`` under a dress.
        color_name: the color's name.
        color, second: of the garment and its stripes.
        fade: how far jeans are worn off.
        cuff, stripe, rip: whether there is one.
        short: covered share of the leg in shorts.
        length: covered share of the leg in trousers.
        skirt: lower edge of a skirt as a share of the person's height.
    """

    kind: str
    color_name: str
    color: Rgb
    second: Rgb
    fade: float
    cuff: bool
    stripe: bool
    rip: bool
    short: float
    length: float
    skirt: float

    @property
    def is_skirt(self) -> bool:
        """Return whether it is a skirt of any length."""
        return self.kind in ("skirt", "longskirt")

    @property
    def covered(self) -> float:
        """Return the share of the leg, from the hip, that is in the garment."""
        if self.is_skirt or self.kind == "none":
            return 0.0
        return self.short if self.kind == "shorts" else self.length


@dataclass(frozen=True, slots=True)
class Shoes:
    """Shoes and socks; ``sock_length`` is a share of the leg."""

    kind: str
    color_name: str
    color: Rgb
    sole: Rgb
    sock: Rgb
    sock_length: float


@dataclass(frozen=True, slots=True)
class Bag:
    """A bag: its kind and side (-1 right, 1 left), sizes in meters; ``drop`` from 0 to 1 is how low it hangs."""

    kind: str
    color: Rgb
    second: Rgb
    side: int
    width: float
    height: float
    depth: float
    drop: float
    style: int
    strap: Rgb


@dataclass(frozen=True, slots=True)
class Identity:
    """A person in their clothes. ``texture`` names the streams of folds and fabric."""

    female: bool
    build: Build
    gait: Gait
    head: Head
    top: Top
    bottom: Bottom
    shoes: Shoes
    bag: Bag
    texture: int

    @property
    def hem(self) -> float:
        """Return the lower edge of the garment above the waist where it lies on the body, as a share of the height."""
        top = self.top
        if top.tucked and top.kind in ("tshirt", "polo", "longsleeve") and not top.tail and not self.bottom.is_skirt:
            return 0.575
        return max(top.hem, 0.465) if top.hem >= 0.47 else 0.465


def describe(person: Identity) -> dict[str, str | float]:
    """Describe the identity in words, as written to ``attributes.json``."""
    return {
        "gender": "female" if person.female else "male",
        "height": round(person.build.height, 3),
        "hair": person.head.hair,
        "hat": person.head.hat,
        "upper": person.top.kind,
        "upper_color": person.top.color_name,
        "pattern": person.top.pattern.kind,
        "print": person.top.print.kind,
        "lower": person.bottom.kind,
        "lower_color": person.bottom.color_name,
        "shoes": person.shoes.kind,
        "shoe_color": person.shoes.color_name,
        "bag": person.bag.kind,
    }
