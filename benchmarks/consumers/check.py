"""What regard exports, in another program: by its own loader, and in its tracker. Run in that program's environment.

    python benchmarks/consumers/check.py PROGRAM [--run RUN] [-o FOLDER]

Fails where a file is not what it was made for, where another program's file is taken, where descriptors are further
from regard's than the documents say, or where embeddings do not save identity switches. FOLDER has the crowds of
``make consumers``, which runs this for all, and gets PROGRAM.json.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from heights import Compute, cosines
from sequence import sequence
from trackers import TRACKERS, Embeds, boxmots, figures

import regard
from regard.cli.main import main as command
from regard.data.boxes import crops
from regard.integrations import boxmot, deep_sort_realtime, norfair, ultralytics
from regard.integrations.checking import LEAST, LOADERS, check_file, least_cosine
from regard.integrations.programs import version_of

PAGES = Path(__file__).parents[2] / "docs" / "how-to" / "trackers"
CAMERAS = (1, 2, 3)
LARGE = "256x128"
LOADING = {"boxmot": "ultralytics", "ultralytics": "boxmot", "libreyolo": "boxmot", "reid": "boxmot"}
"""Programs that load a file -> the program whose file they are to refuse, or to make something else of."""

RESIZING = ("boxmot", "ultralytics")
"""Programs that resize crops themselves."""

EXACT, ROUNDED, UNTRAINED, HIGHER = 0.99999, 0.9999, 0.9996, 0.998
"""Least cosines to ``embed_pictures``: by the same resizing; where only gray levels are rounded otherwise, at the size
that the network was trained for and at another; and of crops up to twice as high as the input of a large network, which
antialiasing would have changed."""


@dataclass(frozen=True)
class Given:
    """The network, the folder with crowds and files, and how many seeds videos are made from."""

    run: str
    home: Path
    seeds: int

    def network(self, size: str) -> regard.ReIDModel:
        """The network, for pictures of a size."""
        model = regard.load(self.run).strip()
        height, width = map(int, size.split("x"))
        model.input = replace(model.input, height=height, width=width)
        return model

    @property
    def size(self) -> str:
        """What the network was trained to see."""
        seen = regard.load(self.run).input
        return f"{seen.height}x{seen.width}"

    def file(self, profile: str, *options: str) -> Path:
        """The network exported for a program, made where it is not there."""
        name = "-".join([profile, *options]).replace("--", "")
        path = self.home / "files" / (name if profile == "reid" else f"{name}.onnx")
        if not path.exists():
            run_command(["export", self.run, "--for", profile, "-o", str(path), "--quiet", *options])
        return path


def run_command(words: list[str]) -> None:
    """Run regard's command, which has to succeed."""
    code = command(words)
    assert code == 0, f"regard {shlex.join(words)}: code {code}"


def documented(program: str, given: Given) -> int:
    """Do what the page of a program shows, but for installing; how many blocks of Python there are."""
    page = (PAGES / f"{program}.md").read_text(encoding="utf-8").replace("regard-s", given.run)
    frames = sequence(given.home / "crowd", 1)[:20]
    known = {"frames": [one.pixels for one in frames], "detections": [one.detections for one in frames]}
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.S | re.M)
    with contextlib.chdir(given.home / "files"):
        for shown in re.findall(r"^```sh\n(.*?)^```", page, re.S | re.M):
            for line in re.findall(r"^regard (.*)", shown, re.M):
                run_command(shlex.split(line, comments=True))
        for block in blocks:
            exec(compile(block, program, "exec"), known)
            assert len(known.get("tracks", known.get("rows", ()))) > 0, block
    assert blocks, program
    return len(blocks)


def loader(program: str, path: Path) -> Compute:
    """What a program makes of a file."""
    return importlib.import_module(f"regard.integrations.{LOADERS[program]}").by_loader(path)


def swapped(program: str, given: Given) -> str:
    """What becomes of the file of another program: it has to be refused, or to be told from the own one."""
    other = given.file(LOADING[program])
    assert command(["export", "--check", str(other), "--for", program]) == 2
    frame = sequence(given.home / "crowd", 1)[0]
    inside = np.round(frame.detections + np.array((8, 8, -8, -8))).astype(np.float32)
    try:
        rows, cut = loader(program, other)(frame.pixels, inside)
    except Exception as error:  # programs raise types of their own
        return f"refused, {type(error).__name__}"
    cosine = least_cosine(rows, given.network(given.size).embed_pictures(cut, color="bgr"))
    if program == "libreyolo":  # regard opens the file, and feeds it as its card says
        return f"opened by regard, cosine {cosine:.4f}"
    assert cosine < LEAST, cosine
    return f"cosine {cosine:.4f}"


