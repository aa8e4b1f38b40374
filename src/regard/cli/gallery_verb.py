"""Look after a gallery: what it holds, delete, purge, export, index, who searched it.

  regard gallery list people --camera 1
  regard gallery delete people --picture frame.jpg      and all that was cut out of it
  regard gallery delete people --person 12      or --id, --camera, --since, --until; --dry-run only lists them
  regard gallery purge people --older-than 30d
  regard gallery duplicates people --picture twice.png
  regard gallery name people --id 5f0c... --id 77ab... --person Ada
  regard gallery merge people --person 12 --person 31 --into Ada
  regard gallery export people all.parquet
  regard gallery index people                   for approximate searches; measures what it recalls
  regard gallery audit people                   how many searches were logged, and whether the log is whole
  regard gallery audit people --export uses.csv --since 2026-05-01
  regard gallery audit audit.jsonl --key key    the file alone, by the key that --take-key took away
  regard gallery check people                   whether every byte is as it was written; --repair, --discard

What is deleted or purged leaves the folder with every byte: descriptor, thumbnail, record, index entry.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from regard.cli.arguments import output_file, read_where
from regard.cli.gallery_audit import add_audit_arguments, check_log, command_user
from regard.cli.gallery_people import ARGUMENTS as PEOPLE
from regard.cli.gallery_people import merge_people, name_pictures, show_duplicates
from regard.wording import count, visible

if TYPE_CHECKING:
    from regard.gallery import Filter, Gallery, Record
    from regard.gallery.query import Removed
    from regard.gallery.use import Use


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    verbs = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in {
        "list": "print records",
        "delete": "remove pictures: by name or id, of a person, a camera, a time range",
        "purge": "remove what is older than an age",
        "duplicates": "find pictures that are there more than once, or nearly so",
        "name": "say whom pictures show",
        "merge": "make one person of several",
        "export": "write records and descriptors to a Parquet file",
        "index": "build the index of approximate searches",
        "audit": "check the log of who ranked people, or export it",
        "check": "read every byte of it, and set aside what is damaged",
    }.items():
        verb = verbs.add_parser(name, help=text, description=text)
        verb.add_argument("gallery", help="folder of a gallery, or its URL")
        if name in ("list", "delete", "name"):
            verb.add_argument("--id", action="append", metavar="ID", help="a picture; repeatable")
        if name in ("list", "delete"):
            verb.add_argument(
                "--picture", action="append", default=[], metavar="NAME",
                help="the picture of this path, or end of one, and all that was cut out of it; repeatable",
            )  # fmt: skip
        if name == "name":
            verb.add_argument("--track", action="append", metavar="NAME", help="all of a tracklet; repeatable")
        if name in ("list", "delete", "merge"):
            verb.add_argument("--person", action="append", required=name == "merge", metavar="NAME", help="repeatable")
        if name in ("list", "delete", "name"):
            verb.add_argument("--camera", action="append", metavar="NAME", help="repeatable")
        if name in ("list", "delete"):
            verb.add_argument(
                "--where", action="append", default=[], metavar="NAME=VALUE", help="attribute; repeatable"
            )
            verb.add_argument("--since", metavar="TIME", help="from this time on")
            verb.add_argument("--until", metavar="TIME", help="before this time")
        if name == "audit":
            add_audit_arguments(verb)
        if name == "purge":
            verb.add_argument("--older-than", required=True, metavar="AGE", help="for example 30d, 12h, 2w")
            verb.add_argument("--undated", action="store_true", help="pictures without a time too")
        if name in ("delete", "purge"):
            verb.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
        if name in ("name", "merge", "duplicates"):
            PEOPLE[name](verb)
        if name == "export":
            verb.add_argument("file", type=output_file, help="Parquet file to write")
            verb.add_argument("--no-vectors", action="store_true", help="records only")
        if name == "check":
            verb.add_argument("--repair", action="store_true", help="save what can be read of a damaged database")
            verb.add_argument("--discard", action="store_true", help="remove what was set aside, with every byte")


def run(arguments: argparse.Namespace) -> None:
    """Do it and say how much."""
    from regard.errors import UnknownNameError

    actions = {
        "list": list_records, "delete": delete, "purge": purge, "export": export, "index": index, "check": check,
        "duplicates": show_duplicates, "name": name_pictures, "merge": merge_people,
    }  # fmt: skip
    if arguments.action == "audit":
        check_log(arguments, open_gallery)
        return
    if not isinstance(arguments.action, str) or arguments.action not in actions:
        raise UnknownNameError("action", arguments.action, [*actions, "audit"])
    if arguments.action == "check" and arguments.repair:
        repair(arguments.gallery)
    with open_gallery(arguments.gallery) as gallery:
        actions[arguments.action](gallery, arguments)


def open_gallery(where: str) -> Gallery:
    """A gallery; where what its searches need has to be built again, a bar shows how far that is when it takes a while.

    The searches of a gallery in a folder are logged in that folder, those of one on a server where the command runs.

    Raises:
        DataError: there is none, or it is damaged.
        StorageError: the disk refuses.
    """
    from regard.gallery.audit import AuditLog
    from regard.gallery.gallery import Gallery
    from regard.progress import progress_bar

    bar = None

    def show(done: int, total: int) -> None:
        nonlocal bar
        bar = bar or progress_bar(total=total, title=f"reading {where}", unit="picture", delay=1)
        bar.update(done - bar.n)

    try:
        gallery = Gallery.open(where, progress=show)
        gallery.audit = gallery.audit or AuditLog(Path("audit.jsonl"))
        if damaged := gallery.damaged:
            told = f"{count(damaged, 'picture')} of {where} damaged and left out; embed the images again"
            print(f"regard: {told}", file=sys.stderr)
        return gallery
    finally:
        if bar is not None:
            bar.close()


def chosen(gallery: Gallery, arguments: argparse.Namespace) -> Filter:
    """Return which pictures the arguments name, all of which there are."""
    from regard.gallery.known import check_names
    from regard.gallery.record import Filter

    ids = arguments.id
    if arguments.picture:
        ids = [*(ids or []), *ids_of(gallery, arguments.picture)]
    times = {"since": arguments.since, "until": arguments.until}
    named = {"persons": arguments.person, "cameras": arguments.camera}
    which = Filter.asked(ids=ids, attributes=read_where(arguments.where), **named, **times)
    check_names(gallery, which)
    return which


def ids_of(gallery: Gallery, names: list[str]) -> list[str]:
    """Ids of the pictures of some names, and of what was cut out of them.

    Raises:
        DataError: there is none of a name.
    """
    from regard.errors import DataError
    from regard.gallery.crops import called_so

    found: dict[str, None] = {}
    for name in names:
        records = called_so(gallery.records(), [name])
        if not records:
            raise DataError(
                f"{gallery.name} has no picture {name!r}, nor anything cut out of one; see regard gallery list"
            )
        found |= dict.fromkeys(record.id for record in records)
    return list(found)


def list_records(gallery: Gallery, arguments: argparse.Namespace) -> None:
    """Print a line for every picture that is named; what the columns are, and how many, go beside them."""
    which = chosen(gallery, arguments)
    tell_missing(gallery, which)
    number = 0
    for number, record in enumerate(gallery.records(which), 1):
        if number == 1:
            print("id", "camera", "time (UTC)", "person", "picture", sep="  ", file=sys.stderr, flush=True)
        print(line_of(record))
    if number:
        print(count(number, "picture"), file=sys.stderr)


def line_of(record: Record) -> str:
    """A record in a line."""
    from regard.gallery.record import format_time

    return visible(
        "  ".join((record.id, record.camera or "-", format_time(record.time) or "-", record.person or "-", record.path))
    )


def tell_missing(gallery: Gallery, which: Filter) -> None:
    """Say which ids there are not, and why nothing is found where nothing is."""
    from regard.gallery.known import nothing_passes

    missing = [id for id in which.ids or () if not gallery.get([id])]
    if missing:
        print(f"regard: {gallery.name} has no picture {visible(', '.join(missing[:5]))}", file=sys.stderr)
    elif not gallery.count(which):
        print(f"regard: {nothing_passes(gallery, which)}", file=sys.stderr)


def delete(gallery: Gallery, arguments: argparse.Namespace) -> None:
    """Remove the pictures that are named.

    Raises:
        ConfigError: none is.
    """
    from regard.errors import ConfigError

    which = chosen(gallery, arguments)
    if which == type(which)():
        raise ConfigError(
            "regard gallery delete wants --picture, --id, --person, --camera, --where, --since or --until: what goes?"
        )
    tell_missing(gallery, which)
    if arguments.dry_run:
        foretell(gallery.records(which))
        return
    with gallery.use(command_user()) as use, patient(gallery) as waiting:
        use.note("delete", filter=which)
        tell_removed(gallery.delete(which, waiting=waiting), use)


def foretell(records: Iterable[Record]) -> None:
    """List what would be removed."""
    lines = [line_of(record) for record in records]
    print(*lines, f"{count(len(lines), 'picture')} would be removed; nothing was", sep="\n")


def purge(gallery: Gallery, arguments: argparse.Namespace) -> None:
    """Remove what is older than an age."""
    from regard.gallery.record import parse_age

    before = time.time() - parse_age(arguments.older_than)
    if arguments.dry_run:
        foretell(gallery.expired(before, undated=arguments.undated))
        return
    with gallery.use(command_user()) as use, patient(gallery) as waiting:
        use.note("purge", before=before, undated=arguments.undated)
        tell_removed(gallery.purge(before, undated=arguments.undated, waiting=waiting), use)


@contextmanager
def patient(gallery: Gallery) -> Iterator[Callable[[float, float], None]]:
    """What shows how long a server is waited for; what it did not confirm in time is said by :func:`tell_removed`."""
    from regard.errors import RegardWarning
    from regard.progress import progress_bar

    with warnings.catch_warnings(), progress_bar(total=1, title="waiting for the server", unit="s", delay=1) as bar:
        warnings.simplefilter("ignore", RegardWarning)

        def show(waited: float, most: float) -> None:
            bar.total = int(most)
            bar.update(int(waited) - bar.n)

        yield show


def tell_removed(removed: Removed, use: Use) -> None:
    """Say and log what became of pictures.

    Raises:
        StorageError: a server has not confirmed that their bytes are gone.
    """
    from regard.errors import StorageError

    use.note("removed", answered=removed.to_dict())
    print(f"{count(removed, 'picture')} removed{', and compacted away by the server' * (removed.bytes == 'compacted')}")
    if removed.note:
        raise StorageError(f"they are in no answer any more, but {removed.note}; ask again: regard gallery check URL")


def export(gallery: Gallery, arguments: argparse.Namespace) -> None:
    """Write records and descriptors to a file."""
    with gallery.use(command_user()) as use:
        rows = gallery.export(arguments.file, vectors=not arguments.no_vectors, use=use)
    print(f"{count(rows, 'row')} written to {arguments.file}")


def index(gallery: Gallery, arguments: argparse.Namespace) -> None:
    """Build the index, and say what it recalls."""
    print(f"building the index of {count(len(gallery), 'picture')} ...", file=sys.stderr)
    print(f"recall of the 10 best: {gallery.build_index():.3f}")


def repair(where: str) -> None:
    """Save what can be read of a gallery in a folder whose database is damaged."""
    from regard.gallery.repair import repair
    from regard.progress import progress_bar

    with progress_bar(total=1, title=f"saving {where}", unit="picture", delay=1) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = repair(Path(where), show)
    lost = f", {count(found.aside, 'picture')} could not be" if found.aside else ""
    lost += f", {count(found.marks, 'mark')} could not be read" if found.marks else ""
    print(f"{count(found.pictures, 'picture')} saved{lost}; the damaged database is {where}/gallery.sqlite.damaged")


def check(gallery: Gallery, arguments: argparse.Namespace) -> None:
    """Say whether everything is as it was written.

    Raises:
        ConfigError: the gallery is on a server that cannot be asked.
        DataError: something is damaged.
        StorageError: a server has not confirmed that what was deleted is out of its files.
    """
    from regard.errors import ConfigError, DataError, StorageError

    if arguments.discard:
        print(f"{count(gallery.discard_damaged(), 'damaged picture')} removed")
        if gallery.marks is not None and (number := gallery.marks.discard()):
            print(f"{count(number, 'damaged mark')} removed")
    found = gallery.check()
    if found is None:
        with patient(gallery) as waiting:
            asked = gallery.confirm_erased(waiting=waiting)
        if asked is None:
            raise ConfigError(f"{gallery.name} is on a server, which looks after its files itself")
        if asked.note:
            raise StorageError(f"{asked.note}; ask again later")
        print("what was deleted is compacted away by the server; it looks after its other files itself")
        return
    if found.remade:
        print("the files that searches read were damaged, and are made anew")
    if found.faults:
        raise DataError(f"{gallery.name}: {found.faults[0]}; save what can be read: regard gallery check --repair")
    if found.aside:
        raise DataError(
            f"{count(found.pictures, 'picture')} of {gallery.name} are as they were written, {found.aside:,} damaged "
            "and set aside; embed the images again, then: regard gallery check --discard"
        )
    if found.marks:
        raise DataError(
            f"{count(found.marks, 'row')} among the marks of {gallery.name} can be no mark, and counts nowhere; remove "
            "what is damaged: regard gallery check --discard"
        )
    print(f"{count(found.pictures, 'picture')}, all as they were written")
