"""Which role a route wants, said where the route is made, and found again before any of a request is read.

    @app.post("/api/marks", **needs("mark"))

A route that says nothing is an administrator's.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from regard.service.tokens import ANYBODY, ROLES

__all__ = ["LOGIN", "Route", "Routes", "needs", "show_roles"]

LOGIN = "/login"
"""Where the page's form sends a token, before there is a page."""

ROLE, UPLOAD = "x-regard-role", "x-regard-upload"


class Route(NamedTuple):
    """Where a request goes.

    Attributes:
        path: as the application has it, such as ``/api/runs/{name}``; empty where there is no such place.
        role: wanted.
        upload: whether it takes pictures, and so a larger body.
    """

    path: str
    role: str
    upload: bool = False


def needs(role: str, *, upload: dict[str, Any] | None = None) -> dict[str, Any]:
    """Options of a route that wants a role.

    Args:
        role: one of :data:`regard.service.tokens.ROLES`, or ``ANYBODY``.
        upload: the parts of the form with pictures that it takes, as a JSON schema; None for a route that takes none.
    """
    extra: dict[str, Any] = {ROLE: role}
    if upload is not None:
        content = {"multipart/form-data": {"schema": upload}}
        extra |= {UPLOAD: True, "requestBody": {"required": True, "content": content}}
    return {"openapi_extra": extra}


class Routes:
    """The routes of an application.

    Args:
        app: of FastAPI, with all its routes.
    """

    def __init__(self, app: Any):
        self._known = [(re.compile(LOGIN), {"POST"}, Route(LOGIN, ANYBODY))]
        for route in app.routes:
            extra = getattr(route, "openapi_extra", None) or {}
            role = ROLES[0] if route.path == app.openapi_url else extra.get(ROLE, ROLES[-1])
            self._known.append((route.path_regex, route.methods or set(), Route(route.path, role, UPLOAD in extra)))

    def find(self, method: str, path: str) -> Route:
        """Where a request goes; any token will do for what there is not, which is answered 404 or 405."""
        found = Route("", ROLES[0])
        for pattern, methods, route in self._known:
            if pattern.fullmatch(path):
                if method in methods:
                    return route
                found = Route(route.path, ROLES[0])
        return found


def show_roles(app: Any) -> None:
    """Describe in an application's OpenAPI document that tokens are wanted, beside the role of every route."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        described = describe()
        described.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"token": []}]
        return described

    app.openapi = openapi
