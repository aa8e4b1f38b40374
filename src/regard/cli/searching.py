"""What a search does for one person and for all in a scene: the model, the filter, and the table of matches."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from regard.cli.arguments import read_where, tell
from regard.wording import table, visible

if TYPE_CHECKING:
    from regard.gallery.embedder import Embedder
    from regard.gallery.record import Answer, Filter, Record

__all__ = ["embedder_of", "make_filter", "match_lines"]


def embedder_of(arguments: argparse.Namespace, gallery: Any) -> Embedder:
    """The model of a gallery, as a search runs it.

    Raises:
        ConfigError: the one that is named is another.
    """
    from regard.gallery.embedder import Embedder

    embedder = Embedder.like(gallery.meta["model"], arguments.model, say=tell)
    embedder.check_fits(gallery)
    if embedder.note:
        tell(f"the network is loaded, with torch: {embedder.note}")
    return embedder


def make_filter(arguments: argparse.Namespace, origins: list[Record]) -> Filter:
    """The filter the arguments ask for; the query's own pictures are never matches."""
    from regard.errors import ConfigError
    from regard.gallery.record import Filter

    own = [record.camera for record in origins if record.camera] if arguments.other_cameras else []
    if arguments.other_cameras and not own:
        raise ConfigError("--other-cameras wants an --id whose camera is known; name it yourself with --not-camera")
    return Filter.asked(
        cameras=arguments.camera,
        not_cameras=(*arguments.not_camera, *own),
        since=arguments.since,
        until=arguments.until,
        attributes=read_where(arguments.where),
        not_ids=[record.id for record in origins],
    )


def match_lines(answer: Answer) -> str:
    """The matches, one line each."""
    from regard.gallery.record import format_time

    calibrated = any(match.probability is not None for match in answer.matches)
    people = any(match.record.person for match in answer.matches)
    same = any(match.same_picture for match in answer.matches)
    head = [
        "rank",
        "cosine",
        *["probability"] * calibrated,
        "camera",
        "time (UTC)",
        "track",
        *["person"] * people,
        *["it is"] * same,
        "picture",
    ]
    lines = [head]
    for match in answer.matches:
        record = match.record
        chance = [f"{100 * (match.probability or 0):.1f} %"] if calibrated else []
        others = f" (+{len(match.track)})" if match.track else ""
        known = [record.camera or "", format_time(record.time), f"{record.track or ''}{others}"]
        it_is = ["the same picture" if match.same_picture else ""] if same else []
        person = [record.person or ""] if people else []
        cells = [str(match.rank), f"{match.score:.4f}", *chance, *known, *person, *it_is, record.path]
        lines.append([visible(cell) for cell in cells])
    return "\n".join(table(lines, left=range(len(lines[0]))))
