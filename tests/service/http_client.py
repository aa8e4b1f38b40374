"""Talking to a running service, and painted people to send."""

from __future__ import annotations

import json
import struct
import urllib.error
import urllib.request
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from regard.service.state import Limits, ServiceState

LIMITS = Limits(bytes=300_000, pixels=500_000, photos=3, queries=8)


@dataclass
class Service:
    """A running service and how to talk to it."""

    url: str
    state: ServiceState
    photos: Path

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, _, port = self.url.rpartition("/")[2].partition(":")
        return host, int(port)

    def call(
        self, path: str, body: Any = None, method: str | None = None, headers: dict | None = None
    ) -> tuple[int, Any]:
        """Status and JSON (or bytes) of an answer."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"content-type": "application/json"} | (headers or {})
        request = urllib.request.Request(self.url + path, data, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, found, kind = answer.status, answer.read(), answer.headers["content-type"]
        except urllib.error.HTTPError as error:
            with error:
                status, found, kind = error.code, error.read(), error.headers["content-type"]
        return status, json.loads(found) if kind == "application/json" else found

    def send(self, *files: tuple[str, bytes], field: str = "photos") -> tuple[int, Any]:
        """Upload photographs."""
        body, headers = multipart(files, field)
        return self.call("/api/queries", body, headers=headers)

    def photo(self, number: int = 0) -> Path:
        """One of the painted people."""
        return sorted(self.photos.rglob("*.jpg"))[number]

    def ask(self, number: int = 0) -> str:
        """The id of a query of one photograph."""
        status, made = self.send(("photo.jpg", self.photo(number).read_bytes()))
        assert status == 201
        return made["query"]


def multipart(files, field: str = "photos") -> tuple[bytes, dict[str, str]]:
    """The body of an upload, and its headers."""
    mark = uuid.uuid4().hex
    parts = []
    for name, data in files:
        head = f'--{mark}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
        parts.append(head.encode() + data + b"\r\n")
    return b"".join(parts) + f"--{mark}--\r\n".encode(), {"content-type": f"multipart/form-data; boundary={mark}"}


def paint(path: Path, pid: int, camera: int, shot: int) -> None:
    """A crop whose thirds tell the person, its brightness the camera."""
    colors = np.random.default_rng(pid).uniform(40, 215, (3, 1, 1, 3))
    noise = np.random.default_rng(1000 * pid + 10 * camera + shot).normal(0, 8, (96, 48, 3))
    thirds = np.broadcast_to(colors, (3, 32, 48, 3)).reshape(96, 48, 3) * (0.75 + 0.1 * camera)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((thirds + noise).clip(0, 255).astype(np.uint8)).save(path, quality=92)


def made_png(width: int, height: int, data: bytes) -> bytes:
    """A PNG with any size and any data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
