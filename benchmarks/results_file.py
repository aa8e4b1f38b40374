"""What every benchmark's JSON says of where and when it was taken, and how it is written."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from regard.threads import allowed_cores

HERE = Path(__file__).resolve().parent
RESULTS, PICTURES = HERE / "results", HERE.parent / "docs" / "pictures"


def circumstances() -> dict[str, Any]:
    """Machine, versions, threads, date."""
    return {
        "machine": f"{platform.machine()}, {allowed_cores()} cores",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }


def write(name: str, result: Mapping[str, Any]) -> Path:
    """Write results/NAME.json, circumstances first."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**circumstances(), **result}, indent=2) + "\n", encoding="utf-8")
    return path


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the same keys as aligned columns."""
    keys = list(rows[0])
    cells = [keys, *([_text(row.get(key)) for key in keys] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(keys))]
    return "\n".join("  ".join(text.rjust(width) for text, width in zip(line, widths)) for line in cells)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return "-" if value is None else str(value)


def seconds(work: Callable[[], Any]) -> float:
    """What the clock says that one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
