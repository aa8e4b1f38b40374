"""``regard gallery audit``: whether the log of a gallery's uses is whole, who used it, and what proves it elsewhere."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard.cli.arguments import output_file
from regard.wording import count, visible

if TYPE_CHECKING:
    from regard.gallery.audit import AuditLog
    from regard.gallery.audit_check import Verdict
    from regard.gallery.use import Actor

COLUMNS = (
    "number", "time", "kind", "session", "began", "ended", "who", "role", "address", "gallery", "gallery_id", "model",
    "query", "filter", "k", "count", "best", "match", "right", "state",
)  # fmt: skip
"""Of an export as CSV; what else a line says stands behind them as JSON."""


def add_audit_arguments(verb: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``regard gallery audit``, whose gallery may be the file of a log as well."""
    verb.add_argument("--key", type=Path, metavar="FILE", help="first key of the log, as --take-key wrote it")
    verb.add_argument("--head", type=Path, metavar="FILE", help="heads that were kept elsewhere; all must be found")
    verb.add_argument("--seal", type=Path, metavar="FILE", help="seal of the log, copied from where it is written")
    verb.add_argument(
        "--with",
        type=Path,
        action="append",
        default=[],
        dest="before",
        metavar="FILE",
        help="lines of before; repeatable",
    )
    verb.add_argument("--archive", type=output_file, metavar="FILE", help="move the lines there; the log goes on")
    verb.add_argument("--take-key", type=output_file, metavar="FILE", help="take the first key off this machine")
    verb.add_argument("--print-head", action="store_true", help="print where the log ends, to be kept elsewhere")
    verb.add_argument("--export", type=output_file, metavar="FILE", help="write the lines as .csv or .jsonl")
    verb.add_argument("--since", metavar="TIME", help="of an export: from this time on")
    verb.add_argument("--until", metavar="TIME", help="of an export: before this time")
    verb.add_argument("--id", metavar="ID", help="of an export: lines that search with this picture, or showed it")
    verb.add_argument("--person", metavar="NAME", help="of an export: lines that name this person")


def command_user() -> Actor:
    """Who uses the command line: the user of the system, whatever the environment says."""
    from regard.gallery.use import Actor

    if os.name == "nt":
        return Actor(os.environ.get("USERNAME", ""), "command line", "local")
    import pwd

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"user {os.getuid()}"
    return Actor(name, "command line", "local")


def check_log(arguments: argparse.Namespace, open_gallery: Callable[[str], Any]) -> None:
    """Say whether the log is whole; export it, or take its key, where that is asked for.

    Raises:
        ConfigError: an option asks for what there is not.
        DataError: a line was changed or taken out, or the end is missing.
    """
    from regard.errors import ConfigError, DataError

    if (arguments.since or arguments.until or arguments.id or arguments.person) and not arguments.export:
        raise ConfigError(
            "--since, --until, --id and --person choose the lines of --export FILE; give that, or leave them out"
        )
    log = log_of(arguments.gallery, open_gallery)
    if arguments.take_key:
        log.take_key(arguments.take_key)
        print(f"the first key is in {arguments.take_key}: keep it elsewhere, and check with --key")
        return
    if arguments.archive:
        moved = log.archive(arguments.archive)
        print(f"{count(moved, 'line')} moved to {arguments.archive}; check both: --with {arguments.archive}")
        return
    if arguments.print_head:
        print(json.dumps(log.head()))
        return
    verdict = log.check(*given(arguments), arguments.before)
    if verdict.fault is None:
        end_unseen(log)
    if arguments.export:
        export_log(log, arguments)
    for former in verdict.former:
        print(
            f"regard: the log of another gallery ({visible(str(former.get('database')))}) lay here before and went "
            f"with it: {count(int(former.get('number') or 0), 'line')}, the last of {visible(str(former.get('time')))}",
            file=sys.stderr,
        )
    if verdict.fault:
        raise DataError(f"{log.path} is not whole: {verdict.fault} (line {verdict.line} of {log.path})")
    print(f"{verdict.searches:,} searches logged in {log.path}, every line follows from the one before")
    print(proof(verdict))


def end_unseen(log: AuditLog) -> None:
    """Log the end of uses whose process was killed, and say how many; a log that cannot be written stays as it is."""
    from regard.errors import StorageError

    try:
        if number := log.end_unseen():
            told = f"{count(number, 'use')} ended by a stop that was not seen, which {log.path} says now"
            print(f"regard: {told}", file=sys.stderr, flush=True)
    except StorageError as error:
        print(f"regard: {error}", file=sys.stderr, flush=True)


def log_of(where: str, open_gallery: Callable[[str], Any]) -> AuditLog:
    """The log of a gallery, or the log that a file is.

    Raises:
        DataError: there is neither.
    """
    from regard.gallery.audit import AuditLog
    from regard.gallery.gallery import is_url

    path = Path(where)
    if is_url(where):
        return AuditLog(Path("audit.jsonl"))
    if path.is_file():
        return AuditLog(path)
    if not (path / "audit.jsonl").exists():
        open_gallery(where).close()  # says what is wrong where there is no gallery
    return AuditLog(path / "audit.jsonl")


