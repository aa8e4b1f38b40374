"""The house in figures: how its files lie, and how many of them a batch, an upload and a photo pass through.

    python benchmarks/house.py --label before          # a minute: counts the checkout's files, then three traces
    python benchmarks/house.py --label after --source elsewhere/src

Counted are the Python files of ``src/regard``: their lines, those under 100 lines, modules that one other module
imports, file names that occur more than once (besides ``__init__.py``), and circles: modules that import each other by
whatever way, also inside functions, for types alone, or through the names that a package hands on.

Three things are then done for real, on a crowd of a few, and every call of a function is watched: which files of regard
are entered, and how often a function of one file calls one of another (what runs in between, such as PyTorch, is looked
through). A **batch** goes from its pictures' files to its losses, in ``regard train apnet``; an **upload** through the
service to its ranking; a **photo** from its file to its descriptor, in Python. Each is done once before it is counted.
Writes benchmarks/results/house.json, where each label keeps its figures.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SHORT = 100
"""Lines below which a file is short."""

IDS = 4

Graph = dict[str, set[str]]
"""Module -> the modules that it imports."""


def modules(source: Path) -> dict[str, Path]:
    """Return the modules below a package's folder, by their dotted names."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = (source.name, *path.relative_to(source).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(source: Path) -> Graph:
    """Return what each module imports, wherever in it that stands.

    An import runs the packages that its module lies in, so it counts as one of theirs too, but for those that whoever
    imports lies in, which ran before. What a package's ``__init__`` names to load later (``_HOME``), it imports.
    """
    files = modules(source)
    return {name: _imported(name, path, files) for name, path in files.items()}


def _imported(name: str, path: Path, files: Mapping[str, Path]) -> set[str]:
    targets = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            targets |= (inner & files.keys()) or {node.module or ""}
        elif isinstance(node, ast.Constant) and path.name == "__init__.py":
            targets |= {node.value} & files.keys() if isinstance(node.value, str) else set()
    found = targets & files.keys()
    for target in targets:
        parts = target.split(".")
        above = {".".join(parts[:count]) for count in range(2, len(parts))} & files.keys()
        found |= {package for package in above if not f"{name}.".startswith(f"{package}.")}
    return found - {name}


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return every set of modules of which each one reaches all others, by R. Tarjan's algorithm of 1972."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(sorted(part))

    for node in graph:
        if node not in index:
            visit(node)
    return sorted(found)


def shape(source: Path) -> dict[str, Any]:
    """Return how the files of a package lie."""
    graph, files = imports(source), modules(source).values()
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    importers = Counter(target for targets in graph.values() for target in targets)
    names = Counter(path.name for path in files if path.name != "__init__.py")
    return {
        "files": len(lines),
        "lines": sum(lines.values()),
        "files under 100 lines": sum(count < SHORT for count in lines.values()),
        "modules with one importer": sum(count == 1 for count in importers.values()),
        "repeated file names": sorted(name for name, count in names.items() if count > 1),
        "circles": circles(graph),
    }


class Watch:
    """Sees which files of a package are entered, and how often a function of one calls one of another."""

    def __init__(self, source: Path):
        self.source = f"{source}{os.sep}"
        self.entered: dict[str, None] = {}
        self.calls = 0
        self.on = False
        self.last: dict[str, Any] = {}
        self.begins: Callable[[str, str], bool] | None = None
        self.ends: Callable[[str, str], bool] | None = None

    def __enter__(self) -> Watch:
        threading.setprofile(self._see)
        sys.setprofile(self._see)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is called in the block."""
        self.entered, self.calls, self.on = {}, 0, True
        try:
            yield
        finally:
            self.on = False

    def result(self) -> dict[str, Any]:
        """Return the figures."""
        return {"files": len(self.entered), "calls between files": self.calls, "entered": list(self.entered)}

    def _place(self, frame: types.FrameType | None) -> str | None:
        """Return the file of the package that a frame is in; None for any other, and while a module is imported."""
        if frame is None or frame.f_code.co_name == "<module>":
            return None
        file = frame.f_code.co_filename
        return file.removeprefix(self.source) if file.startswith(self.source) else None

    def _see(self, frame: types.FrameType, event: str, _: Any) -> None:
        if event not in ("call", "return") or (place := self._place(frame)) is None:
            return
        name = frame.f_code.co_qualname
        if event == "return":
            if self.on and self.ends and self.ends(place, name):
                self.on, self.last = False, self.result()
            return
        if self.begins and not self.on and self.begins(place, name):
            self.entered, self.calls, self.on = {}, 0, True
        if not self.on:
            return
        self.entered[place] = None
        caller = frame.f_back
        while caller is not None and self._place(caller) is None:
            caller = caller.f_back
        self.calls += caller is not None and self._place(caller) != place


def trace_batch(watch: Watch, crowd: Path, folder: Path) -> dict[str, Any]:
    """Return what the last batch of a training passes: from its first picture's file to its losses."""
    from regard.cli.main import main

    began = False

    def begins(place: str, name: str) -> bool:
        nonlocal began
        began = began or name.endswith(".set_epoch")
        return began and place.startswith(f"data{os.sep}") and not name.endswith(".set_epoch")

    def ends(place: str, name: str) -> bool:
        return place == f"losses{os.sep}criterion.py" and name == "Criterion.forward"

    watch.begins, watch.ends = begins, ends
    with watch:
        main(
            ["train", "apnet", "-o", str(folder / "run"), "-q", f"data.root={crowd}", "data.height=64", "data.width=32",
             "data.ids_per_batch=2", "data.images_per_id=2", "data.workers=0", "model.backbone=test_resnet.r160_in1k",
             "train.epochs=1", "train.eval_every=null", "train.accelerator=cpu"]
        )  # fmt: skip
    watch.begins = watch.ends = None
    return watch.last


