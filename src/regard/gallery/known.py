"""What a filter names, compared with what there is: a typo finds nothing, and is not to pass for an answer."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable
from typing import Any

from regard.errors import ConfigError, nearest
from regard.gallery.record import Filter, format_time
from regard.wording import count, visible

__all__ = ["NotThereError", "check_names", "nothing_passes"]

SHOWN = 12
"""Names that an error lists."""


class NotThereError(ConfigError):
    """A gallery has no such camera, person, track, attribute or value of it."""

    def __init__(self, gallery: str, kind: str, name: str, known: Iterable[str]):
        known = sorted(set(known))
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        close += [other for other in known if other.lower() == name.lower() and other not in close]
        listed = [*close, *(other for other in known if other not in close)]
        more = f" and {len(listed) - SHOWN:,} more" if len(listed) > SHOWN else ""
        there = f"there are: {visible(', '.join(listed[:SHOWN]))}{more}" if listed else "it has none at all"
        guess = nearest(name, close) or (f", did you mean {close[0]!r}?" if close else "")
        super().__init__(f"{gallery} has no {kind} {name!r}{guess}{'' if guess else ';'} {there}")


def check_names(gallery: Any, filter: Filter) -> None:
    """Refuse a filter that names what the gallery does not have.

    Raises:
        NotThereError: a camera, person, track, attribute, or value of one; it says what there is.
    """
    asked = [("camera", name, Filter(cameras=(name,))) for name in (*(filter.cameras or ()), *filter.not_cameras)]
    asked += [("person", name, Filter(persons=(name,))) for name in filter.persons or ()]
    asked += [("track", name, Filter(tracks=(name,))) for name in filter.tracks or ()]
    for kind, name, only in asked:
        if not gallery.count(only):
            raise NotThereError(gallery.name, kind, name, gallery.values(kind))
    for name, values in filter.attributes.items():
        for value in values:
            if not gallery.count(Filter(attributes={name: (value,)})):
                raise unknown_value(gallery, name, value)


def unknown_value(gallery: Any, name: str, value: str) -> NotThereError:
    """What to say of an attribute, or of a value of one, that no picture has."""
    names: Counter[str] = Counter()
    values: Counter[str] = Counter()
    for record in gallery.records():
        names.update(record.attributes)
        values.update([record.attributes[name]] if name in record.attributes else [])
    if values:
        return NotThereError(gallery.name, f"picture whose {name} is", value, values)
    return NotThereError(gallery.name, "attribute", name, names)


def nothing_passes(gallery: Any, filter: Filter) -> str:
    """Why a filter lets nothing through though all that it names is there."""
    pictures = len(gallery)
    if not pictures:
        return f"{gallery.name} is empty; add pictures: regard embed IMAGES -o {gallery.name}"
    told = f"none of the {count(pictures, 'picture')} in {gallery.name} passes all the filters together"
    if filter.since is None and filter.until is None:
        return told
    times = [record.time for record in gallery.records() if record.time is not None]
    if not times:
        return f"{told}: none has a time"
    undated = f", {pictures - len(times):,} have none" if len(times) < pictures else ""
    return f"{told}: their times (UTC) go from {format_time(min(times))} to {format_time(max(times))}{undated}"
