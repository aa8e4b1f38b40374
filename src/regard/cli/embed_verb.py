r"""Embed pictures: into a gallery to search in, or into a Parquet file of descriptors.

  regard embed photos/ -o people                                 a gallery in people, by regard-s where that is there
  regard embed photos/ --model runs/apnet -o people              by one of yours
  regard embed shard-*.tar table.parquet --model runs/apnet -o descriptors.parquet
  regard embed photos/ --model runs/apnet -o people --meta cameras.csv     what is known of them, by path
  regard embed photos/ --model runs/apnet -o people --camera-from folder   or '(?P<camera>cam\d+)_(?P<time>\d+)'
  regard embed photos/ --model runs/apnet -o people --prune      and remove what is not in photos/ any more
  regard embed frames/ --model runs/apnet -o people --detector fasterrcnn_mobilenet_v3_large_320_fpn=weights.pth
  regard embed MOT17-02/img1 --model runs/apnet -o people --boxes MOT17-02/det/det.txt     or a table
  regard embed photos/ --model runs/apnet -o people --engine openvino --precision bf16
  torchrun --nproc-per-node 4 -m regard embed photos/ --model runs/apnet -o people

In fp32 every engine gives the same descriptors, to rounding; bf16 and int8 are faster and other numbers, so a gallery
takes no others. A stopped job goes on where it was: give the same command again. Given again with other facts, it
updates the records; what was set by hand stays until the facts say something new. What is left out is counted and named
by reason: whole scenes, unless their people are cut out or --whole is given (docs/how-to/scenes.md), pictures that
cannot be read, links to nothing, pipes, films, formats that are not read, other files, rows of --meta that speak of no
picture. Where nothing can be read, the command fails.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from regard.cli.arguments import add_cutting, add_device, close_with, output_file, parse_size, tell
from regard.models.ready import DEFAULT, about_ready
from regard.wording import count, visible

if TYPE_CHECKING:
    from regard.data.listing import Skipped
    from regard.gallery.crops import Cutter
    from regard.gallery.embedder import Embedder
    from regard.gallery.ingest import Ranks
    from regard.gallery.inputs import Listing, Source
    from regard.gallery.outcome import Report

NAMED = 5
"""Files of a kind that are named on the screen."""

MORE = " (--skipped FILE names all)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("inputs", nargs="+", metavar="IMAGES", help="pictures, folders, .tar shards, .parquet tables")
    parser.add_argument(
        "--model", type=Path, help=f"run folder, or a folder a model was saved in (default: {DEFAULT}, which is ready)"
    )
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="gallery (folder or URL), or FILE.parquet")
    parser.add_argument("--meta", type=Path, metavar="FILE", help="CSV, JSON lines or Parquet with a column path")
    parser.add_argument(
        "--camera-from", metavar="HOW",
        help="folder: named as its folder; or a regular expression on the path with groups camera, time, track, person",
    )  # fmt: skip
    parser.add_argument(
        "--time-zone", default="UTC", metavar="ZONE",
        help="of times that name none: UTC, local, +02:00, Europe/Berlin (%(default)s)",
    )  # fmt: skip
    add_cutting(parser)
    parser.add_argument("--whole", action="store_true", help="take whole scenes for one person each")
    parser.add_argument("--prune", action="store_true", help="remove what is gone from the folders and shards given")
    parser.add_argument("--dry-run", action="store_true", help="say what would be embedded and removed, and do nothing")
    parser.add_argument("--size", metavar="HxW", help="input size (default: the model's own)")
    parser.add_argument(
        "--flip", action=argparse.BooleanOptionalAction,
        help="average with the mirrored picture (default: as the model is scored)",
    )  # fmt: skip
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="pictures at a time (%(default)s)")
    parser.add_argument(
        "--engine", choices=("auto", "torch", "onnxruntime", "openvino"), default="auto",
        help="what computes (default: the fastest that is installed)",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "int8"), default="fp32", help="of products (%(default)s)"
    )
    add_device(parser)
    parser.add_argument(
        "--blur-heads", action="store_true", help="make heads unrecognizable in all thumbnails of the gallery, for good"
    )
    parser.add_argument("--no-thumbnails", action="store_true", help="keep no thumbnails in the gallery")
    parser.add_argument(
        "--skipped", "--unreadable", type=output_file, metavar="FILE", help="write what was left out, and why"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> None:
    """Embed and say what became of the pictures."""
    from regard.data.listing import noting
    from regard.errors import ConfigError
    from regard.gallery.crops import open_cutter
    from regard.gallery.ingest import Ranks
    from regard.gallery.inputs import list_inputs, read_table
    from regard.gallery.origins import PathReader, time_zone

    if arguments.batch_size < 1:
        raise ConfigError(f"--batch-size is {arguments.batch_size}, wanted 1 or more")
    if arguments.prune and arguments.output.endswith(".parquet"):
        raise ConfigError("--prune wants a gallery; a .parquet file only ever holds what is given")
    if arguments.whole and (arguments.detector or arguments.boxes):
        raise ConfigError(
            "--whole takes a scene for one person, and --detector and --boxes cut people out; give either"
        )
    zone = time_zone(arguments.time_zone)
    with noting() as disregarded:
        cutter = open_cutter(arguments.detector, arguments.boxes, arguments.min_score)
    with Ranks() as ranks:
        embedder = None if arguments.dry_run else open_embedder(arguments)
        with noting() as skipped:
            disregarded.repeat()
            meta = read_table(arguments.meta) if arguments.meta else None
            paths = PathReader(arguments.camera_from, zone) if arguments.camera_from is not None else None
            listing = list_inputs(arguments.inputs, meta, paths, zone)
            sources = cutter.listed(listing.sources) if cutter else listing.sources
        if embedder is None:
            if ranks.is_main:
                foretell(arguments, listing, sources, cutter, skipped)
            return
        report = embed(arguments, sources, cutter, embedder, ranks)
        if ranks.is_main:
            conclude(arguments, listing, skipped, report, len(sources))


def open_embedder(arguments: argparse.Namespace) -> Embedder:
    """The model, as it is to be run."""
    from regard.gallery.embedder import Embedder

    if arguments.model is None:
        tell(about_ready(DEFAULT))
    return Embedder(
        arguments.model or DEFAULT,
        size=parse_size(arguments.size),
        flip=arguments.flip,
        batch_size=arguments.batch_size,
        engine=arguments.engine,
        precision=arguments.precision,
    )


def embed(
    arguments: argparse.Namespace, sources: list[Source], cutter: Cutter | None, embedder: Embedder, ranks: Ranks
) -> Report:
    """Embed what is listed, with a bar; what became of it."""
    from regard.gallery.ingest import embed_sources
    from regard.progress import progress_bar

    if ranks.is_main and not arguments.quiet:
        made_by = embedder.describe()
        size = f"{embedder.height} x {embedder.width}"
        print(embedder.note or f"computing with {made_by['engine']} in {made_by['precision']}, pictures of {size}")
    quiet = arguments.quiet or not ranks.is_main
    with progress_bar(total=len(sources), title="embedding", unit="image", quiet=quiet) as bar:

        def show(done: int, total: int) -> None:
            bar.update(done - bar.n)

        return embed_sources(
            sources,
            embedder,
            arguments.output,
            blur_heads=arguments.blur_heads,
            thumbnails=not arguments.no_thumbnails,
            cutter=cutter,
            whole=arguments.whole,
            progress=show,
            ranks=ranks,
        )


def conclude(arguments: argparse.Namespace, listing: Listing, skipped: Skipped, report: Report, total: int) -> None:
    """Remove what is gone where that was asked for, and say what became of everything.

    Raises:
        DataError: nothing of all can be embedded.
    """
    from regard.errors import DataError
    from regard.gallery.crops import CLIPPED

    for reason, found in report.notes.without(CLIPPED).reasons.items():
        for what in found:
            skipped.add(reason, what)
    tell_skipped(arguments, skipped, report.unreadable, dict.fromkeys(report.scenes, "whole scene"))
    if not (report.added or report.replaced or report.known):
        if report.scenes and not report.unreadable:
            raise DataError(report.scenes_line)
        if report.unreadable:
            raise DataError(f"none of {total:,} pictures can be read: {next(iter(report.unreadable.values()))}")
    for remark in report.sayings(arguments.time_zone):
        print(remark)
    gone = prune(arguments, listing) if arguments.prune else ""
    searched = [] if arguments.output.endswith(".parquet") else ["search", "PHOTO", "--gallery", arguments.output]
    close_with([arguments.output, arguments.skipped], f"{report}{gone}", searched)


def tell_skipped(
    arguments: argparse.Namespace, skipped: Skipped, unreadable: Mapping[str, str], scenes: Mapping[str, str]
) -> None:
    """Say what was left out, by reason, with some names; all of them go into the file that was asked for."""
    from regard.data.modern import how_to_read
    from regard.storage import plain_text, write_atomic

    if arguments.skipped:
        left_out = [
            *unreadable.items(),
            *scenes.items(),
            *((what, why) for why, all_ in skipped.reasons.items() for what in all_),
        ]
        lines = "".join(f"{plain_text(what)}\t{plain_text(why)}\n" for what, why in left_out)
        write_atomic(arguments.skipped, lines.encode())
    where = "" if arguments.skipped else MORE
    for reason in list(unreadable.values())[:NAMED]:
        print(f"left out: {visible(plain_text(reason))}")
    if len(unreadable) > NAMED:
        print(f"left out: {len(unreadable) - NAMED:,} more that cannot be read{where}")
    for reason, found in skipped.reasons.items():
        more = f" and {len(found) - NAMED:,} more{where}" if len(found) > NAMED else ""
        print(f"left out: {count(len(found), reason)}: {visible(plain_text(', '.join(list(found)[:NAMED])))}{more}")
    if hint := how_to_read(skipped.reasons):
        print(hint)


def prune(arguments: argparse.Namespace, listing: Listing) -> str:
    """Remove what is gone from the inputs, and say so."""
    from regard.gallery.gallery import Gallery
    from regard.gallery.pruning import find_gone
    from regard.gallery.record import Filter

    with Gallery.open(arguments.output) as gallery:
        gone = find_gone(gallery.records(), listing)
        for record in gone:
            print(f"removing: {visible(record.path)}")
        removed = gallery.delete(Filter(ids=tuple(record.id for record in gone))) if gone else 0
    return f", {removed:,} removed"


def foretell(
    arguments: argparse.Namespace, listing: Listing, sources: list[Source], cutter: Cutter | None, skipped: Skipped
) -> None:
    """Say what the command would do."""
    from regard.gallery.gallery import Gallery, is_there, is_url
    from regard.gallery.ingest import Ranks, unchanged, uncut
    from regard.gallery.outcome import Known
    from regard.gallery.pruning import find_gone

    tell_skipped(arguments, skipped, {}, {})
    known = Known({}, {})
    gone = []
    if is_url(arguments.output) or is_there(Path(arguments.output)):
        with Gallery.open(arguments.output) as gallery:
            known = Known.of(gallery.records())
            gone = find_gone(gallery.records(), listing) if arguments.prune else []
    alone = Ranks()
    alone.rank, alone.size = 0, 1
    for record in gone:
        print(f"would remove: {visible(record.path)}")
    removing = f", remove {len(gone):,}" if arguments.prune else ""
    if cutter is not None:
        same, before = len(uncut(sources, known, cutter, alone)), sum(s.path in known.crops for s in sources)
        told = f"would cut people out of {len(sources) - same:,} pictures ({before - same:,} of them again)"
    else:
        same, before = len(unchanged(sources, known.digests, alone)), sum(s.id in known.digests for s in sources)
        told = f"would embed {len(sources) - same:,} ({len(sources) - before:,} new, {before - same:,} replaced)"
    print(f"{told}, {same:,} unchanged{removing}; nothing was done")
