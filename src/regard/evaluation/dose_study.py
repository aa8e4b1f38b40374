"""What runs score as one cause grows, as curves, a table, and sentences that the intervals make."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from regard.metrics.significance import Interval, holm
from regard.wording import latex_table, markdown, markdown_table, table

__all__ = ["Curve", "DoseStudy", "Point"]

SURE = 0.05
"""p after correction below which a difference is said to be one."""
CSV_COLUMNS = (
    "cause", "dose", "runs", "figure", "value", "low", "high", "baseline", "difference", "difference_low",
    "difference_high", "p",
)  # fmt: skip
FIGURES = ("mAP", "rank-1")

Table = list[list[str]]


@dataclass(frozen=True)
class Point:
    """A group of runs at one dose.

    Attributes:
        dose: 0 for none.
        figures: name -> mean over seeds with its interval over seeds and people, fractions.
        gaps: name -> minus the baseline's on the same queries, and p of none; empty for the baseline.
    """

    dose: float
    figures: dict[str, Interval]
    gaps: dict[str, tuple[Interval, float]]


@dataclass(frozen=True)
class Curve:
    """A group of runs over the doses of a cause.

    Attributes:
        cause: which.
        label: of the group.
        points: by dose, that without the cause first.
        kept: figure -> share of the score without the cause that is left, mean over its doses; none where a run scored
            0 without it.
        spared: figure -> how much more that is than what is left of the baseline's, and p of none; empty for the
            baseline itself.
    """

    cause: str
    label: str
    points: tuple[Point, ...]
    kept: dict[str, Interval]
    spared: dict[str, tuple[Interval, float]]

    @property
    def shared(self) -> list[str]:
        """The figures that there are at every dose."""
        return [name for name in self.points[0].figures if all(name in point.figures for point in self.points)]


@dataclass(frozen=True)
class DoseStudy:
    """All curves.

    Attributes:
        data: what the runs were scored on, in words.
        worse: what has the cause, in words.
        seeds: label of a group -> how many seeds it has.
        baseline: label of the group that the others are compared with.
        curves: by cause and group, the baseline's first.
        options: lines that say what was chosen where evaluations differ.
        warnings: what speaks against the figures.
    """

    data: str
    worse: str
    seeds: dict[str, int]
    baseline: str
    curves: tuple[Curve, ...]
    options: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def causes(self) -> list[str]:
        """The causes, in order."""
        return list(dict.fromkeys(curve.cause for curve in self.curves))

    def of(self, cause: str) -> list[Curve]:
        """The curves of a cause."""
        return [curve for curve in self.curves if curve.cause == cause]

    def corrected(self, figure: str) -> dict[tuple[str, str], float]:
        """(cause, group) -> p of what is spared after Holm's correction for all causes and groups."""
        tested = [curve for curve in self.curves if figure in curve.spared]
        values = holm([curve.spared[figure][1] for curve in tested])
        return {(curve.cause, curve.label): value for curve, value in zip(tested, values)}

    def verdicts(self) -> list[str]:
        """For each cause who keeps more of their mAP than the baseline, who less, and of whom neither is shown."""
        corrected, lines = self.corrected("mAP"), []
        for cause in self.causes:
            sorted_out: dict[str, list[str]] = {"keeps more": [], "keeps less": [], "neither is shown": []}
            for curve in self.of(cause):
                if "mAP" in curve.spared:
                    (value, low, high), _ = curve.spared["mAP"]
                    sure = corrected[cause, curve.label] < SURE
                    kind = "neither is shown" if not sure else "keeps more" if value > 0 else "keeps less"
                    sorted_out[kind].append(f"{curve.label} ({_points(value, low, high)})")
            said = [f"{kind}: {', '.join(names)}" for kind, names in sorted_out.items() if names]
            if said:
                lines.append(f"{cause}, against {self.baseline}: {'; '.join(said)}")
        return lines

    def tables(self) -> Iterator[Table]:
        """A table for each cause and figure: doses, what is kept, and how much more that is than the baseline's."""
        for cause in self.causes:
            curves = self.of(cause)
            for name in dict.fromkeys(name for curve in curves for name in curve.shared):
                yield self._table(cause, name, [curve for curve in curves if name in curve.shared])

    def _table(self, cause: str, name: str, curves: list[Curve]) -> Table:
        doses = [f"{point.dose:g}" for point in curves[0].points]
        tested = name in FIGURES and len(self.seeds) > 1
        more = ["kept", f"kept more than {self.baseline}", "p"] if tested else []
        corrected, rows = self.corrected(name) if tested else {}, [[f"{cause}: {name} at dose", *doses, *more]]
        for curve in curves:
            cells = [f"{100 * point.figures[name].value:.1f}" for point in curve.points]
            if tested:
                cells.append(f"{100 * curve.kept[name].value:.1f}" if name in curve.kept else "-")
                spared = curve.spared.get(name)
                cells += [_points(*spared[0]), _p(corrected[cause, curve.label])] if spared else ["", ""]
            rows.append([curve.label, *cells])
        return rows

    def notes(self) -> list[str]:
        """What the tables need beside them to be read."""
        number = sum(bool(curve.spared) for curve in self.curves)
        notes = [
            "in %, means over seeds; kept: mean over doses above 0 as a share of the score at dose 0; kept more: the "
            "difference of these shares, in points, on the same queries, with 95 % intervals over seeds and people "
            f"(Student's t); p two-sided{f', Holm correction for {number} differences' if number > 1 else ''}",
            f"{self.worse}; near a score of zero everybody keeps the same: read shares beside the scores",
        ]
        if any(count == 1 for count in self.seeds.values()):
            notes.append("a group of one seed does not say how far seeds vary: its intervals are over people alone")
        if any(name not in curve.kept for curve in self.curves for name in FIGURES):
            notes.append("-: a run of the group scored 0 without the cause, of which no share can be kept")
        if any("attention" in curve.points[0].figures for curve in self.curves):
            notes.append("attention, last map: share of the mass on the visible person; chance: share they fill")
        return [*notes, *self.options, *self.warnings]

    def __str__(self) -> str:
        parts = [line for rows in self.tables() for line in ("", *table(rows))]
        said = ["", *self.verdicts()] if len(self.seeds) > 1 else []
        return "\n".join([self.data, *parts, *said, "", *(f"  {note}" for note in self.notes())])

    def to_markdown(self) -> str:
        """Markdown tables, the sentences and the notes."""
        lines = [markdown(self.data)]
        for rows in self.tables():
            lines += ["", *markdown_table(rows)]
        said = [[f"- {markdown(line)}" for line in part] for part in (self.verdicts(), self.notes())]
        return "\n".join([*lines, "", *said[0], "", *said[1], ""])

    def to_latex(self) -> str:
        """A ``tabular`` for the package booktabs for each table, and what is said beside them as comments."""
        tables = [*self.tables()]
        notes = [[self.data, *self.verdicts(), *self.notes()], *[[]] * len(tables)]
        return "\n".join(latex_table(rows, told) for rows, told in zip(tables, notes))

    def to_csv(self) -> str:
        """One line per cause, dose, group and figure, fractions; what is kept in JSON alone."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for curve in self.curves:
            for point in curve.points:
                for name, figure in point.figures.items():
                    gap = point.gaps.get(name)
                    told = [self.baseline, *gap[0], gap[1]] if gap else [""] * 5
                    writer.writerow([curve.cause, point.dose, curve.label, name, *figure, *told])
        return buffer.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain Python types, ready for JSON."""
        corrected = {name: self.corrected(name) for name in FIGURES}
        return {
            "data": self.data,
            "baseline": self.baseline,
            "seeds": self.seeds,
            "notes": self.notes(),
            "verdicts": self.verdicts(),
            "curves": [
                {
                    "cause": curve.cause,
                    "runs": curve.label,
                    "doses": [
                        {
                            "dose": point.dose,
                            "figures": {name: figure._asdict() for name, figure in point.figures.items()},
                            "difference": {name: gap._asdict() | {"p": p} for name, (gap, p) in point.gaps.items()},
                        }
                        for point in curve.points
                    ],
                    "kept": {name: kept._asdict() for name, kept in curve.kept.items()},
                    "spared": {
                        name: spared._asdict() | {"p": p, "p_holm": corrected[name][curve.cause, curve.label]}
                        for name, (spared, p) in curve.spared.items()
                    },
                }
                for curve in self.curves
            ],
        }


def _points(value: float, low: float, high: float) -> str:
    return f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
