"""Numbers beside an axis: each says its place to the last digit, and all of one axis are written alike."""

from __future__ import annotations

from typing import Any

from matplotlib.axis import Axis
from matplotlib.ticker import Formatter

__all__ = ["number_ticks", "percent_ticks", "short_number"]

EXACT = 1e-6
"""What a label may be off by, as a share of the largest one: rounding of floats, nothing that is seen."""


class _Ticks(Formatter):
    """Labels that are decided together: told all places of the axis before each is written."""

    def __init__(self):
        self.places: list[float] = []

    def set_locs(self, locs: Any) -> None:
        """Take the places of the axis."""
        self.places = [float(place) for place in locs]


class _Percent(_Ticks):
    """Percent with as many decimals as the ticks need."""

    def __init__(self, whole: float):
        super().__init__()
        self.scale = 100 / whole

    def __call__(self, x: float, pos: int | None = None) -> str:
        values = [self.scale * place for place in self.places or [x]]
        return f"{self.scale * x + 0.0:.{_decimals(values)}f} %"


class _Number(_Ticks):
    """Numbers, all of them as powers of ten where the smallest would have many zeros."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        sizes = [abs(place) for place in self.places or [x] if place]
        return _power(x) if min(sizes, default=1) < 0.001 else f"{x + 0.0:.10g}"


def percent_ticks(axis: Axis, whole: float = 100) -> None:
    """Label an axis in percent.

    Args:
        axis: ``axes.xaxis`` or ``axes.yaxis``.
        whole: what 100 % is on it.
    """
    axis.set_major_formatter(_Percent(whole))


def number_ticks(axis: Axis) -> None:
    """Label an axis with plain numbers, such as learning rates, in one way of writing."""
    axis.set_major_formatter(_Number())


def short_number(value: float) -> str:
    """A number in at most three digits, small ones as powers of ten."""
    return _power(float(f"{value:.2e}")) if 0 < abs(value) < 0.001 else f"{value:.3g}"


def _power(value: float) -> str:
    if not value:
        return "0"
    digits, _, exponent = f"{value:.9e}".partition("e")
    return f"{float(digits):.10g}e{int(exponent)}"


def _decimals(values: list[float]) -> int:
    """The fewest decimals, up to six, that say all the values."""
    allowed = EXACT * max(map(abs, values))
    exact = (decimals for decimals in range(6) if all(abs(round(v, decimals) - v) <= allowed for v in values))
    return next(exact, 6)
