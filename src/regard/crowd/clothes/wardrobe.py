"""The wardrobe: garments, their colors, and how often one meets them in the street.

Weights need not add up to anything. Dark and neutral colors dominate, as they do in surveillance pictures.
"""

from __future__ import annotations

COLORS: dict[str, tuple[float, float, float]] = {
    "black": (24, 24, 27),
    "charcoal": (58, 58, 62),
    "gray": (122, 122, 126),
    "lightgray": (178, 178, 180),
    "white": (228, 227, 222),
    "cream": (214, 203, 176),
    "navy": (30, 38, 66),
    "blue": (48, 82, 150),
    "sky": (120, 162, 205),
    "teal": (34, 112, 116),
    "green": (52, 108, 62),
    "olive": (86, 88, 54),
    "khaki": (158, 140, 104),
    "brown": (92, 64, 44),
    "tan": (176, 140, 100),
    "red": (168, 36, 40),
    "burgundy": (92, 28, 42),
    "pink": (218, 140, 160),
    "magenta": (176, 50, 116),
    "purple": (94, 62, 130),
    "lilac": (168, 150, 200),
    "orange": (214, 112, 40),
    "yellow": (222, 190, 70),
    "mint": (150, 204, 178),
    "denim": (66, 88, 122),
    "denim_dark": (38, 48, 72),
    "denim_light": (122, 146, 176),
}
"""sRGB, 0 to 255."""

Table = tuple[tuple[str, float], ...]


def table(text: str) -> Table:
    """Read weights from a line such as ``"black 19, white 14"``."""
    entries = (entry.split() for entry in text.split(","))
    return tuple((name, float(weight)) for name, weight in entries)


TOP_COLORS = table(
    "black 19, charcoal 8, gray 9, lightgray 6, white 14, cream 4, navy 8, blue 6, sky 4, teal 2, green 3, olive 3, "
    "khaki 3, brown 3, tan 2, red 5, burgundy 2, pink 4, magenta 1, purple 2, lilac 2, orange 2, yellow 3, mint 2"
)
COLD_COLORS = table(
    "black 30, charcoal 10, gray 5, lightgray 2, white 3, cream 3, navy 12, blue 4, sky 2, teal 2, green 3, olive 6, "
    "khaki 5, brown 6, tan 3, red 5, burgundy 4, pink 2, purple 2, orange 1, yellow 1, denim 3"
)
"""Colors of coats and jackets."""
BOTTOM_COLORS = table(
    "black 24, charcoal 9, gray 7, white 3, cream 3, navy 8, blue 4, khaki 7, brown 3, olive 4, denim 14, "
    "denim_dark 12, denim_light 8, red 1, pink 2, burgundy 1, green 1, tan 2"
)
JEANS_COLORS = table("denim 5, denim_dark 5, denim_light 3, black 4, gray 1")
SHOE_COLORS = table(
    "black 28, white 26, gray 12, charcoal 6, brown 9, tan 4, red 4, blue 4, navy 3, pink 2, yellow 1, green 1"
)
SOLE_COLORS = table("white 5, black 4, gray 1, tan 1")
SOCK_COLORS = table("white 5, black 4, gray 2")
BAG_COLORS = table(
    "black 30, charcoal 10, gray 8, navy 9, blue 6, red 7, brown 8, tan 5, green 3, pink 4, white 4, yellow 2, "
    "purple 3, olive 3, burgundy 2"
)

TOPS = {
    False: table("tshirt 26, longsleeve 12, polo 8, openshirt 7, hoodie 13, jacket 14, openjacket 10, coat 5, vest 3"),
    True: table(
        "tshirt 22, longsleeve 14, polo 4, openshirt 6, hoodie 10, jacket 9, openjacket 9, coat 8, vest 6, dress 12"
    ),
}
"""Garments above the waist, by whether the wearer is female; so below."""
BOTTOMS = {
    False: table("jeans 36, trousers 28, wide 9, shorts 20, track 7"),
    True: table("jeans 30, trousers 12, leggings 18, wide 8, shorts 12, skirt 11, longskirt 5, track 4"),
}
HAIRSTYLES = {
    False: table("short 60, buzz 16, medium 12, bald 3, long 4, bun 2"),
    True: table("long 34, ponytail 26, bob 18, bun 10, medium 7, short 5"),
}
PATTERNS = table(
    "plain 50, hstripes 11, vstripes 3, plaid 7, dots 3, block 8, raglan 5, chestband 5, camo 3, gradient 2, sides 3"
)
OPENSHIRT_PATTERNS = table("plaid 5, plain 4, vstripes 2")
PRINTS = table("none 48, small 16, shape 18, text 12, photo 6")
BACK_PRINTS = table("none 76, text 14, shape 10")
BAGS = table("none 46, backpack 26, crossbody 14, handbag 9, tote 5")
LOADS = table("shoulder 4, trolley 2, paper 3, duffel 2, tote 2, handbag 2, backpack 4, none 3")
"""What people carry where the knob ``carrying`` has them carry something else."""
HATS = table("none 80, cap 10, beanie 6, sunhat 4")
SHOES = table("sneaker 62, leather 16, boot 13, sandal 9")
ARMS = table("swing 66, pocket 10, phone 9, behind 4, strap 5, call 6")

SKIN_TONES = (
    ((236.0, 196.0, 170.0), 20.0),
    ((222.0, 178.0, 148.0), 28.0),
    ((204.0, 154.0, 120.0), 24.0),
    ((178.0, 126.0, 92.0), 14.0),
    ((132.0, 88.0, 62.0), 9.0),
    ((92.0, 60.0, 44.0), 5.0),
)
HAIR_COLORS = (
    ((22.0, 19.0, 18.0), 42.0),
    ((48.0, 34.0, 26.0), 26.0),
    ((82.0, 56.0, 38.0), 14.0),
    ((134.0, 100.0, 62.0), 6.0),
    ((186.0, 154.0, 98.0), 5.0),
    ((140.0, 138.0, 134.0), 5.0),
    ((120.0, 58.0, 34.0), 2.0),
)
FACE_MASKS = (
    (None, 92.0),
    ((208.0, 216.0, 222.0), 4.0),
    ((110.0, 160.0, 190.0), 2.0),
    ((28.0, 28.0, 30.0), 2.0),
)
