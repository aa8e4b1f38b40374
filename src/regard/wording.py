"""Counts, options and tables in words ("2,000 pictures", "boxes=labeled"), and labels that tell things apart."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "count", "distinct", "file_name", "latex_table", "markdown", "markdown_table", "named_with", "one_line",
    "plain_cell", "table", "visible", "visible_lines",
]  # fmt: skip

FORMULA = (
    "=", "+", "-", "@", "\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH PLUS SIGN}",
    "\N{FULLWIDTH HYPHEN-MINUS}", "\N{FULLWIDTH COMMERCIAL AT}",
)  # fmt: skip
"""How cells begin that spreadsheets compute."""

MARKUP = re.compile(r"[\\|*`~]|<(?=\S)|\](?=\()|&(?=#|\w+;)|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""What Markdown would take for its own where a text has it; ``_`` inside a word is none of that."""

TEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "|": r"\textbar{}", "<": r"\textless{}", ">": r"\textgreater{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}  # fmt: skip
"""Characters that LaTeX sets otherwise, or not at all, and how it sets them in every encoding of fonts."""

PLURALS = {"person": "people", "match": "matches", "box": "boxes"}


def count(number: int, noun: str) -> str:
    """A number and what it counts, in the singular where it is one.

    Args:
        number: how many.
        noun: in the singular; words before it stay as they are ("random id").
    """
    if number == 1:
        return f"1 {noun}"
    head, space, last = noun.rpartition(" ")
    plural = PLURALS.get(last) or (
        f"{last[:-1]}ies" if last.endswith("y") and last[-2:-1] not in "aeou" else f"{last}s"
    )
    return f"{number:,} {head}{space}{plural}"


def named_with(name: str, options: Mapping[str, Any]) -> str:
    """A name and the options that were chosen, as a command line takes them: ``market1501 (distractors=false)``."""
    chosen = (f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in options.items())
    return f"{name} ({', '.join(chosen)})" if options else name


def table(rows: Iterable[Iterable[str]], left: Collection[int] = (0,)) -> list[str]:
    """Lay cells out as lines, columns as wide as they need and two spaces apart.

    Args:
        rows: equally long, the header among them.
        left: columns that are flush left; the others, as numbers are, flush right.
    """
    lines = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return [
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    ]


def markdown(text: str) -> str:
    """A text on one line that Markdown shows as it is, in a table too."""
    return MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def markdown_table(rows: Iterable[Iterable[str]], left: int = 1) -> list[str]:
    """Lay cells out as the lines of a table in Markdown.

    Args:
        rows: equally long, the header first.
        left: columns that are flush left, the first ones; the others flush right.
    """
    header, *body = [[markdown(cell) for cell in row] for row in rows]
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return [f"|{'|'.join(rule)}|" if row is rule else f"| {' | '.join(row)} |" for row in (header, rule, *body)]


def latex_table(rows: Iterable[Iterable[str]], notes: Iterable[str]) -> str:
    """A ``tabular`` for the package booktabs, the first column flush left.

    Args:
        rows: equally long, the header first.
        notes: comments before it, a line each.
    """
    cells = [[_tex(cell) for cell in row] for row in rows]
    header, *body = (" & ".join(row) + r" \\" for row in cells)
    lines = [f"% {' '.join(note.split())}" for note in notes]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(cells[0]) - 1)}}}", r"\toprule", header, r"\midrule", *body]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _tex(text: str) -> str:
    """A cell as LaTeX sets it; one that begins as options of the line before it would does not."""
    cell = "".join(TEX.get(c, c) for c in " ".join(text.split()))
    return f"{{}}{cell}" if cell.startswith(("[", "*")) else cell


def distinct(names: Sequence[str], places: Sequence[str | Path], form: str = "{name} ({place})") -> list[str]:
    """A label for every thing: its name where it alone has it, else with the end of its place that no other has.

    Args:
        names: what the things are called.
        places: where they lie, one for each.
        form: of the labels of those that share a name.

    Returns:
        As many labels, no two of them equal: a name that one thing alone has is its label, whatever the others are
        called; things of one name in one place are numbered.
    """
    labels = list(names)
    taken = {name for name in names if names.count(name) == 1}
    for name in set(names) - taken:
        rows = [row for row, other in enumerate(names) if other == name]
        parts = [Path(places[row]).parts for row in rows]
        for depth in range(1, max(map(len, parts)) + 1):
            ends = ["/".join(part[-depth:]).replace("//", "/") for part in parts]
            if len(set(ends)) == len(set(parts)):
                break
        for row, end in zip(rows, ends):
            labels[row] = form.format(name=name, place=end)
    for row, label in enumerate(labels):
        if names.count(names[row]) == 1:
            continue
        number = 1
        while labels[row] in taken or (number > 1 and labels[row] in labels[row + 1 :]):
            number += 1
            labels[row] = f"{label} #{number}"
        taken.add(labels[row])
    return labels


def file_name(label: str) -> str:
    """A label as the name of one file or folder."""
    return "_".join(part for part in Path(label).parts if part not in ("/", "..", "."))


def visible(text: str) -> str:
    """A text on one line, as a screen may show it: what cannot be seen, or would steer the screen, is written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def visible_lines(text: str) -> str:
    """A text of several lines, each as :func:`visible` shows it."""
    return "\n".join(map(visible, text.split("\n")))


def plain_cell(value: object) -> object:
    """A value as a cell of a CSV file that no spreadsheet takes for a formula or for several cells.

    Numbers stay what they are. Characters that cannot be seen (line breaks, turns of the writing direction, halves of
    characters) are written by their numbers, and a text that begins as a formula does gets ``'`` in front.
    """
    if value is None or isinstance(value, int | float):
        return "" if value is None else value
    text = visible(str(value))
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text


def one_line(error: BaseException) -> str:
    """An error that was not written for users, as one short line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
