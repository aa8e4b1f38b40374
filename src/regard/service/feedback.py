"""The evaluation set that comes of what people said about matches (:mod:`regard.gallery.marks`)."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from regard.errors import DataError
from regard.gallery.marks import KeptMarks, Mark, Pair
from regard.wording import plain_cell

__all__ = ["Marks", "Pair", "people_of"]


class Marks:
    """Marks on matches in several galleries, ready to become an evaluation set.

    Args:
        folder: where those lie that are on galleries which keep none; None where all do.
        two_people: a mark counts when two people with different names have said the same.
        own: name of a gallery -> the marks it keeps, which are about it whatever it was called when they were made.
        served: names of all galleries.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        two_people: bool = False,
        own: Mapping[str, KeptMarks] | None = None,
        served: Collection[str] = (),
    ):
        self._own = dict(own or {})
        for name, kept in self._own.items():
            kept.called, kept.others = name, frozenset(served) - self._own.keys()
        self._kept = [*([KeptMarks(folder)] if folder else []), *self._own.values()]
        self.two_people = two_people

    @property
    def two_people(self) -> bool:
        """Whether a mark counts when two people have said the same."""
        return self._kept[0].two_people

    @two_people.setter
    def two_people(self, wanted: bool) -> None:
        for kept in self._kept:
            kept.two_people = wanted

    def set(self, pair: Pair, **said: Any) -> Mark | None:
        """See :meth:`KeptMarks.set`; a pair that something stands on somewhere stays there."""
        own = self._own.get(pair.gallery, self._kept[0])
        return next((kept for kept in self._kept if pair in kept.words()), own).set(pair, **said)

    def words(self) -> dict[Pair, Mark]:
        """What stands on every pair.

        Raises:
            StorageError: the marks cannot be read.
            DataError: a database of theirs is damaged.
        """
        return {pair: mark for kept in self._kept for pair, mark in kept.words().items()}

    def all(self) -> dict[Pair, bool]:
        """Whether each pair is right, of those that count; raises as :meth:`words`."""
        return {pair: mark.right for pair, mark in self.words().items() if mark.state == "confirmed"}

    def damaged(self) -> int:
        """How many rows are no marks."""
        return sum(len(kept.damaged()) for kept in self._kept)

    def photo(self, query: str) -> bytes:
        """JPEG of a marked query; empty where there is none, or it is damaged."""
        return next((photo for kept in self._kept if (photo := kept.photo(query))), b"")

    def forget(self, ids: Collection[str]) -> int:
        """Forget what was said about pictures that are deleted; how many words went."""
        return sum(kept.forget(ids) for kept in self._kept)

    def clear(self) -> None:
        """Forget all marks and the photographs kept with them."""
        for kept in self._kept:
            kept.clear()

    def close(self) -> None:
        """Let go of the databases that no gallery has open."""
        for kept in self._kept:
            kept.close()

    def export(self, thumbnail: Callable[[str, str], bytes]) -> bytes:
        """An evaluation set: a ZIP with ``table.csv`` (path, pid, camid, split), the pictures, and the plain marks.

        ``regard data check`` and ``regard eval`` read the unpacked folder as a table for testing. Queries with a right
        match and what is the same person by right marks get one number; pictures that were only ever wrong are
        distractors (pid 0); what is pending or disputed stands in the plain marks only. The queries come from a camera
        of their own; a picture that is both query and match has, in both places, one that no other picture has, so that
        it is no match of itself. Pictures gone from the gallery are left out, and queries whose photograph is gone.

        Args:
            thumbnail: (gallery, id) -> JPEG, empty where there is none.

        Raises:
            DataError: there are no marks, none says right, or two of them cannot both be true.
        """
        there = {pair: mark for pair, mark in self.words().items() if thumbnail(pair.gallery, pair.match)}
        marks = {pair: mark.right for pair, mark in there.items() if mark.state == "confirmed"}
        if not marks:
            waiting = f"; {len(there):,} wait for a second person" if there else ""
            raise DataError(f"there are no marks to export{waiting}; mark matches right or wrong first")
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
            if pair.query in people and (photo := self.photo(pair.query)):
                path = f"query/{pair.query.replace(':', '-')}.jpg"
                rows[path] = (path, people[pair.query], own.get(pair.query, len(cameras) + 1), "query")
                pictures[path] = photo
        return zipped(list(rows.values()), pictures, there)


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


MARKS_TABLE = ("query", "match", "gallery", "camera", "mark", "state", "by", "time")


def zipped(
    rows: Sequence[tuple[str, int, int, str]], pictures: Mapping[str, bytes], marks: Mapping[Pair, Mark]
) -> bytes:
    """The files of an export."""
    table, plain = io.StringIO(), io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("path", "pid", "camid", "split"), *rows])
    rows_of_marks: list[Sequence[object]] = [MARKS_TABLE]
    for pair, mark in marks.items():
        word = "right" if mark.right else "wrong"
        rows_of_marks.append(
            (pair.query, pair.match, pair.gallery, pair.camera, word, mark.state, ", ".join(mark.by), mark.time)
        )
    csv.writer(plain, lineterminator="\n").writerows(map(plain_cell, row) for row in rows_of_marks)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("table.csv", table.getvalue())
        archive.writestr("marks.csv", plain.getvalue())
        for path, data in sorted(pictures.items()):
            archive.writestr(path, data, zipfile.ZIP_STORED)
    return buffer.getvalue()
