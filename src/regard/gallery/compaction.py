"""Getting what was deleted out of the segments of a Milvus server: asking it to compact, waiting, checking.

A row that is deleted is in no answer any more, but stays in the server's segment files until a compaction writes those
anew. A server may be busy, refuse for now (it limits flushes and compactions) or call a job complete that left segments
as they were, so what counts is the end: its segments hold as many rows as the gallery has, and no deleted one
is returned. The files that the segments were in before go when the server's garbage collection comes to them, and what
was sent to it is in its message log for as long as that is kept; no client can ask about either.

Shapes: none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from grpc import RpcError
from pymilvus import MilvusException

__all__ = ["PATIENCE", "compacted", "reason_of"]

PATIENCE = 120.0
"""Seconds a server has."""

PAUSE, LONGEST = 0.25, 10.0
"""Seconds between two questions at first, and at most."""

PAGE = 1000


class Unconfirmed(Exception):
    """What the server has not done yet, in words."""


def compacted(
    client: Any,
    name: str,
    ids: Sequence[str] = (),
    *,
    patience: float = PATIENCE,
    waiting: Callable[[float, float], None] | None = None,
) -> str | None:
    """Have a server write the segments of a collection anew, without what was deleted.

    Args:
        client: a ``MilvusClient``, or what answers like one.
        name: of the collection.
        ids: of rows that were deleted.
        patience: seconds after which no more is waited.
        waiting: called with (seconds that were waited, ``patience``) now and then.

    Returns:
        None where it is done; else what the server did not confirm, in words.
    """
    began, pause = time.monotonic(), PAUSE

    def left() -> float:
        return began + patience - time.monotonic()

    def rest(why: str) -> None:
        nonlocal pause
        if left() <= 0:
            raise TimeoutError(why)
        time.sleep(min(pause, max(left(), 0)))
        pause = min(2 * pause, LONGEST)
        if waiting:
            waiting(min(time.monotonic() - began, patience), patience)

    why = "it did not answer in time"
    try:
        while True:
            try:
                once(client, name, ids, left, rest)
                return None
            except (MilvusException, RpcError) as error:
                why = reason_of(error)
            except (AttributeError, NotImplementedError) as error:
                return f"it cannot compact ({error})"
            except Unconfirmed as error:
                why = str(error)
            rest(why)
    except TimeoutError as error:
        return str(error)


def once(client: Any, name: str, ids: Sequence[str], left: Callable[[], float], rest: Callable[[str], None]) -> None:
    """Flush, compact, and check.

    Raises:
        Unconfirmed: something that was deleted is still there, or others write meanwhile.
        TimeoutError: by :func:`rest`.
        MilvusException, RpcError: the server refuses.
    """
    before = counted(client, name)
    client.flush(name, timeout=max(left(), 1), retry_on_rate_limit=False)
    shallow = any(str(segment.level) == "L0" for segment in client.list_persistent_segments(name))
    for options in [{"is_l0": True}, {}] if shallow else [{}]:  # deletions that were not put beside their segments yet
        job = client.compact(name, timeout=max(left(), 1), retry_on_rate_limit=False, **options)
        while (state := client.get_compaction_state(job)) != "Completed":
            rest(f"its compaction is still {state!r}")
    held = sum(segment.num_rows for segment in client.list_persistent_segments(name) if str(segment.level) != "L0")
    after = counted(client, name)
    if before != after:
        raise Unconfirmed("others write to it meanwhile")
    if held != after:
        raise Unconfirmed(f"its segments hold {held:,} rows, wanted the {after:,} that are left")
    for start in range(0, len(ids), PAGE):
        if found := client.get(name, ids=list(ids[start : start + PAGE]), output_fields=["id"]):
            raise Unconfirmed(f"it returns {len(found):,} of the rows, unless these were stored anew")


def counted(client: Any, name: str) -> int:
    """Rows of a collection that are not deleted."""
    return int(client.query(name, filter="", output_fields=["count(*)"])[0]["count(*)"])


def reason_of(error: Exception) -> str:
    """What a server said, in a line."""
    return " ".join(str(getattr(error, "message", error)).split())[:300]
