"""People in whole scenes: each is a record of its own, called as its scene with its box behind.

``frame.jpg#x0,y0,x1,y1`` is a crop of ``frame.jpg``. It says its ``box``, the detector's ``score`` where there is one,
and what it was ``cut_by``, by which a scene that was cut in the same way before is known.

Shapes: H x W pixels of a scene, h x w of a crop.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from regard.data.box_table import BoxTable, Row, read_boxes
from regard.data.boxes import clip_boxes
from regard.data.listing import note
from regard.detection import Detector, open_detector
from regard.errors import ConfigError, DataError
from regard.fingerprint import bytes_digest
from regard.gallery.inputs import Source
from regard.gallery.record import Record

__all__ = ["CLIPPED", "EMPTY", "Cutter", "called_so", "crop_digest", "open_cutter", "scene_of"]

CROP = re.compile(r"(.+)#(\d+,\d+,\d+,\d+)", re.DOTALL)

CLIPPED = "clipped box"
EMPTY = "empty box"
"""What is noted of boxes: those over the edge of their picture, and those of which no pixel is left."""

PERSONAL = ("person", "track")
"""What the name of a scene says of one person, and nobody knows of whom."""


class Crop(NamedTuple):
    """A person cut out of a scene.

    Attributes:
        source: what is known of it.
        picture: (h, w, 3) uint8, its own.
        score: how sure it is that it is one; None where nobody says.
    """

    source: Source
    picture: np.ndarray
    score: float | None


@dataclass
class Cutter:
    """Cuts people out of scenes, by a detector or by boxes from files.

    Attributes:
        detector: what finds them; None where boxes are given.
        tables: these boxes.
        min_score: lowest score of a box of the tables; None keeps all.
    """

    detector: Detector | None = None
    tables: Sequence[BoxTable] = ()
    min_score: float | None = None

    def mark(self, source: Source) -> str:
        """Return what decides the crops of a scene, and what is known of them, but for the scene itself."""
        rows = [] if self.detector else self._rows(source.path) or []
        known = [dict(source.facts), dict(source.told), str(source.zone), self.min_score, rows]
        digest = bytes_digest(json.dumps(known, default=str, sort_keys=True).encode())[:12]
        if self.detector is None:
            return f"boxes {digest}"
        name = re.sub(r"[^=:]*[/\\]", "", self.detector.name)
        return f"{name} {self.detector.digest[:12]} from {self.detector.min_score:g}, {digest}"

    def knows(self, source: Source) -> bool:
        """Return whether anything says where people are in a scene."""
        return self.detector is not None or self._rows(source.path) is not None

    def listed(self, sources: Sequence[Source]) -> list[Source]:
        """Return the scenes that boxes are given of, and note the others, and the pictures that are not there.

        Raises:
            DataError: no box is of any of them.
        """
        if self.detector is not None:
            return list(sources)
        told = [source for source in sources if self.knows(source)]
        if not told:
            table = self.tables[0]
            raise DataError(f"'{table.source}' has no box of any of the {len(sources):,} pictures: "
                            f"{_missed(table, sources[0].path)}")  # fmt: skip
        for source in sources:
            if not self.knows(source):
                note("unlisted picture", source.path)
        several = self._note_unmatched(told)
        told = [source for source in told if source.path not in several]
        if not told:
            raise DataError(
                f"each name in '{self.tables[0].source}' is the end of several pictures, such as {min(several)!r}; "
                "name them by more of their paths, or give the folder that is meant"
            )
        return told

    def _note_unmatched(self, sources: Iterable[Source]) -> set[str]:
        """Note names in the tables that no picture has, or several; the paths of these."""
        used: dict[int, list[str]] = {}
        for source in sources:
            for table in self.tables:
                if (rows := table.of(source.path)) is not None:
                    used.setdefault(id(rows), []).append(source.path)
        several: set[str] = set()
        for table in self.tables:
            for name, rows in (*table.named.items(), *table.numbered.items()):
                of = used.get(id(rows), [])
                if len(of) != 1:
                    what = "ambiguous" if of else "unmatched"
                    note(f"{what} --boxes picture", name if isinstance(name, str) else f"frame {name}")
                    several |= {*of}
        return several

    def _rows(self, path: str) -> list[Row] | None:
        found = [rows for table in self.tables if (rows := table.of(path)) is not None]
        return [row for rows in found for row in rows] if found else None

    def _boxes(self, source: Source, picture: np.ndarray) -> list[Row]:
        """The boxes of a scene, unclipped."""
        if self.detector is None:
            least = self.min_score
            rows = self._rows(source.path) or []
            return [row for row in rows if least is None or row.score is None or row.score >= least]
        try:
            found = self.detector(picture).tolist()
        except DataError as error:
            raise DataError(f"{source.path}: {error}") from None
        return [Row((x0, y0, x1, y1), {}, score[0] if score else None) for x0, y0, x1, y1, *score in found]

    def cut(self, source: Source, picture: np.ndarray) -> list[Crop]:
        """Cut the people out of a scene; what is left out or clipped is noted.

        Args:
            source: the scene.
            picture: (H, W, 3) uint8.

        Raises:
            ConfigError: the detector fails.
            DataError: it finds too many.
        """
        height, width, _ = picture.shape
        rows, found, mark = self._boxes(source, picture), {}, self.mark(source)
        for row, box in zip(rows, clip_boxes([row.box for row in rows], height, width).tolist()):
            name, (x0, y0, x1, y1) = crop_path(source.path, row.box), box
            if x1 == 0:
                note(EMPTY, name)
                continue
            if min(row.box[:2]) < -0.5 or row.box[2] >= width + 0.5 or row.box[3] >= height + 0.5:
                note(CLIPPED, name)
            path = crop_path(source.path, box)
            if path in found:
                note("repeated box", path)
                continue
            known = {key: value for key, value in source.facts.items() if key not in PERSONAL}
            own = {"box": f"{x0},{y0},{x1},{y1}", "cut_by": mark}
            own |= {} if row.score is None else {"score": f"{row.score:.3f}"}
            told = {key: value for key, value in {**source.told, **row.facts}.items() if key not in own}
            crop = replace(source, path=path, facts=known | own, told=told, box=(x0, y0, x1, y1))
            found[path] = Crop(crop, picture[y0:y1, x0:x1].copy(), row.score)
        if not found:
            note("unpeopled picture", source.path)
        return list(found.values())


def open_cutter(
    detector: str | None, boxes: Sequence[Path] | None, min_score: float | None, device: str | None = None
) -> Cutter | None:
    """Open what cuts people out, as a command asks for it; None where it does not.

    Args:
        detector: as of :func:`regard.detection.open_detector`.
        boxes: files of boxes.
        min_score: lowest score that is kept; None: the detector's own, of files all.
        device: where a detector computes.

    Raises:
        ConfigError: both are given, or a score for neither; or the detector is none.
        DataError: a file of boxes is none.
    """
    if detector and boxes:
        raise ConfigError("--detector and --boxes are both given; people are where one of them says")
    if min_score is not None and not (detector or boxes):
        raise ConfigError("--min-score is given without --detector or --boxes, which it is of")
    if detector:
        return Cutter(open_detector(detector, min_score=min_score, device=device))
    return Cutter(tables=[read_boxes(path) for path in boxes], min_score=min_score) if boxes else None


def _missed(table: BoxTable, picture: str) -> str:
    """How what a file speaks of differs from what there is, such as a picture."""
    if table.named:
        return f"{next(iter(table.named))!r} is neither the path nor the end of one, such as {picture!r}; correct them"
    where = f" in {table.folder}" if table.folder else ""
    return (
        f"frame {next(iter(table.numbered))}{where} is the number of none, such as {picture!r}; give the pictures that "
        "are called by these numbers"
    )


def crop_path(scene: str, box: Iterable[float]) -> str:
    """What a crop is called."""
    return f"{scene}#{','.join(f'{side:.10g}' for side in box)}"


def scene_of(path: str) -> str:
    """The path of the scene that a crop is of, by its own; of anything else that is no crop, itself."""
    found = CROP.fullmatch(path)
    return found[1] if found else path


def crop_digest(scene: str, path: str) -> str:
    """Digest of a crop, from that of its scene's file and its path: other crops of the same file have others."""
    found = CROP.fullmatch(path)
    return bytes_digest(f"{scene}#{found[2] if found else ''}".encode())


def called_so(records: Iterable[Record], names: Collection[str]) -> list[Record]:
    """The records of pictures by their names, and of all that was cut out of them.

    Args:
        records: of a gallery.
        names: paths, the whole of one or its end, from a folder's or a shard's border on.
    """
    wanted = tuple(name.lstrip("/") for name in names)
    ends = tuple(f"{mark}{name}" for name in wanted for mark in "/!")
    return [
        record
        for record in records
        if any(path in names or path in wanted or path.endswith(ends) for path in (record.path, scene_of(record.path)))
    ]