def by_adapter(program: str, encoder: regard.Encoder) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Descriptors of boxes in a frame by the adapter of a program."""
    if program == "boxmot":
        wrapped = boxmot.BoxmotEncoder(encoder)
        return lambda frame, boxes: wrapped.encode(*([one] for one in boxmots(frame, boxes)))[0].numpy()
    if program == "ultralytics":
        embed = ultralytics.embedder(encoder)
        return lambda frame, boxes: np.stack(embed(frame, middles(boxes)))
    if program == "norfair":
        return lambda frame, boxes: np.stack([one.embedding for one in norfair.detections(encoder, frame, boxes)])
    return lambda frame, boxes: np.stack(
        deep_sort_realtime.with_embeds(
            encoder, frame, [((x0, y0, x1 - x0, y1 - y0), 0.9, "person") for x0, y0, x1, y1 in boxes]
        )[1]
    )


def middles(boxes: np.ndarray) -> np.ndarray:
    """Corners (N, 4) as middles and sizes."""
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)


def ways(program: str, given: Given, size: str, network: regard.ReIDModel) -> Iterator[tuple[str, Compute]]:
    """How a program can make descriptors, for a network of a size."""
    own = () if size == given.size else ("--size", size)
    if program in LOADING:
        yield "file", loader(program, given.file(program, *own))
    if program in RESIZING and not own:
        yield "file, --antialias 3", loader(program, given.file(program, "--antialias", "3"))
    if (program not in LOADING or program in RESIZING) and not own:
        embed = by_adapter(program, regard.Encoder(network, "torch"))
        yield "adapter", lambda frame, boxes: (embed(frame, boxes), crops(frame, boxes))


def by_rows(program: str, given: Given) -> dict[str, dict[str, float]]:
    """Least cosines to ``embed_pictures`` by how many rows a crop has, for the network's own size and a large one."""
    told = {}
    for size in dict.fromkeys((given.size, LARGE)):
        network = given.network(size)

        def wanted(cut: list[np.ndarray], network: regard.ReIDModel = network) -> np.ndarray:
            return network.embed_pictures(cut, color="bgr")

        for way, compute in ways(program, given, size, network):
            margin = program == "ultralytics" and way != "adapter"
            found = cosines(compute, wanted, given.home / "tall", beyond=margin)
            told[f"{size}, {way}"] = {rows: round(cosine, 6) for rows, cosine in found.items()}
            print(f"{program}, {size}, {way}: {told[f'{size}, {way}']}", flush=True)
            check_cosines(found, size, exact=way == "adapter" or program not in RESIZING, way=way)
    return told


def check_cosines(found: Mapping[str, float], size: str, *, exact: bool, way: str) -> None:
    """What resizes as regard does is regard's; other files are, up to their input's height, but for rounding."""
    if exact:
        assert min(found.values()) >= EXACT, found
    elif way == "file":
        height, rounded = int(size.partition("x")[0]), UNTRAINED if size == LARGE else ROUNDED
        assert min(cosine for rows, cosine in found.items() if int(rows) <= height) >= rounded, found
        assert size != LARGE or min(found.values()) >= HIGHER, found


def tracked(program: str, given: Given) -> dict[str, dict[str, dict[str, float]]]:
    """Figures of a program's tracker, by way of embedding: over all cameras, and how far seeds are apart."""
    ways: dict[str, Embeds] = {"motion alone": None}
    if program in LOADING:
        ways["file"] = given.file(program)
    if program not in LOADING or program in RESIZING:
        ways["adapter"] = regard.Encoder(given.run)
    each: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for seed in range(1, given.seeds + 1):
        found = {way: [] for way in ways}
        for camera in CAMERAS:
            frames = sequence(given.home / "crowd", camera, seed)
            for way, embeds in ways.items():
                found[way].append(figures(frames, TRACKERS[program](frames, embeds)))
        for way, ones in found.items():
            total = {kind: float(np.mean([one[kind] for one in ones])) for kind in ("HOTA", "IDF1")}
            each[way].append(total | {"switches": sum(one["switches"] for one in ones)})
            print(f"{program}, seed {seed}, {way}: {each[way][-1]}", flush=True)
    alone = sum(one["switches"] for one in each["motion alone"])
    for way in ways.keys() - {"motion alone"}:
        assert (switches := sum(one["switches"] for one in each[way])) < alone, (way, switches, alone)
    return {
        way: {
            kind: {
                "mean": round(float(np.mean([one[kind] for one in ones])), 3),
                "least": round(min(one[kind] for one in ones), 3),
                "most": round(max(one[kind] for one in ones), 3),
            }
            for kind in ("HOTA", "IDF1", "switches")
        }
        for way, ones in each.items()
    }


def check(program: str, given: Given) -> dict:
    """Everything of one program."""
    told: dict = {"program": f"{program} {version_of(program)}", "blocks": documented(program, given)}
    if program in LOADING:
        told["check"] = check_file(given.file(program), program).rpartition("; ")[2]
        assert "tried it: cosine to regard's" in told["check"], told["check"]
        told["another's file"] = swapped(program, given)
    if program in TRACKERS:
        told["tracker"] = tracked(program, given)
    told["cosines"] = by_rows(program, given)
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", choices=sorted({*TRACKERS, *LOADING}))
    parser.add_argument("--run", default="regard-s", help="the network: a run's folder, or a name (regard-s)")
    parser.add_argument("--seeds", type=int, default=3, help="of the videos, three each (3)")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/consumers"), help="folder (runs/consumers)")
    arguments = parser.parse_args()
    run = str(Path(arguments.run).absolute()) if os.sep in arguments.run else arguments.run
    given = Given(run, arguments.output.absolute(), arguments.seeds)
    (given.home / "files").mkdir(parents=True, exist_ok=True)
    result = given.home / f"{arguments.program}.json"
    result.unlink(missing_ok=True)
    told = check(arguments.program, given)
    result.write_text(json.dumps(told, indent=2) + "\n")
    print(json.dumps(told, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
