"""Where pictures come from, and what is known of them."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from regard.data.image import decode_image as decode
from regard.data.listing import noting, walk_images
from regard.data.modern import decode_file, readable_kinds
from regard.errors import ConfigError, DataError
from regard.gallery.inputs import list_inputs, list_sources, read_table
from regard.gallery.origins import TAKEN, PathReader, exif_moment, time_zone
from regard.gallery.pruning import find_gone
from regard.gallery.record import Record, record_id
from regard.gallery.thumbnails import thumbnail


def jpeg(color=(200, 30, 30), size=(24, 48), format="JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, format)
    return buffer.getvalue()


def write_tar(path, files):
    with tarfile.open(path, "w") as shard:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            shard.addfile(info, io.BytesIO(data))


def test_a_folder_is_walked_in_order(tmp_path):
    for name in ("b/2.jpg", "b/10.png", "a/x.JPG", ".hidden/x.jpg", "by its bytes", "a/.y.jpg", "z.webp", "b/c/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(jpeg())
    (tmp_path / "notes.txt").write_text("no picture")
    paths = [source.path.removeprefix(f"{tmp_path.as_posix()}/") for source in list_sources([tmp_path])]
    assert paths == ["by its bytes", "z.webp", "a/x.JPG", "b/10.png", "b/2.jpg", "b/c/1.jpg"]


def test_what_is_left_out_is_counted(tmp_path, monkeypatch):
    """Pictures by ending or by content; links followed, never round and round; the rest by reason."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr("regard.data.modern.find_spec", lambda name: None)
    (tmp_path / "a").mkdir()
    for name in ("a/1.jfif", "a/2.gif", "elsewhere"):
        (tmp_path / name).write_bytes(jpeg())
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to("self")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "linked.png").symlink_to("elsewhere")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "photo").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (tmp_path / "scan.heic").write_bytes(b"?")
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(40))
    (tmp_path / "raw.nef").write_bytes(b"MM\0*" + bytes(40))
    (tmp_path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11")
    (tmp_path / "readme").write_text("caf\u00e9 " * 9)
    write_tar(tmp_path / "s.tar", {"1.jpg": jpeg(), "noending": jpeg(), "film.avi": b"RIFF    AVI " + bytes(30)})
    with noting() as skipped:
        found = list_sources([tmp_path])
    names = [source.path.removeprefix(f"{tmp_path.as_posix()}/") for source in found]
    assert names == ["elsewhere", "linked.png", "s.tar!1.jpg", "s.tar!noending", "a/1.jfif", "a/2.gif"]
    assert {reason: len(found) for reason, found in skipped.reasons.items()} == {
        "other file": 1,
        "text file": 1,
        "dangling link": 2,
        "HEIC picture": 2,
        "video": 2,
        "camera raw file": 1,
        "pipe, socket or device file": 2,
        "repeated folder": 2,
    }
    assert "2 dangling links (" in str(skipped)
    with pytest.raises(DataError, match=r"cannot open .*pipe, socket or device"):
        list_sources([tmp_path / "pipe.jpg"])[0].read()
    with pytest.raises(DataError, match=r"cannot open .*zero\.jpg"):
        list_sources([tmp_path / "zero.jpg"])[0].read()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "x.heic").touch()
    with pytest.raises(DataError, match=r"no pictures in .*only 1 HEIC picture .*; pip install 'regard\[heic\]'"):
        list_sources([tmp_path / "empty", tmp_path])


