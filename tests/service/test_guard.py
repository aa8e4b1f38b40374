"""Who may come in, how much they may bring, and what nonsense is answered with."""

from __future__ import annotations

import http.client
import io
import json
import random
import urllib.parse
import zlib

import pytest
from http_client import made_png
from PIL import Image

from regard.errors import ConfigError
from regard.service.guard import check_address, host_name

TOKEN = "0123456789abcdef0123"


def test_other_machines_want_a_token():
    check_address("127.0.0.1", None)
    check_address("0.0.0.0", TOKEN)
    for host in ("0.0.0.0", "192.168.1.5", "example.org", "::"):
        with pytest.raises(ConfigError, match="wants a token"):
            check_address(host, None)
    for token in ("short", "a" * 15, "with space in it....", "with;semicolon;;;;;;"):
        with pytest.raises(ConfigError, match="the token wants"):
            check_address("0.0.0.0", token)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost:80", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]:8000", "::1"),
        ("evil.org", "evil.org"),
        ("", ""),
    ],
)
def test_the_name_in_a_host_header(host, name):
    assert host_name(host) == name


@pytest.mark.parametrize("host", ["evil.org", "evil.org:80", "127.0.0.1.evil.org", "localhost@evil.org", ""])
def test_a_foreign_name_for_this_machine_is_refused(lasting, host):
    status, found = lasting.call("/api/galleries", headers={"Host": host})
    assert (status, found) == (403, {"error": "this service answers to localhost only"})


def test_a_page_of_another_origin_can_do_nothing(lasting):
    for origin in ("http://evil.org", "null", "http://localhost:1"):
        assert lasting.call("/api/marks", method="DELETE", headers={"Origin": origin})[0] == 403
    assert lasting.call("/api/marks", method="DELETE", headers={"Origin": lasting.url})[0] == 200


def test_with_a_token_nothing_goes_without(start):
    service = start(token=TOKEN)
    for path in (
        "/",
        "/api/galleries",
        "/openapi.json",
        "/static/app.js",
        "/?token=wrong",
        "/api/galleries?token=" + TOKEN,
    ):
        assert service.call(path)[0] == 401
    assert service.call("/api/galleries", headers={"Authorization": f"Bearer {TOKEN}"})[0] == 200
    assert service.call("/api/galleries", headers={"Cookie": f"regard_token={TOKEN}"})[0] == 200
    for cookie in ("regard_token=wrong", "regard_token", "=;;=", "regard_token=é"):
        assert service.call("/api/galleries", headers={"Cookie": cookie.encode("latin-1").decode("latin-1")})[0] == 401
    connection = http.client.HTTPConnection(service.url.removeprefix("http://"))
    connection.request("GET", f"/?token={TOKEN}")
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("location")) == (303, "/")
    assert {"HttpOnly", "SameSite=Strict"} <= set(answer.getheader("set-cookie").split("; "))
    connection.close()


def test_browsers_are_told_to_trust_nothing(lasting):
    connection = http.client.HTTPConnection(lasting.url.removeprefix("http://"))
    for path in ("/", "/api/galleries", "/nothing"):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert "default-src 'none'" in answer.getheader("content-security-policy")
        assert answer.getheader("x-content-type-options") == "nosniff"
        assert answer.getheader("cache-control") == "no-store"
        assert answer.getheader("server") is None or "uvicorn" in answer.getheader("server")
    connection.close()


