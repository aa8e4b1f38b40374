"""Marks as rows of a database: what one says, what stands after all of them, and the photographs kept with them.

Rows are appended, one for the last word of each person on a pair, and blanked in place where they are to go, as those
of pictures are (:mod:`regard.gallery.store`).
Each carries its checksum. Nothing read is trusted: a row that no mark can be is counted and passed over.
"""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple
from zlib import crc32

from regard.errors import DataError
from regard.gallery.database import seal, unseal
from regard.gallery.store import blank, readable
from regard.storage import plain_text

__all__ = [
    "UNWIPED", "Mark", "Pair", "Row", "Word", "add_aside", "add_photo", "add_word", "blank_photos", "blank_words",
    "called", "check_name", "check_word", "drop_all", "forget", "photo_of", "pictures_in", "read_rows", "read_word",
    "say", "standing", "wastes",
]  # fmt: skip

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9:_-]{0,127}")
"""What queries and matches are called: digests and ids."""

LONGEST = 1000
"""Characters of the name of a gallery, a camera or a person."""

JPEG = b"\xff\xd8"
ASIDE = b"none"
"""Before what was found where a mark should be, instead of a checksum."""

UNWIPED = "unwiped"
"""Row of ``about`` that is there while the database's log may hold what was blanked."""

WASTE = 500
"""Blank rows that are kept however few others there are."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and a match.

    Attributes:
        query: digest of the photograph (``sha256:...``), or id of a picture.
        match: id of a picture.
        gallery: name of the gallery.
        camera: of the match when it was marked; another one makes no other pair.
    """

    query: str
    match: str
    gallery: str
    camera: str | None = field(default=None, compare=False)


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
    """What somebody said once; ``right`` is None where it takes back what was said."""

    pair: Pair
    right: bool | None
    by: str
    time: str


class Row(NamedTuple):
    """A row that is not blank: its bytes, empty where they cannot be read, and its word, None where it is none."""

    number: int
    content: bytes
    word: Word | None


def check_name(query: str) -> None:
    """Raise DataError where a query has a name that none has."""
    if not NAME.fullmatch(query):
        raise DataError(f"got a query called {query[:80]!r}, wanted letters, digits, :, _ and -; search again")


def read_rows(db: sqlite3.Connection) -> list[Row]:
    """Every row of words that is not blank, in order."""
    (last,) = db.execute("SELECT coalesce(max(number), 0) FROM marks").fetchone()
    found, lost = readable(db, 1, last, "SELECT number, CAST(coalesce(word, x'') AS BLOB) FROM marks")
    rows = [Row(number, content, unsealed_word(content)) for number, content in found if content.strip(b"\0")]
    return sorted(rows + [Row(number, b"", None) for number in lost])


def unsealed_word(content: bytes) -> Word | None:
    """The word of a row; None where it is damaged, or no word."""
    try:
        return read_word(unseal(content))
    except ValueError:
        return None


def read_word(values: Any) -> Word | None:
    """The word that JSON holds; None where it is none."""
    try:
        query, match, gallery, camera = (values[name] for name in ("query", "match", "gallery", "camera"))
        right, by, time = values["right"], values.get("by", ""), values.get("time", "")
        texts = [gallery, by, *([] if camera is None else [camera])]
        if not (NAME.fullmatch(query) and NAME.fullmatch(match) and (right is None or type(right) is bool)):
            return None
        if not all(isinstance(text, str) and len(text) <= LONGEST and plain_text(text) == text for text in texts):
            return None
        if time:
            datetime.fromisoformat(time)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return Word(Pair(query, match, gallery, camera), right, by, time)


def called(word: Word, name: str) -> Word:
    """A word, on a gallery that has another name."""
    return replace(word, pair=replace(word.pair, gallery=name))


def pictures_in(db: sqlite3.Connection, ids: Collection[str]) -> set[str]:
    """Those ids that pictures in the store of a gallery have."""
    keys = {id.replace("-", ""): id for id in ids}
    found = (key for (key,) in db.execute("SELECT lower(hex(id)) FROM pictures")) if keys else ()
    return {keys[key] for key in found if key in keys}


def check_word(word: Word) -> None:
    """Raise DataError where a word could not be read again."""
    check_name(word.pair.query)
    if read_word(values_of(word)) is None:
        raise DataError(
            f"got a mark on {word.pair.match[:80]!r} whose match, gallery, camera or person is no name that can be "
            f"kept, wanted at most {LONGEST:,} characters of text (an id for the match); give it a shorter or plain one"
        )


def values_of(word: Word) -> dict[str, Any]:
    """A word, ready for JSON."""
    pair = word.pair
    values = {"time": word.time, "query": pair.query, "match": pair.match, "gallery": pair.gallery}
    return values | {"camera": pair.camera, "right": word.right, "by": word.by}


def sealed(word: Word) -> bytes:
    """A word as its row holds it, as long whatever it says."""
    return seal(json.dumps(values_of(word)).encode() + b" " * (word.right is not False))


def add_word(db: sqlite3.Connection, word: Word) -> None:
    """Append a word."""
    append(db, sealed(word))


