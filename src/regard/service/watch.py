"""A look, now and then, at the files that the searches of a service read."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence

from regard.errors import ConfigError, RegardError
from regard.gallery.gallery import Gallery

__all__ = ["Watch"]

YEAR = 366 * 86_400
"""Seconds."""


class Watch:
    """Checks the files of galleries in a thread of its own, and has them made anew where a bit has changed.

    Args:
        galleries: which.
        every: seconds between two looks; 0 for none.
        tell: is given a line.

    Raises:
        ConfigError: that is no time, or more than a year.
    """

    def __init__(self, galleries: Sequence[Gallery], every: float, tell: Callable[[str], None] | None = None):
        if not 0 <= every <= YEAR:
            raise ConfigError(
                f"got {every / 60:g} minutes between two checks (--check-every), wanted 0 to {YEAR // 60:,}"
            )
        self._galleries, self._every = galleries, every
        self._tell = tell or (lambda line: print(f"regard serve: {line}", file=sys.stderr, flush=True))
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        if every > 0:
            self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _look(self) -> None:
        while not self._stopped.wait(self._every):
            for gallery in self._galleries:
                try:
                    if gallery.refresh():
                        self._tell(f"files that searches of {gallery.name} read were damaged, and are made anew")
                except RegardError as error:
                    self._tell(str(error))
