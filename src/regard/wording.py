"""Counts in words: "1 picture", "2,000 pictures"."""

from __future__ import annotations

__all__ = ["count"]

PLURALS = {"person": "people", "match": "matches"}


def count(number: int, noun: str) -> str:
    """A number and what it counts, in the singular where it is one.

    Args:
        number: how many.
        noun: in the singular; words before it stay as they are ("random id").
    """
    if number == 1:
        return f"1 {noun}"
    head, space, last = noun.rpartition(" ")
    plural = PLURALS.get(last) or (f"{last[:-1]}ies" if last.endswith("y") else f"{last}s")
    return f"{number:,} {head}{space}{plural}"
