"""What a measurement of robustness found: its means, as a table, as plain types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from regard.data.corruptions import FAMILIES, KINDS
from regard.metrics.score_options import in_words

__all__ = ["SIDES", "Measured", "RobustnessReport"]

SIDES = {"query": "query", "gallery": "gallery", "both": "query and gallery"}
"""What can be made worse -> how to say it."""

UNITS = {"resolution": (1, "{:.12g} px high"), "occlusion": (100, "{:.12g}% covered")}


class Measured(NamedTuple):
    """What was found under one condition.

    Attributes:
        sweep: corruptions, mixed, resolution or occlusion.
        kind: of corruption; the sweep's name in the others.
        level: severity, number of the draw, pixels, or share covered.
        side: what was made worse, a key of ``SIDES``.
        figures: as of :class:`~regard.metrics.RankingReport`, fractions by name.
    """

    sweep: str
    kind: str
    level: float
    side: str
    figures: Mapping[str, float]

    @property
    def mAP(self) -> float:
        """Mean average precision."""
        return self.figures["mAP"]


@dataclass(frozen=True)
class RobustnessReport:
    """What was found.

    Attributes:
        data: the data set in words.
        part: how much of it was used, in words; empty for all of it.
        plan: kinds, severities and draws in words.
        clean: figures of the pictures as they are.
        measured: figures under every condition and side.
        options: what was chosen where toolkits differ, by name.
    """

    data: str
    part: str
    plan: str
    clean: Measured
    measured: list[Measured]
    options: dict[str, str]

    def sides(self) -> list[str]:
        """What was made worse."""
        return list(dict.fromkeys(one.side for one in self.measured))

    def select(self, sweep: str, side: str, kind: str | None = None) -> list[Measured]:
        """What was measured in a sweep, on a side, of one kind or all."""
        chosen = (one for one in self.measured if (one.sweep, one.side) == (sweep, side))
        return [one for one in chosen if kind in (None, one.kind)]

    def mean(self, side: str, family: str | None = None) -> dict[str, float]:
        """Mean corrupted figures over kinds and severities: of one family or all of them, every kind alike."""
        rows = [one for one in self.select("corruptions", side) if family in (None, KINDS[one.kind].family)]
        return _mean(rows)

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain Python types, ready for JSON; figures are fractions."""
        content: dict[str, Any] = {"data": self.data, "part": self.part, "plan": self.plan}
        content |= {"options": dict(self.options), "clean": dict(self.clean.figures), "corrupted": {}}
        for side in self.sides():
            found: dict[str, Any] = {}
            if rows := self.select("corruptions", side):
                found["mean"] = self.mean(side)
                found["families"] = {family: self.mean(side, family) for family in self._families(side)}
                kinds = dict.fromkeys(one.kind for one in rows)
                found["kinds"] = {kind: _by_level(self.select("corruptions", side, kind)) for kind in kinds}
            if rows := self.select("mixed", side):
                found["mixed"] = {"mean": _mean(rows), "draws": [dict(one.figures) for one in rows]}
            for sweep in UNITS:
                if rows := self.select(sweep, side):
                    found[sweep] = _by_level(rows)
            content["corrupted"][side] = found
        return content

    def __str__(self) -> str:
        lines = [f"used: {self.part}"] if self.part else []
        for side in self.sides():
            lines += (
                ["", f"{SIDES[side]} made worse; mAP in %, at the end means over the line"]
                if self.select("corruptions", side)
                else ["", f"{SIDES[side]} made worse, in %"]
            )
            lines += self._table(side)
        return "\n".join([*lines, "", f"  {self.plan}", f"  {in_words(self.options)}"]).lstrip("\n")

    def _families(self, side: str) -> list[str]:
        there = {KINDS[one.kind].family for one in self.select("corruptions", side)}
        return [family for family in FAMILIES if family in there]

    def _table(self, side: str) -> list[str]:
        """Lines of a side: clean, kinds by severities with their means, mixed, and the sweeps."""
        rows = self.select("corruptions", side)
        levels = sorted({one.level for one in rows})
        lines = [_line("", [f"{level:g}" for level in levels], self.clean.figures)]
        lines.append(_line("clean", [""] * len(levels), self.clean.figures.values()))
        for family in self._families(side):
            members = [one for one in rows if KINDS[one.kind].family == family]
            for kind in dict.fromkeys(one.kind for one in members):
                cells = [one.mAP for one in members if one.kind == kind]
                lines.append(_line(f"  {kind.replace('_', ' ')}", cells, self._mean_of(members, kind)))
            lines.append(_line(f"{family}, mean", _columns(members, levels), self.mean(side, family).values()))
        if rows:
            mean = self.mean(side)
            kinds = len({one.kind for one in rows})
            lines.append(_line(f"mean of {kinds} kinds", _columns(rows, levels), mean.values()))
            kept = [f"{mean[name] / value:.1%}" if value else "" for name, value in self.clean.figures.items()]
            lines.append(_line("kept of clean", [""] * len(levels), kept))
        if mixed := self.select("mixed", side):
            label = f"mixed, {len(mixed)} draw{'s' * (len(mixed) > 1)}"
            lines.append(_line(label, [""] * len(levels), _mean(mixed).values()))
            if len(mixed) > 1:
                spread = [float(np.std([one.figures[name] for one in mixed], ddof=1)) for name in self.clean.figures]
                lines.append(_line("  deviation", [""] * len(levels), spread))
        for sweep, (factor, unit) in UNITS.items():
            for one in self.select(sweep, side):
                lines.append(_line(unit.format(factor * one.level), [""] * len(levels), one.figures.values()))
        return lines

    def _mean_of(self, rows: Iterable[Measured], kind: str) -> Iterable[float]:
        return _mean([one for one in rows if one.kind == kind]).values()


def _mean(rows: list[Measured]) -> dict[str, float]:
    return {name: float(np.mean([one.figures[name] for one in rows])) for name in rows[0].figures}


def _columns(rows: list[Measured], levels: list[float]) -> list[float]:
    """Mean AP at every level."""
    return [float(np.mean([one.mAP for one in rows if one.level == level])) for level in levels]


def _by_level(rows: list[Measured]) -> dict[str, dict[str, float]]:
    return {f"{one.level:.15g}": dict(one.figures) for one in rows}


def _line(label: str, cells: Iterable[float | str], means: Iterable[float | str]) -> str:
    """A line of the table; fractions in percent."""
    shown = (f"{100 * cell:.2f}" if isinstance(cell, float) else cell for cell in (*cells, *means))
    return f"{label:<22}" + "".join(f"{cell:>8}" for cell in shown)
