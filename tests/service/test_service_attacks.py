"""One client that means ill, and others who only want to search: raw sockets, and the service goes on."""

from __future__ import annotations

import io
import json
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from contextlib import ExitStack, closing
from dataclasses import replace

import numpy as np
import pytest
from http_client import LIMITS, multipart
from PIL import Image

QUICK = replace(LIMITS, head=1, stall=1, body=3, ending=3, connections=60, per_address=40, each=8)
HEAD = b"POST /api/queries HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"


@pytest.fixture
def quick(start):
    return start(limits=QUICK)


@pytest.fixture(scope="module")
def lasting(launch, tmp_path_factory):
    """One service for all that is only odd; it lets go of who is slow."""
    with launch(tmp_path_factory.mktemp("lasting"), limits=QUICK) as service:
        yield service


def sockets(service, count: int, said: bytes, held: ExitStack) -> list[socket.socket]:
    """Connections that say something, and no more."""
    out = []
    for _ in range(count):
        out.append(held.enter_context(closing(socket.create_connection(service.address, timeout=30))))
        try:
            out[-1].sendall(said)
        except OSError:
            continue  # let go of already
    return out


def answered(connection: socket.socket) -> bytes:
    """All that a connection says until it is closed."""
    found = b""
    try:
        while piece := connection.recv(65536):
            found += piece
    except OSError:
        pass
    return found


def status_of(service, sent: bytes) -> int:
    """The status of the answer to bytes; 0 where the connection was closed without one."""
    with closing(socket.create_connection(service.address, timeout=30)) as connection:
        connection.sendall(sent)
        found = answered(connection)
    return int(found.split(b" ")[1]) if found else 0


@pytest.mark.parametrize(
    "said",
    [
        b"", b"GET / HTTP/1.1\r\nHost: local", HEAD + b"Content-Length: 9999\r\n\r\n--x",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n--",
    ],
    ids=["silence", "half a head", "half a body", "half a chunk"],
)  # fmt: skip
def test_whoever_says_nothing_keeps_nobody_out(quick, said):
    """More than there is room for, and they are let go of; what waits for the rest of a body is told so."""
    with ExitStack() as held:
        waiting = sockets(quick, 2 * QUICK.connections, said, held)
        began = time.monotonic()
        assert quick.call("/api/search", {"query": quick.ask()})[0] == 200
        for connection in waiting:
            found = answered(connection)
            assert not found or b" 408 " in found.split(b"\r\n")[0] or b" 503 " in found.split(b"\r\n")[0]
        assert time.monotonic() - began < 60  # not for ever
    text = quick.call("/metrics")[1].decode()
    assert 'regard_refused_total{reason="connections"}' in text


def test_an_answer_that_nobody_reads_is_given_up(start):
    service = start(limits=QUICK)
    with ExitStack() as held:
        (reader,) = sockets(service, 1, b"", held)
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 400)
        for _ in range(600):
            if b'"unread"' in service.call("/metrics")[1]:
                return
            time.sleep(0.05)
    raise AssertionError("it was never given up")


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (b"GET / HTTP/1.1\r\nHost: [\r\n\r\n", {403}),
        (b"GET / HTTP/1.1\r\nHost: ]:[\r\n\r\n", {403}),
        (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", {403}),
        (b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n", {400, 403}),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.org\r\n\r\n", {400}),
        (b"GET / HTTP/1.1\r\n\r\n", {400}),
        (b"DELETE /api/marks HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[\r\n\r\n", {403}),
        (b"GET /api/galleries HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n", {403}),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"a%d: b\r\n" % n for n in range(200)) + b"\r\n", {431}),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: " + b"a" * 100_000 + b"\r\n\r\n", {0, 400, 431}),
        (b"GET http://[/ HTTP/1.1\r\nHost: localhost\r\n\r\n", {404}),
        (b"GET /%00%ff/../x HTTP/1.1\r\nHost: localhost\r\n\r\n", {404}),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", {404, 405}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {400}),
        (HEAD + b"Content-Length: 99999999999\r\n\r\n", {413}),
        (HEAD + b"Content-Length: -1\r\n\r\n", {400}),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", {400}),
        (b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n", {413}),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 40_000, {0, 400}),
    ],
)  # fmt: skip
def test_odd_requests_are_answered_and_are_no_failure(lasting, sent, statuses):
    if b"\r\n\r\n" in sent and b"Connection" not in sent:
        sent = sent.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    assert status_of(lasting, sent) in statuses
    assert lasting.call("/healthz") == (200, {"status": "alive"})


def test_a_body_deeper_than_python_goes_is_a_mistake(lasting):
    assert lasting.call("/api/search", b"[" * 250_000)[0] in (400, 422)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"--x\r\n" * 70, 400),
        (b'--x\r\nContent-Disposition: form-data; name="photos"\r\n' + b"a: b\r\n" * 3000 + b"\r\nz\r\n--x--", 400),
        (b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\nz\r\n--x--', 422),
        (b"--x--", 422),
        (b'--x\r\nContent-Disposition: form-data; name="photos"; filename="\\"\\', 400),
        (b"\r\n-" * 60_000, 400),
    ],
)
def test_odd_forms(lasting, body, status):
    found = lasting.call("/api/queries", body, headers={"content-type": "multipart/form-data; boundary=x"})
    assert found[0] == status, found


