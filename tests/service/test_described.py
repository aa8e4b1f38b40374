"""Every request the OpenAPI description allows, nearly allows, or does not: an answer in one line, never a 500."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regard.service.state import Limits

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "\0", "\ud800", "../../etc/passwd", "1e400", "people", "x" * 3000, "2026-05-01T08:00:00"])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=8), part, max_size=4),
    max_leaves=8,
)


class Maker:
    """Strategies for what a schema describes.

    Args:
        schemas: by name, as the description has them.
        real: name of a property or parameter -> values that mean something to the service.
        wild: whether anything at all may stand in any place.
    """

    def __init__(self, schemas: dict[str, dict], real: dict[str, list[str]], wild: bool):
        self.schemas, self.real, self.wild = schemas, real, wild

    def make(self, schema: dict[str, Any], name: str = "") -> st.SearchStrategy:
        made = self.plain(schema, name)
        return st.one_of(made, made, made, ANYTHING) if self.wild else made

    def plain(self, schema: dict[str, Any], name: str) -> st.SearchStrategy:
        if "$ref" in schema:
            return self.plain(self.schemas[schema["$ref"].rpartition("/")[2]], name)
        if "anyOf" in schema:
            return st.one_of([self.make(one, name) for one in schema["anyOf"]])
        if "properties" in schema:
            parts = {key: self.make(part, key) for key, part in schema["properties"].items()}
            needed = {key: parts.pop(key) for key in schema.get("required", ())}
            return st.fixed_dictionaries(needed, optional=parts)
        match schema.get("type"):
            case "object":
                names = st.sampled_from(["color", "a.b", '"', "x" * 70]) | st.text(max_size=5)
                return st.dictionaries(names, self.make(schema.get("additionalProperties") or {}), max_size=3)
            case "array":
                return st.lists(self.make(schema.get("items", {}), name), max_size=3)
            case "boolean":
                return st.booleans()
            case "null":
                return st.none()
            case "integer" | "number" as kind:
                low = schema.get("minimum", schema.get("exclusiveMinimum", -1e12))
                high = schema.get("maximum", schema.get("exclusiveMaximum", 1e12))
                return st.integers(int(low), int(high)) if kind == "integer" else st.floats(low, high)
            case _:
                known = st.sampled_from(self.real.get(name) or ["1", "red<b>", "2026-05-01T08:00:00"])
                return st.one_of(known, known, known, st.text(max_size=12))


def as_part(value: Any) -> str:
    """A value in a path or a query string."""
    return urllib.parse.quote(str(value).encode("utf-8", "replace")[:3000], safe="")


@pytest.fixture
def service(start):
    """A service that keeps all queries of a test."""
    return start(limits=Limits(bytes=300_000, pixels=500_000, queries=10_000))


@pytest.fixture
def described(service):
    """The description, and values that mean something to the service, by the name of a property or parameter."""
    api = service.call("/openapi.json")[1]
    queries = [service.ask(0), service.ask(9)]
    matches = [match["record"]["id"] for match in service.call("/api/search", {"query": queries[0]})[1]["matches"][:3]]
    names = {"query": queries, "gallery": ["people"], "name": ["people", "first", "young"]}
    return api, names | dict.fromkeys(("match", "ids", "id", "after"), matches)


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def ask_anything(service, described, data):
    api, real = described
    endpoints = [(path, method) for path, verbs in api["paths"].items() for method in verbs]
    path, method = data.draw(st.sampled_from(endpoints))
    verb = api["paths"][path][method]
    maker = Maker(api["components"]["schemas"], real, wild=data.draw(st.booleans()))
    asked = []
    for parameter in verb.get("parameters", ()):
        value = data.draw(maker.make(parameter["schema"], parameter["name"]))
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", as_part(value) or "-")
        elif value is not None:
            asked.append(f"{parameter['name']}={as_part(value)}")
    kinds = verb.get("requestBody", {}).get("content", {})
    body, headers = None, {}
    if "application/json" in kinds:
        body = json.dumps(data.draw(maker.make(kinds["application/json"]["schema"]))).encode()
        headers = {
            "content-type": data.draw(st.sampled_from(["application/json"] * 8 + ["text/plain", "multipart/form-data"]))
        }
    elif kinds:
        body = data.draw(st.binary(max_size=300))
        headers = {
            "content-type": data.draw(
                st.sampled_from(["multipart/form-data; boundary=x", "image/jpeg", "application/json"])
            )
        }
    with closing(http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=60)) as connection:
        connection.request(method.upper(), f"{path}?{'&'.join(asked)}", body, headers)
        answer = connection.getresponse()
        found = answer.read()
    assert answer.status < 500, (method, path, asked, body, found)
    if answer.status >= 400:
        error = json.loads(found)["error"]
        assert isinstance(error, str)
        assert "\n" not in error
    assert answer.status in {200, 201, 202, 400, 404, 405, 413, 422, 503}  # the last where too many jobs wait


def test_nothing_asked_breaks_it(service, described):
    ask_anything(service, described)
    assert service.call("/api/galleries")[0] == 200
    assert service.call("/api/search", {"query": service.ask()})[0] == 200


def test_what_the_description_shows_first_is_answered(service, described):
    """Every endpoint answers well when it is asked well, so that the random requests are near something."""
    api, _ = described
    query = service.ask()
    match = service.call("/api/search", {"query": query, "k": 1})[1]["matches"][0]["record"]["id"]
    bodies = {
        "/api/queries/pictures": {"ids": [match]},
        "/api/search": {"query": query},
        "/api/why": {"query": query, "match": match},
        "/api/marks": {"query": query, "match": match, "right": True},
    }
    order = sorted(api["paths"], key=lambda path: path == "/api/marks/export")
    for path in order:
        for method in sorted(api["paths"][path], reverse=True):
            if path == "/api/queries":
                continue  # photographs are sent by every other test
            if (path, method) == ("/api/marks", "delete"):
                continue  # the export wants some
            if "jobs" in path or (path.startswith("/api/galleries/{name}/") and method != "get"):
                continue  # test_changes.py changes galleries, and asks for jobs that there are
            where = path.replace("{name}", "first" if "runs" in path else "people").replace("{id}", match)
            body = bodies.get(path) if method == "post" else None
            assert service.call(where, body, method=method.upper())[0] in (200, 201), (method, where)
