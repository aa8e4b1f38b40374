"""What an ablation found, as one table: text, Markdown, LaTeX, CSV and JSON that say the same."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard.metrics.significance import Interval, holm
from regard.models.cost import Cost
from regard.wording import count, latex_table, markdown, markdown_table, table

__all__ = ["Outcome", "OutcomeRow"]

CSV_COLUMNS = (
    "row", "seeds", "figure", "value", "low", "high", "baseline", "difference", "difference_low", "difference_high",
    "p", "p_holm", "parameters", "parameters_at_test", "gflops", "cpu_hours",
)  # fmt: skip


@dataclass(frozen=True)
class OutcomeRow:
    """One group of runs that differ in their seed alone.

    Attributes:
        label: what it is.
        seeds: seed -> figure -> what it reached, fractions.
        figures: name -> mean over seeds with its interval, fractions.
        gaps: name -> the difference from the baseline, and p of none; empty for the baseline itself.
        differs: settings in which it differs from the baseline, ``KEY=VALUE``.
        cost: of its network.
        cpu_hours: of all its seeds, training and scoring.
    """

    label: str
    seeds: dict[int, dict[str, float]]
    figures: dict[str, Interval]
    gaps: dict[str, tuple[Interval, float]]
    differs: tuple[str, ...]
    cost: Cost
    cpu_hours: float


@dataclass(frozen=True)
class Outcome:
    """All rows.

    Attributes:
        title: what was asked.
        data: what the runs were scored on, in words.
        rows: in the order of the plan.
        baseline: label of the row the others are compared with.
    """

    title: str
    data: str
    rows: tuple[OutcomeRow, ...]
    baseline: str

    @property
    def corrected(self) -> dict[str, dict[str, float]]:
        """Label -> figure -> p after Holm's correction for the number of rows."""
        compared = [row for row in self.rows if row.gaps]
        found: dict[str, dict[str, float]] = {row.label: {} for row in compared}
        for name in compared[0].gaps if compared else ():
            for row, p in zip(compared, holm([row.gaps[name][1] for row in compared])):
                found[row.label][name] = p
        return found

    def cells(self) -> list[list[str]]:
        """Header and one row of cells per group."""
        names, corrected = list(self.rows[0].figures), self.corrected
        compared = [name for name in names if name.endswith("mAP")]
        gaps = [text for name in compared for text in (f"{name} minus {self.baseline}", "p")]
        header = ["row", *names, *gaps, "parameters", "GFLOPs", "CPU h"]
        body = []
        for row in self.rows:
            gap = [
                text
                for name in compared
                for text in ([_ends(row.gaps[name][0], "+"), _p(corrected[row.label][name])] if row.gaps else ["", ""])
            ]
            cost = [f"{row.cost.inference_parameters:,}", f"{row.cost.gflops:.3g}", f"{row.cpu_hours:.2f}"]
            body.append([row.label, *(_ends(row.figures[name]) for name in names), *gap, *cost])
        return [header, *body]

    def notes(self) -> list[str]:
        """What the table needs beside it to be read."""
        seeds = sorted({len(row.seeds) for row in self.rows})
        over = "people alone, as one seed does not say how far seeds vary" if seeds[0] == 1 else "seeds and people"
        compared = len(self.rows) - 1
        tested = f"; p two-sided, Holm's correction for {count(compared, 'row')}" if compared > 1 else ""
        total = sum(row.cpu_hours for row in self.rows)
        return [
            f"in %: mean of {' or '.join(count(number, 'seed') for number in seeds)}, 95 % interval over "
            f"{over} (Student's t){tested}; AP in its step form",
            f"parameters and GFLOPs are those at test, of one image; {total:.1f} CPU hours in all",
        ]

    def differences(self) -> list[str]:
        """In what every row differs from the baseline, a line for each."""
        return [f"{row.label}: {', '.join(row.differs)}" for row in self.rows if row.differs]

    def __str__(self) -> str:
        lines = [self.title, self.data, "", *table(self.cells()), "", *(f"  {note}" for note in self.notes())]
        return "\n".join([*lines, "", f"settings other than those of {self.baseline}:", *self.differences()])

    def to_markdown(self) -> str:
        """A table, its notes, and what each row is."""
        lines = [f"# {markdown(self.title)}", "", markdown(self.data), "", *markdown_table(self.cells()), ""]
        lines += [f"- {markdown(note)}" for note in self.notes()]
        return "\n".join([*lines, "", f"Settings other than those of {markdown(self.baseline)}:", "",
                          *(f"- {markdown(line)}" for line in self.differences()), ""])  # fmt: skip

    def to_latex(self) -> str:
        """A ``tabular`` for the package booktabs."""
        return latex_table(self.cells(), (self.title, self.data, *self.notes()))

    def to_csv(self) -> str:
        """One line per row and figure, fractions."""
        buffer, corrected = io.StringIO(), self.corrected
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for row in self.rows:
            for name, figure in row.figures.items():
                gap = row.gaps.get(name)
                told = [self.baseline, *gap[0], gap[1], corrected[row.label][name]] if gap else [""] * 6
                cost = [row.cost.parameters, row.cost.inference_parameters, row.cost.gflops, round(row.cpu_hours, 4)]
                writer.writerow([row.label, len(row.seeds), name, *figure, *told, *cost])
        return buffer.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain Python types, ready for JSON."""
        corrected = self.corrected
        return {
            "title": self.title,
            "data": self.data,
            "baseline": self.baseline,
            "notes": self.notes(),
            "rows": [
                {
                    "row": row.label,
                    "seeds": {str(seed): reached for seed, reached in row.seeds.items()},
                    "figures": {name: figure._asdict() for name, figure in row.figures.items()},
                    "difference": {
                        name: gap._asdict() | {"p": p, "p_holm": corrected[row.label][name]}
                        for name, (gap, p) in row.gaps.items()
                    },
                    "differs": list(row.differs),
                    **row.cost._asdict(),
                    "cpu_hours": round(row.cpu_hours, 4),
                }
                for row in self.rows
            ],
        }


def _ends(figure: Interval, sign: str = "") -> str:
    value, low, high = (f"{100 * end:{sign}.1f}" for end in figure)
    return f"{value} [{low}, {high}]"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def shown_figures(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those of the figures that the table has."""
    return {name: scores[name] for name in ("mAP", "rank-1") if name in scores}