def test_too_many_bytes_are_refused_whatever_is_claimed(lasting):
    limit = lasting.state.limits.bytes
    status, found = lasting.send(("big.jpg", b"\xff" * (limit + 1)))
    assert status == 413
    assert "bytes" in found["error"]
    address = urllib.parse.urlsplit(lasting.url)
    connection = http.client.HTTPConnection(address.hostname, address.port)
    connection.putrequest("POST", "/api/queries")
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    try:
        for _ in range(2 * limit // 10_000):
            connection.send(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        connection.send(b"0\r\n\r\n")
    except OSError:
        pass  # refused while it was sent
    else:
        assert connection.getresponse().status in (400, 413)
    connection.close()
    assert lasting.call("/api/galleries")[0] == 200


def bomb(width: int, height: int) -> bytes:
    """A small PNG that claims many pixels."""
    return made_png(width, height, zlib.compress(b"\0" * 1000))


def many_scans(count: int) -> bytes:
    """A progressive JPEG that goes over its pixels again and again."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 128), "red").save(stream, "JPEG", progressive=True)
    whole = stream.getvalue()
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * count + whole[-2:]


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"", "is empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is no picture"),
        (b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "is no picture"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 50, "is"),
        (bomb(60_000, 60_000), "claims more than 500,000 pixels"),
        (bomb(800, 700), "claims more than 500,000 pixels"),
        (bomb(100, 100), "is damaged"),
        (many_scans(882), "more than 100 scans"),
    ],
)
def test_what_is_no_photograph_is_said_in_one_line(lasting, data, wanted):
    status, found = lasting.send(("evil.jpg", data))
    assert status == 400
    assert wanted in found["error"]
    assert "\n" not in found["error"]


def test_too_many_photographs(lasting):
    photo = lasting.photo().read_bytes()
    status, found = lasting.send(*[(f"{n}.jpg", photo) for n in range(4)])
    assert (status, found["error"]) == (400, "got 4 photographs, wanted 1 to 3 of one person")


@pytest.mark.parametrize("name", ["../../etc/passwd", "C:\\x.jpg", "a" * 5000, "x\0y.jpg", "<script>.jpg", "é.jpg"])
def test_the_name_of_a_file_means_nothing(lasting, name):
    assert lasting.send((name, lasting.photo().read_bytes()))[0] in (201, 400)
    assert lasting.send((name, b"no picture"))[0] == 400


@pytest.mark.parametrize(
    "body",
    [
        {}, [], "x", 5, None, {"query": 5}, {"query": "x", "k": 0}, {"query": "x", "k": 10**30},
        {"query": "x", "k": "nine"},
        {"query": "x", "cameras": "1"}, {"query": "x", "since": {}}, {"query": "x", "more": 1}, {"query": "x" * 10_000},
        {"query": "x", "attributes": {"a": "b"}}, {"query": "\ud800"},
    ],
)  # fmt: skip
def test_searches_that_make_no_sense(lasting, body):
    status, found = lasting.call("/api/search", json.dumps(body).encode())
    assert status in (404, 422)
    assert isinstance(found["error"], str)


@pytest.mark.parametrize(
    "options",
    [
        {"since": "yesterday"}, {"since": "1e400"}, {"until": "9999999-01-01"}, {"attributes": {"a.b": ["x"]}},
        {"attributes": {'"': ["x"]}}, {"gallery": "nowhere"}, {"gallery": "../people"}, {"cameras": ["\udfff"]},
    ],
)  # fmt: skip
def test_filters_that_make_no_sense(lasting, options):
    status, found = lasting.call("/api/search", {"query": lasting.ask(), **options})
    assert status in (400, 404, 422)
    assert "\n" not in found["error"]


@pytest.mark.parametrize(
    "options", [{"cameras": ["'; drop", '"', "\\", "\0", "💥"]}, {"persons": [""]}, {"tracks": []}]
)
def test_odd_values_just_match_nothing(lasting, options):
    status, found = lasting.call("/api/search", {"query": lasting.ask(), **options})
    assert (status, found["matches"]) == (200, [])


def test_fuzzed_uploads_never_break_it(lasting):
    """Real pictures in five formats with random bytes changed, cut and doubled: a query, or one line; never a 500."""
    from PIL import Image

    random_ = random.Random(0)
    pictures = []
    with Image.open(lasting.photo()) as image:
        for format in ("JPEG", "PNG", "WEBP", "BMP", "TIFF"):
            buffer = io.BytesIO()
            image.save(buffer, format)
            pictures.append(buffer.getvalue())
    seen = set()
    for round_ in range(120):
        data = bytearray(pictures[round_ % 5])
        for _ in range(random_.choice((1, 3, 30))):
            place = random_.randrange(min(len(data), random_.choice((40, len(data)))))
            data[place] = random_.randrange(256)
        if round_ % 3 == 0:
            data = data[: random_.randrange(len(data))]
        status, found = lasting.send(("fuzzed", bytes(data)))
        assert status in (201, 400), found
        seen.add(status)
    assert seen == {201, 400}
    assert lasting.call("/api/galleries")[0] == 200


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe{", b"[" * 100_000], ids=["cut", "no text", "deep"])
def test_a_body_that_is_no_json_is_told_so(lasting, body):
    status, found = lasting.call("/api/search", body)
    assert (status in (400, 422), found["error"]) == (
        True,
        "the body is no JSON that can be read, wanted an object; see /openapi.json",
    )


def test_fuzzed_bodies_never_break_it(lasting):
    """The multipart body itself, cut and changed."""
    from http_client import multipart

    random_ = random.Random(1)
    whole, headers = multipart([("a.jpg", lasting.photo().read_bytes())])
    for _ in range(80):
        body = bytearray(whole)
        for _ in range(random_.choice((1, 5))):
            body[random_.randrange(200)] = random_.randrange(256)
        status, found = lasting.call(
            "/api/queries", bytes(body[: random_.randrange(1, len(body) + 1)]), headers=headers
        )
        assert status in (201, 400, 422), found
    assert lasting.call("/api/galleries")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api/galleries/people/pictures/..%2f..%2fgallery.json/thumbnail",
        "/api/galleries/people/pictures?after=../x",
        "/api/galleries/people/pictures?limit=x",
        "/api/galleries/..%2f..%2fetc/pictures",
        "/static/..%2fapp.py",
        "/gallery.json",
    ],
)
def test_no_path_of_a_request_reaches_the_disk(lasting, path):
    status, found = lasting.call(path)
    assert status in (400, 404, 422)
    assert set(found) == {"error"}
