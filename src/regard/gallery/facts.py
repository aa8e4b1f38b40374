"""Whose word counts on a picture: its sources', who say the same again and again, or that of somebody who corrects it.

Sources may say something else when a picture is embedded again, and people correct records by hand. The latest news
counts (:func:`heard`): what was set by hand stays until a source says something else than it said last, and what a
source says nothing of any more stays as it is.

Shapes: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from regard.gallery.record import FACTS, Record, said_digest

__all__ = ["heard", "with_facts"]

SOURCES = ("own", "told")
"""Who says the same again whenever a picture is embedded again."""


def facts_of(record: Record) -> dict[str, Any]:
    """All that a record says, by name; attributes by their name behind a dot."""
    known = {name: getattr(record, name) for name in FACTS}
    return known | {f".{name}": value for name, value in record.attributes.items()}


def heard(record: Record, says: Record, who: str) -> Record:
    """A record after somebody has said something of its picture.

    Args:
        record: as it is.
        says: what is said; what it leaves open is not.
        who: ``own`` (the picture's name, EXIF, shard or table), ``told`` (what came with the command) or ``hand``. The
            first two count where they say something else than they said last; a hand always does.
    """
    return with_facts(record, {name: value for name, value in facts_of(says).items() if value is not None}, who)


def with_facts(record: Record, says: Mapping[str, Any], who: str) -> Record:
    """See :func:`heard`; a hand can also say that something is None."""
    facts, said = facts_of(record), {kind: dict(record.said.get(kind, {})) for kind in SOURCES}

    def digest(name: str, value: Any) -> str | None:
        return said_digest(record.id, name, value)

    for name, value in says.items():
        before = facts.get(name)
        if value == before:
            said.get(who, {}).pop(name, None)
            continue
        if who in said and digest(name, value) == said[who].get(name, digest(name, before)):
            continue
        for kind, words in said.items():
            if kind == who:
                words.pop(name, None)
            elif before is not None or who == "hand":  # what a hand said before is no source's word
                words.setdefault(name, digest(name, before))
        facts[name] = value
    attributes = {name[1:]: value for name, value in facts.items() if name.startswith(".") and value is not None}
    kept = {k: {n: v for n, v in words.items() if v != digest(n, facts.get(n))} for k, words in said.items()}
    known = {name: facts[name] for name in FACTS}
    return replace(record, **known, attributes=attributes, said={kind: words for kind, words in kept.items() if words})
