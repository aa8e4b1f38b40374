"""Why these two? Where the network looks in query and match, and which part of the body the similarity hangs on.

Shapes: H x W pixels of a picture, h x w of a map.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from regard.explain.figures.overlay import data_uri, heat_over
from regard.explain.gradcam import attention_layers, similarity_cam
from regard.explain.rounding import NOTHING
from regard.gallery.embedder import Embedder

__all__ = ["BANDS", "reasons"]

BANDS = ("head", "shoulders", "waist", "thighs", "shins", "feet")
"""Names of the sixths of an upright person crop, from the top."""


def reasons(embedder: Embedder, query: np.ndarray, match: np.ndarray) -> dict[str, Any]:
    """What speaks for the similarity of two pictures.

    Args:
        embedder: the model that compares them.
        query, match: (H, W, 3) uint8.

    Returns:
        ``similarity``; ``levels``: name of a layer with the picture of its map over query and over match, as data URIs,
        and in ``nothing`` what to say of empty maps, by ``"query"`` and ``"match"``; ``bands``: part of the body with
        the cosine that is lost when the query is gray there.
    """
    images = embedder.batch([query, match])
    levels = []
    with embedder.busy:
        for name, layer in attention_layers(embedder.model).items():
            maps = similarity_cam(embedder.model, layer, images, images.flip(0)).cpu().numpy()
            over = [data_uri(heat_over(picture, heat)) for picture, heat in zip((query, match), maps)]
            nothing = {side: NOTHING for side, heat in zip(("query", "match"), maps) if not heat.any()}
            levels.append({"name": name, "query": over[0], "match": over[1], "nothing": nothing})
    target, whole, *parts = embedder.embed([match, query, *map(without, [query] * len(BANDS), range(len(BANDS)))])
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
