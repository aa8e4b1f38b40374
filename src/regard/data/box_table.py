"""Boxes of people that somebody has already, by picture: a table, or a file of the MOT challenges.

A table (CSV, JSON lines, Parquet) has the columns picture, x0, y0, x1, y1 in pixels, and may have pid, camid, time,
track, score and others; a picture is named by its path or the end of it.

A MOT file (``.txt``) has rows of numbers: frame, id, left, top, width, height, confidence, and more. Frames and places
are counted from 1 there, so the box of left 1 begins at the picture's edge. Its pictures are those whose names are
numbers; with ``seqinfo.ini`` or ``img1`` beside its folder, only those in there. In a truth (``gt.txt``, or nine
numbers a row), rows of confidence 0, and those of another class than 1, are none to look at.

Shapes: none.
"""

from __future__ import annotations

import configparser
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from regard.data.boxes import in_fractions
from regard.data.listing import note
from regard.data.rows import read_rows
from regard.errors import DataError
from regard.storage import open_regular, plain_text

__all__ = ["BoxTable", "Row", "read_boxes"]

CORNERS = ("x0", "y0", "x1", "y1")

KNOWN_AS = {"pid": "person", "camid": "camera"}
"""Column -> what a gallery calls it."""

MOST = 10_000_000
"""Rows of a file."""

PEDESTRIAN = 1
"""The class of people who walk, in a MOT file."""

WANTED = "expected frame,id,left,top,width,height,confidence of numbers, as MOT files have them"


class Row(NamedTuple):
    """A box and what is known of whom it shows.

    Attributes:
        box: x0, y0, x1, y1 in pixels.
        facts: what is known.
        score: how sure it is; None where nobody says.
    """

    box: tuple[float, float, float, float]
    facts: Mapping[str, Any] = {}
    score: float | None = None


@dataclass
class BoxTable:
    """Boxes by picture.

    Attributes:
        source: the file.
        named: name of a picture -> its boxes.
        numbered: number of a frame -> its boxes.
        folder: where the frames lie, links followed, if that is known.
    """

    source: Path
    named: dict[str, list[Row]] = field(default_factory=dict)
    numbered: dict[int, list[Row]] = field(default_factory=dict)
    folder: str = ""

    def of(self, path: str) -> list[Row] | None:
        """Return the boxes of a picture; None where the file does not speak of it.

        Args:
            path: of the picture, the whole of it; ``shard.tar!member`` too.
        """
        parts = path.replace("!", "/").split("/")
        for name in (path, *("/".join(parts[start:]) for start in range(len(parts)))):
            if name in self.named:
                return self.named[name]
        stem = PurePosixPath(parts[-1]).stem
        if not self.numbered or not (stem.isascii() and stem.isdigit()):
            return None
        if self.folder and _real(path.rpartition("/")[0]) != self.folder:
            return None
        return self.numbered.get(int(stem))

    def __len__(self) -> int:
        return sum(map(len, (*self.named.values(), *self.numbered.values())))


def read_boxes(path: Path) -> BoxTable:
    """Read boxes.

    Args:
        path: a table, or a MOT file by its ending ``.txt``.

    Raises:
        DataError: it cannot be read, lacks a column, has no rows, or a row that is none, or is in fractions.
    """
    table = _read_mot(path) if path.suffix.lower() == ".txt" else _read_table(path)
    if not len(table):
        raise DataError(f"'{path}' has no boxes, expected one in each row; fill it, or leave it out")
    return table


@lru_cache(maxsize=1 << 16)
def _real(folder: str) -> str:
    """A folder as it is called without links and ``..``."""
    return plain_text(os.path.realpath(folder))


def _read_table(path: Path) -> BoxTable:
    table = BoxTable(path)
    for number, (place, row) in enumerate(read_rows(path, ("picture", *CORNERS))):
        if number >= MOST:
            raise DataError(f"'{path}' has more than {MOST:,} rows, expected fewer; split it")
        name = str(row["picture"]).strip()
        if not name:
            raise DataError(f"{place} of '{path}': picture is empty, expected a name; fill it in")
        x0, y0, x1, y1 = (_number(row[key], key, place, path) for key in CORNERS)
        score = None if row.get("score") in (None, "") else _number(row["score"], "score", place, path)
        if score is not None and not math.isfinite(score):
            raise DataError(f"{place} of '{path}': score is {score:g}, expected a number, or nothing; correct it")
        facts = {
            KNOWN_AS.get(key, key): value
            for key, value in row.items()
            if key not in ("picture", "score", *CORNERS)
            and (isinstance(value, str | int | float) or key == "time")  # Parquet's times are no numbers
            and value not in (None, "")
        }
        table.named.setdefault(name, []).append(Row((x0, y0, x1, y1), facts, score))
    _refuse_fractions([row.box for rows in table.named.values() for row in rows], path)
    return table


