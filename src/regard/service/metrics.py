"""Figures of the service for Prometheus, in its text format (version 0.0.4)."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping

from regard.version import __version__

__all__ = ["KIND", "Metrics"]

KIND = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SEARCH = "/api/search"


class Metrics:
    """What is counted, from the beginning of the process.

    Attributes:
        in_flight: requests being answered now.
        connections: open now.
    """

    def __init__(self):
        self.in_flight = 0
        self.connections = 0
        self._started = time.time()
        self._busy = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._refused: Counter[str] = Counter()
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer.

        Args:
            route: as the application has it, without what it was asked for.
            method: of HTTP.
            status: of HTTP; 499 where the client had gone.
            seconds: that it took.
        """
        with self._busy:
            self._requests[route, method, status] += 1
            if route == SEARCH and status == 200:
                self._seconds += seconds
                self._buckets[sum(seconds > bound for bound in BUCKETS)] += 1

    def refused(self, reason: str) -> None:
        """Count what was refused, by the reason."""
        with self._busy:
            self._refused[reason] += 1

    def text(self, galleries: Mapping[str, int]) -> str:
        """All of it.

        Args:
            galleries: pictures by name.
        """
        with self._busy:
            requests = sorted(self._requests.items())
            refused = sorted(self._refused.items())
            buckets, seconds = list(self._buckets), self._seconds
        lines = family("regard_info", "gauge", "Version of regard.", [(labels(version=__version__), 1)])
        lines += family("regard_start_seconds", "gauge", "When it started, since 1970.", [("", self._started)])
        lines += family("regard_in_flight", "gauge", "Requests being answered.", [("", self.in_flight)])
        lines += family("regard_connections", "gauge", "Connections open.", [("", self.connections)])
        sizes = [(labels(gallery=name), size) for name, size in galleries.items()]
        lines += family("regard_pictures", "gauge", "Pictures of a gallery.", sizes)
        found = [(labels(route=r, method=m, status=str(s)), count) for (r, m, s), count in requests]
        lines += family("regard_requests_total", "counter", "Requests answered.", found)
        reasons = [(labels(reason=reason), count) for reason, count in refused]
        lines += family("regard_refused_total", "counter", "Requests and connections refused.", reasons)
        lines += histogram("regard_search_seconds", "Seconds of answered searches.", buckets, seconds)
        return "\n".join(lines) + "\n"


def family(name: str, kind: str, help: str, values: Iterable[tuple[str, float]]) -> list[str]:
    """Lines of one figure."""
    return [f"# HELP {name} {help}", f"# TYPE {name} {kind}", *(f"{name}{where} {value}" for where, value in values)]


def histogram(name: str, help: str, buckets: list[int], total: float) -> list[str]:
    """Lines of a histogram, from the counts between its bounds."""
    counts = [sum(buckets[: n + 1]) for n in range(len(buckets))]
    values = [(f'_bucket{{le="{bound}"}}', count) for bound, count in zip((*BUCKETS, "+Inf"), counts)]
    return family(name, "histogram", help, [*values, ("_sum", total), ("_count", counts[-1])])


def labels(**values: str) -> str:
    """Labels as they are written; any text is a value."""
    escaped = (
        (key, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for key, value in values.items()
    )
    return "{" + ",".join(f'{key}="{value}"' for key, value in escaped) + "}"
