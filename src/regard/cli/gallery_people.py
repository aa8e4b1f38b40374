"""The actions of ``regard gallery`` on people: who is there twice, who is who."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from regard.cli.arguments import close_with, output_file
from regard.cli.gallery_audit import command_user
from regard.wording import count, visible

if TYPE_CHECKING:
    from regard.gallery import Gallery
    from regard.gallery.duplicates import Duplicates

DRAWN = 24
ACROSS = 10
"""Groups that are drawn, and pictures of each."""


def add_name(verb: argparse.ArgumentParser) -> None:
    """Declare what ``name`` takes besides the pictures."""
    verb.add_argument("--person", required=True, metavar="NAME", help="whom they show; '' takes names back")


def add_merge(verb: argparse.ArgumentParser) -> None:
    """Declare what ``merge`` takes besides the people."""
    verb.add_argument("--into", required=True, metavar="NAME", help="what all of them are called from now on")


def add_duplicates(verb: argparse.ArgumentParser) -> None:
    """Declare what ``duplicates`` takes."""
    verb.add_argument(
        "--threshold", type=float, default=0.98, metavar="COSINE", help="near from this cosine on (%(default)s)"
    )
    verb.add_argument("--json", metavar="FILE", help="write the groups as JSON; - prints it instead of the list")
    verb.add_argument("--picture", type=output_file, metavar="FILE", help="write the groups as a picture")


ARGUMENTS: Mapping[str, Callable[[argparse.ArgumentParser], None]] = {
    "name": add_name, "merge": add_merge, "duplicates": add_duplicates,
}  # fmt: skip


def name_pictures(gallery: Gallery, arguments: argparse.Namespace) -> None:
    """Say whom the pictures that are named show.

    Raises:
        ConfigError: none is, or one is not there.
    """
    from regard.errors import ConfigError
    from regard.gallery.known import check_names
    from regard.gallery.record import Filter

    which = Filter.asked(ids=arguments.id, tracks=arguments.track, cameras=arguments.camera)
    if which == Filter():
        raise ConfigError("regard gallery name wants --id, --track or --camera: which pictures?")
    check_names(gallery, which)
    missing = [id for id in arguments.id or () if not gallery.get([id])]
    if missing:
        raise ConfigError(f"there is no picture {missing[0]!r} in {gallery.name}; take ids from regard gallery list")
    with gallery.use(command_user()) as use:
        number = gallery.name_person(which, arguments.person or None)
        use.note("name", answered={"count": number})
    called = f"called {arguments.person} now" if arguments.person else "called nobody now"
    print(f"{count(number, 'picture')} {called}")


def merge_people(gallery: Gallery, arguments: argparse.Namespace) -> None:
    """Make one person of several."""
    with gallery.use(command_user()) as use:
        number = gallery.merge(arguments.person, arguments.into)
        use.note("merge", answered={"count": number})
    merged = visible(", ".join(dict.fromkeys(arguments.person)))
    print(f"{count(number, 'picture')} of {merged} called {arguments.into} now")


def show_duplicates(gallery: Gallery, arguments: argparse.Namespace) -> None:
    """List what is there more than once."""
    from regard.progress import progress_bar
    from regard.storage import write_atomic

    bar = progress_bar(total=len(gallery), title="comparing", unit="image", delay=1)
    with gallery.use(command_user()) as use, bar:
        groups = gallery.duplicates(arguments.threshold, lambda done, total: bar.update(done - bar.n), use=use)
    text = json.dumps({"threshold": arguments.threshold, "groups": [group.to_dict() for group in groups]}, indent=2)
    drawn = arguments.picture if arguments.picture and draw(gallery, groups, arguments.picture) else None
    if arguments.json == "-":
        print(text)
        return
    if arguments.json:
        write_atomic(Path(arguments.json), text.encode())
    for number, group in enumerate(groups, 1):
        alike = "the same file" if group.same_file else f"cosine {group.cosine:.4f} and more"
        print(f"{number}: {alike}, {count(len(group.records), 'picture')}")
        for record in group.records:
            print("  ", visible(f"{record.id}  {record.camera or '-'}  {record.person or '-'}  {record.path}"))
    spare = sum(len(group.records) - 1 for group in groups)
    among = f"among {count(len(gallery), 'picture')}, near from cosine {arguments.threshold:g} on"
    print(f"{count(len(groups), 'group')}, {count(spare, 'picture')} to spare, {among}", file=sys.stderr)
    close_with([arguments.json, drawn])


def draw(gallery: Gallery, groups: Sequence[Duplicates], file: Path) -> bool:
    """Draw the groups as rows of thumbnails; whether there was any to draw."""
    from regard.data.image import decode_image
    from regard.explain.figures.overlay import framed, sheet
    from regard.storage import write_atomic

    rows, missing = [], 0
    for group in groups[:DRAWN]:
        small = [gallery.thumbnail(record.id) for record in group.records[:ACROSS]]
        missing += len(group.records) - sum(map(bool, small))
        row = [framed(decode_image(each, "a thumbnail"), "unknown") for each in small if each]
        rows += [row] if row else []
    if not rows:
        print(
            f"regard: {file} is not drawn: {'no thumbnail was kept' if groups else 'there is nothing'}", file=sys.stderr
        )
        return False
    buffer = io.BytesIO()
    sheet(rows).save(buffer, "PNG")
    write_atomic(file, buffer.getvalue())
    if missing or len(groups) > DRAWN:
        left = f"{count(missing, 'picture')} and {count(max(len(groups) - DRAWN, 0), 'group')}"
        print(
            f"regard: {left} are not in {file}: no thumbnail, or more than {DRAWN} groups of {ACROSS}", file=sys.stderr
        )
    return True