def _refuse_fractions(boxes: Sequence[Sequence[float]], path: Path) -> None:
    """Refuse corners that are parts of a picture.

    Raises:
        DataError: they are.
    """
    if in_fractions(np.array(boxes).reshape(-1, 4)):
        raise DataError(
            f"'{path}' has boxes in fractions ({', '.join(f'{x:g}' for x in boxes[0])}), expected pixels; multiply x "
            "by the pictures' width and y by their height"
        )


def _read_mot(path: Path) -> BoxTable:
    table = BoxTable(path)
    table.folder, camera = _sequence(path)
    is_truth, place = path.stem.lower().startswith("gt"), ""
    for place, numbers, name in _number_rows(path):
        frame, id, left, top, width, height, confidence = numbers[:7]
        if not (frame >= 1 and frame.is_integer()) or not (math.isfinite(id) and math.isfinite(confidence)):
            raise DataError(
                f"{place} of '{path}' has frame {frame:g}, id {id:g} and confidence {confidence:g}, {WANTED}, frames "
                "from 1; correct it"
            )
        truth = is_truth or len(numbers) == 9
        if truth and (confidence == 0 or (len(numbers) == 9 and numbers[7] != PEDESTRIAN)):
            note("disregarded box", f"{path}, {place}")
            continue
        facts: dict[str, Any] = {"frame": str(int(frame))} | ({"camera": camera} if camera else {})
        facts |= {"track": name} if id >= 0 else {}
        box = (left - 1, top - 1, left - 1 + width, top - 1 + height)
        table.numbered.setdefault(int(frame), []).append(Row(box, facts, None if truth else confidence))
    if place and not len(table):
        raise DataError(
            f"'{path}' has no row to look at: all are of confidence 0 or, by their eighth number, of a class other "
            "than pedestrians (1), as in a truth, which is what gt.txt and rows of nine numbers are; leave the last "
            "two numbers of detections out"
        )
    counted = [[round(side + 1, 6) for side in row.box] for rows in table.numbered.values() for row in rows]
    _refuse_fractions(counted, path)
    return table


def _number_rows(path: Path) -> Iterator[tuple[str, list[float], str]]:
    """The rows of a MOT file, of seven numbers or more, with the id as it is written, whose digits may be many."""
    try:
        with open_regular(path, "r", encoding="utf-8-sig") as file:
            for number, line in enumerate(iter(lambda: file.readline(10_000), ""), start=1):
                if number > MOST:
                    raise DataError(f"'{path}' has more than {MOST:,} rows, expected fewer; split it")
                if not line.strip():
                    continue
                cells = line.split(",") if "," in line else line.split()
                try:
                    numbers = [float(cell) for cell in cells]
                except ValueError:
                    numbers = []
                if not 7 <= len(numbers) <= 20:
                    raise DataError(f"line {number} of '{path}' is {line.strip()[:60]!r}, {WANTED}; correct it")
                id = cells[1].strip()
                yield f"line {number}", numbers, str(int(id)) if id.isdigit() else f"{numbers[1]:.15g}"
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read '{path}' ({reason}), {WANTED}; check it") from error


def _sequence(path: Path) -> tuple[str, str]:
    """Where the frames of a MOT file lie, and what its sequence is called; empty where nothing says so.

    Raises:
        DataError: its ``seqinfo.ini`` cannot be read.
    """
    for home in (path.absolute().parent.parent, path.absolute().parent):
        told = home / "seqinfo.ini"
        if told.is_file():
            parser = configparser.ConfigParser(interpolation=None)
            try:
                with open_regular(told, "r", encoding="utf-8-sig") as file:
                    parser.read_string(file.read(100_000))
                known = parser["Sequence"]
            except (OSError, UnicodeError, configparser.Error, KeyError) as error:
                reason = " ".join(str(error).split())[:120]
                raise DataError(f"cannot read '{told}' ({reason}), expected a section [Sequence]; correct it") from None
            return _real((home / known.get("imDir", "img1")).as_posix()), known.get("name", home.resolve().name)
        if (home / "img1").is_dir():
            return _real((home / "img1").as_posix()), home.resolve().name
    return "", ""


def _number(value: Any, key: str, place: str, path: Path) -> float:
    """A number of a table; NaN is one, and makes an empty box."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{place} of '{path}': {key} is {str(value)[:40]!r}, expected a number of pixels") from None
