"""Changing a gallery over HTTP: pictures added, facts put right, pictures removed; each a line of the log.

All of it is for administrators. What may take long runs as a job where that is asked for: the answer is 202 with the
job, and ``/api/jobs/{id}`` says how far it is and what came of it. Searches go on beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from regard.data.image import claimed, decode_image
from regard.data.scenes import LEFT_OUT, is_scene, scenes_line
from regard.errors import DataError, RegardError
from regard.fingerprint import bytes_digest
from regard.gallery.inputs import Source
from regard.gallery.record import FACTS, Filter, Item, Record
from regard.gallery.thumbnails import thumbnail
from regard.gallery.use import Actor
from regard.parsing import parse_json
from regard.service.access import needs
from regard.service.bodies import Expired, Facts, Removal, Update
from regard.service.jobs import Job, Jobs, Progress
from regard.service.state import GoneError, Searcher, ServiceState
from regard.service.upload import Part, read_form
from regard.service.uses import actor_of
from regard.storage import plain_text

__all__ = ["add_changes"]

FORM = {
    "type": "object",
    "required": ["photos"],
    "properties": {
        "photos": {"type": "array", "items": {"type": "string", "format": "binary"}, "description": "a person in each"},
        "facts": {
            "type": "string",
            "description": "JSON: name of a photo -> camera, time, track, person and any attributes; * for all",
        },
    },
}

FOLDER = "upload"
"""What stands before the name of a picture that came by HTTP, in its path."""

MOST = 512
"""Pictures of one request."""

OWN = frozenset(Record.__dataclass_fields__) - {*FACTS}
"""What a record says of itself, and nobody of it."""


@dataclass
class Asked:
    """A change that somebody asked for.

    Attributes:
        state: of the service.
        searcher: the gallery.
        actor: who asked.
        client: as what he is counted.
        keep: counts the bytes of the request on, until what it returns is called.
    """

    state: ServiceState
    searcher: Searcher
    actor: Actor
    client: str
    keep: Callable[[], Callable[[], None]]

    @classmethod
    def by(cls, request: Request, state: ServiceState, name: str) -> Self:
        """What a request asks for; a job that keeps this keeps nothing of the request.

        Raises:
            GoneError: there is no such gallery.
        """
        asked = request.state
        return cls(state, state.searcher(name), actor_of(request.scope), asked.client, asked.keep)

    async def answer(
        self, kind: str, work: Callable[[Progress], Mapping[str, Any]], *, job: bool, told: Mapping[str, Any]
    ) -> Any:
        """Do it now, or as a job; what was asked for is in the log before it is done.

        Args:
            kind: of the line and of the job.
            work: does it; is told how to say how far it is.
            job: answer at once.
            told: what the line says of it.
        """
        use = self.state.uses.of(self.searcher.gallery, self.actor)

        def logged(progress: Progress) -> Mapping[str, Any]:
            use.note(kind, **told)
            done = work(progress)
            if "bytes" in done:
                use.note("removed", answered=done)
            return done

        if job:
            begun = self.state.jobs.begin(Job(kind, self.searcher.name, self.actor.who), logged, self.keep)
            return JSONResponse(begun.to_dict(), 202, {"location": f"jobs/{begun.id}"})
        return await self.state.decoding.run(self.client, logged, lambda done, total: None)


def add_changes(app: FastAPI, state: ServiceState) -> None:
    """Routes that change a gallery."""
    add_pictures(app, state)
    add_removals(app, state)
    add_jobs(app, state.jobs)


def add_pictures(app: FastAPI, state: ServiceState) -> None:
    """Pictures that are added, and facts that are put right."""
    summary = (
        "Add pictures; one of a name that is there replaces it. ?job=true: as a job, ?whole=true: whole scenes, too"
    )

    @app.post("/api/galleries/{name}/pictures", summary=summary, status_code=201, **needs("administer", upload=FORM))
    async def add(name: str, request: Request, *, job: bool = False, whole: bool = False) -> Any:
        asked = Asked.by(request, state, name)
        sources = await run_in_threadpool(read_sources, await request.body(), request.headers.get("content-type", ""))

        def work(progress: Progress) -> Mapping[str, Any]:
            return store(sources, asked.searcher, state, progress, whole=whole)

        return await asked.answer("add", work, job=job, told={"count": len(sources)})

    @app.patch(
        "/api/galleries/{name}/pictures/{id}", summary="Put right what is known of a picture", **needs("administer")
    )
    async def put_right(name: str, id: str, facts: Facts, request: Request) -> Any:
        asked, changes = Asked.by(request, state, name), facts.changes()

        def work(progress: Progress) -> Mapping[str, Any]:
            gallery = asked.searcher.gallery
            if not gallery.update(Filter(ids=(id,)), changes) or not (found := gallery.get([id])):
                raise GoneError("there is no such picture in the gallery")
            return found[0].record.to_dict()

        return await asked.answer("update", work, job=False, told={"match": id, "facts": sorted(changes)})

    @app.post("/api/galleries/{name}/update", summary="Put right what is known of pictures", **needs("administer"))
    async def update(name: str, body: Update, request: Request) -> Any:
        asked, filter, changes = Asked.by(request, state, name), body.filter(), body.set.changes()

        def work(progress: Progress) -> Mapping[str, Any]:
            return {"changed": asked.searcher.gallery.update(filter, changes)}

        return await asked.answer("update", work, job=body.job, told={"filter": filter, "facts": sorted(changes)})


def add_removals(app: FastAPI, state: ServiceState) -> None:
    """Pictures that are removed, and the index."""

    @app.delete(
        "/api/galleries/{name}/pictures/{id}", summary="Remove a picture, with every byte", **needs("administer")
    )
    async def remove(name: str, id: str, request: Request) -> Any:
        asked = Asked.by(request, state, name)

        def work(progress: Progress) -> Mapping[str, Any]:
            gone = asked.searcher.gallery.delete(Filter(ids=(id,)))
            if not gone:
                raise GoneError("there is no such picture in the gallery")
            state.forget_deleted()
            return gone.to_dict()

        return await asked.answer("delete", work, job=False, told={"match": id})

    @app.post("/api/galleries/{name}/delete", summary="Remove pictures, with every byte", **needs("administer"))
    async def delete(name: str, body: Removal, request: Request) -> Any:
        asked, filter = Asked.by(request, state, name), body.filter()

        def work(progress: Progress) -> Mapping[str, Any]:
            return removed(state, asked.searcher, filter, dry_run=body.dry_run)

        return await asked.answer("delete", work, job=body.job, told={"filter": filter, "dry_run": body.dry_run})

    @app.post("/api/galleries/{name}/purge", summary="Remove what is older than an age", **needs("administer"))
    async def purge(name: str, body: Expired, request: Request) -> Any:
        asked, before = Asked.by(request, state, name), body.moment()

        def work(progress: Progress) -> Mapping[str, Any]:
            gallery = asked.searcher.gallery
            if body.dry_run:
                return {"removed": 0, "would_remove": sum(1 for _ in gallery.expired(before, undated=body.undated))}
            gone = gallery.purge(before, undated=body.undated)
            state.forget_deleted()  # marks may lie elsewhere
            return gone.to_dict()

        told = {"before": before, "undated": body.undated, "dry_run": body.dry_run}
        return await asked.answer("purge", work, job=body.job, told=told)

    summary = "Build the index of approximate searches, as a job"

    @app.post("/api/galleries/{name}/index", summary=summary, status_code=202, **needs("administer"))
    async def index(name: str, request: Request) -> Any:
        asked = Asked.by(request, state, name)

        def work(progress: Progress) -> Mapping[str, Any]:
            return {"recall": asked.searcher.gallery.build_index()}

        return await asked.answer("index", work, job=True, told={})


def add_jobs(app: FastAPI, jobs: Jobs) -> None:
    """Jobs: all of them, one, and the end of one."""

    @app.get("/api/jobs", summary="Jobs, the latest first", **needs("administer"))
    def list_jobs() -> list[dict[str, Any]]:
        return [job.to_dict() for job in jobs.all()]

    def known(id: str) -> Job:
        job = jobs.get(id)
        if job is None:
            raise GoneError("there is no such job, or it ended long ago")
        return job

    @app.get("/api/jobs/{id}", summary="How far a job is, and what came of it", **needs("administer"))
    def show(id: str) -> dict[str, Any]:
        return known(id).to_dict()

    @app.delete("/api/jobs/{id}", summary="End a job; what it has done stays done", **needs("administer"))
    def cancel(id: str) -> dict[str, Any]:
        jobs.cancel(known(id))
        return known(id).to_dict()


def removed(state: ServiceState, searcher: Searcher, filter: Filter, *, dry_run: bool) -> Mapping[str, Any]:
    """Remove pictures, and what was said about them; how many."""
    if dry_run:
        return {"removed": 0, "would_remove": searcher.gallery.count(filter)}
    gone = searcher.gallery.delete(filter)
    state.forget_deleted()  # marks may lie elsewhere
    return gone.to_dict()


def read_sources(body: bytes, kind: str) -> list[Source]:
    """The pictures in a form, with what is known of them.

    Raises:
        DataError: there is none, a name is empty or there twice, or the facts are none.
    """

    def check(field: str) -> None:
        if field not in FORM["properties"]:
            raise DataError(f"the form has a field {field[:80]!r}, wanted photos and facts")

    parts = read_form(body, kind, MOST + 1, check)
    photos = [part for part in parts if part.field == "photos"]
    facts = read_facts([part for part in parts if part.field == "facts"])
    names = [checked_name(part) for part in photos]
    if not photos:
        raise DataError("photos: the form has none; send at least one")
    if len({*names}) < len(names):
        raise DataError(
            "two photos of the form have the same name, wanted another for each; it says which picture it is"
        )
    if unknown := sorted(facts.keys() - {*names, "*"}):
        raise DataError(f"facts speak of {unknown[0][:80]!r}, wanted names of photos of the form, or * for all")
    sources = [
        Source(f"{FOLDER}/{name}", lambda part=part: part.content, {**facts.get("*", {}), **facts.get(name, {})})
        for name, part in zip(names, photos)
    ]
    for source in sources:
        check_facts(source.facts)
        source.record()
    return sources


def check_facts(facts: Mapping[str, Any]) -> None:
    """Check that as much can be known of a picture as :class:`Facts` lets be told of it.

    Raises:
        DataError: it says who the picture is, or too much.
    """
    if wrong := sorted(facts.keys() & OWN):
        raise DataError(f"facts have {wrong[0]!r}, which no request sets, wanted camera, time, track, person or others")
    said = {name: value if name == "time" or value is None else str(value) for name, value in facts.items()}
    attributes = {name: said.pop(name) or "" for name in list(said) if name not in FACTS}
    try:
        Facts.model_validate({**said, "attributes": attributes})
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(each)[:80] for each in fault["loc"])
        raise DataError(f"facts: {where}: {fault['msg']}") from None
    Record.from_dict({"id": FOLDER, "path": FOLDER, "attributes": attributes})


def read_facts(parts: Sequence[Part]) -> dict[str, dict[str, Any]]:
    """What the form says of photos, by name.

    Raises:
        DataError: it is not JSON of that form.
    """
    try:
        told = parse_json(parts[0].content) if parts else {}
    except ValueError as error:
        raise DataError(f"facts are no JSON ({error}), wanted an object: name of a photo -> facts") from None
    plain = isinstance(told, dict) and all(
        isinstance(known, dict) and all(isinstance(each, str | int | float | bool | None) for each in known.values())
        for known in told.values()
    )
    if len(parts) > 1 or not plain:
        raise DataError("facts want one JSON object: name of a photo -> camera, time, track, person or attributes")
    return told


def checked_name(part: Part) -> str:
    """The name of a photo, by which it is known.

    Raises:
        DataError: it has none, or it goes up a folder.
    """
    name = plain_text(part.file.replace("\\", "/")).strip("/")
    if not name or not name.isprintable() or len(name) > 1024:
        raise DataError("a photo of the form has no name that can be kept, wanted one; it says which picture it is")
    if ".." in name.split("/"):
        raise DataError(f"the name {name[:80]!r} of a photo goes up a folder (..), wanted one without")
    return name


def store(
    sources: Sequence[Source], searcher: Searcher, state: ServiceState, progress: Progress, *, whole: bool = False
) -> Mapping[str, Any]:
    """Embed pictures and store them, some at a time; what became of each.

    A picture that is there with the same bytes is not embedded again; what is known of it changes. Whole scenes are
    left out unless ``whole`` takes each for one person.

    Raises:
        DataError: none of them can be read.
    """
    outcome: dict[str, str] = {}
    for start in range(0, len(sources), searcher.embedder.batch_size):
        progress(start, len(sources))
        some = sources[start : start + searcher.embedder.batch_size]
        searcher.gallery.add(made(some, searcher, state, outcome, whole=whole), over=partial(known_now, outcome))
    progress(len(sources), len(sources))
    kinds = {
        kind: sum(what == kind for what in outcome.values()) for kind in ("added", "replaced", "updated", "unchanged")
    }
    unreadable = {path: what for path, what in outcome.items() if what not in kinds}
    if len(unreadable) == len(sources):
        path, reason = next(iter(unreadable.items()))
        raise DataError(f"none of the {len(sources)} photos could be read; {path}: {reason}")
    pictures = [{"path": source.path, "id": source.id, "what": outcome[source.path]} for source in sources]
    return kinds | {"unreadable": unreadable, "pictures": [each for each in pictures if each["path"] not in unreadable]}


def made(
    sources: Sequence[Source], searcher: Searcher, state: ServiceState, outcome: dict[str, str], *, whole: bool
) -> list[Item]:
    """Items of what can be read and is not there with the same bytes; what becomes of each goes into ``outcome``.

    What is told of the others is put right, of those that are there still.
    """
    there = {item.record.id: item.record.digest for item in searcher.gallery.get([source.id for source in sources])}
    told: dict[str, Record] = {}
    fresh: list[tuple[Record, np.ndarray]] = []
    for source in sources:
        try:
            content = source.read()
            record = replace(source.record(), digest=bytes_digest(content))
            if there.get(source.id) == record.digest:
                outcome[source.path], told[source.id] = "unchanged", record
                continue
            header = claimed(content, source.path, state.limits.pixels)
            with state.pixels.taken(header.height * header.width):
                picture = decode_image(content, source.path, state.limits.pixels)
            if not whole and is_scene(*picture.shape[:2]):
                raise DataError(scenes_line(1, source.path, picture.shape[:2], LEFT_OUT))
            fresh.append((record, picture))
            outcome[source.path] = "added"
        except RegardError as error:
            outcome[source.path] = str(error)

    def put_right(old: Record) -> Record:
        now = over(old, told[old.id])
        if now != old:
            outcome[old.path] = "updated"
        return now

    if told:
        searcher.gallery.revise(put_right, Filter(ids=tuple(told)))
    vectors = searcher.embedder.embed([picture for _, picture in fresh])
    return [Item(record, vector, thumbnail(picture)) for (record, picture), vector in zip(fresh, vectors)]


def known_now(outcome: dict[str, str], before: Record, now: Record) -> Record:
    """The record of a picture that is replaced, which is what became of it."""
    outcome[now.path] = "replaced"
    return replace(over(before, now), digest=now.digest)


def over(before: Record, told: Record) -> Record:
    """What is told of a picture, over what was known before."""
    said = {name: value for name in FACTS if (value := getattr(told, name)) is not None}
    return replace(before, **said, attributes={**before.attributes, **told.attributes})
