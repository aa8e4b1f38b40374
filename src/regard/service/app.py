"""The HTTP service: photographs in, ranked matches out, and the page that uses it.

``/openapi.json`` describes everything below. Mistakes are answered with ``{"error": "one line"}`` and a 4xx code, a
full disk with 507.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, File, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from regard.errors import DataError, RegardError, StorageError
from regard.gallery.record import Filter, is_id
from regard.service.feedback import Pair
from regard.service.guard import Guard
from regard.service.state import GoneError, Query, Searcher, ServiceState, explanation
from regard.service.training_runs import list_runs, read_run
from regard.service.uses import actor_of
from regard.version import __version__

__all__ = ["create_app"]

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}

Name = Annotated[str, Field(max_length=256)]
Names = Annotated[list[Name], Field(max_length=256)]
Photos = Annotated[list[UploadFile], File(description="JPEG, PNG, WebP, BMP or TIFF")]


class Body(BaseModel):
    """What a request brings, and nothing besides."""

    model_config = ConfigDict(extra="forbid")


class Ask(Body):
    """Pictures of a gallery to search with."""

    ids: Annotated[list[Name], Field(min_length=1, max_length=64, description="pictures of one person")]
    gallery: Name | None = Field(None, description="where they are; the first gallery without it")


class Search(Body):
    """What to look for, and among what."""

    query: Name = Field(description="as answered when the query was made")
    gallery: Name | None = Field(None, description="where to look; the first gallery without it")
    k: int = Field(24, ge=1, le=200, description="matches wanted")
    cameras: Names | None = Field(None, description="only these")
    not_cameras: Names = Field(default_factory=list, description="none of these")
    other_cameras: bool = Field(False, description="not the cameras the query's pictures came from")
    since: float | Name | None = Field(None, description="seconds since 1970 or ISO 8601; included")
    until: float | Name | None = Field(None, description="not included")
    persons: Names | None = None
    tracks: Names | None = None
    attributes: Annotated[dict[Name, Names], Field(max_length=32)] = Field(default_factory=dict)
    rerank: bool = Field(False, description="k-reciprocal re-ranking of the best candidates")
    group: bool = Field(False, description="one match per tracklet")
    prior: float | None = Field(
        None, gt=0, lt=1, description="how probable a match is before looking; null: told by the gallery's size"
    )
    exact: bool | None = Field(None, description="null: exact unless the gallery is large and has an index")

    def filter(self, query: Query) -> Filter:
        """What may be seen."""
        asked = {name: getattr(self, name) for name in ("cameras", "tracks", "persons", "since", "until", "attributes")}
        others = query.cameras if self.other_cameras else ()
        return Filter.asked(**asked, not_cameras=(*self.not_cameras, *others), not_ids=query.ids)


class Why(Body):
    """A query and a match to look into."""

    query: Name
    match: Name
    gallery: Name | None = None
    photo: int = Field(0, ge=0, le=64, description="which of the query's pictures")


class Mark(Why):
    """A word on a match."""

    right: bool | None = Field(description="null takes the mark back")


def create_app(state: ServiceState, token: str | None = None) -> Any:
    """The service as an ASGI application.

    Args:
        state: galleries, models, marks, runs, limits.
        token: who knows it may come in; None lets this machine in.
    """
    app = FastAPI(
        redirect_slashes=False,
        title="regard",
        version=__version__,
        description="Person search: photographs in, ranked matches out.",
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    add_errors(app)
    add_pages(app)
    add_queries(app, state)
    add_pictures(app, state)
    add_marks(app, state)
    add_runs(app, state)
    return Guard(app, token, state.limits.bytes)


def add_errors(app: FastAPI) -> None:
    """One line for every mistake."""

    def answer(status: int) -> Callable[[Request, Exception], Response]:
        return lambda request, error: JSONResponse({"error": " ".join(str(error).split())}, status)

    app.add_exception_handler(GoneError, answer(404))
    app.add_exception_handler(StorageError, answer(507))
    app.add_exception_handler(RegardError, answer(400))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        faults = [
            f"{'.'.join(map(str, fault['loc'][1:])) or 'request'}: {fault['msg']}" for fault in error.errors()[:5]
        ]
        line = " ".join("; ".join(faults).split())  # keys of a request come back in it, line breaks and all
        return JSONResponse({"error": line}, 422)

    @app.exception_handler(HTTPException)
    def other(request: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": str(error.detail)}, error.status_code)


def add_pages(app: FastAPI) -> None:
    """The page: a handful of files that are part of the package."""
    files = {
        entry.name: entry.read_bytes()
        for entry in resources.files("regard.service").joinpath("static").iterdir()
        if entry.is_file() and Path(entry.name).suffix in KINDS
    }

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return Response(files["index.html"], media_type=KINDS[".html"])

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        if name not in files:
            raise GoneError("there is no such file")
        return Response(files[name], media_type=KINDS[Path(name).suffix])


def add_queries(app: FastAPI, state: ServiceState) -> None:
    """Queries and searches."""

    @app.get("/api/galleries", summary="What there is to search in")
    def galleries() -> list[dict[str, Any]]:
        return [gallery_json(searcher) for searcher in state.searchers.values()]

    @app.post("/api/queries", summary="Make a query of photographs of one person", status_code=201)
    def ask_photos(photos: Photos) -> dict[str, Any]:
        return query_json(state.ask_photos([(photo.filename or "", photo.file.read()) for photo in photos]))

    @app.post("/api/queries/pictures", summary="Make a query of pictures of a gallery", status_code=201)
    def ask_pictures(ask: Ask) -> dict[str, Any]:
        return query_json(state.ask_pictures(ask.ids, ask.gallery))

    @app.post("/api/search", summary="Search; every search is logged before it is answered")
    def search(body: Search, request: Request) -> dict[str, Any]:
        query, searcher = state.query(body.query), state.searcher(body.gallery)
        filter = body.filter(query)
        with state.heavy:
            answer = searcher.gallery.search(
                query.vectors[searcher.name],
                body.k,
                filter,
                exact=body.exact,
                rerank=body.rerank,
                group=body.group,
                calibration=searcher.embedder.calibration,
                prior=state.prior if body.prior is None else body.prior,
                use=state.uses.of(searcher.gallery, actor_of(request.scope)),
                names=query.names,
                digests=query.digests,
            )
        content: dict[str, Any] = answer.to_dict()
        content["recall"] = (searcher.gallery.meta.get("index") or {}).get("recall")
        return content | add_marks_to(content["matches"], query, searcher, state)

    @app.post("/api/why", summary="Where the network looks, and what the similarity hangs on")
    def why(body: Why, request: Request) -> dict[str, Any]:
        query, searcher = state.query(body.query), state.searcher(body.gallery)
        picture = query.picture(body.photo)
        with state.heavy:
            found = explanation(searcher.embedder, picture, state.shown(searcher, body.match))
        use = state.uses.of(searcher.gallery, actor_of(request.scope))
        use.note("why", query=[query.names[body.photo]], match=body.match, answered={"best": found["similarity"]})
        return found


def add_pictures(app: FastAPI, state: ServiceState) -> None:
    """Thumbnails, and pictures to choose a query from."""

    @app.get("/api/galleries/{name}/pictures", summary="Pictures of a gallery, in order of id")
    def pictures(name: str, after: str | None = None, limit: int = 60) -> list[dict[str, Any]]:
        searcher = state.searcher(name)
        if after is not None and not is_id(after):
            raise DataError("after wants the id of a picture")
        records = searcher.gallery.page(after, min(max(limit, 1), 200))
        return [record.to_dict() for record in records]

    @app.get("/api/galleries/{name}/pictures/{id}/thumbnail", summary="Thumbnail", **file_of("image/jpeg"))
    def thumbnail(name: str, id: str) -> Response:
        data = state.searcher(name).gallery.thumbnail(id)
        if not data:
            raise GoneError("there is no thumbnail of that picture")
        return Response(data, media_type="image/jpeg")


def add_marks(app: FastAPI, state: ServiceState) -> None:
    """Right, wrong, and the evaluation set that comes of it."""

    @app.post("/api/marks", summary="Say that a match is right or wrong")
    def mark(body: Mark, request: Request) -> dict[str, Any]:
        query, searcher = state.query(body.query), state.searcher(body.gallery)
        picture = query.picture(body.photo)
        items = searcher.gallery.get([body.match])
        if not items:
            raise GoneError("that picture is not in the gallery any more; search again")
        pair = Pair(query.names[body.photo], body.match, searcher.name, items[0].record.camera)
        actor = actor_of(request.scope)
        by = actor.who if actor.is_named else ""
        marked = state.feedback.set(pair, right=body.right, photo=jpeg(picture), by=by)
        stands = marked.state if marked else None
        use = state.uses.of(searcher.gallery, actor)
        use.note("mark", query=[pair.query], match=pair.match, right=body.right, state=stands)
        return mark_counts(state) | ({"state": stands} if state.feedback.two_people else {})

    @app.get("/api/marks", summary="How many marks there are")
    def count() -> dict[str, int]:
        return mark_counts(state)

    @app.delete("/api/marks", summary="Forget all marks and the photographs kept with them")
    def clear(request: Request) -> dict[str, int]:
        note_everywhere(state, request, "forget marks", **mark_counts(state))
        state.feedback.clear()
        return mark_counts(state)

    summary = "An evaluation set as ZIP: table.csv, marks.csv and the pictures"

    @app.get("/api/marks/export", summary=summary, **file_of("application/zip"))
    def export(request: Request) -> Response:
        state.forget_deleted()
        data = state.feedback.export(state.thumbnail)
        note_everywhere(state, request, "export marks", **mark_counts(state))
        disposition = {"content-disposition": 'attachment; filename="marks.zip"'}
        return Response(data, media_type="application/zip", headers=disposition)


def add_runs(app: FastAPI, state: ServiceState) -> None:
    """Training runs."""

    @app.get("/api/runs", summary="Training runs with their last scores")
    def runs() -> list[dict[str, Any]]:
        return list_runs(state.runs)

    @app.get("/api/runs/{name}", summary="The curves of a run")
    def run(name: str) -> dict[str, Any]:
        return read_run(state.runs, name)


def file_of(kind: str) -> dict[str, Any]:
    """How a route that answers with a file of a media type is described."""
    return {"response_class": Response, "responses": {200: {"content": {kind: {}}}}}


def gallery_json(searcher: Searcher) -> dict[str, Any]:
    """What the page needs to know of a gallery."""
    model = {key: searcher.gallery.meta["model"].get(key) for key in ("name", "height", "width", "fingerprint")}
    return {
        "name": searcher.name,
        "pictures": len(searcher.gallery),
        "cameras": searcher.gallery.values("camera"),
        "model": model,
        "prior": searcher.gallery.prior if searcher.embedder.calibration is not None else None,
        "logged": searcher.gallery.audit is not None,
    }


def query_json(query: Query) -> dict[str, Any]:
    """What is answered to a new query."""
    return {"query": query.id, "photos": len(query.names), "cameras": list(query.cameras)}


def add_marks_to(
    matches: list[dict[str, Any]], query: Query, searcher: Searcher, state: ServiceState
) -> dict[str, Any]:
    """Say of each match what was said of it.

    Returns:
        What the whole answer says besides: a warning, where the marks cannot be read, which no search fails for.
    """
    told: dict[str, Any] = {}
    try:
        marks = state.feedback.words()
    except StorageError as error:
        marks, told = {}, {"warning": str(error)}
    for match in matches:
        record = match["record"]
        stands = [marks.get(Pair(name, record["id"], searcher.name, record["camera"])) for name in query.names]
        match["marks"] = [mark.right if mark else None for mark in stands]
        if state.feedback.two_people:
            match["mark_states"] = [mark.state if mark else None for mark in stands]
    return told


def note_everywhere(state: ServiceState, request: Request, kind: str, **facts: Any) -> None:
    """Write a line in the log of every gallery, for what is about all of them."""
    for searcher in state.searchers.values():
        state.uses.of(searcher.gallery, actor_of(request.scope)).note(kind, **facts)


def mark_counts(state: ServiceState) -> dict[str, int]:
    """How many marks there are; how many wait for a second person, and how many lines are damaged, where any is."""
    marks, damaged = list(state.feedback.words().values()), len(state.feedback.damaged())
    words = [mark.right for mark in marks if mark.state == "confirmed"]
    waiting = {"pending": len(marks) - len(words)} if state.feedback.two_people else {}
    return {"right": sum(words), "wrong": len(words) - sum(words)} | waiting | ({"damaged": damaged} if damaged else {})


def jpeg(picture: Any) -> bytes:
    """A picture as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
