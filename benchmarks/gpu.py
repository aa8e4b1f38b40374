"""Everything that regard does on a CUDA device, beside plain eager float32: under eight minutes on one GPU.

    python benchmarks/gpu.py                          # writes benchmarks/results/gpu.json and prints tables
    python benchmarks/gpu.py --device cpu --quick     # two tiny cases without a GPU, to see that it runs

Training steps of every system at the size and batch of its Market-1501 recipe, on one batch of a crowd that stays on
the device, so that loading, which benchmarks/loader.py and training.py measure, is left out:

    reference   eager float32 without TF32, NCHW, every layer as its paper computes it, Adam one parameter after the
                other, loss fetched every step (apnet: the independent program of reference.py)
    fp32, tf32, bf16, compiled   regard's own loop; compiled is bf16 under torch.compile

Utilisation is the floating point operations of the step's matrix products and convolutions (three times the forward
pass; a product counts two per multiply-add) over what a large bf16 matrix product reaches on this device in this run.
Then embedding with mirrored pictures, and evaluation and re-ranking at MSMT17's size on the GPU beside the CPU. What
does not fit into the time is left out and named.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import reference
import torch
from results_file import table, write
from torch import nn

from regard.config import Config
from regard.crowd import make_crowd
from regard.data import load_dataset
from regard.data.transforms import normalize
from regard.engine.build import build_criterion, build_loader, build_model
from regard.engine.step import StepTimer, TrainStep, build_optimizer
from regard.export import open_engine
from regard.metrics import KReciprocal, evaluate_ranking, rerank_blocks
from regard.models.cost import count_gflops
from regard.recipes import read_recipe
from regard.runtime.fabric import Runtime
from regard.structures import Batch, Splits

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "metrics"))

from ranking_data import make  # pyright: ignore[reportMissingImports]

SYSTEMS = ("apnet", "baseline", "msea", "dsp", "sa", "daaf", "apnet_s", "mudeep")
MODES = {"fp32": ["train.precision=fp32"], "tf32": ["train.precision=tf32"], "bf16": ["train.precision=bf16"]}
COMPILED = {"compiled": ["train.precision=bf16", "train.compile=true"]}
SMALL = ["model.backbone=test_resnet.r160_in1k", "data.ids_per_batch=4"]
EMBEDDED = ("apnet", "baseline", "mudeep")


class Bench:
    """What all parts of the benchmark share."""

    def __init__(self, device: str, quick: bool, limit: float):
        self.device, self.quick = torch.device(device), quick
        self.deadline = time.perf_counter() + limit
        self.skipped: list[str] = []

    def has_time(self, what: str, needed: float) -> bool:
        """Whether there are so many seconds left; notes what is left out."""
        if time.perf_counter() + needed < self.deadline:
            return True
        self.skipped.append(what)
        return False

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def rate(self, work: Callable[[], Any], images: int, seconds: float = 1.5, warm: int = 3) -> float:
        """Images per second: repeated for at least ``seconds``, after some warm-up."""
        seconds, warm = (0.0, 1) if self.quick else (seconds, warm)
        for _ in range(warm):
            work()
        self.synchronize()
        start, count = time.perf_counter(), 0
        while count < 2 or time.perf_counter() - start < seconds:
            work()
            count += 1
            if count % 5 == 0:
                self.synchronize()
        self.synchronize()
        return images * count / (time.perf_counter() - start)

    @contextmanager
    def peak(self, row: dict[str, Any]) -> Iterator[None]:
        """Puts the most memory that was held on the device into ``row``."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        yield
        if self.device.type == "cuda":
            row["GiB"] = torch.cuda.max_memory_allocated(self.device) / 2**30

    def matrix_peak(self) -> float:
        """10¹² operations per second of a bf16 product of two large square matrices."""
        side = 512 if self.quick else 8192
        a, b = (torch.randn(side, side, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        return 2 * side**3 * self.rate(lambda: a @ b, 1) / 1e12


def configure(system: str, crowd: Path, bench: Bench, changes: list[str]) -> Config:
    """The system's Market-1501 recipe, on the crowd."""
    own = [
        "data.name=crowd", f"data.root={crowd}", "data.workers=0", "model.pretrained=false", "data.cache=none",
        f"train.accelerator={'cuda' if bench.device.type == 'cuda' else 'cpu'}",
    ]  # fmt: skip
    return read_recipe(f"{system}_market1501").config([*own, *(SMALL if bench.quick else []), *changes])


def first_batch(config: Config, splits: Splits) -> Batch:
    """One batch as the loader makes it, with labels where the recipe has them."""
    runtime = Runtime(config.train)
    loader = build_loader(config, splits, splits.root, runtime)
    loader.batch_sampler.set_epoch(0)
    return next(iter(runtime.on_device(loader)))


def our_step(config: Config, splits: Splits, batch: Batch) -> Callable[[], Any]:
    """regard's training step, without loader, log and checkpoints."""
    runtime = Runtime(config.train)
    model = build_model(config, splits.num_ids)
    criterion = build_criterion(config, model).to(runtime.device)
    network, optimizer = runtime.setup(model, build_optimizer(model, config.optim))
    learn = TrainStep(network, model.train(), criterion, runtime, 1, timer=StepTimer(Path(), 0, runtime.device))
    batch = runtime.to_device(batch)

    def step() -> None:
        learn(batch)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def plain_step(system: str, config: Config, splits: Splits, batch: Batch, bench: Bench) -> Callable[[], Any]:
    """The reference's training step."""
    images = normalize(batch.images).float().contiguous()
    if system == "apnet" and not bench.quick:
        apnet = reference.ReferenceAPNet(splits.num_ids).to(bench.device).train()
        optimizer = reference.build_adam(apnet)
        return lambda: reference.train_step(apnet, optimizer, images, batch.pids, str(bench.device))
    model = build_model(config, splits.num_ids)
    criterion = build_criterion(config, model).to(bench.device)
    model.to(bench.device).train()
    optimizer = reference.build_adam(model)

    def step() -> None:
        optimizer.zero_grad()
        loss, _ = criterion(model.in_full(images), batch._replace(images=images), None)
        loss.backward()
        optimizer.step()
        loss.item()

    return step


@contextmanager
def no_tf32() -> Iterator[None]:
    """Float32 is float32, in convolutions too."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def forward_gflops(config: Config, num_ids: int) -> float:
    """Of one image, classifiers included."""
    model: nn.Module = build_model(config, num_ids)
    return count_gflops(model, 1, 3, config.data.height, config.data.width)


def training(bench: Bench, splits: Splits, crowd: Path, peak: float) -> list[dict[str, Any]]:
    """Rows of all systems and modes; what is compiled comes last, as it may not fit into the time."""
    plain: dict[str, float] = {}
    rows = []
    for modes, needed in ((["reference", *MODES], 12.0), ([] if bench.quick else [*COMPILED], 75.0)):
        for system in SYSTEMS:
            config = configure(system, crowd, bench, [])
            batch, gflops = first_batch(config, splits), forward_gflops(config, splits.num_ids)
            for mode in modes:
                if mode == "tf32" and bench.device.type != "cuda":
                    continue
                if not bench.has_time(f"training {system} {mode}", needed):
                    continue
                images = len(batch.pids)
                row: dict[str, Any] = {"system": system, "mode": mode, "batch": images}
                row |= {"input": f"{config.data.height}x{config.data.width}", "images/s": None, "GiB": None}
                start = time.perf_counter()
                try:
                    with bench.peak(row):
                        if mode == "reference":
                            with no_tf32():
                                speed = bench.rate(plain_step(system, config, splits, batch, bench), images)
                            plain[system] = speed
                        else:
                            chosen = configure(system, crowd, bench, (MODES | COMPILED)[mode])
                            speed = bench.rate(our_step(chosen, splits, batch), images)
                except torch.OutOfMemoryError:
                    bench.skipped.append(f"training {system} {mode}: out of memory")
                    continue
                row["images/s"] = speed
                row["x reference"] = speed / plain[system] if system in plain else None
                row["utilisation"] = 3 * gflops * speed / (1e3 * peak)
                row["start s"] = time.perf_counter() - start
                rows.append(row)
                print(table([row]).splitlines()[-1], flush=True)
    return rows


def embedding(bench: Bench, splits: Splits, crowd: Path) -> list[dict[str, Any]]:
    """Rows of some systems: pictures on the host to descriptors on the host, mirrored pictures too."""
    rows = []
    for system in EMBEDDED[:1] if bench.quick else EMBEDDED:
        if not bench.has_time(f"embedding {system}", 25.0):
            continue
        config = configure(system, crowd, bench, [])
        size = config.data.height, config.data.width
        count = 8 if bench.quick else 256
        images = np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)
        model = build_model(config, splits.num_ids).eval()

        def plain(model: Any = model, images: np.ndarray = images) -> torch.Tensor:
            batch = normalize(torch.from_numpy(images).permute(0, 3, 1, 2)).contiguous().to(bench.device)
            with torch.no_grad():
                return (model.in_full(batch).embedding + model.in_full(batch.flip(3)).embedding).cpu()

        model.to(bench.device)
        with no_tf32():
            speed = first = bench.rate(plain, count)
        rows.append({"system": system, "engine": "eager float32", "images/s": speed, "x reference": 1.0})
        for precision in ("fp32", "bf16"):
            engine = open_engine(model, "torch", precision, size=size, device=str(bench.device))
            speed = bench.rate(partial(engine.embed, images, flip=True), count)
            rows.append({"system": system, "engine": precision, "images/s": speed, "x reference": speed / first})
    return rows


def ranking(bench: Bench) -> list[dict[str, Any]]:
    """Seconds of evaluation and re-ranking, on the device and on the CPU."""
    data = make("small" if bench.quick else "msmt17")
    query, gallery = torch.from_numpy(data["query"]), torch.from_numpy(data["gallery"])
    works: dict[str, Callable[[Any], Any]] = {
        "evaluation": lambda device: evaluate_ranking(**data, device=device),
        "re-ranking": lambda device: [None for _ in rerank_blocks(query, gallery, KReciprocal(), device=device)],
    }
    rows = []
    for name, work in works.items():
        for device in dict.fromkeys((str(bench.device), "cpu")):
            if bench.has_time(f"{name} on {device}", 15.0 if device != "cpu" else 60.0):
                row: dict[str, Any] = {"what": name, "device": device, "GiB": None}
                with bench.peak(row):
                    start = time.perf_counter()
                    work(device)
                    bench.synchronize()
                    row["seconds"] = time.perf_counter() - start
                rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny networks and data; writes nothing")
    parser.add_argument("--limit", type=float, default=440.0, help="seconds after which nothing new is begun")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device here; --device cpu --quick tries the program out")
    bench = Bench(options.device, options.quick, options.limit)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        crowd = Path(temporary) / "crowd"
        make_crowd(crowd, train_ids=8 if options.quick else 40, test_ids=2)
        splits = load_dataset("crowd", crowd)
        peak = bench.matrix_peak()
        print(f"bf16 matrix product: {peak:,.1f} TFLOP/s", flush=True)
        result: dict[str, Any] = {
            "device": torch.cuda.get_device_name() if bench.device.type == "cuda" else "cpu",
            "bf16 matrix product, TFLOP/s": peak,
            "ranking": ranking(bench) if bench.quick else None,
            "embedding": embedding(bench, splits, crowd),
        }
        result["training"] = training(bench, splits, crowd, peak)
        if not bench.quick:
            result["ranking"] = ranking(bench)
    result |= {"left out": bench.skipped, "seconds": time.perf_counter() - started}
    for part in ("embedding", "training", "ranking"):
        if result[part]:
            print(f"\n{part}\n{table(result[part])}")
    print("\nleft out:", ", ".join(bench.skipped) or "nothing", f"\n{result['seconds']:.0f} s")
    if not bench.quick:
        print("written to", write("gpu", result))


if __name__ == "__main__":
    main()
