"""What makes pictures hard, one cause at a time: its name, and how much of it there is."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

from regard.errors import ConfigError, check_kind, nearest

__all__ = ["CAUSES", "Cause", "checked_cause"]

CAUSES = {
    "objects": "poles, bushes, bins and cars stand in front of the person",
    "people": "another walker stands in front of the person",
    "shift": "the box lies beside the person",
    "loose": "the box is too large",
    "clutter": "shop dummies behind the person wear what looks like their clothes",
    "parts": "the legs or the head are cut off",
    "pose": "the body is turned, bent and strides in other ways",
    "scale": "the person is far away and has few pixels",
}
"""Name of a cause -> what happens."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause, a name of ``CAUSES``, and its dose: above 0, none, up to 1, heavy."""

    name: str
    dose: float


def checked_cause(name: str | None, dose: float | None) -> Cause | None:
    """Return the cause with its dose; None where there is none, which a dose of 0 is too.

    Raises:
        ConfigError: there is no such cause, one of the two is missing, or the dose is out of its bounds.
    """
    if name is None and dose is None:
        return None
    known = ", ".join(CAUSES)
    if name is None:
        raise ConfigError(f"dose is {dose!r}, but of which cause? give one of: {known}")
    if name not in CAUSES:
        raise ConfigError(f"unknown cause {name!r}{nearest(str(name), CAUSES)}; known: {known}")
    wanted = f"a number from 0 (none) to 1 (heavy) beside the cause {name}"
    check_kind("dose", dose, (Real, bool), wanted)
    assert dose is not None
    if isinstance(dose, bool) or not 0 <= dose <= 1:
        raise ConfigError(f"dose is {dose!r}, wanted {wanted}")
    return Cause(name, float(dose)) if dose else None
