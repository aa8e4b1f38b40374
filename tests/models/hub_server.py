"""A hub on this machine: Hugging Face's HTTP as far as its client asks for it to make, fill and read models."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["Hub", "served"]

TOKEN = "hf_of_the_tests"


class Hub:
    """What the server holds: repository -> branch or commit -> file -> content."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.heads: dict[str, dict[str, str]] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.sizes: dict[str, int] = {}
        self.url = ""

    def put(self, repo: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Make a commit of these files alone, as a stranger might, and return it."""
        commit = hashlib.sha1(repr((repo, sorted(files.items()), len(self.repos.get(repo, {})))).encode()).hexdigest()
        self.repos.setdefault(repo, {})[commit] = files
        self.heads.setdefault(repo, {})[branch] = commit
        return commit

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        commits = self.repos[repo]
        return commits[self.heads[repo].get(revision, revision)]

    def commit(self, repo: str, branch: str, lines: list[dict[str, Any]]) -> str:
        head = self.heads[repo].get(branch)
        files = dict(self.repos[repo][head]) if head else {}
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.blobs[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        return self.put(repo, files, branch)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def answer(self, status: int, content: Any = None, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def parts(self) -> list[str]:
        path = urlsplit(self.path).path
        self.hub.asked.append(f"{self.command} {path}")
        return [unquote(part) for part in path.strip("/").split("/")]

    def may_write(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self.answer(401, {"error": "Invalid username or password."})
        return False

    def do_PUT(self) -> None:
        data = self.body()
        self.hub.blobs[self.parts()[-1]] = data
        self.answer(200, {})

    def do_POST(self) -> None:
        parts, body = self.parts(), self.body()
        if parts[:2] == ["api", "validate-yaml"]:
            self.answer(200, {"errors": [], "warnings": []})
        elif not self.may_write():
            return
        elif parts[:3] == ["api", "repos", "create"]:
            told = json.loads(body)
            repo = f"{told.get('organization') or 'somebody'}/{told['name']}"
            there = repo in self.hub.repos
            if not there:
                self.hub.put(repo, {".gitattributes": b"*.safetensors filter=lfs\n"})
            self.answer(409 if there else 200, {"url": f"{self.hub.url}/{repo}"})
        elif parts[-4:] == ["info", "lfs", "objects", "batch"]:
            told = json.loads(body)["objects"]
            actions = [{**one, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}} for one in told]
            self.answer(200, {"transfer": "basic", "objects": actions})
        elif parts[4] == "preupload":
            told = json.loads(body)["files"]
            modes = [
                {"path": one["path"], "shouldIgnore": False,
                 "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular"}
                for one in told
            ]  # fmt: skip
            self.answer(200, {"files": modes})
        elif parts[4] == "branch":
            repo = "/".join(parts[2:4])
            self.hub.heads[repo].setdefault(parts[5], self.hub.heads[repo]["main"])
            self.answer(200, {})
        elif parts[4] == "commit":
            repo = "/".join(parts[2:4])
            commit = self.hub.commit(repo, parts[5], [json.loads(line) for line in body.splitlines()])
            self.answer(200, {"commitUrl": f"{self.hub.url}/{repo}/commit/{commit}", "commitOid": commit})
        else:
            self.answer(404, {"error": "not here"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.parts()
        repo = "/".join(parts[2:4]) if parts[:2] == ["api", "models"] else "/".join(parts[:2])
        if repo not in self.hub.repos:
            self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return
        if "revision" in parts[4:5] or "resolve" in parts[2:3]:
            revision = parts[5] if parts[0] == "api" else parts[3]
        else:
            revision = "main"
        try:
            files = self.hub.files(repo, revision)
        except KeyError:
            self.answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
            return
        commit = self.hub.heads[repo].get(revision, revision)
        if parts[0] == "api":
            listed = [{"rfilename": name, "size": self.hub.sizes.get(name, len(files[name]))} for name in sorted(files)]
            self.answer(200, {"id": repo, "sha": commit, "siblings": listed, "tags": [], "private": False})
        elif (name := "/".join(parts[4:])) in files:
            tag = hashlib.sha256(files[name]).hexdigest()
            self.answer(200, files[name], X_Repo_Commit=commit, ETag=f'"{tag}"')
        else:
            self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)


@contextmanager
def served() -> Iterator[Hub]:
    """A hub without models, at ``url``, for as long as the context lasts."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
