"""Pictures of the benchmarks' results, from the JSON files alone.

    python benchmarks/pictures.py                    # all of them, into docs/pictures
    python benchmarks/pictures.py training service   # some

Measuring and drawing are apart, so that a picture can be made anew without hours of work. The picture of searches is
drawn by benchmarks/search.py as its sizes come in.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, ScalarFormatter
from results_file import PICTURES, RESULTS

Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]
BARS = "#2458d6", "#9aa0ad"


def training() -> Path:
    """Images per second against the size of the input."""
    rows = sorted((row for row in _read("training")["rows"] if row["batch"] == 16), key=_height)
    heights = [_height(row) for row in rows]
    curves = {name: (heights, [row[name] for row in rows]) for name in ("reference", "regard", "regard fp32")}
    return _lines(
        "training_speed", curves, "height of the input in pixels", "images per second",
        "Training apnet level 2, two cores, batches of 16",
    )  # fmt: skip


def embedding() -> Path:
    """Images per second of every engine against the size of the input."""
    points: dict[str, dict[int, float]] = {}
    for row in _read("embedding")["rows"]:
        points.setdefault(row["with"], {})[_height(row)] = row["images/s"]
    curves = {name: tuple(zip(*sorted(found.items()))) for name, found in points.items()}
    return _lines(
        "embedding_speed", curves, "height of the input in pixels", "images per second",
        "Embedding with apnet level 2, two cores",
    )  # fmt: skip


def service() -> Path:
    """Latency against the number of clients."""
    found = next(iter(_read("serve").values()))
    curves = {}
    for label, rows in (("", found["clients"]), (", before", found.get("before", {}))):
        for name in ("p50", "p95"):
            curves |= (
                {f"{name}{label}": (list(map(int, rows)), [row[f"{name} ms"] for row in rows.values()])} if rows else {}
            )
    return _lines(
        "serve_latency", curves, "clients asking at once", "milliseconds", f"regard serve, {found['size']:,} pictures"
    )


def evaluation() -> Path:
    """What a pair costs, against the number of pairs: a level line is a cost that grows no faster than they do."""
    curves = {}
    for name, title in (("evaluation", "Market-1501"), ("evaluation_msmt17", "MSMT17")):
        costs = _read(name)["nanoseconds per pair of the whole evaluation"]
        curves[title] = ([_product(size) for size in costs], list(costs.values()))
    return _lines(
        "evaluation_cost", curves, "million pairs of query and gallery image", "CPU nanoseconds a pair",
        "Whole evaluation, parts of two test sets, one thread", level=True,
    )  # fmt: skip


def ratios() -> Path:
    """What regard and the plain program take, as bars of the same unit: each bar pair is divided by its longer one."""
    market, loader = _read("evaluation"), _read("loader")["images per CPU second"]["training batches"]
    seconds = {name: row["cpu_s"] for name, row in market["rows"].items()}
    steps = {(row["input"], row["batch"]): row for row in _read("training")["rows"]}
    step, made = steps["256x128", 32], {row["with"]: row for row in _read("embedding")["rows"][:7]}
    pairs = {
        "training": (1 / step["regard"], 1 / step["reference"]),
        "embedding, fp32": (1 / made["openvino fp32"]["images/s"], 1 / made["reference"]["images/s"]),
        "embedding, bf16": (1 / made["openvino bf16"]["images/s"], 1 / made["reference"]["images/s"]),
        "loading": (1 / loader["regard"], 1 / loader["Pillow + torchvision"]),
        "ranking": (seconds["regard, ranking alone"], seconds["full sort, ranking alone"]),
        "re-ranking": (seconds["regard, re-ranked distances"], seconds["dense N x N, re-ranked distances"]),
    }
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, (ours, theirs) in enumerate(pairs.values()):
        axes.barh(place - 0.19, ours / theirs, 0.36, color=BARS[0], label="regard" if place == 0 else None)
        axes.barh(place + 0.19, 1, 0.36, color=BARS[1], label="plain program" if place == 0 else None)
        axes.text(ours / theirs + 0.01, place - 0.19, f"{theirs / ours:.1f} times faster", va="center", fontsize=8)
    axes.set_yticks(range(len(pairs)), list(pairs))
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.02), xlabel="time for the same work", title="Beside plain programs, two cores, no GPU")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    return _save(figure, "performance")


def _lines(name: str, curves: Curves, x: str, y: str, title: str, level: bool = False) -> Path:
    """Curves over a size, both axes logarithmic, unless ``level``: then values count from 0."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for (label, (xs, ys)), marker in zip(curves.items(), "osD^vPX*" * 3):
        axes.plot(xs, ys, marker=marker, label=label)
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y, title=title)
    ticks = sorted({value for xs, _ in curves.values() for value in xs})
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.minorticks_off()
    if level:
        axes.set(yscale="linear", ylim=(0, None))
    else:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    return _save(figure, name)


def _save(figure: Figure, name: str) -> Path:
    path = PICTURES / f"{name}.png"
    figure.savefig(path, dpi=130)
    return path


def _read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def _height(row: Mapping[str, Any]) -> int:
    return int(row["input"].split("x")[0])


def _product(size: str) -> float:
    """Million pairs of "1,191 x 6,976"."""
    queries, gallery = (int(part.replace(",", "")) for part in size.split(" x "))
    return queries * gallery / 1e6


KINDS: dict[str, Callable[[], Path]] = {
    each.__name__: each for each in (training, embedding, service, evaluation, ratios)
}


def main() -> None:
    for name in sys.argv[1:] or KINDS:
        if name not in KINDS:
            sys.exit(f"no picture {name!r}; there are {', '.join(KINDS)}")
        print(KINDS[name]())


if __name__ == "__main__":
    main()
