"""Counts, options and tables in words: "1 picture", "2,000 pictures", "boxes=labeled"."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

__all__ = ["count", "named_with", "table"]

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
