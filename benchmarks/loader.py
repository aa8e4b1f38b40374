"""How fast training pictures are decoded and augmented, beside the loader that re-ID toolkits build on torchvision.

    python benchmarks/loader.py                       # makes a crowd of 128 x 64 crops in a temporary folder
    python benchmarks/loader.py --data data/Market-1501-v15.09.15/bounding_box_train

Same files, same transforms (resize to 256 x 128, flip, pad 10 and crop, erase, normalize), same process; rounds take
turns, and each row is the best of them. One thread and no worker processes: a CPU second is then a core's work, and a
GPU is kept busy by as many cores as its images per second demand. A row says what a core does with decoded pictures
kept in memory (data.cache), where only the first epoch decodes; two more what a loader process does, which hands its
batches over through shared memory and leaves normalization to the device. A second table is by the clock, for 0, 1
and 2 worker processes, whose images are normalized in this one: it needs a machine with nothing else to do. Prints the
tables, writes results/loader.json.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import random
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import io, transforms

from regard.crowd import make_crowd
from regard.data.cache import PictureCache, open_cache
from regard.data.image import read_image
from regard.data.loaders import train_loader
from regard.data.transforms import IMAGENET_MEAN, IMAGENET_STD, TrainTransform, normalize
from regard.structures import Sample

RESULTS = Path(__file__).parent / "results" / "loader.json"
HEIGHT, WIDTH, IDS, IMAGES = 256, 128, 16, 4


class Pictures(Dataset[Any]):
    """The data set every toolkit has: open with Pillow, transform, return a tuple."""

    def __init__(self, samples: Sequence[Sample]):
        self.samples = samples
        self.transform = transforms.Compose(
            [
                transforms.Resize((HEIGHT, WIDTH)),
                transforms.RandomHorizontalFlip(),
                transforms.Pad(10),
                transforms.RandomCrop((HEIGHT, WIDTH)),
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
                transforms.RandomErasing(0.5, value=0.0),  # pyright: ignore[reportArgumentType]
            ]
        )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, int, int]:
        sample = self.samples[index]
        return self.transform(Image.open(sample.path).convert("RGB")), sample.pid, sample.camid


def read_theirs(samples: Sequence[Sample], count: int) -> int:
    """Images of batches read through torchvision's transforms and the default collation."""
    loader = DataLoader(Pictures(samples), batch_size=IDS * IMAGES, shuffle=True, drop_last=True)
    return consume((images for images, _, _ in loader), count)


def our_loader(samples: Sequence[Sample], cache: PictureCache | None = None, workers: int = 0) -> Any:
    """Our loader of P x K batches."""
    return train_loader(
        samples, TrainTransform(HEIGHT, WIDTH), ids_per_batch=IDS, images_per_id=IMAGES, cache=cache, workers=workers
    )


def read_ours(samples: Sequence[Sample], count: int, cache: PictureCache | None = None) -> int:
    """Images of our P x K batches, normalized."""
    loader = our_loader(samples, cache)
    loader.batch_sampler.set_epoch(0)
    return consume((normalize(batch.images) for batch in loader), count)


def worker_rate(samples: Sequence[Sample], cache: PictureCache | None, epochs: int = 5) -> int:
    """Images per CPU second of a worker process: hands over batches that are not normalized, which is the device's."""
    before = children_seconds()
    loader, done = our_loader(samples, cache, workers=1), 0
    for epoch in range(epochs):
        loader.batch_sampler.set_epoch(epoch)
        done += sum(len(batch.images) for batch in loader)
    del loader  # ends the worker, whose time counts from then on
    gc.collect()
    return round(done / (children_seconds() - before))


