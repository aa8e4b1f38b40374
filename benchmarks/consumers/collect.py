"""What ``make consumers`` has found of each program, in one file, and as the tables of docs/how-to/trackers.md.

make consumers && PYTHONPATH=benchmarks .venv/bin/python benchmarks/consumers/collect.py
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["cosine_table", "tracker_table"]

PROGRAMS = ("boxmot", "ultralytics", "libreyolo", "deep-sort-realtime", "norfair", "reid")
TRACKERS = {
    "boxmot": "BoT-SORT", "ultralytics": "BoT-SORT", "libreyolo": "Deep OC-SORT; OC-SORT alone",
    "deep-sort-realtime": "Deep SORT", "norfair": "its own",
}  # fmt: skip
COMMAND = "make consumers && PYTHONPATH=benchmarks python benchmarks/consumers/collect.py"


def tracker_table(programs: Mapping[str, Mapping[str, Any]]) -> str:
    """Identity switches, HOTA and IDF1, a row for each way of embedding."""
    lines = ["| program | tracker | embeddings | switches | HOTA | IDF1 |", "|---|---|---|---|---|---|"]
    for name, told in programs.items():
        for way, found in told.get("tracker", {}).items():
            switches = _apart(found["switches"], 1, 0)
            score = " | ".join(_apart(found[kind], 3, 3) for kind in ("HOTA", "IDF1"))
            embeddings = "none: motion alone" if way == "motion alone" else f"by the {way}"
            lines.append(f"| {told['program']} | {TRACKERS[name]} | {embeddings} | {switches} | {score} |")
    return "\n".join(lines)


def cosine_table(programs: Mapping[str, Mapping[str, Any]]) -> str:
    """Least cosines by rows of the crop, a line for each network and way."""
    rows = list(next(iter(programs["boxmot"]["cosines"].values())))
    lines = [f"| program | network, way | {' | '.join(rows)} |", "|---" * (len(rows) + 2) + "|"]
    for name, told in programs.items():
        for way, found in told["cosines"].items():
            lines.append(f"| {name} | {way} | {' | '.join(_below(found[count]) for count in rows)} |")
    return "\n".join(lines)


def _apart(found: Mapping[str, float], digits: int, between: int) -> str:
    """A mean, and from where to where the seeds lie."""
    return f"{found['mean']:.{digits}f} ({found['least']:.{between}f} to {found['most']:.{between}f})"


def _below(cosine: float) -> str:
    """Four digits, and no more than it is; 1 where nothing is missing."""
    return "1" if cosine >= 0.999999 else f"{math.floor(cosine * 1e4) / 1e4:.4f}"


def main() -> None:
    """Write the file and print the tables."""
    from results_file import circumstances, write

    folder = Path("runs/consumers")
    programs = {name: json.loads((folder / f"{name}.json").read_text()) for name in PROGRAMS}
    path = write("consumers", {"command": COMMAND, "programs": programs})
    print(f"{tracker_table(programs)}\n\n{cosine_table(programs)}\n\nwrote {path} ({circumstances()['machine']})")


if __name__ == "__main__":
    main()