def as_bytes(picture: np.ndarray, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("height", "width"), [(1, 20_000), (20_000, 1), (1, 1)])
def test_a_line_of_pixels_is_searched_explained_and_marked(lasting, height, width):
    status, made = lasting.send(("line.png", as_bytes(np.zeros((height, width, 3), np.uint8))))
    assert status == 201
    match = lasting.call("/api/search", {"query": made["query"], "k": 1})[1]["matches"][0]["record"]["id"]
    for path, more in (("why", {}), ("marks", {"right": False})):
        assert lasting.call(f"/api/{path}", {"query": made["query"], "match": match, **more})[0] == 200


def test_what_photographs_cost_together_is_bounded(start):
    """Each may be sent; ten passes over as many pixels as one may have are what all of a query get."""
    service = start(limits=replace(LIMITS, pixels=20_000, passes=10))
    slow = as_bytes(np.zeros((140, 140, 3), np.uint8), "JPEG", progressive=True)
    assert service.send(("a", slow))[0] == 201
    status, found = service.send(("a", slow), ("b", slow))
    assert status == 400
    assert "would cost too much to decode" in found["error"]
    assert service.send(("long.png", as_bytes(np.zeros((19_000, 1, 3), np.uint8))))[0] == 201


def test_searches_do_not_wait_for_pictures_that_are_decoded(quick):
    """Both places for photographs are taken, and so is all of the row: a search is answered, a photograph is not."""
    query, photo = quick.ask(), quick.photo().read_bytes()
    free, taken = threading.Event(), []
    original = quick.state.ask_photos
    quick.state.ask_photos = lambda *asked: (free.wait(60), original(*asked))[1]
    threads = [threading.Thread(target=lambda: taken.append(quick.send(("x.jpg", photo))[0])) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(200):
            if quick.state.decoding._there.total() == 4:
                break
            time.sleep(0.05)
        assert quick.call("/api/search", {"query": query})[0] == 200
        assert quick.send(("x.jpg", photo))[0] == 429  # a fifth of one client
    finally:
        free.set()
        for thread in threads:
            thread.join()
    assert taken == [201] * 4
    quick.state.ask_photos = original
    assert quick.send(("x.jpg", photo))[0] == 201


def test_memory_that_bodies_fill_is_given_back(start):
    """Stalled uploads hold most of the memory there is; a new one is told that it is busy, and later there is room."""
    service = start(limits=replace(QUICK, held=400_000, stall=2))
    with ExitStack() as held:
        sockets(service, 2, HEAD + b"Content-Length: 250000\r\n\r\n" + b"x" * 190_000, held)
        time.sleep(0.3)
        body, headers = multipart([("x.jpg", b"x" * 100_000)])
        assert service.call("/api/queries", body, headers=headers)[0] == 503
    assert service.send(("x.jpg", service.photo().read_bytes()))[0] == 201


def test_nothing_of_an_upload_is_on_the_disk(start, monkeypatch):
    import tempfile

    def none(*_, **__):
        raise AssertionError("a temporary file")

    for name in ("TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, none)
    service = start(limits=replace(LIMITS, bytes=4 * 2**20, pixels=4_000_000))
    noise = np.random.default_rng(0).integers(0, 256, (800, 1000, 3), np.uint8)
    assert service.send(("big.png", as_bytes(noise)))[0] == 201  # 2.4 MB


def certificate(folder):
    """A certificate of this machine and its key."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


def test_tls_by_files(start, tmp_path):
    """Encrypted, with a cookie that stays so; handshakes that never end keep nobody out."""
    from regard.errors import ConfigError
    from regard.service.connections import tls_context

    files = certificate(tmp_path)
    service = start(limits=QUICK, token="0123456789abcdef0123", tls=tls_context(*files))
    trust = ssl.create_default_context(cafile=str(files[0]))
    with ExitStack() as held:
        sockets(service, 2 * QUICK.connections, b"\x16\x03\x01", held)
        url = service.url.replace("http://", "https://").replace("127.0.0.1", "localhost")
        bearer = {"Authorization": "Bearer 0123456789abcdef0123"}
        request = urllib.request.Request(f"{url}/api/galleries", headers=bearer)
        with urllib.request.urlopen(request, context=trust, timeout=30) as answer:
            assert json.load(answer)[0]["pictures"] == 48
    with socket.create_connection(service.address) as plain, trust.wrap_socket(plain, server_hostname="localhost") as s:
        s.sendall(b"GET /?token=0123456789abcdef0123 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b"; Secure" in answered(s)
    for wrong in ((files[0], files[0]), (tmp_path / "no", files[1])):
        with pytest.raises(ConfigError, match="cannot be used"):
            tls_context(*wrong)
