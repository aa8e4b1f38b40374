"""``regard embed`` and ``regard search`` as they are typed."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from sample_images import SIZE

from regard.cli import main as command_line
from regard.cli.search_verb import match_lines
from regard.explain.figures.svg import PALETTE
from regard.gallery import Gallery
from regard.gallery.audit import AuditLog
from regard.gallery.record import Answer, Match, Record, record_id

SIZE_TEXT = f"{SIZE[0]}x{SIZE[1]}"


@pytest.fixture
def run(monkeypatch, capsys):
    """``run(*arguments) -> (exit code, stdout, stderr)``."""
    for verb in ("embed", "search"):
        monkeypatch.setitem(command_line.VERBS, verb, "of this test")

    def call(*arguments):
        code = command_line.main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def gallery(photos, model_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery") / "people"
    arguments = ["embed", photos, "--model", model_folder, "-o", folder, "--size", SIZE_TEXT, "-q"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(command_line.VERBS, "embed", "of this test")
        assert command_line.main([str(argument) for argument in arguments]) == 0
    return folder


def test_embed_says_what_became_of_the_pictures(run, photos, model_folder, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"")
    code, out, err = run(
        "embed", photos / "camera1", tmp_path / "bad.jpg", "--model", model_folder, "--size", SIZE_TEXT,
        "-o", tmp_path / "d.parquet", "--unreadable", tmp_path / "bad.tsv", "-q",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "bad.tsv; 18 embedded, 1 unreadable" in out
    assert "left out:" in out
    assert (tmp_path / "bad.tsv").read_text().startswith(f"{tmp_path.as_posix()}/bad.jpg\t")


def test_embed_says_what_it_left_out(run, photos, model_folder, tmp_path):
    """Names need not be text; what is no picture is counted; where nothing can be read it fails."""
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(photos / "camera1" / "0003_c1s1_000000_00.jpg", folder / os.fsdecode(b"caf\xe9"))
    (folder / os.fsdecode(b"\xff.jpg")).write_bytes(b"no picture")
    (folder / "film.mp4").touch()
    (folder / "meta.csv").write_text("path,camera\nno.jpg,1\nphotos/film.mp4,2\n")
    how = ("--model", model_folder, "--size", SIZE_TEXT, "-o")
    code, out, err = run("embed", folder, *how, tmp_path / "g", "--unreadable", tmp_path / "left.tsv")
    assert (code, "1 embedded, 1 unreadable" in out) == (0, True), err
    assert f"left out: 1 video: {folder}/film.mp4\nleft out: 1 text file: {folder}/meta.csv\n" in out
    assert [line.split("\t")[0] for line in (tmp_path / "left.tsv").read_text().splitlines()] == [
        f"{folder}/{name}" for name in (r"\udcff.jpg", "film.mp4", "meta.csv")
    ]
    code, out, _ = run("search", folder / os.fsdecode(b"caf\xe9"), "--gallery", tmp_path / "g")
    assert (code, out.splitlines()[1].endswith(r"photos/caf\udce9")) == (0, True)
    code, out, err = run("embed", folder, *how, tmp_path / "h", "--meta", folder / "meta.csv")
    assert code == 2
    assert "none of the 2 rows given with --meta speaks of any of the 2 pictures" in err
    code, out, err = run("embed", folder / os.fsdecode(b"\xff.jpg"), *how, tmp_path / "i", "-q")
    assert code == 2
    assert "none of 1 pictures can be read" in err


def test_embed_again_updates_and_prunes(run, photos, model_folder, tmp_path):
    folder, gallery = tmp_path / "photos", tmp_path / "people"
    shutil.copytree(photos / "camera1", folder / "door")
    how = (folder, "--model", model_folder, "--size", SIZE_TEXT, "-o", gallery, "-q")
    assert "would embed 18 (18 new, 0 replaced), 0 unchanged; nothing was done" in run("embed", *how, "--dry-run")[1]
    assert not gallery.exists()
    assert run("embed", *how)[0] == 0
    assert "18 unchanged, 18 with new facts" in run("embed", *how, "--camera-from", "folder")[1]
    gone = sorted((folder / "door").iterdir())[4]
    gone.unlink()
    code, out, _ = run("embed", *how, "--prune", "--dry-run")
    assert (code, out.splitlines()[0]) == (0, f"would remove: {gone}")
    assert "would embed 0 (0 new, 0 replaced), 17 unchanged, remove 1; nothing was done" in out
    with Gallery.open(gallery) as opened:
        assert opened.values("camera") == {"door": 18}
    code, out, _ = run("embed", *how, "--prune")
    assert (code, "17 unchanged, 1 removed" in out, f"removing: {gone}" in out) == (0, True, True)
    with Gallery.open(gallery) as opened:
        assert opened.values("camera") == {"door": 17}
    code, _, err = run("embed", *how[:-2], tmp_path / "d.parquet", "--prune")
    assert (code, "--prune wants a gallery" in err) == (2, True)


def test_a_photograph_finds_its_person(run, gallery, photos):
    code, out, _ = run("search", photos / "camera1" / "0003_c1s1_000000_00.jpg", "--gallery", gallery, "-k", 3)
    assert code == 0
    first = out.splitlines()[1].split()
    assert first[:3] == ["1", "1.0000", "1"]
    assert first[-1].endswith("0003_c1s1_000000_00.jpg")
    assert out.count("the same picture") == 1
    assert "the same picture" in out.splitlines()[1]
    found = search(run, photos / "camera1" / "0003_c1s1_000000_00.jpg", "--gallery", gallery, "-k", 3)
    assert [match["same_picture"] for match in found] == [True, False, False]


def search(run, *arguments):
    code, out, _ = run("search", *arguments, "--json", "-")
    assert code == 0
    return json.loads(out)["matches"]


def test_filters(run, gallery, photos):
    photo = photos / "camera1" / "0003_c1s1_000000_00.jpg"
    found = search(run, photo, "--gallery", gallery, "--not-camera", 1, "-k", 36)
    assert {match["record"]["camera"] for match in found} == {"2"}
    found = search(run, photo, "--gallery", gallery, "--where", "frame=1", "--camera", 1, "--camera", 2, "-k", 36)
    assert {match["record"]["attributes"]["frame"] for match in found} == {"1"}
    assert len(found) == 12
    code, out, err = run("search", photo, "--gallery", gallery, "--since", "2026-01-01", "--json", "-")
    assert (code, json.loads(out)["matches"]) == (0, [])
    assert err.endswith("passes all the filters together: none has a time\n")


def test_a_picture_of_the_gallery_as_query(run, gallery, photos):
    (match,) = search(run, photos / "camera1" / "0003_c1s1_000000_00.jpg", "--gallery", gallery, "-k", 1)
    id = match["record"]["id"]
    found = search(run, "--id", id, "--gallery", gallery, "--other-cameras", "-k", 36)
    assert len(found) == 18
    assert {match["record"]["camera"] for match in found} == {"2"}
    assert id not in {match["record"]["id"] for match in search(run, "--id", id, "--gallery", gallery, "-k", 36)}


def test_a_picture_is_drawn(run, gallery, photos, tmp_path):
    photo = photos / "camera1" / "0003_c1s1_000000_00.jpg"
    code, out, _ = run("search", photo, "--gallery", gallery, "--picture", tmp_path / "m.png", "-k", 12)
    assert (code, out.splitlines()[-1]) == (0, f"wrote {tmp_path / 'm.png'}")
    with Image.open(tmp_path / "m.png") as image:
        assert image.width > 9 * 96
        assert image.height > 3 * 192


def test_whom_nobody_named_is_framed_as_nobody_in_particular(run, gallery, photos, model_folder, tmp_path):
    """Neither right, wrong nor junk; matches whose thumbnail was not kept are counted."""
    photo = photos / "camera1" / "0003_c1s1_000000_00.jpg"
    run("search", photo, "--gallery", gallery, "--picture", tmp_path / "m.png", "-k", 12)
    with Image.open(tmp_path / "m.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    colors = {PALETTE[name] for name in ("right", "wrong", "muted")}
    for color in colors:
        assert not (pixels == [int(color[i : i + 2], 16) for i in (1, 3, 5)]).all(1).any()
    bare = tmp_path / "bare"
    run("embed", photos, "--model", model_folder, "-o", bare, "--size", SIZE_TEXT, "--no-thumbnails", "-q")
    code, _, err = run("search", photo, "--gallery", bare, "--picture", tmp_path / "n.png", "-k", 12)
    assert code == 0
    assert f"12 of 12 matches kept no thumbnail and are not in {tmp_path / 'n.png'}" in err


def test_a_gallery_that_does_not_say_its_model_is_told_of(run, photos, model_folder, tmp_path):
    """One made from Python, of descriptors of another program."""
    photo = photos / "camera1" / "0003_c1s1_000000_00.jpg"
    made = {"path": str(model_folder), "height": 64, "width": 32, "flip": True, "precision": "bf16"}
    for name, model in {"none": {"name": "another"}, "half": made}.items():
        Gallery.create(tmp_path / name, 24, model).close()
        for more in ([], ["--model", model_folder]):
            code, _, err = run("search", photo, "--gallery", tmp_path / name, *more)
            assert (code, err.count("\n")) == (2, 1)
            assert f"does not say with which {'engine' if name == 'half' else 'flip and height'}" in err


def test_every_search_is_logged(run, gallery, photos):
    log = AuditLog(gallery / "audit.jsonl")
    before = len(log.path.read_text().splitlines()) if log.path.exists() else 0
    run("search", photos / "camera1" / "0001_c1s1_000000_00.jpg", "--gallery", gallery, "--camera", 2)
    line = json.loads(log.path.read_text().splitlines()[before])
    assert line["query"][0].startswith("sha256:")
    assert line["filter"] == {"cameras": ["2"]}
    assert log.verify() is None


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["search", "--gallery", "{gallery}"], "wants a photograph"),
        (["search", "{photo}", "--gallery", "nowhere"], "there is no gallery in nowhere"),
        (["search", "none.jpg", "--gallery", "{gallery}"], "cannot open 'none.jpg'"),
        (["search", "{photo}", "--gallery", "{gallery}", "-k", "0"], "got k=0"),
        (["search", "{photo}", "--gallery", "{gallery}", "--where", "x"], "wants NAME=VALUE"),
        (["search", "{photo}", "--gallery", "{gallery}", "--camera", "11"], "has no camera '11', did you mean '1'?"),
        (["search", "{photo}", "--gallery", "{gallery}", "--not-camera", "3"], "has no camera '3'; there are: 1, 2"),
        (["search", "{photo}", "--gallery", "{gallery}", "--where", "fram=1"], "has no attribute 'fram', did you mean"),
        (["search", "{photo}", "--gallery", "{gallery}", "--since", "noon"], "got the time 'noon'"),
        (["search", "--id", "x", "--gallery", "{gallery}"], "there is no picture 'x'"),
        (["search", "{photo}", "--gallery", "{gallery}", "--other-cameras"], "--other-cameras wants an --id"),
        (["search", "{photo}", "--gallery", "{gallery}", "--exact", "--approximate"], "not allowed with"),
        (["embed", "{photo}", "--model", "nowhere", "-o", "x"], "no model.safetensors in nowhere"),
        (["embed", "{photo}", "--model", "{model}", "-o", "x", "--size", "big"], "--size 'big' wants"),
        (["embed", "{photo}", "--model", "{model}", "-o", "x", "--batch-size", "0"], "wanted 1 or more"),
        (["embed", "none", "--model", "{model}", "-o", "x"], "there is no none"),
    ],
)
def test_mistakes_are_one_line(run, gallery, photos, model_folder, monkeypatch, tmp_path, arguments, wanted):
    monkeypatch.chdir(tmp_path)
    photo = photos / "camera1" / "0001_c1s1_000000_00.jpg"
    given = [text.format(gallery=gallery, photo=photo, model=model_folder) for text in arguments]
    code, out, err = run(*given)
    assert (code, out) == (2, "")
    assert wanted in err
    assert err.count("\n") == 1
    Gallery.open(gallery).close()  # no mistake leaves it locked


def test_known_people_are_named_among_the_matches():
    people = enumerate((None, "Ann"))
    matches = tuple(Match(n, Record(record_id(f"{n}"), f"{n}.jpg", person=name), 0.5) for n, name in people)
    lines = match_lines(Answer(matches, 2, exact=True, seconds=0)).splitlines()
    assert lines[0].split()[-2:] == ["person", "picture"]
    assert [line.split()[-2:] for line in lines[1:]] == [["0.5000", "0.jpg"], ["Ann", "1.jpg"]]
    assert "person" not in match_lines(Answer(matches[:1], 2, exact=True, seconds=0))