def trace_upload(watch: Watch, photos: Path, photo: Path, folder: Path) -> dict[str, Any]:
    """Return what a photograph that is sent passes to its ranking: through ``regard serve``, without a network."""
    import uvicorn

    from regard.cli.main import main

    gallery = folder / "people"
    main(["embed", str(photos), "--model", str(folder / "model"), "-o", str(gallery), "--engine", "torch", "-q"])

    def serve(server: Any, **_: Any) -> None:
        with watch:  # from the beginning, since the service keeps its threads
            asyncio.run(_ask(server.config.app, photo))
            with watch.counting():
                asyncio.run(_ask(server.config.app, photo))

    kept, uvicorn.Server.run = uvicorn.Server.run, serve
    try:
        main(["serve", str(gallery), "--port", "0"])
    finally:
        uvicorn.Server.run = kept
    return watch.result()


async def _ask(app: Any, photo: Path) -> None:
    """Send a photograph and search with it."""
    mark = "a-line-that-is-in-no-photo"
    head = f'--{mark}\r\nContent-Disposition: form-data; name="photos"; filename="photo.jpg"\r\n\r\n'
    body = head.encode() + photo.read_bytes() + f"\r\n--{mark}--\r\n".encode()
    query = await _post(app, "/api/queries", f"multipart/form-data; boundary={mark}", body)
    answer = await _post(app, "/api/search", "application/json", json.dumps({"query": query["query"]}).encode())
    if not answer["matches"]:
        raise RuntimeError("the search found nobody")


async def _post(app: Any, path: str, kind: str, body: bytes) -> Any:
    """Return the JSON that the service answers with."""
    headers = {"host": "127.0.0.1", "content-type": kind, "content-length": str(len(body))}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80), "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    content = b"".join(message.get("body", b"") for message in sent)
    if sent[0]["status"] >= 300:
        raise RuntimeError(f"{path} answered {sent[0]['status']}: {content.decode()}")
    return json.loads(content)


def trace_photo(watch: Watch, photo: Path, folder: Path) -> dict[str, Any]:
    """Return what a photo passes to its descriptor in Python, by a model that was loaded before."""
    embed = _embedder(folder / "model")
    embed(photo)
    with watch, watch.counting():
        embed(photo)
    return watch.result()


def trace_model_and_photo(watch: Watch, photo: Path, folder: Path) -> dict[str, Any]:
    """Return what the same passes where the model's folder is read on the way."""
    with watch, watch.counting():
        _embedder(folder / "model")(photo)
    return watch.result()


def _embedder(model: Path) -> Callable[[Path], Any]:
    """Return what gives a photo's descriptor: the model itself, or where it cannot, what ``regard embed`` uses."""
    import regard

    network: Any = regard.load(model)
    if hasattr(network, "embed_pictures"):
        return lambda photo: network.embed_pictures([photo])
    from regard.data import read_image
    from regard.gallery import Embedder

    embedder = Embedder(model, batch_size=1)
    return lambda photo: embedder.embed([read_image(photo)])


def traces(source: Path, scratch: Path) -> dict[str, Any]:
    """Return the figures of the three traces."""
    import regard
    from regard.cli.main import main

    loaded = Path(regard.__file__).parent
    if loaded != source:
        raise RuntimeError(f"regard is imported from {loaded}, not from {source}")
    crowd = scratch / "crowd"
    people = ["--train-ids", str(IDS), "--test-ids", str(IDS), "--height", "64", "--width", "32"]
    main(["data", "make", str(crowd), *people, "-q"])
    network = regard.create_model("apnet", num_ids=IDS, backbone="test_resnet.r160_in1k")
    network.save(scratch / "model")
    queries = crowd / "query"
    photo = sorted(queries.glob("*.jpg"))[0]
    watch = Watch(source)
    return {
        "batch": trace_batch(watch, crowd, scratch),
        "upload": trace_upload(watch, queries, photo, scratch),
        "photo": trace_photo(watch, photo, scratch),
        "model and photo": trace_model_and_photo(watch, photo, scratch),
    }


def commit_of(source: Path) -> str:
    """Return the checkout's commit, with a plus where files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=source, capture_output=True, text=True, check=True).stdout.strip()

    return git("rev-parse", "--short=7", "HEAD") + ("+" if git("status", "--porcelain", "--", str(source)) else "")


def main() -> None:
    """Count, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label", help="keep the figures under this name, such as before; without it, print alone")
    parser.add_argument("--source", type=Path, default=HERE.parent / "src", help="folder that holds regard")
    parser.add_argument("--no-traces", action="store_true", help="count files alone")
    arguments = parser.parse_args()
    source = arguments.source.resolve() / "regard"
    sys.path.insert(0, str(source.parent))
    figures = {"commit": commit_of(source), **shape(source)}
    if not arguments.no_traces:
        with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(sys.stderr):
            figures["traces"] = traces(source, Path(scratch))
    for name, value in figures.items():
        if name != "traces":
            print(f"{name:28} {f'{len(value)}: {value}' if isinstance(value, list) else value}")
    for name, found in figures.get("traces", {}).items():
        print(f"{name:28} {found['files']} files, {found['calls between files']} calls between them")
    if arguments.label:
        place = HERE / "results" / "house.json"
        kept = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
        place.write_text(json.dumps(kept | {arguments.label: figures}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