@pytest.mark.parametrize(("kind", "format"), [("AVIF picture", "AVIF"), ("HEIC picture", "HEIF")])
def test_pictures_of_phones_are_read_where_their_libraries_are(tmp_path, monkeypatch, kind, format):
    """By their bytes, in folders and shards, upright, with the time in their EXIF; not from an upload."""
    if kind not in readable_kinds():
        pytest.skip(f"nothing here reads a {kind}")
    if format == "HEIF":
        from pillow_heif import register_heif_opener

        monkeypatch.setattr(Image, "SAVE", dict(Image.SAVE))
        register_heif_opener()
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({TAKEN: "2026:05:01 08:30:00"})
    buffer = io.BytesIO()
    Image.new("RGB", (64, 128), (200, 30, 30)).save(buffer, format, exif=exif.tobytes())
    content = buffer.getvalue()
    (tmp_path / "phone").write_bytes(content)
    write_tar(tmp_path / "s.tar", {"1.heic": content})
    for source in list_sources([tmp_path]):
        picture = decode_file(source.read(), source.path)
        assert picture.shape == (128, 64, 3)
        assert np.abs(picture.mean((0, 1)) - (200, 30, 30)).max() < 6
        assert exif_moment(content, UTC).seconds == 1777624200.0
    assert len(list_sources([tmp_path])) == 2
    with pytest.raises(DataError, match=f"is no picture but {kind}"):
        decode(content, "x")
    with pytest.raises(DataError, match="damaged"):
        decode_file(content[:200], "x")
    size = content.index(b"ispe") + 8
    with pytest.raises(DataError, match="cost too much"):
        decode_file(content[:size] + (8000).to_bytes(4) * 2 + content[size + 8 :], "x")


def test_links_to_one_another_end(tmp_path):
    """Folders that all link to all others are read once each, under their own names."""
    for one in "abcdefgh":
        (tmp_path / one).mkdir()
        (tmp_path / one / "1.jpg").write_bytes(jpeg())
        for other in "abcdefgh":
            (tmp_path / one / f"to {other}").symlink_to(tmp_path / other)
    assert [path.parent.name for path in walk_images(tmp_path)] == list("abcdefgh")


