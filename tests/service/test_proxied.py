"""Tokens, proxies that are named and those that are not, nginx in front, and what whoever runs it sees."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from http_client import multipart

from regard.cli.main import main
from regard.errors import ConfigError
from regard.service.guard import check_address, check_root
from regard.service.journal import Journal, place_of
from regard.service.proxies import Proxies, host_name
from regard.service.tokens import ROLES, TokenFile

SERVE = Path(__file__).parents[2] / "docs" / "how-to" / "serve"
ENVIRONMENT = "0123456789abcdef0123"


@pytest.fixture
def tokens(tmp_path) -> tuple[TokenFile, dict[str, str]]:
    """A file with a token of every role, and the tokens."""
    file = TokenFile(tmp_path / "tokens")
    return file, {role: file.add(role, role) for role in ROLES}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_role_may_what_it_may_and_what_those_before_it_may(start, tokens):
    file, of = tokens
    service = start(token=ENVIRONMENT, tokens=file)
    wanted = {
        ("/metrics", "GET"): 0,
        ("/api/galleries", "GET"): 1,
        ("/api/marks", "POST"): 2,
        ("/api/marks", "DELETE"): 3,
    }
    for (path, method), least in wanted.items():
        body = {} if method == "POST" else None
        assert service.call(path, body, method)[0] == 401
        for number, role in enumerate(ROLES):
            status, found = service.call(path, body, method, bearer(of[role]))
            assert (status == 403) == (number < least), (path, role, status)
            if status == 403:
                assert found["error"] == f"that wants the role {ROLES[least]}; the token {role} has {role}"
    assert service.call("/api/me", headers=bearer(of["mark"]))[1] == {"name": "mark", "role": "mark"}
    assert service.call("/api/me", headers=bearer(ENVIRONMENT))[1] == {"name": "environment", "role": "administer"}
    for path in ("/healthz", "/readyz"):
        assert service.call(path)[0] == 200
    query = service.call("/api/queries", *multipart_photo(service, of["search"]))[1]["query"]
    assert service.call("/api/search", {"query": query}, headers=bearer(of["search"]))[0] == 200
    line = list(service.state.searchers["people"].gallery.audit.entries())[-1]
    assert (line["who"], line["role"], line["address"]) == ("search", "search", "127.0.0.1")


def multipart_photo(service, token):
    body, headers = multipart([("x.jpg", service.photo().read_bytes())])
    return body, "POST", headers | bearer(token)


def test_every_route_says_its_role_or_is_an_administrators(service):
    paths = service.call("/openapi.json")[1]["paths"]
    roles = {
        (path, method): verb.get("x-regard-role") for path, verbs in paths.items() for method, verb in verbs.items()
    }
    assert all(role in (*ROLES, "anybody") for role in roles.values()), roles
    from fastapi import FastAPI

    from regard.service.access import Routes

    app = FastAPI()
    app.get("/new")(lambda: None)
    assert Routes(app).find("GET", "/new").role == "administer"


def test_a_revoked_token_is_let_in_no_more_and_a_damaged_file_lets_nobody_in(start, tokens):
    file, of = tokens
    service = start(tokens=file)
    ask = lambda role: service.call("/api/galleries", headers=bearer(of[role]))[0]  # noqa: E731
    assert (ask("search"), ask("mark")) == (200, 200)
    assert main(["token", "revoke", str(file.path), "--name", "search"]) == 0
    assert (ask("search"), ask("mark")) == (401, 200)
    whole = file.path.read_text()
    file.path.write_text(whole + "{}\n")
    assert ask("mark") == 503
    file.path.write_text(whole)
    assert ask("mark") == 200
    file.path.chmod(0o644)
    assert ask("mark") == 503
    file.path.unlink()
    assert ask("mark") == 503


def test_the_file_of_tokens_has_digests_only_and_is_private(tmp_path, capsys):
    path = tmp_path / "new" / "tokens"
    assert main(["token", "add", str(path), "--name", "desk", "--role", "search"]) == 0
    token = capsys.readouterr().out.strip()
    assert re.fullmatch(r"regard_[0-9a-f]{48}", token)
    assert token not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert TokenFile(path).find(token).name == "desk"  # pyright: ignore[reportOptionalMemberAccess]
    assert TokenFile(path).find(token[:-1]) is None
    main(["token", "list", str(path)])
    assert re.search(r"^desk +search +20\d\d-", capsys.readouterr().out, re.MULTILINE)
    for arguments, wanted in (
        (["add", str(path), "--name", "desk", "--role", "search"], "there is a token 'desk' in"),
        (["add", str(path), "--name", "a b", "--role", "search"], "wanted 1 to 64 letters"),
        (["add", str(path), "--name", "environment", "--role", "search"], "not 'environment'"),
        (["add", str(path), "--name", "x", "--role", "serach"], "did you mean 'search'?"),
        (["revoke", str(path), "--name", "dsk"], "did you mean 'desk'?"),
        (["list", str(tmp_path / "nowhere")], "regard token add"),
    ):
        assert main(["token", *arguments]) == 2
        assert wanted in capsys.readouterr().err


def test_cookies_of_other_applications_are_no_hindrance(start):
    service = start(token=ENVIRONMENT)
    for jar in (
        'prefs={"a": [1, "b; c"]}; bare; x=[]; regard_token=TOKEN',
        'bare word; =; regard_token="TOKEN"; a=b=c',
        "regard_token=other; regard_token=TOKEN",
    ):
        assert service.call("/api/galleries", headers={"Cookie": jar.replace("TOKEN", ENVIRONMENT)})[0] == 200
    assert service.call("/api/galleries", headers={"Cookie": f"a=regard_token={ENVIRONMENT}"})[0] == 401


def test_the_form_of_the_page_takes_a_token(start):
    service = start(token=ENVIRONMENT)
    html = {"Accept": "text/html"}
    status, page = service.call("/", headers=html)
    assert status == 401
    assert b'action="login"' in page
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert service.call("/login", b"token=wrong", headers=form | html)[0] == 401
    assert (
        service.call("/login", f"token={ENVIRONMENT}".encode(), headers=form | {"Origin": "http://evil.org"})[0] == 403
    )
    answer = raw(service, "/login", f"token={ENVIRONMENT}".encode(), form)
    assert (answer.status, answer.headers["location"]) == (303, "/")
    assert "HttpOnly" in answer.headers["set-cookie"]


def raw(service, path, body=None, headers=None, context=None):
    """An answer that is not followed."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    request = urllib.request.Request(service if isinstance(service, str) else service.url + path, body, headers or {})
    handlers = [Stay, *([urllib.request.HTTPSHandler(context=context)] if context else [])]
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=30) as answer:
            answer.content = answer.read()
            return answer
    except urllib.error.HTTPError as error:
        with error:
            error.content = error.read()
            return error


