"""What changes a score, in words: one dictionary, printed beside every figure and stored with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["common_options", "in_words", "option_lines"]

Options = Mapping[str, str]


def in_words(options: Options) -> str:
    """All of them on one line."""
    return ", ".join(f"{name} {value}" for name, value in options.items())


def common_options(rows: Sequence[Options]) -> dict[str, str]:
    """Those that are the same in every row, in the order of the first."""
    first, *others = rows
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def option_lines(labels: Sequence[str], rows: Sequence[Options]) -> list[str]:
    """A line with what all rows have in common, and one for every row with what it alone has."""
    common = common_options(rows)
    own = [{name: value for name, value in row.items() if name not in common} for row in rows]
    return [in_words(common), *(f"{label}: {in_words(found)}" for label, found in zip(labels, own) if found)]
