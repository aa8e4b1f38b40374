"""Whole scenes: pictures with room for several people, which are no crops of one. One rule for every verb."""

from __future__ import annotations

from regard.wording import count, visible

__all__ = ["COUNTED", "LEFT_OUT", "SEARCHED", "is_scene", "scenes_line"]

WIDER = 1.2
"""Times its height from which on a picture is too wide for one person; people who stand are half as wide as high."""

LOW = 100
"""Pixels of height below which a picture has no room for people of a size to tell them apart."""

LARGE = 4_000_000
"""Pixels above which a picture is a photograph, and not what somebody cut out of one."""

LEFT_OUT = "left out; cut the people out with --detector or --boxes FILE, or take each for one person with --whole"
"""What becomes of whole scenes where a gallery is filled."""

SEARCHED = "searched for as one person; to search for each person in it, give --detector or --boxes FILE"
"""What becomes of them where they are searched for."""

COUNTED = "each counts as one person here; cut the people out, for instance by regard embed with --detector"
"""What becomes of them in a data set."""


def is_scene(height: int, width: int) -> bool:
    """Return whether a picture is a whole scene by its size: wide and not tiny, or very large."""
    return (width > WIDER * height and height >= LOW) or height * width > LARGE


def scenes_line(number: int, first: str, size: tuple[int, int], becomes: str) -> str:
    """Return what to say of whole scenes, in a line.

    Args:
        number: of scenes.
        first: name of the first.
        size: its height and width.
        becomes: what is done with them, and how that can be had otherwise.
    """
    height, width = size
    many = "are whole scenes and no crops of one person" if number > 1 else "is a whole scene and no crop of one person"
    named = f"{visible(first)}, {width} x {height} pixels{', is the first' * (number > 1)}"
    return f"{count(number, 'picture')} {many} ({named}): {becomes}"
