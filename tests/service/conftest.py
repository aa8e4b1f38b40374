"""A real service on loopback with two galleries of painted people, and a browser."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import uvicorn
from http_client import LIMITS, Service, paint

from regard.cli.serve_verb import configuration
from regard.gallery import Embedder, Gallery
from regard.gallery.ingest import embed_sources
from regard.gallery.inputs import list_sources
from regard.models import create_model
from regard.service.app import create_app
from regard.service.connections import Door
from regard.service.explainer import Explainer
from regard.service.feedback import Marks
from regard.service.metrics import Metrics
from regard.service.proxies import Proxies
from regard.service.state import Limits, Searcher, ServiceState


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for pid in range(1, 9):
        for camera in (1, 2, 3):
            for shot in range(2):
                paint(folder / f"{pid:04d}_c{camera}s1_{100 * pid + shot:06d}_00.jpg", pid, camera, shot)
    return folder


@pytest.fixture(scope="session")
def made(photos, tmp_path_factory) -> dict[str, tuple[Path, Path, tuple[int, int]]]:
    """Galleries by name: their folder, their model's folder, its input size."""
    root = tmp_path_factory.mktemp("made")
    out = {}
    for seed, (name, model, size) in enumerate((("people", "apnet", (64, 32)), ("others", "baseline", (48, 24)))):
        torch.manual_seed(seed)
        options = {"backbone": "test_resnet.r160_in1k"}
        create_model(model, num_ids=4, **options).save(root / f"{name}-model")
        embedder = Embedder(root / f"{name}-model", size=size, batch_size=8, device="cpu")
        meta = {
            path.name: {"time": 1_777_622_400 + 3600 * number, "track": f"t{path.name[:7]}", "color": "red<b>"}
            for number, path in enumerate(sorted(photos.glob("*.jpg")))
        }
        embed_sources(list_sources([photos], meta), embedder, root / name)
        out[name] = (root / name, root / f"{name}-model", size)
    return out


def run_folder(root: Path) -> Path:
    """Two runs, one of them without any line yet."""
    (root / "first").mkdir(parents=True)
    (root / "young").mkdir()
    lines = [{"event": "step", "epoch": 0, "step": n, "loss": 5 / n} for n in range(1, 400)]
    lines += [{"event": "eval", "epoch": e, "mAP": 0.1 * e, "rank1": 0.12 * e} for e in range(1, 6)]
    text = "\n".join(json.dumps(line) for line in lines) + '\n{"event": "ste'
    (root / "first" / "metrics.jsonl").write_text(text)
    (root / "young" / "metrics.jsonl").write_text("")
    return root


@pytest.fixture(scope="session")
def explainer() -> Iterator[Explainer]:
    """One process that looks into pictures for all services, which takes seconds to start."""

    class Lasting(Explainer):
        def close(self) -> None:
            """Not with a service."""

    explainer = Lasting()
    yield explainer
    Explainer.close(explainer)


@pytest.fixture(scope="session")
def launch(made, photos, explainer) -> Any:
    """``with launch(folder, names=("people",), token=None, limits=LIMITS, tls=None, **told) as service``: on copies, to
    delete from.

    Args:
        told: what :func:`regard.service.app.create_app` takes besides.
    """

    @contextmanager
    def running(
        place: Path, names=("people",), token: str | None = None, limits: Limits = LIMITS, tls=None, **told
    ) -> Iterator[Service]:
        searchers = {}
        for name in names:
            folder, model, size = made[name]
            shutil.copytree(folder, place / name)
            searchers[name] = Searcher(
                name, Gallery.open(place / name), Embedder(model, size=size, batch_size=8, device="cpu")
            )
        marks = Marks(None, own={name: searcher.gallery.marks for name, searcher in searchers.items()})
        state = ServiceState(searchers, marks, run_folder(place / "runs"), limits, explainer=explainer)
        listening = socket.create_server(("127.0.0.1", 0))
        metrics = Metrics()
        door = Door(limits, told.get("proxies") or Proxies(), metrics, tls)
        server = uvicorn.Server(configuration(create_app(state, token, metrics=metrics, **told), door))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield Service(f"http://127.0.0.1:{listening.getsockname()[1]}", state, photos)
        finally:
            server.should_exit = True
            thread.join()
            listening.close()
            state.close()
            for searcher in searchers.values():
                searcher.gallery.close()

    return running


@pytest.fixture
def start(launch, tmp_path) -> Iterator[Any]:
    """``start(names=("people",), token=None, ...) -> Service``; as :func:`launch`, until the test ends."""
    with ExitStack() as running:
        yield lambda *names, **told: running.enter_context(launch(tmp_path, *names, **told))


@pytest.fixture
def service(start) -> Service:
    return start()


@pytest.fixture(scope="module")
def lasting(launch, tmp_path_factory) -> Iterator[Service]:
    """One service for all tests of a file that change nothing."""
    with launch(tmp_path_factory.mktemp("lasting")) as running:
        yield running
