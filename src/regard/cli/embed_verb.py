"""Embed pictures: into a gallery to search in, or into a Parquet file of descriptors.

  regard embed photos/ --model runs/apnet -o people              a gallery in the folder people
  regard embed shard-*.tar table.parquet --model runs/apnet -o descriptors.parquet
  regard embed photos/ --model runs/apnet -o people --meta cameras.csv     what is known of them, by path
  regard embed photos/ --model runs/apnet -o people --engine openvino --precision bf16
  torchrun --nproc-per-node 4 -m regard embed photos/ --model runs/apnet -o people

In fp32 every engine gives the same descriptors, to rounding; bf16 and int8 are faster and other numbers, so a gallery
takes no others. A stopped job goes on where it was: give the same command again. What is left out is counted
by reason, with an example: pictures that cannot be read, links to nothing, pipes, films, formats that are not read,
other files, rows of --meta that speak of no picture. Where nothing can be read, the command fails.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from regard.cli.arguments import add_device, close_with, output_file, parse_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("inputs", nargs="+", metavar="IMAGES", help="pictures, folders, .tar shards, .parquet tables")
    parser.add_argument("--model", type=Path, required=True, help="run folder, or a folder a model was saved in")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="gallery (folder or URL), or FILE.parquet")
    parser.add_argument("--meta", type=Path, metavar="FILE", help="CSV, JSON lines or Parquet with a column path")
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
    parser.add_argument("--blur-heads", action="store_true", help="make heads unrecognizable in thumbnails")
    parser.add_argument("--no-thumbnails", action="store_true", help="keep no thumbnails in the gallery")
    parser.add_argument("--unreadable", type=output_file, metavar="FILE", help="write what was left out, and why")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> None:
    """Embed and say what became of the pictures."""
    from regard.data.listing import noting
    from regard.errors import ConfigError, DataError
    from regard.gallery.embedder import Embedder
    from regard.gallery.ingest import Ranks, embed_sources
    from regard.gallery.inputs import list_sources, read_table
    from regard.progress import progress_bar
    from regard.storage import plain_text, write_atomic

    if arguments.batch_size < 1:
        raise ConfigError(f"--batch-size is {arguments.batch_size}, wanted 1 or more")
    with Ranks() as ranks:
        embedder = Embedder(
            arguments.model,
            size=parse_size(arguments.size),
            flip=arguments.flip,
            batch_size=arguments.batch_size,
            engine=arguments.engine,
            precision=arguments.precision,
        )
        with noting() as skipped:
            sources = list_sources(arguments.inputs, read_table(arguments.meta) if arguments.meta else None)
        if ranks.is_main and not arguments.quiet:
            made_by = embedder.describe()
            size = f"{embedder.height} x {embedder.width}"
            print(embedder.note or f"computing with {made_by['engine']} in {made_by['precision']}, pictures of {size}")
        quiet = arguments.quiet or not ranks.is_main
        with progress_bar(total=len(sources), title="embedding", unit="image", quiet=quiet) as bar:

            def show(done: int, total: int) -> None:
                bar.update(done - bar.n)

            report = embed_sources(
                sources,
                embedder,
                arguments.output,
                blur_heads=arguments.blur_heads,
                thumbnails=not arguments.no_thumbnails,
                progress=show,
                ranks=ranks,
            )
    if not ranks.is_main:
        return
    left_out = [*report.unreadable.items(), *((what, why) for why, all_ in skipped.reasons.items() for what in all_)]
    if arguments.unreadable:
        lines = "".join(f"{plain_text(what)}\t{plain_text(why)}\n" for what, why in left_out)
        write_atomic(arguments.unreadable, lines.encode())
    if report.unreadable and not (report.added or report.known):
        raise DataError(f"none of {len(sources):,} pictures can be read: {next(iter(report.unreadable.values()))}")
    for reason in list(report.unreadable.values())[:5]:
        print(f"left out: {reason}")
    if skipped:
        print(f"left out: {skipped}")
    searched = [] if arguments.output.endswith(".parquet") else ["search", "PHOTO", "--gallery", arguments.output]
    close_with([arguments.output, arguments.unreadable], str(report), searched)
