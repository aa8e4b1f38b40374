"""What people said about matches, and the evaluation set that comes of it.

A mark says that a query and a picture of a gallery show the same person, or do not. Marks are JSON lines that are only
appended; the last word on a pair counts. The photographs of marked queries are kept beside them, as small JPEGs.
"""

from __future__ import annotations

import csv
import io
import json
import os
import threading
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from regard.errors import DataError, StorageError
from regard.parsing import parse_json
from regard.storage import open_regular, read_regular, write_atomic

__all__ = ["Marks", "Pair", "people_of"]


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


class Marks:
    """Marks in a folder.

    Args:
        folder: made by the first mark.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._busy = threading.Lock()

    def set(self, pair: Pair, *, right: bool | None, photo: bytes) -> None:
        """Say that a match is right or wrong; None takes it back.

        Args:
            pair: of what.
            right: the word on it.
            photo: JPEG of the query, kept from now on.

        Raises:
            StorageError: it could not be written; earlier marks are intact.
        """
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "query": pair.query, "match": pair.match}
        line |= {"gallery": pair.gallery, "camera": pair.camera, "right": right}
        with self._busy:
            picture = self._photo(pair.query)
            if not picture.exists():
                write_atomic(picture, photo)
            try:
                with open_regular(self.folder / "marks.jsonl", "ab", private=True) as file:
                    file.write(json.dumps(line).encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise StorageError(
                    f"the mark could not be written to {self.folder / 'marks.jsonl'} ({error.strerror}); mend that, "
                    "then mark"
                ) from error

    def all(self) -> dict[Pair, bool]:
        """The last word on every pair; those taken back are left out.

        Raises:
            StorageError: they cannot be read.
        """
        path = self.folder / "marks.jsonl"
        words: dict[Pair, bool | None] = {}
        try:
            lines = read_regular(path).decode(errors="replace").splitlines() if path.exists() else []
        except OSError as error:
            raise StorageError(f"the marks in {path} cannot be read ({error.strerror}); mend that first") from error
        for text in lines:
            try:
                line: dict[str, Any] = parse_json(text)
                pair = Pair(line["query"], line["match"], line["gallery"], line["camera"])
                words[pair] = line["right"]
            except (ValueError, KeyError, TypeError):
                continue  # the end of a line that a full disk cut short
        return {pair: right for pair, right in words.items() if right is not None}

    def clear(self) -> None:
        """Forget all marks and the photographs kept with them."""
        with self._busy:
            for path in sorted(self.folder.glob("*")) if self.folder.is_dir() else []:
                if path.suffix in (".jpg", ".jsonl"):
                    path.unlink()

    def export(self, thumbnail: Callable[[str, str], bytes]) -> bytes:
        """An evaluation set: a ZIP with ``table.csv`` (path, pid, camid, split), the pictures, and the plain marks.

        ``regard data check`` and ``regard eval`` read the unpacked folder as a table for testing. Queries with a right
        match and what is the same person by right marks get one number; pictures that were only ever wrong are
        distractors (pid 0). The queries come from a camera of their own; a picture that is both query and match has,
        in both places, one that no other picture has, so that it is no match of itself. Pictures gone from the gallery
        are left out.

        Args:
            thumbnail: (gallery, id) -> JPEG, empty where there is none.

        Raises:
            DataError: there are no marks, none says right, or two of them cannot both be true.
        """
        marks = {pair: right for pair, right in self.all().items() if thumbnail(pair.gallery, pair.match)}
        if not marks:
            raise DataError("there are no marks to export; mark matches right or wrong first")
        people = people_of(marks)
        if not people:
            raise DataError(
                f"none of the {len(marks):,} marks says right, so there is nobody to look for; mark one right"
            )
        cameras = {name: number for number, name in enumerate(sorted({pair.camera or "" for pair in marks}), 1)}
        both = sorted({pair.query for pair in marks} & {pair.match for pair in marks})
        own = {name: number for number, name in enumerate(both, len(cameras) + 2)}
        rows: dict[str, tuple[str, int, int, str]] = {}
        pictures: dict[str, bytes] = {}
        for pair in marks:
            path = f"gallery/{pair.match}.jpg"
            camera = own.get(pair.match, cameras[pair.camera or ""])
            rows[path] = (path, people.get(pair.match, 0), camera, "gallery")
            pictures[path] = thumbnail(pair.gallery, pair.match)
            if pair.query in people:
                path = f"query/{pair.query.replace(':', '-')}.jpg"
                rows[path] = (path, people[pair.query], own.get(pair.query, len(cameras) + 1), "query")
                pictures[path] = read_regular(self._photo(pair.query))
        return zipped(list(rows.values()), pictures, marks)

    def _photo(self, query: str) -> Path:
        return self.folder / f"{query.replace(':', '-')}.jpg"


def people_of(marks: dict[Pair, bool]) -> dict[str, int]:
    """Number, from 1, of the person in every query and match that has a right mark.

    Raises:
        DataError: a pair marked wrong is the same person by other marks.
    """
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    for pair, right in marks.items():
        if right:
            leader[find(pair.query)] = find(pair.match)
    for pair, right in marks.items():
        if not right and pair.query in leader and pair.match in leader and find(pair.query) == find(pair.match):
            raise DataError(
                f"the marks do not fit together: {pair.query} and {pair.match} are marked wrong, but other marks make "
                "them one person; take one back"
            )
    numbers: dict[str, int] = {}
    return {name: numbers.setdefault(find(name), len(numbers) + 1) for name in sorted(leader)}


def zipped(rows: Sequence[tuple[str, int, int, str]], pictures: dict[str, bytes], marks: dict[Pair, bool]) -> bytes:
    """The files of an export."""
    table, plain = io.StringIO(), io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("path", "pid", "camid", "split"), *rows])
    lines = [(p.query, p.match, p.gallery, p.camera or "", "right" if right else "wrong") for p, right in marks.items()]
    csv.writer(plain, lineterminator="\n").writerows([("query", "match", "gallery", "camera", "mark"), *lines])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("table.csv", table.getvalue())
        archive.writestr("marks.csv", plain.getvalue())
        for path, data in sorted(pictures.items()):
            archive.writestr(path, data, zipfile.ZIP_STORED)
    return buffer.getvalue()