# Proxies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "headers", "address", "scheme", "host"),
    [
        ("9.9.9.9", {"x-forwarded-for": "1.1.1.1", "x-forwarded-proto": "https"}, "9.9.9.9", "http", "in"),
        ("10.0.0.1", {}, "10.0.0.1", "http", "in"),
        ("10.0.0.1", {"x-forwarded-for": "1.1.1.1"}, "1.1.1.1", "http", "in"),
        ("10.0.0.1", {"x-forwarded-for": "6.6.6.6, 1.1.1.1, 10.2.0.1"}, "1.1.1.1", "http", "in"),
        ("::ffff:10.0.0.1", {"x-forwarded-for": "[2001:db8::1]:443"}, "2001:db8::1", "http", "in"),
        ("10.0.0.1", {"x-forwarded-for": "1.1.1.1, unknown"}, "10.0.0.1", "http", "in"),
        ("10.0.0.1", {"x-forwarded-for": "1.1.1.1:99", "x-forwarded-proto": "https", "x-forwarded-host": "out:8443"},
         "1.1.1.1", "https", "out:8443"),
        ("10.0.0.1", {"x-forwarded-proto": "gopher"}, "10.0.0.1", "http", "in"),
        ("10.0.0.1", {"forwarded": 'for="[2001:db8::2]:1";proto=https;host=out, for=10.0.0.9;proto=https;host=out'},
         "2001:db8::2", "https", "out"),
        ("10.0.0.1", {"forwarded": "for=1.1.1.1", "x-forwarded-for": "1.1.1.1"}, "1.1.1.1", "http", "in"),
        ("10.0.0.1", {"forwarded": ";;=,", "x-forwarded-host": ""}, "10.0.0.1", "http", "in"),
    ],
)  # fmt: skip
def test_named_proxies_are_believed_and_no_others(peer, headers, address, scheme, host):
    seen = Proxies(["10.0.0.0/8"]).look({"client": (peer, 1), "scheme": "http"}, {"host": "in", **headers})
    assert (seen.address.removeprefix("::ffff:"), seen.scheme, seen.host) == (address, scheme, host)


