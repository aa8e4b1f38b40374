"""Whether the service is alive and ready, for whoever looks after it, and its figures."""

from __future__ import annotations

import time
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from regard.service.access import needs
from regard.service.metrics import KIND, Metrics
from regard.service.state import ServiceState
from regard.service.tokens import ANYBODY

__all__ = ["add_health"]

FRESH = 1.0
"""Seconds for which what was found holds, however often is asked."""


def add_health(app: FastAPI, state: ServiceState, metrics: Metrics) -> None:
    """``/healthz`` and ``/readyz``, which tell nothing of what is in the galleries, and ``/metrics``."""
    known: tuple[float, dict[str, int]] = (float("-inf"), {})

    def sizes() -> dict[str, int]:
        """Pictures of each gallery that can be asked; every model is loaded before the service begins."""
        nonlocal known
        if time.monotonic() - known[0] > FRESH:
            known = time.monotonic(), {name: size for name in state.searchers if (size := size_of(state, name)) >= 0}
        return known[1]

    @app.get("/healthz", summary="Whether the service is alive", **needs(ANYBODY))
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", summary="Whether galleries are open and models loaded", **needs(ANYBODY))
    def readyz() -> Response:
        open_, wanted = len(sizes()), len(state.searchers)
        content: dict[str, Any] = {"status": "ready" if open_ == wanted else "not ready"}
        return JSONResponse(content | {"galleries": open_, "of": wanted}, 200 if open_ == wanted else 503)

    @app.get("/metrics", summary="Figures for Prometheus", response_class=Response, **needs("watch"))
    def figures() -> Response:
        return Response(metrics.text(sizes()), media_type=KIND)


def size_of(state: ServiceState, name: str) -> int:
    """Pictures in a gallery; below 0 where it cannot be asked, whatever its engine raises."""
    try:
        return len(state.searchers[name].gallery)
    except Exception:
        return -1
