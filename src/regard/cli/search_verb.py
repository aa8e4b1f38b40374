"""Who in a gallery looks like this person?

  regard search photo.jpg --gallery people
  regard search a.jpg b.jpg --gallery people -k 20 --rerank      several photos of one person
  regard search photo.jpg --gallery people --camera 1 --camera 3 --since 2026-05-01T08:00
  regard search --id 5f0c... --gallery people --other-cameras --where color=red --group
  regard search street.jpg --gallery people --detector yolov8n.onnx     each person in it; or --boxes FILE
  regard search photo.jpg --gallery people --json - --picture matches.png

Every search is noted in the gallery's audit log. Searches are exact unless the gallery is large and has an index.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard.cli.arguments import add_cutting, add_device, close_with, output_file, tell
from regard.cli.searching import embedder_of, make_filter, match_lines
from regard.wording import count

if TYPE_CHECKING:
    import numpy as np

    from regard.gallery.record import Answer, Item


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("photos", nargs="*", type=Path, metavar="PHOTO", help="photographs of one person")
    parser.add_argument("--gallery", required=True, metavar="G", help="folder of a gallery, or its URL")
    parser.add_argument("--id", action="append", default=[], help="a picture of the gallery as query; repeatable")
    parser.add_argument("--model", type=Path, help="run or model folder (default: the gallery's)")
    parser.add_argument("-k", "--top", type=int, default=10, metavar="K", help="matches (%(default)s)")
    parser.add_argument("--camera", action="append", metavar="NAME", help="only this camera; repeatable")
    parser.add_argument("--not-camera", action="append", default=[], metavar="NAME", help="not this one; repeatable")
    parser.add_argument("--other-cameras", action="store_true", help="not the cameras of the --id pictures")
    parser.add_argument("--since", metavar="TIME", help="from this time on, for example 2026-05-01T08:00")
    parser.add_argument("--until", metavar="TIME", help="before this time")
    parser.add_argument("--where", action="append", default=[], metavar="NAME=VALUE", help="attribute; repeatable")
    add_cutting(parser)
    parser.add_argument("--rerank", action="store_true", help="k-reciprocal re-ranking of the best candidates")
    parser.add_argument("--group", action="store_true", help="one match per tracklet")
    parser.add_argument(
        "--prior",
        type=float,
        metavar="P",
        help="probability of a match before looking (default: one in the people it may be)",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--exact", action="store_true", default=None, help="compare with everything")
    how.add_argument("--approximate", dest="exact", action="store_false", help="use the index")
    parser.add_argument(
        "--json", type=_json, metavar="FILE", help="write matches as JSON; - prints it instead of the table"
    )
    add_device(parser)
    parser.add_argument("--picture", type=output_file, metavar="FILE", help="write query and matches as a picture")


def _json(text: str) -> str:
    """A file to write, or ``-``."""
    return text if text == "-" else str(output_file(text))


def run(arguments: argparse.Namespace) -> None:
    """Search and show."""
    from regard.cli.gallery_audit import command_user
    from regard.cli.gallery_verb import open_gallery
    from regard.gallery.known import check_names, nothing_passes
    from regard.storage import write_atomic

    if arguments.detector or arguments.boxes or arguments.min_score is not None:
        from regard.cli.search_people import search_people
        from regard.gallery.crops import open_cutter  # brings what decodes pictures

        if cutter := open_cutter(arguments.detector, arguments.boxes, arguments.min_score):
            search_people(arguments, cutter)
            return
    with open_gallery(arguments.gallery) as gallery, gallery.use(command_user()) as use:
        items, photos = asked(arguments, gallery)
        filter = make_filter(arguments, [item.record for item in items])
        check_names(gallery, filter)
        vectors, names, digests, calibration = queries(arguments, gallery, items, photos)
        answer = gallery.search(
            vectors,
            arguments.top,
            filter,
            exact=arguments.exact,
            rerank=arguments.rerank,
            group=arguments.group,
            calibration=calibration,
            prior=arguments.prior,
            use=use,
            names=names,
            digests=digests,
        )
        if arguments.picture:
            write_picture(arguments, gallery, answer)
        if not answer.matches:
            print(f"regard: {nothing_passes(gallery, filter)}", file=sys.stderr)
        recall = (gallery.meta.get("index") or {}).get("recall")
    text = json.dumps(answer.to_dict(), indent=2)
    if arguments.json == "-":
        print(text)
        return
    if arguments.json:
        write_atomic(Path(arguments.json), text.encode())
    print(match_lines(answer))
    how = "exact" if answer.exact else f"approximate, measured recall {recall:.3f}" if recall else "approximate"
    found = f"{len(answer.matches)} of {count(answer.searched, 'picture')}, {how}, {1000 * answer.seconds:.0f} ms"
    print(found, *([f"{answer.prior_note} (--prior)"] if answer.prior_note else []), sep="\n", file=sys.stderr)
    close_with([arguments.json, arguments.picture])


def asked(arguments: argparse.Namespace, gallery: Any) -> tuple[list[Item], list[bytes]]:
    """The pictures of the gallery that are the query, and the photographs, as they lie in their files."""
    from regard.errors import ConfigError

    if not (arguments.photos or arguments.id):
        raise ConfigError("regard search wants a photograph, or --id of a picture in the gallery")
    items = gallery.get(arguments.id)
    if len(items) < len(arguments.id):
        known = {item.record.id for item in items}
        missing = next(id for id in arguments.id if id not in known)
        raise ConfigError(f"there is no picture {missing!r} in {gallery.name}; take the id from --json")
    if not arguments.photos:
        return items, []
    from regard.data.image import read_bytes

    return items, [read_bytes(path) for path in arguments.photos]


def queries(
    arguments: argparse.Namespace, gallery: Any, items: list[Item], photos: list[bytes]
) -> tuple[np.ndarray, list[str], list[str], Any]:
    """Descriptors of the query, what the log calls it, digests of its files, and the calibration."""
    import numpy as np

    vectors, names, calibration = [item.vector[None] for item in items], list(arguments.id), None
    digests = [item.record.digest for item in items if item.record.digest]
    if photos:
        from regard.data.modern import decode_file
        from regard.fingerprint import bytes_digest

        pictures = [decode_file(data, f"'{path}'") for data, path in zip(photos, arguments.photos)]
        tell_scenes(arguments.photos, pictures)
        embedder = embedder_of(arguments, gallery)
        vectors.append(embedder.embed(pictures))
        names += [f"sha256:{hashlib.sha256(data).hexdigest()[:16]}" for data in photos]
        digests += map(bytes_digest, photos)
        calibration = embedder.calibration
    return np.concatenate(vectors), names, digests, calibration


def tell_scenes(photos: Sequence[Path], pictures: Sequence[np.ndarray]) -> None:
    """Say which of the photographs are whole scenes."""
    from regard.data.scenes import SEARCHED, is_scene, scenes_line

    scenes = [(str(path), picture.shape[:2]) for path, picture in zip(photos, pictures) if is_scene(*picture.shape[:2])]
    if scenes:
        tell(scenes_line(len(scenes), *scenes[0], SEARCHED))


def write_picture(arguments: argparse.Namespace, gallery: Any, answer: Answer) -> None:
    """Query and matches side by side."""
    import io

    from regard.data.image import decode_image
    from regard.explain.figures.overlay import framed, sheet
    from regard.storage import write_atomic

    def shown(id: str) -> Any:
        data = gallery.thumbnail(id)
        return decode_image(data, id) if data else None

    query = [framed(path, "query") for path in arguments.photos]
    query += [framed(picture, "query") for picture in map(shown, arguments.id) if picture is not None]
    found = [shown(match.record.id) for match in answer.matches]
    matches = [framed(picture, "unknown") for picture in found if picture is not None]
    if missing := len(found) - len(matches):
        told = f"{missing} of {count(len(found), 'match')} kept no thumbnail and are not in {arguments.picture}"
        print(f"regard: {told}", file=sys.stderr)
    rows = [query, *(matches[start : start + 10] for start in range(0, len(matches), 10))]
    buffer = io.BytesIO()
    sheet([row for row in rows if row]).save(buffer, "PNG")
    write_atomic(arguments.picture, buffer.getvalue())
