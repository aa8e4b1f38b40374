"""Why two pictures look alike: the computation, and the process that does it for the service.

``python -m regard.service.explanation`` reads questions from its standard input and answers them on its standard output
(:mod:`regard.service.explainer`). It ends when that input closes, also in the midst of an answer.

Shapes: H x W pixels of a picture.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from regard.data.image import decode_image
from regard.device import prefer_device
from regard.errors import ConfigError, RegardError
from regard.gallery.embedder import Embedder
from regard.models.folder import WEIGHTS, model_folder
from regard.service.explainer import read_message, write_message
from regard.service.journal import place_of
from regard.service.state import THUMBNAIL, shrink

__all__ = ["BANDS", "explanation"]

BANDS = ("head", "shoulders", "waist", "thighs", "shins", "feet")
"""Names of the sixths of an upright person crop, from the top."""


def explanation(embedder: Embedder, query: np.ndarray, match: np.ndarray) -> dict[str, Any]:
    """What speaks for the similarity of two pictures.

    Args:
        embedder: the model that compares them.
        query, match: (H, W, 3) uint8.

    Returns:
        ``similarity``; ``levels``: name of a layer with the picture of its map over query and over match, as data URIs,
        and in ``nothing`` what to say of empty maps, by ``"query"`` and ``"match"``; ``bands``: part of the body with
        the cosine that is lost when the query is gray there.
    """
    model = embedder.model
    from regard.explain.figures.overlay import data_uri, heat_over
    from regard.explain.gradcam import attention_layers, similarity_cam
    from regard.explain.rounding import NOTHING

    images = embedder.batch([query, match])
    levels = []
    with embedder.busy:
        for name, layer in attention_layers(model).items():
            maps = similarity_cam(model, layer, images, images.flip(0)).cpu().numpy()
            over = [data_uri(heat_over(picture, heat)) for picture, heat in zip((query, match), maps)]
            nothing = {side: NOTHING for side, heat in zip(("query", "match"), maps) if not heat.any()}
            levels.append({"name": name, "query": over[0], "match": over[1], "nothing": nothing})
    target, whole, *parts = embedder.embed([match, query, *(without(query, band) for band in range(len(BANDS)))])
    similarity = float(whole @ target)
    bands = [{"name": name, "loss": round(similarity - float(part @ target), 4)} for name, part in zip(BANDS, parts)]
    return {"similarity": round(similarity, 4), "levels": levels, "bands": bands}


def without(picture: np.ndarray, band: int) -> np.ndarray:
    """The picture with one sixth of its height painted in its mean color."""
    height = len(picture)
    rows = slice(band * height // len(BANDS), max((band + 1) * height // len(BANDS), 1))
    painted = picture.copy()
    painted[rows] = picture.reshape(-1, 3).mean(0).astype(np.uint8)
    return painted


class Models:
    """The models that were asked about, loaded once."""

    def __init__(self):
        self._known: dict[tuple[str, str], Embedder] = {}

    def of(self, made_by: dict[str, Any], memory: int) -> Embedder:
        """The model of a service's embedder.

        Raises:
            ConfigError: another one lies in its folder by now.
        """
        key = made_by["path"], made_by["fingerprint"]
        if key not in self._known:
            embedder = Embedder.like(made_by)
            if embedder.describe()["fingerprint"] != made_by["fingerprint"]:
                raise ConfigError(f"the model in {made_by['path']} was replaced meanwhile; start the service again")
            if embedder.device.type == "cpu":  # what a GPU's driver takes nobody knows
                bound_memory(memory + 8 * (model_folder(Path(made_by["path"])) / WEIGHTS).stat().st_size)
            self._known[key] = embedder
        return self._known[key]


def bound_memory(bytes: int) -> None:
    """Let this process have no more memory of its own than so much, where the system knows how."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (bytes, most))


def answer(models: Models, head: dict[str, Any], picture: bytes, file: bytes) -> dict[str, Any]:
    """The answer to a question: what was found, or why nothing was."""
    try:
        with prefer_device(head["device"]):
            embedder = models.of(head["made_by"], head["memory"])
            query = np.frombuffer(picture, np.uint8).reshape(head["shape"])
            return {"found": explanation(embedder, query, shrink(decode_image(file, "a thumbnail", THUMBNAIL)))}
    except RegardError as error:
        return {"error": " ".join(str(error).split()), "kind": type(error).__name__}
    except Exception as error:
        return {"failed": place_of(error)}


def main() -> None:
    """Answer until the input closes."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    questions: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                questions.put(read_message(sys.stdin.buffer))
        finally:
            os._exit(0)  # whoever asks is gone, and waits for no answer

    threading.Thread(target=listen, daemon=True).start()
    models = Models()
    while True:
        head, contents = questions.get()
        write_message(pipe, answer(models, head, *contents))


if __name__ == "__main__":
    main()
