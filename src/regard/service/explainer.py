"""The process that looks into pictures for the service: started by the first who asks why, ended when nobody does.

The network, and torch with it, is in that process alone (:mod:`regard.service.explanation`), and so is the decoder of
the picture that is looked into: whatever becomes of it, the service goes on, says so in one line, and starts another.
It ends with the service, however that ends.

A message is its length in eight bytes, JSON, and the bytes of what is no text; nothing is pickled.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

from regard.device import preferred_device
from regard.errors import CheckpointError, ConfigError, DataError, RegardError, StorageError
from regard.gallery.embedder import Embedder
from regard.parsing import parse_json
from regard.plugins import child_environment
from regard.service.journal import ElsewhereError
from regard.service.limits import BusyError, Limits

__all__ = ["Explainer", "read_message", "write_message"]

COMMAND = (sys.executable, "-m", "regard.service.explanation")

LONGEST = 64 * 2**20
"""Bytes of a message, and of what comes with it."""

KINDS = {each.__name__: each for each in (CheckpointError, ConfigError, DataError, StorageError)}
"""Errors that the process may answer with."""


class Explainer:
    """Answers why, one question at a time.

    Args:
        limits: seconds and memory of an answer, seconds without a question after which the process ends.
        command: starts it.
    """

    def __init__(self, limits: Limits | None = None, command: Sequence[str] = COMMAND):
        self.limits = limits or Limits()
        self.command = command
        self._asking = threading.Lock()
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._resting: threading.Timer | None = None

    @property
    def pid(self) -> int | None:
        """Number of the process; None where there is none."""
        return self._process.pid if self._process else None

    def explain(self, embedder: Embedder, query: np.ndarray, match: bytes) -> dict[str, Any]:
        """What speaks for the similarity of two pictures (:func:`regard.service.explanation.explanation`).

        Args:
            embedder: the model that compares them.
            query: (H, W, 3) uint8.
            match: the file of the other picture.

        Raises:
            BusyError: the process ended, or took too long; another one is started for the next question.
            RegardError: the model or the picture cannot be used.
        """
        head = {
            "made_by": embedder.describe(),
            "shape": query.shape,
            "device": preferred_device(),
            "memory": self.limits.why_memory,
        }
        with self._asking:
            self._stop_resting()
            try:
                return self._answer(head, np.ascontiguousarray(query).tobytes(), match)
            finally:
                self._rest()

    def close(self) -> None:
        """End the process, whatever it is at; no other one is started."""
        self._closed = True
        if process := self._process:
            process.kill()
        with self._asking:
            self._stop_resting()
            self._forget()

    def _answer(self, head: dict[str, Any], *contents: bytes) -> dict[str, Any]:
        process, started = self._running(), time.monotonic()
        late = threading.Timer(self.limits.why, process.kill)
        late.daemon = True
        late.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            write_message(process.stdin, head, *contents)
            answer, _ = read_message(process.stdout)
            if not answer.keys() & {"found", "error", "failed"}:
                raise ValueError("not an answer")
        except (OSError, ValueError, EOFError, LookupError, TypeError):
            slow, ended = time.monotonic() - started >= self.limits.why, self._end(process)
            told = f"took more than {self.limits.why:g} s and was stopped" if slow else f"ended {ended}"
            raise BusyError(f"looking into the pictures {told}; ask again") from None
        finally:
            late.cancel()
        if "failed" in answer:
            raise ElsewhereError(str(answer["failed"]))
        if "error" in answer:
            raise KINDS.get(str(answer.get("kind")), RegardError)(str(answer["error"]))
        return answer["found"]

    def _running(self) -> subprocess.Popen[bytes]:
        """The process; a new one where it is not there any more.

        Raises:
            BusyError: the service is ending.
        """
        if self._closed:
            raise BusyError("the service is ending; ask again when it is back")
        if self._process is None or self._process.poll() is not None:
            self._forget()
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=child_environment(),
                start_new_session=True,  # what is typed to end the service ends it in order
            )
        return self._process

    def _end(self, process: subprocess.Popen[bytes]) -> str:
        """End a process that did not answer as it should; how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)  # it may be ending by itself
        process.kill()
        code = process.wait()
        return f"by signal {-code}" if code < 0 else f"with {code}"

    def _rest(self) -> None:
        """Let the process end after a while."""
        self._resting = threading.Timer(self.limits.why_idle, self._retire)
        self._resting.daemon = True
        self._resting.start()

    def _stop_resting(self) -> None:
        if self._resting:
            self._resting.cancel()

    def _retire(self) -> None:
        if self._asking.acquire(blocking=False):
            self._forget()
            self._asking.release()

    def _forget(self) -> None:
        """End the process and close its pipes."""
        if process := self._process:
            self._process = None
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # pyright: ignore[reportOptionalMemberAccess]


def write_message(pipe: IO[bytes], head: dict[str, Any], *contents: bytes) -> None:
    """Write a message, with what is no text behind it."""
    text = json.dumps({**head, "lengths": [len(content) for content in contents]}).encode()
    pipe.write(len(text).to_bytes(8, "big") + text + b"".join(contents))
    pipe.flush()


def read_message(pipe: IO[bytes]) -> tuple[dict[str, Any], list[bytes]]:
    """Read a message, with what is behind it.

    Raises:
        ValueError: it is none, or cut off; EOFError where there is nothing.
    """
    start = pipe.read(8)
    if not start:
        raise EOFError
    text = whole(pipe, int.from_bytes(start, "big"))
    head = parse_json(text)
    if not isinstance(head, dict):
        raise ValueError("not a message")
    return head, [whole(pipe, int(length)) for length in head.pop("lengths")]


def whole(pipe: IO[bytes], length: int) -> bytes:
    """So many bytes."""
    if not 0 <= length <= LONGEST:
        raise ValueError(f"{length} bytes are no message")
    content = pipe.read(length)
    if len(content) < length:
        raise ValueError("cut off")
    return content
