"""Marks as versions before 0.3 kept them: JSON lines and JPEGs in a folder, which are read once and removed."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from regard.errors import StorageError
from regard.gallery.database import Database
from regard.gallery.mark_table import Word, add_aside, add_photo, add_word, read_rows, read_word
from regard.parsing import parse_json
from regard.storage import open_regular, open_to_append, refuse_link
from regard.wording import count

__all__ = ["TAKEN", "are_there", "take_lines"]

LINES = "marks.jsonl"
PHOTO = re.compile(r"(sha256-[0-9a-f]{1,64}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})\.jpg")
"""Files of photographs; whatever else lies in the folder is somebody's own."""

LEFT = re.compile(r"\.(marks\.jsonl|.*\.jpg)\.\d+\.tmp")
LARGEST = 16 * 2**20
"""Bytes of a photograph; ours were far smaller."""

TAKEN = "lines taken"
"""What was read of a file that is not removed yet: bytes, and their digest."""


def are_there(folder: Path) -> bool:
    """Whether a folder holds marks of an earlier version."""
    return os.path.lexists(folder / LINES)


def take_lines(
    folder: Path, database: Database, changing: Callable[[], AbstractContextManager[tuple[sqlite3.Connection, object]]]
) -> None:
    """Move the marks of a folder into a database, all or none, and remove their files once they are there.

    Lines that are no marks are set aside in the database, counted, and said; so is what has the name of a photograph
    and is a link or no file of that size, which stays where it is. Where another process has just done it, it is done.

    Args:
        folder: theirs.
        database: where they go.
        changing: changes it.

    Raises:
        StorageError: the folder or the disk refuses; everything is as it was.
    """
    path = folder / LINES
    try:
        refuse_link(folder)
        with open_to_append(path, create=False) as file:
            data = file.read()
            with changing() as (db, _):
                size, digest = database.read(db, TAKEN) or (0, hashlib.sha256().hexdigest())
                known = size if hashlib.sha256(data[:size]).hexdigest() == digest else 0
                bad = take_words(db, data[known:])
                photos, refused = take_photos(db, folder)
                database.write(db, TAKEN, [len(data), hashlib.sha256(data).hexdigest()])
            for photo in photos:
                photo.unlink(missing_ok=True)
            path.unlink()  # what tells that there are marks goes last
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(
            f"the marks could not be read from {path} ({error.strerror or error}); mend that, then mark or search again"
        ) from error
    with suppress(OSError):  # somebody's own files stay, and their folder
        folder.rmdir()
    if bad:
        which = f"{count(len(bad), 'line')} ({', '.join(map(str, bad[:5]))}{', ...' if len(bad) > 5 else ''})"
        print(f"regard: {which} of {path} can be no mark; kept aside in {database.path}", file=sys.stderr)
    for photo in refused:
        print(f"regard: {photo} is no photograph of a mark; it is left there, look what it is", file=sys.stderr)


def take_words(db: sqlite3.Connection, data: bytes) -> list[int]:
    """Append the words in lines; the numbers, from 1, of the lines that are none."""
    lines = data.split(b"\n")
    bad = []
    for number, line in enumerate(lines if lines[-1] else lines[:-1], 1):
        word = word_of(line)
        if word is None:
            bad.append(number)
            add_aside(db, line)
        else:
            add_word(db, word)
    return bad


def word_of(line: bytes) -> Word | None:
    """The word of a line; None where it is none."""
    try:
        return read_word(parse_json(line.decode()))
    except ValueError:
        return None


def take_photos(db: sqlite3.Connection, folder: Path) -> tuple[list[Path], list[Path]]:
    """Append the photographs of marked queries; files that can go now, and those that are none of ours."""
    done, refused = list[Path](), list[Path]()
    queries = {f"{row.word.pair.query.replace(':', '-')}.jpg": row.word.pair.query for row in read_rows(db) if row.word}
    for path in sorted(folder.iterdir()):
        if LEFT.fullmatch(path.name) or (PHOTO.fullmatch(path.name) and path.name not in queries):
            done.append(path)
        elif PHOTO.fullmatch(path.name):
            try:
                with open_regular(path, follow=False) as file:
                    photo = file.read(LARGEST + 1)
            except OSError:
                photo = None
            if photo is None or len(photo) > LARGEST:
                refused.append(path)
            else:
                add_photo(db, queries[path.name], photo)
                done.append(path)
    return done, refused