def given(arguments: argparse.Namespace) -> tuple[Any, Any, Any]:
    """First key, heads and seal that the arguments name.

    Raises:
        DataError: a file is not what it should be.
    """
    from regard.errors import DataError
    from regard.gallery.audit import read_heads
    from regard.gallery.seal import read_key, read_state
    from regard.storage import read_regular

    readers: dict[str, Callable[[bytes], Any]] = {
        "key": read_key,
        "head": lambda data: read_heads(data.split(b"\n")),
        "seal": read_state,
    }
    found = []
    for name, read in readers.items():
        path = getattr(arguments, name)
        try:
            found.append(None if path is None else read(read_regular(path)))
        except OSError as error:
            raise DataError(
                f"--{name} {path} cannot be read ({error.strerror}); give the file that was kept"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"--{name} {path} is no {name} of a log; give the file that was kept") from error
    return found[0], found[1], found[2]


def proof(verdict: Verdict) -> str:
    """What the check proves, in one line."""
    parts = [count(verdict.lines, "line")]
    if verdict.checked:
        parts.append(f"the seals of {verdict.checked:,} fit")
    if verdict.unchecked:
        parts.append(f"{verdict.unchecked:,} sealed by keys that are not here, not checked (--key)")
    if verdict.unsealed:
        parts.append(f"{verdict.unsealed:,} from before the log was sealed")
    end = (
        "it ends where its seal says"
        if verdict.to_the_end
        else "where it should end is not known here (--head, --seal)"
    )
    return "; ".join([*parts, end])


def export_log(log: AuditLog, arguments: argparse.Namespace) -> None:
    """Write the lines of a time to a file, whole or not; damaged ones are told of.

    Raises:
        ConfigError: the file's name says of no format.
        StorageError: it cannot be written.
    """
    import csv
    import io

    from regard.errors import ConfigError, StorageError
    from regard.storage import write_private
    from regard.wording import plain_cell

    path = Path(arguments.export)
    if path.suffix not in (".csv", ".jsonl"):
        raise ConfigError(f"--export {path} wants a name that ends in .csv or .jsonl")
    chosen = [
        entry
        for entry in between(log, arguments.since, arguments.until)
        if speaks_of(entry, arguments.id) and speaks_of(entry, arguments.person, "person")
    ]
    text = io.StringIO()
    if path.suffix == ".jsonl":
        text.writelines(json.dumps(entry, sort_keys=True) + "\n" for entry in chosen)
    else:
        rows = [(*COLUMNS, "other"), *map(row_of, chosen)]
        csv.writer(text, lineterminator="\n").writerows(map(plain_cell, row) for row in rows)
    try:
        write_private(path, text.getvalue().encode())
    except OSError as error:
        raise StorageError(f"could not write {path} ({error.strerror}); make room, or give another place") from error
    damaged = sum("damaged" in entry for entry in chosen)
    told = f", {damaged:,} of them damaged" if damaged else ""
    print(f"regard: {count(len(chosen), 'line')} written to {path}{told}", file=sys.stderr)


def between(log: AuditLog, since: str | None, until: str | None) -> Iterator[dict[str, Any]]:
    """The lines of a time; those whose time cannot be read are among them always."""
    from regard.errors import DataError
    from regard.gallery.record import parse_time

    first, end = parse_time(since), parse_time(until)
    for number, entry in enumerate(log.entries(), 1):
        try:
            moment = parse_time(entry.get("time"))
        except DataError:
            moment = None
        if moment is None or not ((first is not None and moment < first) or (end is not None and moment >= end)):
            yield {"number": number} | entry


def speaks_of(entry: Mapping[str, Any], name: str | None, kind: str = "picture") -> bool:
    """Whether a line is about a picture or a person, by digest or, as in old lines, by name; a damaged one may be."""
    from regard.gallery.use import named_digest

    if name is None or "damaged" in entry:
        return True
    return any(text in json.dumps(entry) for text in (named_digest(name, kind), json.dumps(name)))


def row_of(entry: Mapping[str, Any]) -> list[Any]:
    """A line as cells."""
    gallery, told = entry.get("gallery"), entry.get("answered")
    known = dict(entry)
    if isinstance(gallery, Mapping):
        known |= {"gallery": gallery.get("name"), "gallery_id": gallery.get("id"), "model": gallery.get("model")}
    if isinstance(told, Mapping):
        known |= {"count": told.get("count"), "best": told.get("best")}
    plain = {name: known.pop(name, None) for name in COLUMNS}
    cells = [
        value if value is None or isinstance(value, str | int | float) else json.dumps(value)
        for value in plain.values()
    ]
    return [*cells, json.dumps(known, sort_keys=True)]
