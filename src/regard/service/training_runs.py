"""Training runs of a folder with their curves, read from the ``metrics.jsonl`` each of them writes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from regard.errors import RegardError
from regard.parsing import parse_json
from regard.run_folder.folders import from_one
from regard.service.state import GoneError
from regard.storage import read_regular
from regard.structures import RANKS

__all__ = ["list_runs", "read_run"]

POINTS = 240
FIGURES = ("mAP", "mINP", *(f"rank{k}" for k in RANKS))


def list_runs(folder: Path | None) -> list[dict[str, Any]]:
    """Every run with its last scores, in order of name."""
    return [{"name": name, **summary(path)} for name, path in sorted(found(folder).items())]


def read_run(folder: Path | None, name: str) -> dict[str, Any]:
    """The curves of a run: loss over steps, and every figure over epochs.

    Raises:
        GoneError: there is no run of that name.
    """
    runs = found(folder)
    if name not in runs:
        raise GoneError("there is no run of that name")
    records = read_records(runs[name])
    steps = [record for record in records if record.get("event") == "step" and number(record.get("loss"))]
    thin = max(1, -(-len(steps) // POINTS))
    evaluations = [record for record in records if record.get("event") == "eval"]
    return {
        "name": name,
        "loss": [[record.get("step", 0), record["loss"]] for record in steps[::thin]],
        "figures": {
            figure: [[record.get("epoch", 0), record[figure]] for record in evaluations if number(record.get(figure))]
            for figure in FIGURES
        },
    }


def found(folder: Path | None) -> dict[str, Path]:
    """Name -> metrics.jsonl of every run in a folder, or of the folder itself."""
    if folder is None or not folder.is_dir():
        return {}
    runs = {path.parent.name: path for path in folder.glob("*/metrics.jsonl")}
    return runs or {path.parent.name: path for path in folder.glob("metrics.jsonl")}


def summary(path: Path) -> dict[str, Any]:
    """What a list says of a run."""
    try:
        evaluations = [record for record in read_records(path) if record.get("event") == "eval"]
    except RegardError:
        return {"epochs": 0}
    last = evaluations[-1] if evaluations else {}
    return {"epochs": int(last.get("epoch", 0)), **{f: last[f] for f in FIGURES if number(last.get(f))}}


def read_records(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, epochs from 1; one that is still being written is passed over."""
    records: list[Any] = []
    try:
        text = read_regular(path).decode(errors="replace")
    except OSError as error:
        raise GoneError(f"the log of that run cannot be read ({error.strerror})") from None
    for line in text.splitlines():
        with suppress(ValueError):
            records.append(parse_json(line))
    return from_one([record for record in records if isinstance(record, dict)])


def number(value: Any) -> bool:
    """Whether a value can be drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
