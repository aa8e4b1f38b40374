"""What people said about matches, kept in a folder: the only door to it.

A mark says that a query and a picture of a gallery show the same person, or do not. Marks are JSON lines that are only
appended; the last word on a pair counts, or, where two people must agree, the last word of each. Photographs of marked
queries are kept beside them, as small JPEGs, for as long as a mark of theirs is. Nothing read is trusted: a line that
no mark can be is counted and passed over, and no name of a line ever becomes a path it was not made for.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from regard.errors import ConfigError, DataError, StorageError
from regard.parsing import parse_json
from regard.storage import append_whole, open_to_append, plain_text, read_regular, refuse_link, write_private

__all__ = ["KeptMarks", "Mark", "Pair"]

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9:_-]{0,127}")
"""What queries and matches are called: digests and ids."""

PHOTO = re.compile(r"(sha256-[0-9a-f]{1,64}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})\.jpg")
"""Files of photographs; whatever else lies in the folder is somebody's own."""

LEFT = re.compile(r"\.(marks\.jsonl|.*\.jpg)\.\d+\.tmp")
JPEG = b"\xff\xd8"

LONGEST = 1000
"""Characters of the name of a gallery, a camera or a person."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and a match.

    Attributes:
        query: digest of the photograph (``sha256:...``), or id of a picture.
        match: id of a picture.
        gallery: name of the gallery.
        camera: of the match.
    """

    query: str
    match: str
    gallery: str
    camera: str | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """The word on a pair.

    Attributes:
        right: whether both are the same person, by the last word.
        state: confirmed; or, where two people must agree, pending as long as one has spoken, and disputed when they say
            different things. Only what is confirmed counts.
        by: who said so, in the order in which they did; empty where nobody has a name.
        time: of the last word, ISO 8601.
    """

    right: bool
    state: Literal["confirmed", "pending", "disputed"] = "confirmed"
    by: tuple[str, ...] = ()
    time: str = ""


@dataclass(frozen=True, slots=True)
class Word:
    """A line of the file."""

    pair: Pair
    right: bool | None
    by: str
    time: str


class KeptMarks:
    """Marks in a folder.

    Args:
        folder: made by the first mark.
        two_people: a mark counts when two people with different names have said the same.

    Attributes:
        two_people: the same.
    """

    def __init__(self, folder: Path, *, two_people: bool = False):
        self.folder = folder
        self.two_people = two_people
        self._path = folder / "marks.jsonl"
        self._busy = threading.RLock()
        self._read: tuple[Any, dict[Pair, Mark], list[int]] = (None, {}, [])

    def set(self, pair: Pair, *, right: bool | None, photo: bytes, by: str = "") -> Mark | None:
        """Say that a match is right or wrong; None takes back what was said, by the same person where two must agree.

        Args:
            pair: of what.
            right: the word on it.
            photo: JPEG of the query, kept from now on.
            by: who says so.

        Returns:
            What now stands; None for nothing.

        Raises:
            ConfigError: two people must agree, and nobody is named.
            StorageError: it could not be written; earlier marks are intact.
        """
        if self.two_people and not by:
            raise ConfigError("marks want two people with names here (--two-person); come in with a token of your own")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = {"time": now, "query": pair.query, "match": pair.match, "gallery": pair.gallery, "camera": pair.camera}
        picture = self._photo(pair.query)
        with self._busy, self._locked("be written to") as file:
            new = right is not None and not picture.exists()
            if new:
                write_private(picture, photo)
            data = json.dumps(line | {"right": right, "by": by}).encode() + b"\n"
            try:
                append_whole(file, data if ends_whole(file) else b"\n" + data)
            except OSError:
                if new:
                    picture.unlink(missing_ok=True)
                raise
            words = self.words()
            if right is None and all(other.query != pair.query for other in words):
                picture.unlink(missing_ok=True)
            return words.get(pair)

    def words(self) -> dict[Pair, Mark]:
        """What stands on every pair.

        Raises:
            StorageError: the marks cannot be read.
        """
        with self._busy:
            try:
                found = self._path.stat() if self._path.exists() else None
                state = found and (found.st_ino, found.st_size, found.st_mtime_ns)
                if state is None or state != self._read[0]:
                    words, damaged = read_words(read_regular(self._path) if found else b"")
                    self._read = state, standing(words, two_people=self.two_people), damaged
            except OSError as error:
                raise self._refused("be read from", error) from error
            return dict(self._read[1])

    def all(self) -> dict[Pair, bool]:
        """Whether each pair is right, of those that count.

        Raises:
            StorageError: the marks cannot be read.
        """
        return {pair: mark.right for pair, mark in self.words().items() if mark.state == "confirmed"}

    def damaged(self) -> list[int]:
        """Numbers, from 1, of the lines that are no marks: cut short, written over, or of somebody who means harm."""
        with self._busy:
            self.words()
            return list(self._read[2])

    def clear(self) -> None:
        """Forget all marks and the photographs kept with them."""
        with self._busy:
            self._sweep(set())
            self._path.unlink(missing_ok=True)

    def forget(self, ids: Collection[str]) -> int:
        """Forget what was said about pictures that are deleted, and photographs of queries that no mark is left of.

        Args:
            ids: of the pictures, as matches or as queries.

        Returns:
            How many lines went; no byte of them is left in the folder.

        Raises:
            StorageError: it could not be written; all marks are as they were.
        """
        if not self._path.exists() or not ids:
            return 0
        gone = set(ids)

        def stays(line: bytes, word: Word | None) -> bool:
            if word is None:
                return not any(id.encode() in line for id in gone)
            return word.pair.match not in gone and word.pair.query not in gone

        return self._keep(stays)

    def _keep(self, stays: Callable[[bytes, Word | None], bool]) -> int:
        """Write the lines that stay anew, where any goes; photographs without a mark go as well."""
        with self._busy, self._locked("be written to") as file:
            file.seek(0)
            lines = file.read().split(b"\n")
            lines = lines[:-1] if not lines[-1] else lines
            kept = [(line, word) for line in lines if stays(line, word := read_word(line))]
            if len(kept) < len(lines):
                write_private(self._path, b"".join(line + b"\n" for line, _ in kept))
            marked = {self._photo(word.pair.query) for _, word in kept if word}
            self._sweep(marked)
            return len(lines) - len(kept)

    def _sweep(self, marked: set[Path]) -> None:
        """Remove photographs but those, and what a kill left half written."""
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() and not self.folder.is_symlink() else []:
            if path not in marked and (PHOTO.fullmatch(path.name) or LEFT.fullmatch(path.name)):
                path.unlink()

    def photo(self, query: str) -> bytes:
        """JPEG of a marked query; empty where it is gone, or something else lies there."""
        path = self._photo(query)
        try:
            data = b"" if path.is_symlink() else read_regular(path)
            return data if data.startswith(JPEG) else b""
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise self._refused("be read from", error) from error

    def _photo(self, query: str) -> Path:
        if not NAME.fullmatch(query):
            raise DataError(f"got a query called {query[:80]!r}, wanted letters, digits, :, _ and -; search again")
        return self.folder / f"{query.replace(':', '-')}.jpg"

    def _locked(self, what: str) -> Any:
        return Locked(self._path, lambda error: self._refused(what, error))

    def _refused(self, what: str, error: OSError) -> StorageError:
        return StorageError(
            f"the marks could not {what} {self._path} ({error.strerror or error}); mend that, then mark or search again"
        )


