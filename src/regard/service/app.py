"""The HTTP service: photographs in, ranked matches out, and the page that uses it.

``/openapi.json`` describes everything below. Mistakes are answered with ``{"error": "one line"}`` and a 4xx code, a
full disk with 507, too much at once with 429 or 503. Every route says which role it wants (``needs``).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi import Query as InUrl
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from PIL import Image
from starlette.exceptions import HTTPException

from regard.errors import DataError, RegardError, StorageError
from regard.gallery.marks import Mark as KeptMark
from regard.gallery.marks import MissingPictureError
from regard.gallery.record import is_id
from regard.service.access import needs, show_roles
from regard.service.bodies import Ask, Mark, Search, Why
from regard.service.changes import add_changes
from regard.service.feedback import Pair
from regard.service.guard import Guard
from regard.service.health import add_health
from regard.service.journal import Journal
from regard.service.limits import BusyError
from regard.service.metrics import Metrics
from regard.service.proxies import Proxies
from regard.service.state import GoneError, Query, Searcher, ServiceState
from regard.service.tokens import ANYBODY, TokenFile
from regard.service.training_runs import list_runs, read_run
from regard.service.upload import read_form
from regard.service.uses import actor_of
from regard.version import __version__

__all__ = ["create_app"]

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}

PHOTOS = {
    "type": "object",
    "required": ["photos"],
    "properties": {
        "photos": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": "JPEG, PNG, WebP, BMP or TIFF, of one person",
        }
    },
}

MOST_PARTS = 64
"""Parts of a form that are looked at."""

MOST_AT_ONCE = 200
"""Pictures of a gallery in one answer; who asks for more is told, and does not take these for all."""

UNPARSED = "There was an error parsing the body"
"""What FastAPI says of bytes that are no text, and of JSON that is nested too deep."""

NO_JSON = "the body is no JSON that can be read, wanted an object; see /openapi.json"


class FormError(DataError):
    """A form has another field than it may have."""


def create_app(
    state: ServiceState,
    token: str | None = None,
    *,
    tokens: TokenFile | None = None,
    proxies: Proxies | None = None,
    root: str = "",
    journal: Journal | None = None,
    metrics: Metrics | None = None,
) -> Any:
    """The service as an ASGI application.

    Args:
        state: galleries, models, marks, runs, limits.
        token: who knows it may do everything.
        tokens: who else may come in; with neither of both, this machine may.
        proxies: whose word on the client is believed.
        root: the path that a proxy puts the service under.
        journal: where a line for each request goes; None for nowhere.
        metrics: where to count.
    """
    metrics = metrics or Metrics()
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
    add_changes(app, state)
    add_runs(app, state)
    add_health(app, state, metrics)
    show_roles(app)
    told = {"tokens": tokens, "proxies": proxies, "root": root, "journal": journal, "metrics": metrics}
    return Guard(app, token, state.limits, **told)


def add_errors(app: FastAPI) -> None:
    """One line for every mistake."""

    def answer(status: int) -> Callable[[Request, Exception], Response]:
        return lambda request, error: JSONResponse({"error": " ".join(str(error).split())}, status)

    for gone in (GoneError, MissingPictureError):
        app.add_exception_handler(gone, answer(404))
    app.add_exception_handler(StorageError, answer(507))
    app.add_exception_handler(FormError, answer(422))
    app.add_exception_handler(RegardError, answer(400))

    @app.exception_handler(BusyError)
    def busy(request: Request, error: BusyError) -> Response:
        return JSONResponse({"error": str(error)}, error.status, {"retry-after": str(error.seconds)})

    @app.exception_handler(Exception)
    def failed(request: Request, error: Exception) -> Response:  # the guard writes down where
        return JSONResponse({"error": "the service failed at that; its journal has more"}, 500)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        if any(fault["type"] == "json_invalid" for fault in error.errors()):
            return JSONResponse({"error": NO_JSON}, 422)
        faults = [
            f"{'.'.join(map(str, fault['loc'][1:])) or 'request'}: {fault['msg']}" for fault in error.errors()[:5]
        ]
        line = " ".join("; ".join(faults).split())  # keys of a request come back in it, line breaks and all
        return JSONResponse({"error": line}, 422)

    @app.exception_handler(HTTPException)
    def other(request: Request, error: HTTPException) -> Response:
        detail = NO_JSON if error.detail == UNPARSED else str(error.detail)
        return JSONResponse({"error": detail}, error.status_code)


def add_pages(app: FastAPI) -> None:
    """The page: a handful of files that are part of the package."""
    files = {
        entry.name: entry.read_bytes()
        for entry in resources.files("regard.service").joinpath("static").iterdir()
        if entry.is_file() and Path(entry.name).suffix in KINDS
    }

    @app.get("/", include_in_schema=False, **needs("search"))
    async def page() -> Response:
        return Response(files["index.html"], media_type=KINDS[".html"])

    @app.get("/static/app.css", include_in_schema=False, **needs(ANYBODY))
    async def style() -> Response:
        return Response(files["app.css"], media_type=KINDS[".css"])

    @app.get("/static/{name}", include_in_schema=False, **needs("search"))
    async def static(name: str) -> Response:
        if name not in files:
            raise GoneError("there is no such file")
        return Response(files[name], media_type=KINDS[Path(name).suffix])


def add_queries(app: FastAPI, state: ServiceState) -> None:
    """Queries and searches."""

    @app.get("/api/me", summary="Who asks, and what for", **needs("watch"))
    async def me(request: Request) -> dict[str, str]:
        return {"name": request.state.actor.name, "role": request.state.actor.role}

    @app.get("/api/galleries", summary="What there is to search in", **needs("search"))
    def galleries() -> list[dict[str, Any]]:
        return [gallery_json(searcher) for searcher in state.searchers.values()]

    summary = "Make a query of photographs of one person"

    @app.post("/api/queries", summary=summary, status_code=201, **needs("search", upload=PHOTOS))
    async def ask_photos(request: Request) -> dict[str, Any]:
        body, kind = await request.body(), request.headers.get("content-type", "")
        query = await state.decoding.run(request.state.client, query_of, state, body, kind, request.state.client)
        return query_json(query)

    summary = "Make a query of pictures of a gallery"

    @app.post("/api/queries/pictures", summary=summary, status_code=201, **needs("search"))
    async def ask_pictures(ask: Ask, request: Request) -> dict[str, Any]:
        places = state.searching if len(state.searchers) == 1 else state.decoding  # others may have to see them
        client = request.state.client
        return query_json(await places.run(client, state.ask_pictures, ask.ids, ask.gallery, client))

    summary = "Search; every search is logged before it is answered"

    @app.post("/api/search", summary=summary, **needs("search"))
    async def search(body: Search, request: Request) -> dict[str, Any]:
        return await state.searching.run(request.state.client, find, state, body, request)

    summary = "Where the network looks, and what the similarity hangs on"

    @app.post("/api/why", summary=summary, **needs("search"))
    async def why(body: Why, request: Request) -> dict[str, Any]:
        return await state.explaining.run(request.state.client, explain, state, body, request)


def add_pictures(app: FastAPI, state: ServiceState) -> None:
    """Thumbnails, and pictures to choose a query from."""

    @app.get("/api/galleries/{name}/pictures", summary="Pictures of a gallery, in order of id", **needs("search"))
    def pictures(
        name: str, after: str | None = None, limit: Annotated[int, InUrl(ge=1, le=MOST_AT_ONCE)] = 60
    ) -> list[dict[str, Any]]:
        searcher = state.searcher(name)
        if after is not None and not is_id(after):
            raise DataError("after wants the id of a picture")
        records = searcher.gallery.page(after, limit)
        return [record.to_dict() for record in records]

    @app.get("/api/galleries/{name}/pictures/{id}/thumbnail", summary="Thumbnail", **file_of("image/jpeg", "search"))
    def thumbnail(name: str, id: str) -> Response:
        data = state.searcher(name).gallery.thumbnail(id)
        if not data:
            raise GoneError("there is no thumbnail of that picture")
        return Response(data, media_type="image/jpeg")


def add_marks(app: FastAPI, state: ServiceState) -> None:
    """Right, wrong, and the evaluation set that comes of it."""

    @app.post("/api/marks", summary="Say that a match is right or wrong", **needs("mark"))
    def mark(body: Mark, request: Request) -> dict[str, Any]:
        query, searcher = state.query(body.query), state.searcher(body.gallery)
        picture = query.picture(body.photo)
        items = searcher.gallery.get([body.match])
        if not items:
            raise GoneError("that picture is not in the gallery any more; search again")
        pair = Pair(query.names[body.photo], body.match, searcher.name, items[0].record.camera)
        actor = actor_of(request.scope)
        by = actor.who if actor.is_named else ""
        wanted = [body.match]
        if query.home == searcher.name:
            wanted.append(pair.query)
        elif query.home and not state.searcher(query.home).gallery.get([pair.query]):
            raise GoneError("the picture searched for is not in its gallery any more; search again")
        use = state.uses.of(searcher.gallery, actor)

        def note(stands: KeptMark | None) -> None:
            told = stands.state if stands else None
            use.note("mark", query=[pair.query], match=pair.match, right=body.right, state=told)

        said = state.feedback.set(pair, right=body.right, photo=jpeg(picture), by=by, needs=wanted, note=note)
        stands = said.state if said else None
        return mark_counts(state) | ({"state": stands} if state.feedback.two_people else {})

    @app.get("/api/marks", summary="How many marks there are", **needs("search"))
    def count() -> dict[str, int]:
        return mark_counts(state)

    summary = "Forget all marks and the photographs kept with them"

    @app.delete("/api/marks", summary=summary, **needs("administer"))
    def clear(request: Request) -> dict[str, int]:
        note_everywhere(state, request, "forget marks", **mark_counts(state))
        state.feedback.clear()
        return mark_counts(state)

    summary = "An evaluation set as ZIP: table.csv, marks.csv and the pictures"

    @app.get("/api/marks/export", summary=summary, **file_of("application/zip", "mark"))
    async def export(request: Request) -> Response:
        data = await state.explaining.run(request.state.client, export_marks, state, request)
        disposition = {"content-disposition": 'attachment; filename="marks.zip"'}
        return Response(data, media_type="application/zip", headers=disposition)


def add_runs(app: FastAPI, state: ServiceState) -> None:
    """Training runs."""

    @app.get("/api/runs", summary="Training runs with their last scores", **needs("search"))
    def runs() -> list[dict[str, Any]]:
        return list_runs(state.runs)

    @app.get("/api/runs/{name}", summary="The curves of a run", **needs("search"))
    def run(name: str) -> dict[str, Any]:
        return read_run(state.runs, name)


def find(state: ServiceState, body: Search, request: Request) -> dict[str, Any]:
    """Note a search in the log, and answer it."""
    query, searcher = state.query(body.query), state.searcher(body.gallery)
    answer = searcher.gallery.search(
        query.vectors[searcher.name],
        body.k,
        body.filter(query),
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


def explain(state: ServiceState, body: Why, request: Request) -> dict[str, Any]:
    """Look into a query and a match, and note it."""
    query, searcher = state.query(body.query), state.searcher(body.gallery)
    found = state.why(searcher, query.picture(body.photo), body.match)
    use = state.uses.of(searcher.gallery, actor_of(request.scope))
    use.note("why", query=[query.names[body.photo]], match=body.match, answered={"best": found["similarity"]})
    return found


def export_marks(state: ServiceState, request: Request) -> bytes:
    """The marks as an evaluation set, noted."""
    state.forget_deleted()
    data = state.feedback.export(state.thumbnail)
    note_everywhere(state, request, "export marks", **mark_counts(state))
    return data


def query_of(state: ServiceState, body: bytes, kind: str, client: str) -> Query:
    """The query that a form with photographs asks for.

    Raises:
        FormError: it has another field, or none.
        DataError: it is damaged, or a photograph is.
    """

    def check(field: str) -> None:
        if field != "photos":
            raise FormError(f"the form has a field {field[:80]!r}, wanted photos and nothing else")

    parts = read_form(body, kind, MOST_PARTS, check)
    if not parts:
        raise FormError("photos: the form has none; send at least one")
    return state.ask_photos([(part.file, part.content) for part in parts], client)


def file_of(kind: str, role: str) -> Mapping[str, Any]:
    """How a route that answers with a file of a media type is described, and the role it wants."""
    return {"response_class": Response, "responses": {200: {"content": {kind: {}}}}, **needs(role)}


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
    said = {"warning": query.warning} if query.warning else {}
    return {"query": query.id, "photos": len(query.names), "cameras": list(query.cameras)} | said


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
    except (StorageError, DataError) as error:
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
    marks, damaged = list(state.feedback.words().values()), state.feedback.damaged()
    words = [mark.right for mark in marks if mark.state == "confirmed"]
    waiting = {"pending": len(marks) - len(words)} if state.feedback.two_people else {}
    return {"right": sum(words), "wrong": len(words) - sum(words)} | waiting | ({"damaged": damaged} if damaged else {})


def jpeg(picture: Any) -> bytes:
    """A picture as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