def test_two_accounts_of_a_client_are_refused(start):
    headers = {"forwarded": "for=2.2.2.2", "x-forwarded-for": "1.1.1.1"}
    with pytest.raises(ValueError, match="different clients"):
        Proxies(["10.0.0.1"]).look({"client": ("10.0.0.1", 1)}, headers)
    service = start(token=ENVIRONMENT, proxies=Proxies(["127.0.0.1"]))
    assert service.call("/api/galleries", headers=headers | bearer(ENVIRONMENT))[0] == 400


def test_what_is_no_proxy_path_or_host_is_said():
    for text in ("nginx", "10.0.0.0/33", "10.1.2.3/8", ""):
        with pytest.raises(ConfigError, match="wanted an address or a network"):
            Proxies([text])
    for root in ("people", "/a//b", "/a/../b", "/api", "/a b", "/<x>"):
        with pytest.raises(ConfigError, match="wanted a path"):
            check_root(root)
    assert [check_root(root) for root in ("", "/", "/people/", "/a/b", "/apis")] == ["", "", "/people", "/a/b", "/apis"]
    with pytest.raises(ConfigError, match="--proxy lets other machines in"):
        check_address("127.0.0.1", None, proxied=True)
    assert [host_name(host) for host in ("[", "]", "a]b", "[::1", "x:y", "é", "a@b")] == [""] * 7


