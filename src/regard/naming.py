"""Labels that tell things apart: no two rows of a table, and no two keys of a file, are called the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["distinct", "file_name"]


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