def children_seconds() -> float:
    """CPU seconds of the processes that this one has started and seen end."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def wall_rate(samples: Sequence[Sample], cache: PictureCache | None, workers: int, rounds: int) -> int:
    """Images per second by the clock, the best of epochs whose first batches, while workers start, are not counted."""
    loader = our_loader(samples, cache, workers)
    best = 0.0
    for epoch in range(rounds):
        loader.batch_sampler.set_epoch(epoch)
        batches = iter(loader)
        for _ in range(workers):
            normalize(next(batches).images)
        start = time.perf_counter()
        done = sum(len(normalize(batch.images)) for batch in batches)
        best = max(best, done / (time.perf_counter() - start))
    return round(best)


def consume(batches: Any, count: int) -> int:
    """Take batches until ``count`` images have come -> how many did."""
    done = 0
    for images in batches:
        assert images.shape[1:] == (3, HEIGHT, WIDTH)
        assert images.dtype == torch.float32
        done += len(images)
        if done >= count:
            break
    return done


def decoders() -> dict[str, Callable[[Path], np.ndarray]]:
    """Ways to decode a JPEG file to RGB, of the libraries at hand."""
    found: dict[str, Callable[[Path], np.ndarray]] = {
        "regard (read_image)": read_image,
        "Pillow": lambda path: np.asarray(Image.open(path).convert("RGB")),
        "torchvision": lambda path: io.decode_jpeg(io.read_file(str(path))).permute(1, 2, 0).numpy(),
    }
    if find_spec("cv2"):
        import cv2  # pyright: ignore[reportMissingImports]

        cv2.setNumThreads(1)
        found["OpenCV"] = lambda path: cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    return found


def fastest(works: dict[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """Images per CPU second of each, the best of rounds that take turns."""
    rates = dict.fromkeys(works, 0.0)
    for _ in range(rounds):
        for name, work in works.items():
            start = time.process_time()
            done = work()
            rates[name] = max(rates[name], done / (time.process_time() - start))
    return {name: round(rate) for name, rate in rates.items()}


def read_all(decode: Callable[[Path], np.ndarray], paths: Sequence[Path]) -> int:
    """Decode every file -> how many."""
    return sum(decode(path).shape[2] == 3 for path in paths)


def gather(folder: Path) -> list[Sample]:
    """Samples of the images of a folder, four to an identity: the loaders care for nothing else."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".jpg")
    return [Sample(path, pid=number // IMAGES, camid=0) for number, path in enumerate(paths)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of JPEG crops; without it a crowd is made")
    parser.add_argument("--images", type=int, default=1280, help="images a round reads")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the best counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.data
        if folder is None:
            make_crowd(Path(temporary) / "crowd", train_ids=120, test_ids=2)
            folder = Path(temporary) / "crowd" / "bounding_box_train"
        samples = gather(folder)
        paths = [Path(sample.path) for sample in samples[: options.images]]
        loaders = fastest(
            {
                "regard": lambda: read_ours(samples, options.images),
                "Pillow + torchvision": lambda: read_theirs(samples, options.images),
            },
            options.rounds,
        )
        cache = open_cache(samples, Path(temporary))
        caches: dict[str, PictureCache | None] = {"none": None, "disk": cache}
        kept = fastest({"regard, cache=disk": lambda: read_ours(samples, options.images, cache)}, options.rounds)
        kept |= {f"a worker, cache={kind}": worker_rate(samples, kept_in) for kind, kept_in in caches.items()}
        clock = {
            f"{workers} workers, cache={kind}": wall_rate(samples, pictures, workers, options.rounds)
            for kind, pictures in caches.items()
            for workers in (0, 1, 2)
        }
        decoding = fastest(
            {name: lambda decode=decode: read_all(decode, paths) for name, decode in decoders().items()}, options.rounds
        )
        size = read_image(paths[0]).shape[:2]
    print(f"{len(samples):,} JPEG crops of about {size[0]} x {size[1]}; images per CPU second")
    for title, rows in (("training batches", loaders | kept), ("decoding alone", decoding)):
        print(f"\n{title}")
        ours = next(iter(rows.values()))
        for name, rate in rows.items():
            print(f"  {name:24}{rate:8,}   regard is {ours / rate:.2f}x")
    print("\ntraining batches, images per second by the clock")
    for name, rate in clock.items():
        print(f"  {name:24}{rate:8,}")
    result = {
        "files": f"{len(samples)} JPEG crops of about {size[0]} x {size[1]}",
        "input": f"{HEIGHT} x {WIDTH}",
        "images per CPU second": {"training batches": loaders | kept, "decoding alone": decoding},
        "images per second": clock,
        "ratio of the loaders": round(loaders["regard"] / loaders["Pillow + torchvision"], 2),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