def say(db: sqlite3.Connection, word: Word, before: Sequence[Row]) -> list[Row]:
    """Keep a word instead of those that the same person has said on the pair, however often.

    Args:
        db: in a change.
        word: the word.
        before: rows on the pair, in order.

    Returns:
        Those of them that are no more.
    """
    content, earlier = sealed(word), [row for row in before if row.word and row.word.by == word.by]
    blanked = earlier
    if earlier and earlier[-1] is before[-1] and len(earlier[-1].content) == len(content):
        db.execute("UPDATE marks SET word = ? WHERE number = ?", (content, earlier[-1].number))
        blanked = earlier[:-1]
        touch(db)
    else:
        append(db, content)
    blank_words(db, [row.number for row in blanked])
    return earlier


def add_aside(db: sqlite3.Connection, content: bytes) -> None:
    """Keep what was found where a word should be: it is counted, and never believed."""
    append(db, ASIDE + content)


def append(db: sqlite3.Connection, content: bytes) -> None:
    """Append a row of words."""
    db.execute("INSERT INTO marks VALUES (?, ?)", (free(db, "marks"), content))
    touch(db)


def free(db: sqlite3.Connection, table: str) -> int:
    """The number of a new row: behind the last one, or, where that has the last number there is, behind another."""
    (last,) = db.execute(
        f"SELECT max(number) FROM {table} AS one WHERE number BETWEEN 1 AND {2**63 - 2} "
        f"AND NOT EXISTS (SELECT 1 FROM {table} WHERE number = one.number + 1)"
    ).fetchone()
    return (last or 0) + 1


def drop_all(db: sqlite3.Connection) -> None:
    """Remove all words and photographs, blanked before, and their rows."""
    blank_words(db, [row.number for row in read_rows(db)])
    blank_photos(db, ())
    for table in ("marks", "photos"):
        db.execute(f"DELETE FROM {table}")


def touch(db: sqlite3.Connection) -> None:
    """Let every process see that the marks are others now."""
    db.execute("INSERT OR REPLACE INTO about VALUES ('marks', ?)", (secrets.token_bytes(8),))


def forget(db: sqlite3.Connection, gone: Collection[str]) -> int:
    """Blank what was said about pictures, and photographs of queries of which no word is left; how many words went.

    Args:
        db: in a change.
        gone: ids of the pictures, as matches or as queries; in damaged rows, wherever they stand.
    """
    gone, rows = {*gone}, read_rows(db)
    named = [id.encode() for id in gone]

    def goes(row: Row) -> bool:
        if row.word is None:
            return any(id in row.content for id in named)
        return row.word.pair.match in gone or row.word.pair.query in gone

    going = {row.number for row in rows if goes(row)}
    if going:
        blank_words(db, going)
        blank_photos(db, {row.word.pair.query for row in rows if row.word and row.number not in going})
    return len(going)


def blank_words(db: sqlite3.Connection, numbers: Collection[int]) -> None:
    """Blank words."""
    if numbers:
        blank_noted(db, "marks", ("word",), numbers)
        touch(db)


def blank_photos(db: sqlite3.Connection, kept: Collection[str]) -> None:
    """Blank photographs but those of some queries."""
    names = {name.encode() for name in kept}
    found = db.execute("SELECT number, query FROM photos WHERE query != zeroblob(length(query))").fetchall()
    if numbers := [number for number, query in found if query not in names]:
        blank_noted(db, "photos", ("query", "photo"), numbers)


def blank_noted(db: sqlite3.Connection, table: str, columns: Sequence[str], numbers: Collection[int]) -> None:
    """Blank rows, and note that the database's log has to be wiped."""
    blank(db, table, columns, numbers)
    db.execute("INSERT OR IGNORE INTO about VALUES (?, x'')", (UNWIPED,))


def add_photo(db: sqlite3.Connection, query: str, photo: bytes) -> None:
    """Keep the photograph of a query that has none."""
    name = query.encode()
    if db.execute("SELECT 1 FROM photos WHERE query = ?", (name,)).fetchone() is None:
        total = crc32(photo, crc32(name)).to_bytes(4, "little")
        db.execute("INSERT INTO photos VALUES (?, ?, ?)", (free(db, "photos"), name, total + photo))


def photo_of(db: sqlite3.Connection, query: str) -> bytes:
    """JPEG of a query; empty where there is none, or it is damaged or no JPEG."""
    name = query.encode()
    row = db.execute("SELECT CAST(photo AS BLOB) FROM photos WHERE query = ?", (name,)).fetchone()
    if row is None or int.from_bytes(row[0][:4], "little") != crc32(row[0][4:], crc32(name)):
        return b""
    return row[0][4:] if row[0][4:].startswith(JPEG) else b""


def wastes(db: sqlite3.Connection) -> bool:
    """Whether most words or photographs there is room for are blank."""
    for table, column in (("marks", "word"), ("photos", "query")):
        (kept,) = db.execute(f"SELECT count(*) FROM {table} WHERE {column} != zeroblob(length({column}))").fetchone()
        (rows,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
        if rows - kept > max(WASTE, kept):
            return True
    return False


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
