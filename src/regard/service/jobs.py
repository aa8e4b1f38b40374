"""Work that goes on after its request was answered: one job at a time, in order, beside searches."""

from __future__ import annotations

import secrets
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from regard.errors import RegardError
from regard.service.limits import BusyError

__all__ = ["Job", "Jobs", "Progress"]

KEPT = 200
"""Jobs that are remembered once they have ended."""

WAITING = 50
"""Jobs that may wait."""

Progress = Callable[[int, int], None]
Work = Callable[[Progress], Mapping[str, Any]]


class CancelledError(Exception):
    """Somebody wants no more of it."""


@dataclass
class Job:
    """A job.

    Attributes:
        kind: add, delete, update, purge or index.
        gallery: its name.
        by: who asked for it.
        id: by which it is asked for.
        state: waiting, running, done, failed or cancelled.
        done, total: how far it is; 0 of 0 where that is not known.
        result: what came of it.
        error: why it failed, in one line.
        asked, began, ended: when, ISO 8601 in UTC.
    """

    kind: str
    gallery: str
    by: str
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    state: str = "waiting"
    done: int = 0
    total: int = 0
    result: Mapping[str, Any] | None = None
    error: str | None = None
    asked: str = field(default_factory=lambda: now())
    began: str | None = None
    ended: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class Jobs:
    """The jobs of a service."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Job] = OrderedDict()
        self._tasks: dict[str, tuple[Work, Callable[[], None]]] = {}
        self._busy = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="regard-job")
        self._stopped = False

    def begin(self, job: Job, work: Work, keep: Callable[[], Callable[[], None]] = lambda: lambda: None) -> Job:
        """Do work as a job when those before it have ended.

        Args:
            job: what is known of it.
            work: does it; let go of when it has ended, or was cancelled.
            keep: called now; what it returns is called when nothing of the work is kept any more.

        Raises:
            BusyError: too many wait, or the service ends.
        """
        with self._busy:
            waiting = sum(other.state == "waiting" for other in self._known.values())
            if waiting >= WAITING or self._stopped:
                raise BusyError(f"{waiting} jobs wait already; ask again when some have ended", 503, 30)
            self._known[job.id], self._tasks[job.id] = job, (work, keep())
            ended = [id for id, other in self._known.items() if other.ended]
            for id in ended[: max(0, len(ended) - KEPT)]:
                del self._known[id]
        self._thread.submit(self._run, job)
        return job

    def all(self) -> list[Job]:
        """Every job that is remembered, the latest first."""
        with self._busy:
            return list(reversed(self._known.values()))

    def get(self, id: str) -> Job | None:
        """A job; None where there is none, or it is not remembered any more."""
        with self._busy:
            return self._known.get(id)

    def cancel(self, job: Job) -> None:
        """Let a job that waits never begin, and one that runs end where it next says how far it is."""
        with self._busy:
            if job.state == "waiting":
                _, release = self._tasks.pop(job.id)
                release()
                job.state, job.ended = "cancelled", now()
            elif job.state == "running":
                job.state = "cancelling"

    def close(self) -> None:
        """Begin nothing any more; what runs ends where it next says how far it is."""
        self._stopped = True
        for job in self.all():
            self.cancel(job)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _run(self, job: Job) -> None:
        with self._busy:
            if job.ended is not None:
                return
            work, release = self._tasks.pop(job.id)
            job.state, job.began = "running", now()

        def told(done: int, total: int) -> None:
            job.done, job.total = done, total
            if job.state == "cancelling":
                raise CancelledError

        try:
            job.result, state, fault = work(told), "done", None
        except CancelledError:
            state, fault = "cancelled", None
        except RegardError as error:
            state, fault = "failed", " ".join(str(error).split())
        except Exception as error:
            traceback.print_exc()
            state, fault = "failed", f"the service failed at it ({type(error).__name__}); its journal has more"
        del work
        release()
        with self._busy:
            job.error, job.ended, job.state = fault, now(), state


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
