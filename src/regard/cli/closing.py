"""The line that commands end with: what was written, the score, the next command."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

__all__ = ["close_with"]


def close_with(written: Iterable[str | Path | None] = (), score: str = "", then: Iterable[str | Path] = ()) -> None:
    """Print the closing line of a command; it stays with ``--quiet``.

    Args:
        written: files and folders; None stands for one that was not asked for.
        score: what was found, where that is a number or two.
        then: arguments of the command to go on with, after ``regard``.
    """
    places = ", ".join(str(place) for place in written if place is not None)
    command = shlex.join(str(argument) for argument in then)
    parts = [f"wrote {places}" if places else "", score, f"next: regard {command}" if command else ""]
    if any(parts):
        print("; ".join(part for part in parts if part))
