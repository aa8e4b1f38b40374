"""The outcome of a comparison, and the same outcome as a table, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from regard.evaluation.groups import Group
from regard.metrics.ranking_report import option_lines
from regard.metrics.significance import Difference, Interval, holm
from regard.models.cost import Cost
from regard.wording import latex_table, markdown, markdown_table, table

__all__ = ["Comparison", "Row"]

SHOWN = ("mAP", "mINP", "rank-1")
CSV_COLUMNS = (
    "run", "figure", "value", "low", "high",
    "baseline", "difference", "difference_low", "difference_high", "p", "p_bootstrap", "p_holm",
    "parameters", "gflops", "images_per_second",
)  # fmt: skip

Table = list[list[str]]


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        label: what it is called.
        folder: where it lies.
        figures: name -> the figure with its interval, fractions.
        identities: people among the queries that have a match.
        cost: of one image; None of a network of another maker, whose file does not tell.
        images_per_second: embedding speed, None where not measured.
        options: what was chosen where evaluations differ.
    """

    label: str
    folder: str
    figures: dict[str, Interval]
    identities: int
    cost: Cost | None
    images_per_second: float | None
    options: dict[str, str]


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        data: what the runs were scored on, in words, each data set once.
        rows: one per run, in the order asked for.
        baseline: label of the run the others are compared with.
        differences: label -> figure -> the run minus the baseline; empty where they cannot be paired.
        intervals: how intervals were made, in words.
        speed: how speed was measured, in words; empty where it was not.
        unpaired: why there are no differences; empty where there are.
        groups: runs that differ in their seed alone as one, the baseline's first; empty where there are no such runs.
    """

    data: list[str]
    rows: list[Row]
    baseline: str
    differences: dict[str, dict[str, Difference]]
    intervals: str
    speed: str = ""
    unpaired: str = ""
    groups: list[Group] = field(default_factory=list)
    shown: Sequence[str] = field(default=SHOWN, repr=False)

    @property
    def corrected(self) -> dict[str, dict[str, float]]:
        """Label -> figure -> p after Holm's correction for the number of runs."""
        found: dict[str, dict[str, float]] = {label: {} for label in self.differences}
        for figure in next(iter(self.differences.values()), {}):
            values = holm([tested[figure].p for tested in self.differences.values()])
            for label, value in zip(found, values):
                found[label][figure] = value
        return found

    def of_all(self, names: Iterable[str]) -> list[str]:
        """Those of the figures that every run has: a CMC of another flavor has no rank per query."""
        return [name for name in names if all(name in row.figures for row in self.rows)]

    def scores(self) -> Table:
        """Header and one row of cells per run."""
        names = self.of_all(self.shown)
        header = ["run", *names, "parameters", "GFLOPs", *(["images/s"] if self.speed else [])]
        body = [
            [
                row.label,
                *(_ends(row.figures[name]) for name in names),
                *((f"{row.cost.inference_parameters:,}", f"{row.cost.gflops:.3g}") if row.cost else ("unknown",) * 2),
                *([f"{row.images_per_second:,.0f}"] if row.images_per_second else []),
            ]
            for row in self.rows
        ]
        return [header, *body]

    def curves(self) -> Table:
        """Header and one row of cells per run with its CMC, without intervals; empty where it has no such figures."""
        names = self.of_all(name for name in self.rows[0].figures if name.startswith("rank-"))
        body = [[row.label, *(f"{100 * row.figures[name].value:.1f}" for name in names)] for row in self.rows]
        return [["CMC", *names], *body] if names else []

    def tests(self) -> Table:
        """Header and one row of cells per run that is compared with the baseline; empty where none is."""
        if not self.differences:
            return []
        names, corrected = self.of_all(self.shown), self.corrected
        body = [
            [label, *(cell for name in names for cell in (_ends(found[name], "+"), _p(corrected[label][name])))]
            for label, found in self.differences.items()
        ]
        return [[f"minus {self.baseline}", *(cell for name in names for cell in (name, "p"))], *body]

    @property
    def corrected_groups(self) -> dict[str, list[float]]:
        """Figure -> p of each group but the first after Holm's correction for their number."""
        others = self.groups[1:]
        return {name: holm([group.gaps[name][1] for group in others]) for name in (others[0].gaps if others else ())}

    def grouped(self) -> Table:
        """Header and one row of cells per group of seeds; empty where there is none."""
        if not self.groups:
            return []
        names, corrected = self.of_all(self.shown), self.corrected_groups
        header = ["seeds together", *names, *(["mAP minus the first", "p"] if self.groups[1:] else [])]
        body = []
        for place, group in enumerate(self.groups):
            gap = ["", ""] if not place else [_ends(group.gaps["mAP"][0], "+"), _p(corrected["mAP"][place - 1])]
            body.append(
                [group.label, *(_ends(group.figures[name]) for name in names), *(gap if self.groups[1:] else [])]
            )
        return [header, *body]

    def notes(self) -> list[str]:
        """What the tables need beside them to be read."""
        people = sorted({row.identities for row in self.rows})
        notes = [f"in %; {self.intervals} ({' or '.join(f'{count:,}' for count in people)} people)"]
        if self.differences:
            correction = f", Holm's correction for {len(self.differences)} runs" if len(self.differences) > 1 else ""
            notes.append(f"differences in points, same queries; p: two-sided sign flips of identities{correction}")
        if self.groups:
            correction = f", Holm's correction for {len(self.groups) - 1} groups" if len(self.groups) > 2 else ""
            notes.append(f"seeds together: 95 % intervals over seeds and people (Student's t), p of these{correction}")
            told = [
                f"{group.label} against {self.groups[0].label}: {', '.join(group.differs)}" for group in self.groups
            ]
            notes += [line for line, group in zip(told, self.groups) if group.differs]
        notes += [text for text in (self.unpaired, self.speed) if text]
        return notes + option_lines([row.label for row in self.rows], [row.options for row in self.rows])

    def _tables(self) -> list[Table]:
        return [rows for rows in (self.scores(), self.curves(), self.tests(), self.grouped()) if rows]

    def __str__(self) -> str:
        parts = [line for rows in self._tables() for line in ("", *table(rows))]
        return "\n".join([*self.data, *parts, "", *(f"  {note}" for note in self.notes())])

    def to_markdown(self) -> str:
        """Markdown tables and the notes."""
        parts = [markdown(line) for line in self.data]
        for rows in self._tables():
            parts += ["", *markdown_table(rows)]
        return "\n".join([*parts, "", *(f"- {markdown(note)}" for note in self.notes()), ""])

    def to_latex(self) -> str:
        """A ``tabular`` for the package booktabs for each table, and the notes as comments before the first."""
        notes = [[*self.data, *self.notes()], *[[]] * len(self._tables())]
        return "\n".join(latex_table(rows, told) for rows, told in zip(self._tables(), notes))

    def to_csv(self) -> str:
        """One line per run and figure, fractions."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for row in self.rows:
            found, corrected = self.differences.get(row.label, {}), self.corrected.get(row.label, {})
            for name, figure in row.figures.items():
                tested = [self.baseline, *found[name], corrected[name]] if name in found else [""] * 7
                cost = [*_cost(row, ""), row.images_per_second or ""]
                writer.writerow([row.label, name, *figure, *tested, *cost])
        for place, group in enumerate(self.groups):
            for name, figure in group.figures.items():
                gap, p = group.gaps.get(name, (None, None))
                holms = self.corrected_groups[name][place - 1] if gap else ""
                told = [self.groups[0].label, *gap, p, "", holms] if gap else [""] * 7
                writer.writerow([group.label, name, *figure, *told, "", "", ""])
        return buffer.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain Python types, ready for JSON."""
        return {
            "data": self.data,
            "baseline": self.baseline,
            "intervals": self.intervals,
            "speed": self.speed or None,
            "unpaired": self.unpaired or None,
            "groups": [
                {
                    "group": group.label,
                    "runs": list(group.runs),
                    "figures": {name: figure._asdict() for name, figure in group.figures.items()},
                    "difference": {
                        name: gap._asdict() | {"p": p, "p_holm": self.corrected_groups[name][place - 1]}
                        for name, (gap, p) in group.gaps.items()
                    },
                    "differs": list(group.differs),
                }
                for place, group in enumerate(self.groups)
            ],
            "runs": [
                {
                    "run": row.label,
                    "folder": row.folder,
                    "figures": {name: figure._asdict() for name, figure in row.figures.items()},
                    "difference": {
                        name: found._asdict() | {"p_holm": self.corrected[row.label][name]}
                        for name, found in self.differences.get(row.label, {}).items()
                    },
                    **dict(zip(("parameters", "gflops"), _cost(row, None))),
                    "images_per_second": row.images_per_second,
                    "options": row.options,
                }
                for row in self.rows
            ],
        }


def _cost(row: Row, unknown: Any) -> list[Any]:
    """Parameters and GFLOPs of a run, or what stands for each where they are not known."""
    return [row.cost.inference_parameters, row.cost.gflops] if row.cost else [unknown] * 2


def _ends(figure: Interval | Difference, sign: str = "") -> str:
    value, low, high = (f"{100 * end:{sign}.1f}" for end in figure[:3])
    return f"{value} [{low}, {high}]"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