def test_behind_a_proxy_under_a_path(start):
    """Cut off by the proxy or not, the path is there; origin and cookie are those of the outside."""
    service = start(token=ENVIRONMENT, proxies=Proxies(["127.0.0.1"]), root="/people")
    outside = {"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "search.example.org"}
    for path in ("/api/galleries", "/people/api/galleries"):
        assert service.call(path, headers=outside | bearer(ENVIRONMENT))[0] == 200
    answer = raw(service, f"/people/?token={ENVIRONMENT}", headers=outside)
    assert (answer.status, answer.headers["location"]) == (303, "/people/")
    assert {"Secure", "Path=/people/"} <= set(answer.headers["set-cookie"].split("; "))
    assert raw(service, "/people").headers["location"] == "/people/"
    for origin, status in (("https://search.example.org", 200), ("http://search.example.org", 403), (service.url, 403)):
        sent = outside | bearer(ENVIRONMENT) | {"Origin": origin}
        assert service.call("/people/api/marks", None, "DELETE", sent)[0] == status
    assert list(service.state.searchers["people"].gallery.audit.entries())[-1]["address"] == "1.2.3.4"
    described = service.call("/people/openapi.json", headers=bearer(ENVIRONMENT))[1]
    assert described["servers"] == [{"url": "/people"}]


@contextmanager
def nginx(folder: Path, upstream: str, port: int):
    """nginx as the documents' example has it, on a port of its own, for whoever runs the tests."""
    text = (SERVE / "nginx.conf").read_text()
    for old, new in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"), ("http://127.0.0.1:8000", upstream),
        ("/etc/ssl/regard/fullchain.pem", f"{folder}/cert.pem"), ("/etc/ssl/regard/privkey.pem", f"{folder}/key.pem"),
        ("/var/log/nginx/regard.log", f"{folder}/access.log"),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\n{temporary}{text}\n}}\n"
    )
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    with subprocess.Popen([str(program), "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=-3) as process:
        try:
            yield f"https://localhost:{port}/people"
        finally:
            process.terminate()


@pytest.mark.skipif(
    not shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"), reason="no nginx (Debian: nginx-light)"
)
def test_nginx_in_front_as_the_documents_have_it(start, tokens, tmp_path, browser):
    import socket

    from test_service_attacks import certificate

    file, of = tokens
    lines = io.StringIO()
    service = start(tokens=file, proxies=Proxies(["127.0.0.1"]), root="/people", journal=Journal(stream=lines))
    files = certificate(tmp_path)
    trust = ssl.create_default_context(cafile=str(files[0]))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with nginx(tmp_path, service.url, port) as url:
        for _ in range(200):
            try:
                assert raw(f"{url}/healthz", "", context=trust).status == 200
                break
            except OSError:
                time.sleep(0.05)
        assert raw(url, "", context=trust).headers["location"].endswith("/people/")
        context = browser.new_context(ignore_https_errors=True)
        page = context.new_page()
        assert page.goto(f"{url}/").status == 401
        page.fill("input[name=token]", of["search"])
        page.click("button")
        page.wait_for_selector("#cameras .chip")
        page.set_input_files("#photos", str(service.photo(0)))
        page.wait_for_selector(".card")
        assert page.url == f"{url}/"
        assert page.locator("[data-act=right]:visible").count() == 0  # what the role may not do is not there
        assert page.locator("[data-act=why]:visible").count() == 24
        (cookie,) = context.cookies()
        assert (cookie["path"], cookie["secure"], cookie["httpOnly"]) == ("/people/", True, True)
        context.close()
        raw(f"{url}/?token={of['search']}", "", context=trust)
    log = (tmp_path / "access.log").read_text()
    assert "/people/api/search" in log
    time.sleep(0.2)
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert {line["token"] for line in told if line["route"] == "/api/search"} == {"search"}
    assert {line["request"] for line in told if line["route"] == "/api/search"} <= set(log.split())
    for secret in (*of.values(), service.photo(0).name):
        assert secret not in log
        assert secret not in lines.getvalue()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_the_systemd_unit_is_one(tmp_path):
    unit = tmp_path / "regard.service"
    unit.write_text((SERVE / "regard.service").read_text().replace("/usr/bin/env", shutil.which("env") or ""))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "regard.service" in line]
    assert said == [], said


# What whoever runs it sees ------------------------------------------------------------------------------------------


def test_every_request_is_a_line_without_secrets_and_a_figure(start):
    lines = io.StringIO()
    service = start(token=ENVIRONMENT, journal=Journal(stream=lines))
    service.call("/api/search?secret=1", {"query": "x"}, headers=bearer(ENVIRONMENT) | {"X-Request-Id": "abc-1"})
    service.call("/api/runs/secret", headers=bearer(ENVIRONMENT) | {"X-Request-Id": "bad id\t<x>"})
    service.call("/secret", headers=bearer("secret"))
    answer = raw(service, "/healthz", headers={"X-Request-Id": "abc-2"})
    assert answer.headers["x-request-id"] == "abc-2"
    text = service.call("/metrics", headers=bearer(ENVIRONMENT))[1].decode()
    time.sleep(0.2)
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [(line["method"], line["route"], line["status"]) for line in told[:4]] == [
        ("POST", "/api/search", 404), ("GET", "/api/runs/{name}", 404), ("other", "", 401), ("GET", "/healthz", 200),
    ]  # fmt: skip
    assert told[0]["request"] == "abc-1"
    assert re.fullmatch("[0-9a-f]{16}", told[1]["request"])
    assert (told[0]["token"], told[2]["refused"]) == ("environment", "token")
    assert "secret" not in lines.getvalue()
    assert ENVIRONMENT not in lines.getvalue()
    assert 'regard_requests_total{route="/api/runs/{name}",method="GET",status="404"} 1' in text
    assert 'regard_pictures{gallery="people"} 48' in text
    assert 'regard_refused_total{reason="token"} 1' in text
    assert 'regard_search_seconds_bucket{le="+Inf"} 0' in text


def test_a_failure_is_one_line_to_both_sides(start):
    lines = io.StringIO()
    service = start(journal=Journal("error", lines))
    service.state.searcher = lambda name: {}[name]  # a fault of ours
    status, found = service.call("/api/galleries/people/pictures")
    assert (status, set(found)) == (500, {"error"})
    time.sleep(0.2)
    (line,) = [json.loads(line) for line in lines.getvalue().splitlines() if "route" in line]
    assert line["fault"].startswith("KeyError at test_proxied.py")
    assert "people" not in lines.getvalue()
    assert place_of(ValueError("a name")) == "ValueError"


def test_a_journal_that_nobody_reads_holds_up_nothing():
    class Stuck(io.StringIO):
        def write(self, text):
            time.sleep(3600)
            return 0

    journal = Journal(stream=Stuck())
    for _ in range(5000):
        journal.write("info", route="/")
    assert journal.dropped > 0
    journal.close()


def test_a_gallery_that_cannot_be_asked_is_not_ready(service):
    service.state.searchers["people"].gallery.close()
    for _ in range(60):
        status, found = service.call("/readyz")
        if status == 503:
            break
        time.sleep(0.05)
    assert (status, found) == (503, {"status": "not ready", "galleries": 0, "of": 1})
    assert service.call("/healthz")[0] == 200
