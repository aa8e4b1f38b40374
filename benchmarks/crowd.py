"""How fast a crowd is made: pictures per second by workers and by size, and where one worker's time goes.

    python benchmarks/crowd.py                 # prints a table, writes benchmarks/results/crowd.json
    python benchmarks/crowd.py --only-diverse  # the preset for transfer alone, one process; puts its row there

Every row makes a crowd of its own in a temporary folder, cameras included. ``per CPU second`` divides by the
processor time of all processes, which other programs on the machine disturb less than the clock.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import platform
import pstats
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from regard.crowd import make_crowd
from regard.threads import allowed_cores

RESULTS = Path(__file__).parent / "results" / "crowd.json"
SIZES = ((128, 64), (256, 128))
STAGES = {
    "textures": ("mesh.py", "build_body"),
    "poses": ("mesh.py", "pose"),
    "surroundings": ("shoot.py", "surroundings"),
    "shadows": ("shoot.py", "shadow"),
    "drawing": ("raster.py", "draw"),
    "photograph": ("camera_pipeline.py", "develop"),
    "files": ("worker.py", "write"),
}
"""Functions whose time, with all they call, is reported, cameras and their walkers included."""


def cpu_seconds() -> float:
    """Processor time of this process and of those it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(
    ids: int, size: tuple[int, int], workers: int, *, difficulty: str = "normal", cities: int = 1
) -> dict[str, Any]:
    """Make a crowd of ``ids`` people once."""
    with tempfile.TemporaryDirectory() as folder:
        clock, cpu = time.perf_counter(), cpu_seconds()
        made = make_crowd(
            Path(folder) / "crowd",
            train_ids=ids - ids // 2,
            test_ids=ids // 2,
            height=size[0],
            width=size[1],
            workers=workers,
            difficulty=difficulty,
            cities=cities,
            progress=False,
        )
        clock, cpu = time.perf_counter() - clock, cpu_seconds() - cpu
    images = made["images"]["total"]
    return {
        "height": size[0],
        "width": size[1],
        "workers": workers,
        "difficulty": difficulty,
        "cities": cities,
        "images": images,
        "seconds": round(clock, 2),
        "images_per_second": round(images / clock, 1),
        "images_per_cpu_second": round(images / cpu, 1),
    }


def stages(ids: int) -> dict[str, float]:
    """Milliseconds per picture spent in each stage by one worker at 128 x 64, measured under the profiler."""
    profile = cProfile.Profile()
    with tempfile.TemporaryDirectory() as folder:
        profile.enable()
        made = make_crowd(Path(folder) / "crowd", train_ids=ids, test_ids=ids, workers=1, progress=False)
        profile.disable()
    spent = dict.fromkeys(STAGES, 0.0)
    for (path, _, name), (*_, cumulative, _) in pstats.Stats(profile).stats.items():  # pyright: ignore
        for stage, place in STAGES.items():
            if (Path(path).name, name) == place:
                spent[stage] += cumulative
    return {stage: round(1000 * seconds / made["images"]["total"], 2) for stage, seconds in spent.items()}


def diverse(ids: int) -> dict[str, Any]:
    """Measure the preset for transfer in one process: four cities, eight times as many people."""
    return measure(8 * ids, SIZES[0], 1, difficulty="diverse", cities=4)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how fast a crowd is made.")
    parser.add_argument("--ids", type=int, default=60, help="people per crowd (default 60)")
    parser.add_argument("--workers", type=int, nargs="*", help="numbers of workers (default: 1, 2, 4 ... all cores)")
    parser.add_argument(
        "--only-diverse", action="store_true", help="measure the preset diverse alone, and keep the rest"
    )
    options = parser.parse_args()
    if options.only_diverse:
        row = diverse(options.ids)
        kept = json.loads(RESULTS.read_text())
        RESULTS.write_text(json.dumps(kept | {"diverse": row}, indent=1))
        print(", ".join(f"{name} {value}" for name, value in row.items()))
        return
    cores = allowed_cores()
    workers = options.workers or sorted({cores, *(2**i for i in range(cores.bit_length()) if 2**i <= cores)})
    print(f"{'size':>9} {'workers':>8} {'images':>7} {'seconds':>8} {'per second':>11} {'per CPU second':>15}")
    rows = []
    for size in SIZES:
        for count in workers:
            row = measure(options.ids, size, count)
            rows.append(row)
            print(
                f"{size[0]:>5}x{size[1]:<3} {count:>8} {row['images']:>7} {row['seconds']:>8} "
                f"{row['images_per_second']:>11} {row['images_per_cpu_second']:>15}"
            )
    spent = stages(max(2, options.ids // 2))
    print("ms per picture under the profiler: " + ", ".join(f"{stage} {ms}" for stage, ms in spent.items()))
    machine = {"cores": cores, "machine": platform.machine(), "python": platform.python_version()}
    RESULTS.parent.mkdir(exist_ok=True)
    measured = {**machine, "numpy": np.__version__, "rows": rows, "diverse": diverse(options.ids), "stages_ms": spent}
    RESULTS.write_text(json.dumps(measured, indent=1))
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