class Locked:
    """The file of marks, which nobody else adds to meanwhile; a disk that refuses is said in one line."""

    def __init__(self, path: Path, refused: Callable[[OSError], StorageError]):
        self._path = path
        self._refused = refused

    def __enter__(self) -> Any:
        try:
            refuse_link(self._path.parent)
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._opened = open_to_append(self._path)
            return self._opened.__enter__()
        except OSError as error:
            raise self._refused(error) from error

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._opened.__exit__(None, None, None)
        if isinstance(error, OSError):
            raise self._refused(error) from error


def ends_whole(file: Any) -> bool:
    """Whether nothing stands behind the last line of a file."""
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - 1))
    return size == 0 or file.read(1) == b"\n"


def read_words(data: bytes) -> tuple[list[Word], list[int]]:
    """The words in a file, and the numbers of the lines that are none."""
    lines = data.split(b"\n")
    words = [read_word(line) for line in (lines if lines[-1] else lines[:-1])]
    return [word for word in words if word], [number for number, word in enumerate(words, 1) if word is None]


def read_word(line: bytes) -> Word | None:
    """The word of a line; None where it is none."""
    try:
        values = parse_json(line.decode())
        query, match, gallery, camera = (values[name] for name in ("query", "match", "gallery", "camera"))
        right, by, time = values["right"], values.get("by", ""), values.get("time", "")
        texts = [gallery, by, *([] if camera is None else [camera])]
        if not (NAME.fullmatch(query) and NAME.fullmatch(match) and (right is None or type(right) is bool)):
            return None
        if not all(isinstance(text, str) and len(text) <= LONGEST and plain_text(text) == text for text in texts):
            return None
        if time:
            datetime.fromisoformat(time)
    except (ValueError, KeyError, TypeError):
        return None
    return Word(Pair(query, match, gallery, camera), right, by, time)


def standing(words: Iterable[Word], *, two_people: bool) -> dict[Pair, Mark]:
    """What stands on every pair after the words on it."""
    said: dict[Pair, dict[str, Word]] = {}
    for word in words:
        voices = said.setdefault(word.pair, {})
        if not two_people:
            voices.clear()
        voices.pop(word.by, None)
        if word.right is not None:
            voices[word.by] = word
    return {pair: mark_of(list(voices.values()), two_people=two_people) for pair, voices in said.items() if voices}


def mark_of(voices: list[Word], *, two_people: bool) -> Mark:
    """The mark that some words on a pair make, one of each person."""
    last = voices[-1]
    agree = all(voice.right == last.right for voice in voices)
    named = tuple(voice.by for voice in voices if voice.by)
    state = "confirmed" if agree and (not two_people or len(named) > 1) else "pending" if agree else "disputed"
    return Mark(bool(last.right), state, named, last.time)
