"""The outcome of a comparison, and the same outcome as a table, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from regard.metrics.ranking_report import option_lines
from regard.metrics.significance import Difference, Interval
from regard.models.cost import Cost
from regard.wording import table

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
        cost: of one image.
        images_per_second: embedding speed, None where not measured.
        options: what was chosen where evaluations differ.
    """

    label: str
    folder: str
    figures: dict[str, Interval]
    identities: int
    cost: Cost
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
        corrected: label -> figure -> p after Holm's correction for the number of runs.
        intervals: how intervals were made, in words.
        speed: how speed was measured, in words; empty where it was not.
        unpaired: why there are no differences; empty where there are.
    """

    data: list[str]
    rows: list[Row]
    baseline: str
    differences: dict[str, dict[str, Difference]]
    corrected: dict[str, dict[str, float]]
    intervals: str
    speed: str = ""
    unpaired: str = ""
    shown: Sequence[str] = field(default=SHOWN, repr=False)

    def _shown(self) -> list[str]:
        """Figures of the tables with intervals that every run has: a CMC of another flavor has no rank per query."""
        return [name for name in self.shown if all(name in row.figures for row in self.rows)]

    def scores(self) -> Table:
        """Header and one row of cells per run."""
        header = ["run", *self._shown(), "parameters", "GFLOPs", *(["images/s"] if self.speed else [])]
        body = [
            [
                row.label,
                *(_interval(row.figures[name]) for name in self._shown()),
                f"{row.cost.inference_parameters:,}",
                f"{row.cost.gflops:.3g}",
                *([f"{row.images_per_second:,.0f}"] if row.images_per_second else []),
            ]
            for row in self.rows
        ]
        return [header, *body]

    def curves(self) -> Table:
        """Header and one row of cells per run with its CMC, without intervals; empty where it has no such figures."""
        names = [name for name in self.rows[0].figures if name.startswith("rank-")]
        names = [name for name in names if all(name in row.figures for row in self.rows)]
        body = [[row.label, *(f"{100 * row.figures[name].value:.1f}" for name in names)] for row in self.rows]
        return [["CMC", *names], *body] if names else []

    def tests(self) -> Table:
        """Header and one row of cells per run that is compared with the baseline; empty where none is."""
        if not self.differences:
            return []
        header = [f"minus {self.baseline}"]
        for name in self._shown():
            header += [name, "p"]
        body = []
        for label, found in self.differences.items():
            cells = [label]
            for name in self._shown():
                cells += [_difference(found[name]), _p(self.corrected[label][name])]
            body.append(cells)
        return [header, *body]

    def notes(self) -> list[str]:
        """What the tables need beside them to be read."""
        people = sorted({row.identities for row in self.rows})
        notes = [f"in %; {self.intervals} ({' or '.join(f'{count:,}' for count in people)} people)"]
        if self.differences:
            correction = f", Holm's correction for {len(self.differences)} runs" if len(self.differences) > 1 else ""
            notes.append(f"differences in points, same queries; p: two-sided sign flips of identities{correction}")
        notes += [text for text in (self.unpaired, self.speed) if text]
        return notes + option_lines([row.label for row in self.rows], [row.options for row in self.rows])

    def __str__(self) -> str:
        parts = [*self.data]
        for rows in filter(None, (self.scores(), self.curves(), self.tests())):
            parts += ["", *table(rows)]
        return "\n".join([*parts, "", *(f"  {note}" for note in self.notes())])

    def to_markdown(self) -> str:
        """Markdown tables and the notes."""
        parts = [*self.data]
        for rows in filter(None, (self.scores(), self.curves(), self.tests())):
            parts += ["", *_piped(rows)]
        return "\n".join([*parts, "", *(f"- {note}" for note in self.notes()), ""])

    def to_csv(self) -> str:
        """One line per run and figure, fractions."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for row in self.rows:
            found, corrected = self.differences.get(row.label, {}), self.corrected.get(row.label, {})
            for name, figure in row.figures.items():
                tested = [self.baseline, *found[name], corrected[name]] if name in found else [""] * 7
                cost = [row.cost.inference_parameters, row.cost.gflops, row.images_per_second or ""]
                writer.writerow([row.label, name, *figure, *tested, *cost])
        return buffer.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain Python types, ready for JSON."""
        return {
            "data": self.data,
            "baseline": self.baseline,
            "intervals": self.intervals,
            "speed": self.speed or None,
            "unpaired": self.unpaired or None,
            "runs": [
                {
                    "run": row.label,
                    "folder": row.folder,
                    "figures": {name: figure._asdict() for name, figure in row.figures.items()},
                    "difference": {
                        name: found._asdict() | {"p_holm": self.corrected[row.label][name]}
                        for name, found in self.differences.get(row.label, {}).items()
                    },
                    "parameters": row.cost.inference_parameters,
                    "gflops": row.cost.gflops,
                    "images_per_second": row.images_per_second,
                    "options": row.options,
                }
                for row in self.rows
            ],
        }


def _interval(figure: Interval) -> str:
    return f"{100 * figure.value:.1f} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


def _difference(found: Difference) -> str:
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _piped(table: Table) -> Iterable[str]:
    header, *body = table
    yield f"| {' | '.join(header)} |"
    yield f"|---|{'---:|' * (len(header) - 1)}"
    for row in body:
        yield f"| {' | '.join(row)} |"
