"""Whole scenes: said where they are taken for a person, cut up by detectors and tables, deleted with their crops."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sample_images import SIZE, paint

from regard.cli import search_people
from regard.cli.main import main
from regard.data.box_table import read_boxes
from regard.data.image import decode_image, read_image
from regard.data.listing import noting
from regard.data.scenes import is_scene
from regard.detection import Detector
from regard.errors import DataError
from regard.gallery import Filter, Gallery
from regard.gallery.crops import Cutter, scene_of
from regard.gallery.ingest import embed_sources
from regard.gallery.inputs import list_inputs, list_sources
from regard.gallery.pruning import find_gone

PLACES = [(20 + 60 * n, 30, 44 + 60 * n, 78) for n in range(3)]
"""Where three people stand, who are painted 24 x 48."""


@pytest.fixture
def frames(tmp_path) -> Path:
    """Two scenes of three people, called as a MOT sequence calls them."""
    for frame in (1, 2):
        scene = np.full((110, 190, 3), 128, np.uint8)
        for pid, (x0, y0, x1, y1) in enumerate(PLACES, 1):
            scene[y0:y1, x0:x1] = np.array(Image.open(paint(tmp_path / "painted" / f"{pid}{frame}.png", pid, frame, 0)))
        (tmp_path / "seq" / "img1").mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene).save(tmp_path / "seq" / "img1" / f"{frame:06d}.png")
    return tmp_path / "seq" / "img1"


def boxes_of(gallery) -> dict[str, list[str]]:
    """Name of a scene -> the boxes cut out of it."""
    found: dict[str, list[str]] = {}
    for record in gallery.records():
        found.setdefault(scene_of(record.path).rpartition("/")[2], []).append(record.attributes.get("box", "whole"))
    return {name: sorted(boxes) for name, boxes in sorted(found.items())}


def by(find, min_score=0.0) -> Cutter:
    return Cutter(Detector("find", getattr(find, "digest", "1"), find, min_score))


def everybody(picture):
    return [[*place, 0.9] for place in PLACES]


BOXES = sorted(",".join(map(str, place)) for place in PLACES)


@pytest.mark.parametrize(
    ("height", "width", "scene"),
    [(128, 64, False), (100, 120, False), (100, 121, True), (1080, 1920, True), (99, 400, False), (2500, 1500, False),
     (2500, 1601, True), (4032, 3024, True)],
)  # fmt: skip
def test_a_scene_is_known_by_its_size(height, width, scene):
    assert is_scene(height, width) is scene


def test_people_are_cut_out_stored_known_again_replaced_and_deleted(embedder, frames, tmp_path):
    sources, out = list_sources([frames]), tmp_path / "g"
    report = embed_sources(sources, embedder, out)
    assert str(report) == "0 embedded, 2 whole scenes left out"
    assert report.sayings("UTC") == [
        f"2 pictures are whole scenes and no crops of one person ({sources[0].path}, 190 x 110 pixels, is the first): "
        "left out; cut the people out with --detector or --boxes FILE, or take each for one person with --whole"
    ]
    assert str(embed_sources(sources, embedder, out, whole=True)) == "2 embedded"
    asked = []

    def everybody_noted(picture):
        asked.append(picture.shape)
        return everybody(picture)

    report = embed_sources(sources, embedder, out, cutter=by(everybody_noted), chunk=8)
    assert str(report) == "6 embedded, 2 of before removed"
    with Gallery.open(out) as gallery:
        assert boxes_of(gallery) == {"000001.png": BOXES, "000002.png": BOXES}
        for record in gallery.records():
            x0, y0, x1, y1 = map(int, record.attributes["box"].split(","))
            crop = read_image(scene_of(record.path))[y0:y1, x0:x1]
            assert record.attributes["score"] == "0.900"
            assert np.allclose(gallery.get([record.id])[0].vector, embedder.embed([crop])[0], atol=1e-6)
            assert decode_image(gallery.thumbnail(record.id), "").shape == (48, 24, 3)
        gallery.name_person(Filter(ids=(record.id,)), "Ada")
        named = record.path
    assert str(embed_sources(sources, embedder, out, cutter=by(everybody_noted))) == (
        "0 embedded (0 new, 0 replaced), 6 unchanged"
    )
    assert len(asked) == 2  # they were not looked for again
    refused = embed_sources(sources, embedder, out)
    assert "3 people cut out of it are there; give --detector or --boxes again" in refused.unreadable[sources[0].path]

    def one(picture):
        return [[*map(int, named.rpartition("#")[2].split(","))], [-9, -9, 12.4, 20], [9, 9, 5, 5], [np.nan] * 4]

    one.digest = "2"
    report = embed_sources(sources, embedder, out, cutter=by(one))
    assert str(report) == "4 embedded (2 new, 2 replaced), 0 unchanged, 4 of before removed"
    assert {reason: len(found) for reason, found in report.notes.reasons.items()} == {"clipped box": 2, "empty box": 4}
    assert report.sayings("UTC")[1].startswith("2 boxes reach over the edge of their pictures and were clipped: ")
    with Gallery.open(out) as gallery:
        assert boxes_of(gallery)["000001.png"] == sorted(["0,0,12,20", named.rpartition("#")[2]])
        assert [r.path for r in gallery.records(Filter(persons=("Ada",)))] == [named]
        listing = list_inputs([frames])
        assert not find_gone(gallery.records(), listing)
    (frames / "000002.png").unlink()
    with Gallery.open(out) as gallery:
        assert len(find_gone(gallery.records(), list_inputs([frames]))) == 2
    assert main(["gallery", "delete", str(out), "--picture", "000001.png"]) == 0
    assert main(["gallery", "delete", str(out), "--picture", "000009.png"]) == 2
    with Gallery.open(out) as gallery:
        assert list(boxes_of(gallery)) == ["000002.png"]
    assert not any(b"000001.png" in file.read_bytes() for file in out.rglob("*") if file.is_file())


def test_a_file_of_descriptors_has_crops_in_the_order_of_their_scenes(embedder, frames, tmp_path):
    def nobody_in_the_first(picture):
        return [] if np.array_equal(picture, read_image(frames / "000001.png")) else everybody(picture)

    sources = list_sources([frames])
    report = embed_sources(sources, embedder, tmp_path / "d.parquet", cutter=by(everybody))
    assert report.added == 6
    paths = pq.read_table(tmp_path / "d.parquet")["path"].to_pylist()
    assert paths == [f"{source.path}#{','.join(map(str, place))}" for source in sources for place in PLACES]
    report = embed_sources(sources, embedder, tmp_path / "d.parquet", cutter=by(nobody_in_the_first))
    assert dict(report.notes.reasons) == {"unpeopled picture": {sources[0].path: None}}
    assert len(pq.read_table(tmp_path / "d.parquet")) == 3


def write_mot(frames: Path, *, info: bool) -> Path:
    """The same boxes as MOT files have them, from 1, with two that its truth does not count."""
    rows = [
        f"{frame},{id},{x0 + 1},{y0 + 1},{x1 - x0},{y1 - y0},1,1,0.8"
        for frame in (1, 2) for id, (x0, y0, x1, y1) in enumerate(PLACES, 1_234_567)
    ]  # fmt: skip
    file = frames.parent / "gt" / "gt.txt"
    file.parent.mkdir()
    file.write_text("\n".join([*rows, "1,9,5,5,9,9,0,1,1", "2,9,5,5,9,9,1,12,1"]) + "\n")
    if info:
        (frames.parent / "seqinfo.ini").write_text("[Sequence]\nname=Yard\nimDir=img1\nimExt=.png\n")
    return file


@pytest.mark.parametrize("info", [True, False])
def test_boxes_of_a_mot_file_and_of_a_table_need_no_detector(embedder, frames, tmp_path, info):
    sources = list_sources([frames])
    file = write_mot(frames, info=info)
    (tmp_path / "link").symlink_to(frames.parent)
    for way in (frames / ".." / "gt" / "gt.txt", tmp_path / "link" / "gt" / "gt.txt"):
        assert len(Cutter(tables=[read_boxes(way)]).listed(sources)) == 2
    with noting() as notes:
        mot = Cutter(tables=[read_boxes(file)])
    assert list(notes.reasons["disregarded box"]) == [f"{file}, line 7", f"{file}, line 8"]
    assert str(embed_sources(mot.listed(sources), embedder, tmp_path / "mot", cutter=mot)) == "6 embedded"
    with Gallery.open(tmp_path / "mot") as gallery:
        assert boxes_of(gallery) == {"000001.png": BOXES, "000002.png": BOXES}
        assert gallery.values("camera") == {"Yard" if info else "seq": 6}
        assert gallery.values("track") == {"1234567": 2, "1234568": 2, "1234569": 2}
    header = "picture,x0,y0,x1,y1,pid,camid,time,score,coat,box,cut_by"
    rows = [
        f"img1/000001.png,{','.join(map(str, place))},{n},door,2026-05-01T08:00,0.{5 + n},red,1,me"
        for n, place in enumerate(PLACES)
    ]
    (tmp_path / "b.csv").write_text("\n".join([header, *rows, "000007.png,1,1,2,2,1,,,,,,"]))
    table = Cutter(tables=[read_boxes(tmp_path / "b.csv")], min_score=0.6)
    assert str(embed_sources(table.listed(sources), embedder, tmp_path / "t", cutter=table)) == "2 embedded"
    with Gallery.open(tmp_path / "t") as gallery:
        record = next(iter(gallery.records(Filter(persons=("2",)))))
        assert (record.camera, record.time, record.attributes["coat"]) == ("door", 1777622400.0, "red")
        assert (record.attributes["score"], record.attributes["box"]) == ("0.700", "140,30,164,78")
        assert record.attributes["cut_by"] == table.mark(sources[0])
    (tmp_path / "b.csv").write_text("\n".join([header, *(row.replace("door", "gate") for row in rows)]))
    table = Cutter(tables=[read_boxes(tmp_path / "b.csv")], min_score=0.6)
    embed_sources(table.listed(sources), embedder, tmp_path / "t", cutter=table)
    with Gallery.open(tmp_path / "t") as gallery:
        assert gallery.values("camera") == {"gate": 2}
    with pytest.raises(DataError, match=r"has no box of any of the 1 pictures: 'img1/000001.png' is neither"):
        table.listed(sources[1:])
    (tmp_path / "other" / "img1").mkdir(parents=True)
    (tmp_path / "other" / "img1" / "000001.png").write_bytes((frames / "000001.png").read_bytes())
    two = list_sources([frames, tmp_path / "other"])
    with pytest.raises(DataError, match=r"each name in .* is the end of several pictures, such as .*other/img1"):
        table.listed(two)
    (tmp_path / "b.csv").write_text("\n".join([header, *rows, "000002.png,1,1,9,9,1,,,,,,"]))
    with noting() as notes:
        assert Cutter(tables=[read_boxes(tmp_path / "b.csv")]).listed(two) == sources[1:]
    assert list(notes.reasons["ambiguous --boxes picture"]) == ["img1/000001.png"]


def test_times_of_a_parquet_table_of_boxes_are_kept(embedder, frames, tmp_path):
    box = {"picture": "000001.png", "x0": 20, "y0": 30, "x1": 44, "y1": 78}
    taken = datetime(2026, 5, 1, 8, tzinfo=UTC)
    pq.write_table(pa.Table.from_pylist([box | {"time": taken}]), tmp_path / "b.parquet")
    table = Cutter(tables=[read_boxes(tmp_path / "b.parquet")])
    embed_sources(table.listed(list_sources([frames])), embedder, tmp_path / "g", cutter=table)
    with Gallery.open(tmp_path / "g") as gallery:
        assert [record.time for record in gallery.records()] == [taken.timestamp()]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("b.csv", "picture,x0,y0,x1\na,1,2,3\n", r"has no column y1"),
        ("b.csv", "picture,x0,y0,x1,y1\na,1,2,3,far\n", r"line 2 of .*: y1 is 'far', expected a number of pixels"),
        ("b.csv", "picture,x0,y0,x1,y1\n,1,2,3,4\n", r"picture is empty, expected a name"),
        ("b.csv", "picture,x0,y0,x1,y1\n", r"has no boxes, expected one in each row"),
        ("det.txt", "1,-1,2,3,4\n", r"line 1 of .* is '1,-1,2,3,4', expected frame,id,left,top,width,height"),
        ("det.txt", "1,,2,3,4,5,6,7\n", r"line 1 of .* expected frame,id"),
        ("b.csv", "picture,x0,y0,x1,y1,score\na,1,2,3,4,nan\n", r"line 2 of .*: score is nan, expected a number"),
        ("det.txt", "0.5,1,2,3,4,5,6\n", r"has frame 0\.5, id 1 and confidence 6, expected"),
        ("det.txt", "nan,1,2,3,4,5,6\n", r"has frame nan, id 1 and confidence 6, expected"),
        ("det.txt", "inf,1,2,3,4,5,6\n", r"has frame inf, id 1"),
        ("det.txt", "1,1,2,3,4,5,nan\n", r"has frame 1, id 1 and confidence nan"),
        ("det.txt", "1,1,0.1,0.2,0.3,0.8,1\n", r"has boxes in fractions \(0\.1, 0\.2, 0\.4, 1\), expected pixels"),
        ("det.txt", "1,1,2,3,40,50,.9,-1,-1\n", r"has no row to look at: .* rows of nine numbers are"),
        ("det.txt", "\0\xff\n", r"line 1 of|cannot read"),
    ],
)
def test_a_file_of_boxes_that_is_none_is_refused_in_one_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=message) as raised:
        read_boxes(tmp_path / name)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_each_person_in_a_photograph_is_searched_for(model_folder, frames, tmp_path, capsys, monkeypatch):
    gallery, finder = str(tmp_path / "people"), f"{tmp_path / 'finder.py'}:find"
    boxes = [[*place, 0.5 + n / 10] for n, place in enumerate(PLACES)]
    (tmp_path / "finder.py").write_text(f"def find(picture):\n    return {boxes}\n")
    model = ["--model", str(model_folder), "--size", f"{SIZE[0]}x{SIZE[1]}", "-q", "-o", gallery, "--engine", "torch"]
    assert main(["embed", str(frames), *model]) == 2
    assert capsys.readouterr().err.startswith("regard: 2 pictures are whole scenes and no crops of one person (")
    mot = str(write_mot(frames, info=False))
    boxed = [*model[:-3], str(tmp_path / "mot"), "--engine", "torch", "--boxes", mot, "--no-thumbnails"]
    assert main(["embed", str(frames), *boxed]) == 0
    assert f"left out: 2 disregarded boxes: {mot}, line 7, {mot}, line 8" in capsys.readouterr().out
    assert main(["embed", str(frames), *model, "--detector", finder]) == 0
    photo = str(frames / "000001.png")
    found = tmp_path / "found.json"
    asked = ["search", photo, "--gallery", gallery, "--detector", finder, "--min-score", "0.55", "--json", str(found)]
    bare = ["search", photo, "--gallery", str(tmp_path / "mot"), "--detector", finder, "--picture"]
    assert main([*bare, str(tmp_path / "bare.png")]) == 0
    assert "regard: 18 matches kept no thumbnail and are not in " in capsys.readouterr().err
    monkeypatch.setattr(search_people, "BESIDE", 2)
    assert main([*asked, "--picture", str(tmp_path / "found.png")]) == 0
    assert "found.png shows the best 2 of each person and not 8 more" in capsys.readouterr().err
    assert main(asked) == 0
    people = json.loads(found.read_text())["people"]
    assert [(person["box"], person["score"]) for person in people] == [(list(PLACES[2]), 0.7), (list(PLACES[1]), 0.6)]
    for person in people:
        best = person["matches"][0]
        assert best["record"]["attributes"]["box"] == ",".join(map(str, person["box"]))
        assert best["same_picture"] is True
    out = capsys.readouterr().out
    assert f"{photo}, box 140,30,164,78, score 0.70" in out
    assert main(["search", photo, "--gallery", gallery]) == 0
    assert "1 picture is a whole scene and no crop of one person" in capsys.readouterr().err
    assert main(["0.9" if word == "0.55" else word for word in asked]) == 2
    assert "nobody is in" in capsys.readouterr().err
