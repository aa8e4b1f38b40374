"""What becomes of pictures that are embedded: what was there before, what a process makes, what is said at the end.

Shapes: none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

from regard.data.listing import Skipped
from regard.data.scenes import LEFT_OUT, scenes_line
from regard.errors import DataError
from regard.gallery.crops import CLIPPED, scene_of
from regard.gallery.facts import heard
from regard.gallery.inputs import Source
from regard.gallery.origins import ZONELESS
from regard.gallery.record import Item, Record, record_id
from regard.wording import count, visible

__all__ = ["BARE", "BLURRED", "Done", "Known", "Report", "Words"]

KEPT = "kept"
BARE = "this gallery was made with --no-thumbnails, so it keeps none of these either"
BLURRED = "heads are blurred in this gallery, so they are in these thumbnails too"

NAMED = 5
"""Boxes that are named where they were clipped."""


@dataclass
class Report:
    """What became of the pictures.

    Attributes:
        added: new ones, embedded and stored now.
        replaced: embedded anew, since their files have changed, or since an earlier version kept no digest of them.
        known: stored before, and their files unchanged.
        updated: of the known, those of which something else is known now.
        unreadable: path -> why it was left out.
        remarks: what has to be said of pictures, as a noun in the singular -> how many there are.
        scenes: path -> height and width of whole scenes that were left out.
        notes: what became of boxes, and of pictures because of them.
        removed: crops of before that others took the place of.
        blurred: what has to be said of heads; empty where nothing has.
        bare: what has to be said of thumbnails; empty where nothing has.
    """

    added: int = 0
    replaced: int = 0
    known: int = 0
    updated: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    remarks: Counter[str] = field(default_factory=Counter)
    scenes: dict[str, tuple[int, int]] = field(default_factory=dict)
    notes: Skipped = field(default_factory=Skipped)
    removed: int = 0
    blurred: str = ""
    bare: str = ""

    def __str__(self) -> str:
        parts = [f"{self.added + self.replaced:,} embedded"]
        if self.known or self.replaced:
            parts = [f"{parts[0]} ({self.added:,} new, {self.replaced:,} replaced)", f"{self.known:,} unchanged"]
        if self.updated:
            parts.append(f"{self.updated:,} with new facts")
        if self.removed:
            parts.append(f"{self.removed:,} of before removed")
        if self.scenes:
            parts.append(count(len(self.scenes), "whole scene") + " left out")
        if self.unreadable:
            parts.append(f"{len(self.unreadable):,} unreadable")
        return ", ".join(parts)

    def sayings(self, zone: str) -> list[str]:
        """What has to be said besides, in lines; times without a zone were taken in ``zone``."""
        told = {
            ZONELESS: f"whose EXIF names no zone: times were taken as {zone} (--time-zone)",
            KEPT: "replaced with facts kept that were set before, by hand or by --meta: look whether they still hold",
        }
        lines = [f"{count(self.remarks[key], 'picture')} {text}" for key, text in told.items() if self.remarks[key]]
        others = [count(number, key) for key, number in self.remarks.items() if key not in told]
        lines += [f"without a time: {', '.join(others)}"] if others else []
        if clipped := list(self.notes.reasons.get(CLIPPED, ())):
            many = (
                "reach over the edge of their pictures and were"
                if len(clipped) > 1
                else "reaches over the edge and was"
            )
            lines.append(f"{count(len(clipped), 'box')} {many} clipped: {visible(', '.join(clipped[:NAMED]))}")
        lines += [self.scenes_line] if self.scenes else []
        return [*lines, *filter(None, (self.blurred, self.bare))]

    @property
    def scenes_line(self) -> str:
        """What has to be said of the whole scenes."""
        path, size = next(iter(self.scenes.items()))
        return scenes_line(len(self.scenes), path, size, LEFT_OUT)

    def take(self, done: Done, stored: Mapping[str, Any]) -> None:
        """Add what a process made of a chunk.

        Args:
            done: that.
            stored: by the ids of what was there when the job began.
        """
        again = sum(item.record.id in stored for item in done.items)
        self.replaced += again
        self.added += len(done.items) - again
        self.unreadable |= done.unreadable
        self.remarks.update(done.remarks)
        self.scenes |= {path: (height, width) for path, (height, width) in done.scenes.items()}
        for reason, found in done.notes.items():
            for what in found:
                self.notes.add(reason, what)


class Done(NamedTuple):
    """What a process made of a chunk.

    Attributes:
        items: of what could be read.
        unreadable: path -> why it was left out.
        remarks: what has to be said, how often.
        cut: scenes that people were cut out of, or would have been.
        scenes: path -> height and width of those that were left out.
        notes: what became of boxes -> which.
    """

    items: list[Item]
    unreadable: dict[str, str]
    remarks: Mapping[str, int]
    cut: list[str]
    scenes: dict[str, tuple[int, int]]
    notes: dict[str, list[str]]


class Known(NamedTuple):
    """What is stored when a job begins.

    Attributes:
        digests: id -> digest of the picture, None where that is not known.
        crops: path of a scene -> id, path, digest and ``cut_by`` of each of its crops.
    """

    digests: dict[str, str | None]
    crops: dict[str, list[tuple[str, str, str | None, str]]]

    @classmethod
    def of(cls, records: Iterable[Record]) -> Self:
        """What records say; an attribute of crops that somebody has changed makes them unknown."""
        known = cls({}, {})
        for record in records:
            known.digests[record.id] = record.digest
            if (scene := scene_of(record.path)) != record.path:
                crop = (record.id, record.path, record.digest, record.attributes.get("cut_by", ""))
                known.crops.setdefault(scene, []).append(crop)
        return known

    def stale(self, done: Done) -> list[str]:
        """Ids of what was stored of scenes that were cut anew, or taken whole, and is there no more."""
        now = {item.record.id for item in done.items}
        whole = [item.record.path for item in done.items if item.record.path in self.crops]
        before = [id for scene in (*done.cut, *whole) for id, *_ in self.crops.get(scene, ())]
        before += [id for scene in done.cut if (id := record_id(scene)) in self.digests]
        return [id for id in before if id not in now]


class Words:
    """What sources say of pictures that are stored: a record in, the record as it has to be out.

    Args:
        sources: that are stored.
        fresh: path -> when it was taken and what to say of that, of those whose files are unchanged.
        report: where what is wrong with one is written down.
    """

    def __init__(self, sources: Sequence[Source], fresh: Mapping[str, tuple[float | None, str]], report: Report):
        self._sources = {source.id: source for source in sources}
        self._fresh, self._report = fresh, report
        report.remarks.update(remark for _, remark in fresh.values() if remark)

    def __call__(self, record: Record) -> Record:
        """The record with what its source says now; itself where that is nothing new."""
        source = self._sources.get(record.id)
        if source is None or source.path not in self._fresh:
            return record
        try:
            return source.record(record, self._fresh[source.path][0])
        except DataError as error:
            self._report.unreadable[source.path] = str(error)
            return record

    def anew(self, before: Record, now: Record) -> Record:
        """The record of a picture that was replaced: what was known of it, and what its source says now.

        That of one that was not there when the job began, and that another process added meanwhile, is as it is now.
        """
        source = self._sources.get(now.id)
        if source is not None:
            record = source.record(before, None if source.is_dated else now.time)
        elif scene_of(now.path) != now.path:
            record = heard(before, now, "told")
        else:
            return now
        record = replace(record, digest=now.digest)
        if replace(record, said={}) != replace(now, said={}):
            self._report.remarks[KEPT] += 1
        return record
