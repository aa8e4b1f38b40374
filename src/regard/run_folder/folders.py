"""Where things lie in a run folder, and the records of its training in ``metrics.jsonl``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regard.config import Config, load_config, read_settings
from regard.errors import DataError
from regard.parsing import parse_json
from regard.places import SETTINGS, is_run, run_home
from regard.storage import read_regular

__all__ = ["own_config", "read_history"]

KINDS = {"event": str, "precision": str, "options": dict}
"""What a record says in words; the rest are numbers."""


def own_config(folder: Path) -> Config | None:
    """The configuration a run was trained with; None for the folder of a model alone."""
    home = run_home(folder)
    settings = home / SETTINGS
    return load_config(read_settings(settings), source=str(settings)) if is_run(home) else None


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The records of a run's metrics.jsonl, oldest first, epochs from 1; an unfinished last line is left out.

    Raises:
        DataError: a line is no record.
    """
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    records = []
    for number, line in enumerate(read_regular(path).split(b"\n")[:-1], 1):
        if not line:
            continue
        try:
            records.append(_checked(parse_json(line)))
        except ValueError as error:
            raise DataError(f"line {number} of {path} is no record ({error}); remove that line") from None
    return from_one(records)


def _checked(record: Any) -> dict[str, Any]:
    """The record; raises ValueError for what is none: a count that is no whole number, a figure that is no number."""
    if not isinstance(record, dict):
        raise ValueError(f"it is {type(record).__name__}")
    wanted = {"event", "step"} | ({"mAP", "rank1"} if record.get("event") == "eval" else set())
    if missing := sorted(wanted - record.keys()):
        raise ValueError(f"it has no {', '.join(missing)}")
    for key, value in record.items():
        kind: Any = int if key in ("epoch", "step") else KINDS.get(key, (int, float))
        if not isinstance(value, kind) or (key in ("epoch", "step") and value < 0):
            raise ValueError(f"{key} is {value!r}")
    return record


def from_one(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records with epochs counted from 1.

    Files of regard before 0.2 counted from 0; they are known by an epoch 0, which every one of them begins with.
    """
    if not any(record.get("epoch") == 0 for record in records):
        return records
    return [record | {"epoch": record["epoch"] + 1} if "epoch" in record else record for record in records]