def test_meta_says_what_it_does_not_match(tmp_path):
    for name in ("a/1.jpg", "b/1.jpg", "b/0002_c3s1_000451_03.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(jpeg())
    table = tmp_path / "meta.csv"
    table.write_text("\ufeffpath,camera\n1.jpg,x\nb/0002_c3s1_000451_03.jpg,\nno.jpg,y\n", encoding="utf-8")
    with noting() as skipped:
        sources = list_sources([tmp_path / "a", tmp_path / "b"], read_table(table))
    assert {reason: list(rows) for reason, rows in skipped.reasons.items()} == {
        "unmatched --meta row": ["no.jpg"],
        "ambiguous --meta row": ["1.jpg"],
    }
    assert [source.record().camera for source in sources] == ["x", "3", "x"]  # an empty cell says nothing
    with pytest.raises(DataError, match="none of the 3 rows given with --meta speaks of any of the 1 pictures"):
        list_sources([tmp_path / "a"], {"2.jpg": {}, "c/1.jpg": {}, "no": {}})
    table.write_text("path,camera\n1.jpg,x\n1.jpg,y\n")
    with pytest.raises(DataError, match=r"line 3 of .* repeats '1\.jpg' of line 2"):
        read_table(table)
    for content, wrong in [("path\n", "no rows"), ("path,a,a\n", "two columns 'a'"), ("path,a\nx\n", "has 1 values"),
                           ("path," * 500_000, "characters"), ("path\n" + '""\n', "path is empty")]:  # fmt: skip
        table.write_text(content)
        with pytest.raises(DataError, match=wrong):
            read_table(table)
    for content, wrong in [("[1]", "line 1 .*expected a JSON object"), ('{"path": "x"}\n{', "at line 2"),
                           ('{"a": 1}', "no column path")]:  # fmt: skip
        (tmp_path / "meta.jsonl").write_text(content)
        with pytest.raises(DataError, match=wrong):
            read_table(tmp_path / "meta.jsonl")


def test_a_name_that_is_no_text(tmp_path):
    """Bytes that are not UTF-8 are kept as the command line prints them, in folders and in shards."""
    path = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    path.write_bytes(jpeg())
    write_tar(tmp_path / "s.tar", {os.fsdecode(b"\xff.jpg"): jpeg()})
    found = list_sources([path, tmp_path / "s.tar"])
    assert [source.path.rpartition("/")[2] for source in found] == [r"caf\udce9.jpg", r"s.tar!\udcff.jpg"]
    assert all(source.read() == jpeg() and source.record().id for source in found)


def test_a_source_given_twice_is_one(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    assert len(list_sources([tmp_path, tmp_path / "a.jpg", tmp_path])) == 1


def test_a_file_named_by_hand_counts_whatever_it_is_called(tmp_path):
    (tmp_path / "noending").write_bytes(jpeg())
    (source,) = list_sources([tmp_path / "noending"])
    assert decode(source.read(), "x").shape == (48, 24, 3)


def test_market_names_are_read(tmp_path):
    (tmp_path / "0002_c3s1_000451_03.jpg").write_bytes(jpeg())
    record = list_sources([tmp_path])[0].record()
    assert (record.person, record.camera, record.time) == ("2", "3", None)
    assert record.attributes == {"sequence": "1", "frame": "451"}


def test_a_tar_shard_with_its_json(tmp_path):
    known = {"camera": "door", "time": "2026-05-01T08:00:00", "colour of hat": "red", "box": [1, 2]}
    write_tar(
        tmp_path / "s.tar", {"a/1.jpg": jpeg(), "a/1.json": json.dumps(known).encode(), "a/2.png": jpeg(format="PNG")}
    )
    first, second = list_sources([tmp_path / "s.tar"])
    assert first.path == f"{(tmp_path / 's.tar').as_posix()}!a/1.jpg"
    assert first.record().camera == "door"
    assert first.record().attributes == {"colour_of_hat": "red"}
    assert first.read() == jpeg()
    assert decode(second.read(), "x").shape == (48, 24, 3)


@pytest.mark.parametrize("struct", [False, True])
def test_a_parquet_table_of_pictures(tmp_path, struct):
    pictures = [jpeg((10 * n, 0, 0)) for n in range(7)]
    cells = [{"bytes": picture, "path": None} for picture in pictures] if struct else pictures
    table = pa.table({"image": cells, "camera": [str(n % 2) for n in range(7)], "time": [float(n) for n in range(7)]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=3)
    sources = list_sources([tmp_path / "t.parquet"])
    assert [source.read() for source in sources] == pictures
    assert [source.record().time for source in sources] == [float(n) for n in range(7)]


def test_a_parquet_table_of_paths(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.jpg").write_bytes(jpeg())
    pq.write_table(pa.table({"path": ["p/a.jpg"], "camera": ["9"]}), tmp_path / "t.parquet")
    (source,) = list_sources([tmp_path / "t.parquet"])
    assert source.path == (tmp_path / "p" / "a.jpg").as_posix()
    assert source.read() == jpeg()
    assert source.record().camera == "9"


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_what_a_table_knows_is_stronger(tmp_path, kind):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "0002_c3s1_000451_03.jpg").write_bytes(jpeg())
    rows = [
        {"path": "x/0002_c3s1_000451_03.jpg", "camera": "gate", "color": "red"},
        {"path": "other.jpg", "camera": "no"},
    ]
    table = tmp_path / f"meta.{kind}"
    match kind:
        case "csv":
            table.write_text(
                "path,camera,color\n"
                + "\n".join(",".join(row.get(k, "") for k in ("path", "camera", "color")) for row in rows)
            )
        case "jsonl":
            table.write_text("\n".join(json.dumps(row) for row in rows))
        case "parquet":
            pq.write_table(pa.Table.from_pylist(rows), table)
    record = list_sources([tmp_path / "x"], read_table(table))[0].record()
    assert (record.camera, record.person, record.attributes["color"]) == ("gate", "2", "red")


def test_what_cannot_be_listed_is_named(tmp_path):
    with pytest.raises(DataError, match="there is no"):
        list_sources([tmp_path / "none"])
    (tmp_path / "bad.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(DataError, match="cannot list"):
        list_sources([tmp_path / "bad.tar"])
    (tmp_path / "bad.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match="cannot read"):
        list_sources([tmp_path / "bad.parquet"])
    pq.write_table(pa.table({"x": [1]}), tmp_path / "odd.parquet")
    with pytest.raises(DataError, match="wanted image"):
        list_sources([tmp_path / "odd.parquet"])
    (tmp_path / "meta.csv").write_text("file\nx\n")
    with pytest.raises(DataError, match="no column path"):
        read_table(tmp_path / "meta.csv")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_pictures_are_told_by_their_bytes(format):
    assert decode(jpeg(format=format), "photo.exe").shape == (48, 24, 3)


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (b"", "empty"),
        (b"GIF89a" + b"\0" * 100, "is no picture"),
        (b"<svg/>", "is no picture"),
        (jpeg()[:300], "damaged"),
    ],
)
def test_what_is_no_picture_is_said(data, wrong):
    with pytest.raises(DataError, match=wrong):
        decode(data, "photo.jpg")


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_bomb_is_refused_before_it_is_unpacked(format):
    with pytest.raises(DataError, match="claims more than 100,000 pixels"):
        decode(jpeg(size=(400, 300), format=format), "bomb", max_pixels=100_000)


def test_thumbnails_are_small_and_know_nothing():
    picture = np.random.default_rng(0).integers(0, 255, (400, 200, 3), np.uint8)
    with Image.open(io.BytesIO(thumbnail(picture))) as image:
        assert image.format == "JPEG"
        assert image.size == (96, 192)
        assert not image.getexif()


def test_a_blurred_head_is_gone_and_the_rest_is_not():
    picture = np.random.default_rng(0).integers(0, 255, (192, 96, 3), np.uint8)
    plain, blurred = (decode(thumbnail(picture, blur_head=blur), "x").astype(int) for blur in (False, True))
    head = slice(0, round(0.22 * 192) - 8)
    assert blurred[head].std() < 0.3 * plain[head].std()
    assert np.abs(blurred[60:] - plain[60:]).max() == 0


@pytest.mark.parametrize(
    ("rule", "path", "said"),
    [
        ("folder", "in/door/1.jpg", {"camera": "door"}),
        ("folder", "in/s.tar!gate/1.jpg", {"camera": "gate"}),
        ("folder", "in/s.tar!1.jpg", {"camera": "s"}),
        (r"cam(\d+)", "cam1/x/cam22.jpg", {"camera": "22"}),  # the last one is nearest to the file
        (r"(?P<camera>c\d)_(?P<person>\w+?)_(?P<hat>\w+)?\.", "c1_ada_.jpg", {"camera": "c1", "person": "ada"}),
        (r"/(?P<time>[^/]+)\.jpg", "in/1777624200.jpg", {"time": 1777624200.0}),
        (r"/(?P<time>[^/]+)\.jpg", "in/1777624200250.jpg", {"time": 1777624200.25}),
        (r"/(?P<time>[^/]+)\.jpg", "in/1777624200.25.jpg", {"time": 1777624200.25}),
        (r"/(?P<time>[^/]+)\.jpg", "in/20260501T083000Z.jpg", {"time": 1777624200.0}),
        (r"/(?P<time>[^/]+)\.jpg", "in/2026-05-01 10:30:00+02:00.jpg", {"time": 1777624200.0}),
        (r"/(?P<time>[^/]+)\.jpg", "in/2026-05-01_09-30-00.jpg", {"time": 1777624200.0}),  # in the zone that is given
        (r"/(?P<time>[^/]+)\.jpg", "in/20260501093000500.jpg", {"time": 1777624200.5}),
        (r"/(?P<time>[^/]+)\.jpg", "in/20260501.jpg", {"time": 1777590000.0}),
        (r"/(?P<time>[^/]+)\.jpg", "in/000451.jpg", {}),
        (r"/(?P<time>[^/]+)\.jpg", "in/20261301T083000.jpg", {}),
    ],
)  # fmt: skip
def test_what_paths_say(rule, path, said):
    with noting() as skipped:
        assert PathReader(rule, time_zone("+01:00"))(path) == said
    assert set(skipped.reasons) == (set() if said else {"unreadable time in a path"})


def test_rules_for_paths_that_say_nothing(tmp_path, monkeypatch):
    """Stronger than names and shards, weaker than --meta; one that repeats in itself is stopped."""
    (tmp_path / "0002_c3s1_000451_03.jpg").write_bytes(jpeg())
    (source,) = list_sources(
        [tmp_path], {"0002_c3s1_000451_03.jpg": {"person": "x"}}, PathReader(r"c(?P<camera>\ds\d)")
    )
    assert (source.record().camera, source.record().person) == ("3s1", "x")
    with pytest.raises(DataError, match=r"--camera-from '\(gate\)' fits none of 1 paths, such as"):
        list_sources([tmp_path], None, PathReader("(gate)"))
    for rule, wrong in [("(", "neither folder nor a regular expression"), ("cam", "has no group called"),
                        ("foldr", "did you mean 'folder'")]:  # fmt: skip
        with pytest.raises(ConfigError, match=wrong):
            PathReader(rule)
    monkeypatch.setattr("regard.gallery.origins.PATIENCE", 0.05)
    with pytest.raises(ConfigError, match=r"repeat in one another"):
        PathReader(r"(?P<camera>(a+)+)b")("a" * 60)
    with pytest.raises(ConfigError, match="did you mean 'Europe/Berlin'"):
        time_zone("Europe/Berln")
    assert time_zone("Europe/Berlin").utcoffset(datetime(2026, 7, 1)).seconds == 7200
    assert time_zone("local").utcoffset(datetime(2026, 7, 1)) is not None


def test_what_is_gone_is_found(tmp_path):
    """Below the inputs and not there any more; not what is outside, hidden, or no picture any more."""
    given, other = tmp_path / "given", tmp_path / "other"
    for name in ("a/1.jpg", "a/2.jpg", os.fsdecode(b"caf\xe9.jpg"), "text.jpg"):
        (given / name).parent.mkdir(parents=True, exist_ok=True)
        (given / name).write_bytes(jpeg())
    other.mkdir()
    for folder in (given, other):
        write_tar(folder / "s.tar", {"1.jpg": jpeg(), "x/2.jpg": jpeg()})
    pq.write_table(pa.table({"image": [jpeg(), jpeg()]}), given / "t.parquet")
    records = [source.record() for source in list_sources([given, other])]
    (given / "a" / "1.jpg").unlink()
    (given / "a" / "2.jpg").rename(given / "a" / ".2.jpg")
    (given / "text.jpg").rename(given / "text.heic")
    write_tar(given / "s.tar", {"1.jpg": jpeg()})
    (other / "s.tar").unlink()
    pq.write_table(pa.table({"image": [jpeg()]}), given / "t.parquet")
    hidden = Record(record_id("h"), (given / "a" / ".2.jpg").as_posix())
    gone = [
        record.path.removeprefix(f"{tmp_path.as_posix()}/")
        for record in find_gone([*records, hidden], list_inputs([given]))
    ]
    assert gone == ["given/s.tar!x/2.jpg", "given/t.parquet#1", "given/text.jpg", "given/a/1.jpg", "given/a/2.jpg"]
    write_tar(other / "s.tar", {"1.jpg": jpeg()})
    gone = find_gone(records, list_inputs([other / "s.tar"]))
    assert [record.path for record in gone] == [f"{(other / 's.tar').as_posix()}!x/2.jpg"]
