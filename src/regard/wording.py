"""Counts and options in words: "1 picture", "2,000 pictures", "boxes=labeled"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["count", "named_with"]

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
