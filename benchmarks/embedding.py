"""Embedding as a whole, from JPEG files to descriptors on the disk, beside the plain eager float32 program.

    python benchmarks/embedding.py            # some eight minutes on two cores, which should have nothing else to do
    python benchmarks/embedding.py --quick    # one small case, to see that it runs

APNet of level 2 on ResNet-50 with the same weights, every picture also mirrored, the same crops of a crowd. regard
embeds as ``regard embed`` does, to a Parquet file, with every engine and precision that is installed; "network as it
is" is what ``regard search`` computes a query with. Engines are opened before the clock starts, and that time is given
apart. Rounds take turns, each row is the best of them; "cosine" is the smallest between a row's descriptor and the
reference's of the same picture. Writes results/embedding.json and docs/pictures/embedding_speed.png.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pictures
import pyarrow.parquet as pq
import reference
import torch
from results_file import seconds, table, write

import regard
from regard.crowd import make_crowd
from regard.errors import RegardError
from regard.evaluation.embed import loader_workers
from regard.gallery.embedder import Embedder
from regard.gallery.ingest import embed_sources
from regard.gallery.inputs import list_sources

CASES = [((256, 128), 128), ((256, 128), 32), ((128, 64), 128), ((384, 192), 32)]
QUICK = [((128, 64), 16)]
ENGINES: list[tuple[str, Any, Any]] = [
    ("network as it is", None, "fp32"),
    ("torch fp32", "torch", "fp32"),
    ("torch bf16", "torch", "bf16"),
    ("onnxruntime fp32", "onnxruntime", "fp32"),
    ("openvino fp32", "openvino", "fp32"),
    ("openvino bf16", "openvino", "bf16"),
]


def trained(folder: Path) -> reference.ReferenceAPNet:
    """The reference with statistics of a forward pass, and the same network saved by regard in ``folder``."""
    torch.manual_seed(0)
    plain = reference.ReferenceAPNet(751)
    ours = regard.create_model("apnet", num_ids=751, level=2)
    with torch.no_grad():
        plain.train()
        for _ in range(3):
            plain(torch.randn(8, 3, 128, 64))
    reference.copy_weights(plain.eval(), ours)
    ours.save(folder)
    return plain


def embed_plainly(plain: Any, paths: list[Path], size: tuple[int, int], out: Path) -> np.ndarray:
    """The reference's loop, its descriptors saved."""
    found = reference.embed_loop(plain, [(path, 0) for path in paths], size, 64, loader_workers(None))
    np.save(out, found.numpy())
    return found.numpy()


def embed_ours(embedder: Embedder, paths: list[Path], out: Path) -> np.ndarray:
    """What ``regard embed`` does."""
    out.unlink(missing_ok=True)
    embed_sources(list_sources([str(path) for path in paths]), embedder, out)
    rows = pq.read_table(out)
    order = {path: number for number, path in enumerate(rows.column("path").to_pylist())}
    vectors = np.stack(rows.column("vector").to_numpy(zero_copy_only=False))
    return vectors[[order[str(path)] for path in paths]]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Smallest between rows."""
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def measure(size: tuple[int, int], paths: list[Path], home: Path, plain: Any, rounds: int) -> list[dict[str, Any]]:
    """Rows of one case."""
    count, opening = len(paths), {}
    works: dict[str, Callable[[], np.ndarray]] = {
        "reference": lambda: embed_plainly(plain, paths, size, home / "reference.npy")
    }
    for name, engine, precision in ENGINES:
        start = time.perf_counter()
        try:
            embedder = Embedder(home / "model", size=size, engine=engine, precision=precision)
        except RegardError as error:
            print(f"{name} left out: {error}")
            continue
        opening[name] = time.perf_counter() - start
        works[name] = lambda embedder=embedder: embed_ours(embedder, paths, home / "ours.parquet")
    best, found = dict.fromkeys(works, 0.0), {}
    for _ in range(rounds):
        for name, work in works.items():
            best[name] = max(best[name], count / seconds(lambda: found.update({name: work()})))  # noqa: B023
    return [
        {
            "input": f"{size[0]}x{size[1]}", "pictures": count, "with": name, "images/s": speed,
            "x reference": speed / best["reference"], "cosine": round(cosine(found[name], found["reference"]), 6),
            "opening s": opening.get(name),
        }
        for name, speed in best.items()
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        make_crowd(home / "crowd", train_ids=4 if options.quick else 40, test_ids=2)
        paths = sorted((home / "crowd" / "bounding_box_train").glob("*.jpg"))
        plain = trained(home / "model")
        for size, count in QUICK if options.quick else CASES:
            assert len(paths) >= count
            rows += measure(size, paths[:count], home, plain, options.rounds)
            print(table(rows), "\n", flush=True)
    if options.quick:
        return
    write("embedding", {"what": "apnet level 2, files to descriptors on disk, flip averaged", "rows": rows})
    pictures.embedding()


if __name__ == "__main__":
    main()
