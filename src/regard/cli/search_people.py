"""``regard search`` of whole scenes: who in a gallery looks like each of the people in them?"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from regard.cli.arguments import close_with
from regard.cli.searching import embedder_of, make_filter, match_lines
from regard.wording import count, visible

if TYPE_CHECKING:
    import numpy as np

    from regard.gallery.crops import Crop, Cutter
    from regard.gallery.record import Answer


BESIDE = 10
"""Matches beside a person in the picture that is written."""


class Person(NamedTuple):
    """Somebody in a photograph.

    Attributes:
        photo: the file.
        name: what the log calls the crop: a digest of the photograph's bytes, and the box.
        digest: of the crop.
        crop: it.
    """

    photo: Path
    name: str
    digest: str
    crop: Crop

    @property
    def title(self) -> str:
        """The person in words."""
        sure = "" if self.crop.score is None else f", score {self.crop.score:.2f}"
        return f"{visible(str(self.photo))}, box {','.join(map(str, self.crop.source.box or ()))}{sure}"


def search_people(arguments: argparse.Namespace, cutter: Cutter) -> None:
    """Search for each person in the photographs, and show which box each answer is for.

    Raises:
        ConfigError: a picture of the gallery is a query beside them, or there is no photograph.
        DataError: nobody is in them.
    """
    from regard.cli.gallery_audit import command_user
    from regard.cli.gallery_verb import open_gallery
    from regard.errors import ConfigError
    from regard.gallery.known import check_names, nothing_passes
    from regard.storage import write_atomic

    if arguments.id or not arguments.photos:
        raise ConfigError("--detector and --boxes cut people out of photographs; give these, and --id by itself")
    with open_gallery(arguments.gallery) as gallery, gallery.use(command_user()) as use:
        people = find_people(arguments, cutter)
        filter = make_filter(arguments, [])
        check_names(gallery, filter)
        embedder = embedder_of(arguments, gallery)
        answers: list[Answer] = []
        for person, vector in zip(people, embedder.embed([person.crop.picture for person in people])):
            answer = gallery.search(
                vector[None], arguments.top, filter, exact=arguments.exact, rerank=arguments.rerank,
                group=arguments.group, calibration=embedder.calibration, prior=arguments.prior, use=use,
                names=[person.name], digests=[person.digest],
            )  # fmt: skip
            answers.append(answer)
        if arguments.picture:
            write_people(arguments.picture, gallery, people, answers)
        if not answers[0].searched:
            print(f"regard: {nothing_passes(gallery, filter)}", file=sys.stderr)
    found = [as_json(person, answer) for person, answer in zip(people, answers)]
    text = json.dumps({"people": found}, indent=2)
    if arguments.json == "-":
        print(text)
        return
    if arguments.json:
        write_atomic(Path(arguments.json), text.encode())
    print("\n\n".join(f"{person.title}\n{match_lines(answer)}" for person, answer in zip(people, answers)))
    note = [f"{answers[0].prior_note} (--prior)"] if answers[0].prior_note else []
    told = f"{count(len(people), 'person')} searched for among {count(answers[0].searched, 'picture')}"
    print(told, *note, sep="\n", file=sys.stderr)
    close_with([arguments.json, arguments.picture])


def find_people(arguments: argparse.Namespace, cutter: Cutter) -> list[Person]:
    """The people in the photographs, those of one after those of another.

    Raises:
        DataError: a photograph cannot be read, or nobody is in them.
    """
    from regard.data.image import read_bytes
    from regard.data.listing import noting
    from regard.data.modern import decode_file
    from regard.errors import DataError
    from regard.fingerprint import bytes_digest
    from regard.gallery.crops import crop_digest
    from regard.gallery.inputs import Source, where

    people = []
    with noting() as notes:
        sources = [Source(where(path), lambda path=path: read_bytes(path)) for path in arguments.photos]
        listed = cutter.listed(sources)
        for source, photo in zip(sources, arguments.photos):
            if source not in listed:
                continue
            data = source.read()
            for crop in cutter.cut(source, decode_file(data, f"'{photo}'")):
                box = ",".join(map(str, crop.source.box or ()))
                name = f"sha256:{hashlib.sha256(data).hexdigest()[:16]}#{box}"
                people.append(Person(photo, name, crop_digest(bytes_digest(data), crop.source.path), crop))
    if notes.reasons and not people:
        raise DataError(
            f"nobody is in {', '.join(map(str, arguments.photos))[:200]} ({notes}); try another --min-score"
        )
    for reason, found in notes.reasons.items():
        if not reason.startswith("unmatched"):  # a file of boxes speaks of many pictures, and one is searched for
            print(f"regard: {count(len(found), reason)}: {visible(', '.join(list(found)[:5]))}", file=sys.stderr)
    return people


def as_json(person: Person, answer: Answer) -> dict[str, Any]:
    """A person and who looks like it, ready for JSON."""
    score = {} if person.crop.score is None else {"score": round(person.crop.score, 6)}
    return {"photo": str(person.photo), "box": list(person.crop.source.box or ())} | score | answer.to_dict()


def write_people(file: Path, gallery: Any, people: list[Person], answers: list[Answer]) -> None:
    """A row for each person: its crop, and who looks like it; what finds no place there is said."""
    import io

    from regard.data.image import decode_image
    from regard.explain.figures.overlay import framed, sheet
    from regard.storage import write_atomic

    def shown(id: str) -> np.ndarray | None:
        data = gallery.thumbnail(id)
        return decode_image(data, id) if data else None

    rows, missing, further = [], 0, 0
    for person, answer in zip(people, answers):
        small = [shown(match.record.id) for match in answer.matches[:BESIDE]]
        missing += sum(picture is None for picture in small)
        further += len(answer.matches) - len(small)
        row = [framed(person.crop.picture, "query")]
        rows.append(row + [framed(picture, "unknown") for picture in small if picture is not None])
    if missing:
        told = f"{count(missing, 'match')} kept no thumbnail and {'are' if missing > 1 else 'is'} not in {file}"
        print(f"regard: {told}", file=sys.stderr)
    if further:
        print(f"regard: {file} shows the best {BESIDE} of each person and not {further:,} more", file=sys.stderr)
    buffer = io.BytesIO()
    sheet(rows).save(buffer, "PNG")
    write_atomic(file, buffer.getvalue())
