"""The data set on disk: names, counts, labels, determinism, and what happens when something goes wrong."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter

import numpy as np
import pytest
from crowd_album import SMALL, small_request
from PIL import Image

from regard.crowd import contact_sheet, make_crowd
from regard.crowd.dataset import generate as make_module
from regard.crowd.dataset.plan import FOLDERS, plan_jobs
from regard.crowd.dataset.worker import Studio
from regard.errors import ConfigError, DataError, RegardError, StorageError

NAME = re.compile(r"^(-1|\d{4})_c(\d)s(\d)_(\d{6})_(\d{2})\.jpg$")
OPTIONS = SMALL | {"train_ids": 2, "test_ids": 3, "height": 64, "width": 32, "distractors": 3, "junk": 2}


def make(root, **options):
    return make_crowd(root, **(OPTIONS | {"workers": 1, "progress": False} | options))


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def pictures(root):
    return [path for folder in FOLDERS for path in sorted((root / folder).iterdir())]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    root = tmp_path_factory.mktemp("crowds") / "one"
    return root, make(root)


def test_names_and_counts(crowd):
    root, description = crowd
    counts = Counter()
    for path in pictures(root):
        pid, camera, _, _, box = NAME.match(path.name).groups()
        assert 1 <= int(camera) <= 2
        assert (box == "00") == (path.parent.name == "query")
        counts[path.parent.name] += 1
        if int(pid) < 1:
            assert path.parent.name == "bounding_box_test"
            counts[int(pid)] += 1
    assert {name: counts[name] for name in FOLDERS} == {name: description["images"][name] for name in FOLDERS}
    assert description["images"]["total"] == sum(description["images"][name] for name in FOLDERS)
    assert (counts[0], counts[-1]) == (3, 2)
    assert sorted(path.name for path in root.iterdir()) == sorted(
        [*FOLDERS, "masks", "attributes.json", "dataset.json", "keypoints.json"]
    )


def test_halves_share_nobody(crowd):
    root, _ = crowd
    people = {name: {path.name[:4] for path in (root / name).iterdir()} for name in FOLDERS}
    assert len(people["bounding_box_train"]) == 2
    assert people["query"] == {pid for pid in people["bounding_box_test"] if pid not in ("0000", "-1_c")}
    assert not people["bounding_box_train"] & people["query"]


def test_every_picture_has_its_mask(crowd):
    root, _ = crowd
    for path in pictures(root):
        with Image.open(path) as picture, Image.open(root / "masks" / path.parent.name / f"{path.stem}.png") as mask:
            assert picture.size == mask.size == (32, 64)
            labels = np.asarray(mask)
            assert labels.ndim == 2
            assert labels.max() <= 8
            assert ((np.asarray(mask.convert("RGB")).sum(axis=2) > 0) == (labels > 0)).all()


def test_keypoints_describe_every_picture(crowd):
    root, _ = crowd
    coco = json.loads((root / "keypoints.json").read_text())
    names = [image["file_name"] for image in coco["images"]]
    assert names == sorted(f"{path.parent.name}/{path.name}" for path in pictures(root))
    assert [image["id"] for image in coco["images"]] == list(range(1, len(names) + 1))
    assert len(coco["categories"][0]["keypoints"]) == 17
    for image, annotation in zip(coco["images"], coco["annotations"], strict=True):
        pid, camera = image["file_name"].split("/")[1].split("_")[:2]
        assert (image["pid"], image["camid"]) == (int(pid), int(camera[1]))
        assert annotation["image_id"] == image["id"]
        assert len(annotation["keypoints"]) == 51
        with Image.open(root / "masks" / f"{image['file_name'][:-4]}.png") as mask:
            labels = np.asarray(mask)
        assert annotation["area"] == (labels > 0).sum()
        x, y, width, height = annotation["bbox"]
        outside = labels.copy()
        outside[y : y + height, x : x + width] = 0
        assert not outside.any()


def test_attributes_name_every_person(crowd):
    root, _ = crowd
    attributes = json.loads((root / "attributes.json").read_text())
    assert sorted(attributes) == ["0001", "0002", "0003", "0004", "0005"]
    assert {"gender", "upper", "upper_color", "lower", "bag"} <= attributes["0001"].keys()


def test_description_holds_every_parameter(crowd):
    root, description = crowd
    assert description == json.loads((root / "dataset.json").read_text())
    assert (description["format"], description["version"]) == ("regard-crowd", 1)
    parameters = description["parameters"]
    for name, value in OPTIONS.items():
        assert parameters[name] == (list(value) if isinstance(value, tuple) else value)
    assert parameters["knobs"]["occlusion"] == 0.5
    assert (parameters["seed"], parameters["city"], parameters["difficulty"]) == (0, "0", "normal")


def test_same_seed_same_bytes_whatever_the_workers(crowd, tmp_path):
    root, description = crowd
    assert make(tmp_path / "again", workers=2) == description
    assert contents(tmp_path / "again") == contents(root)


def test_other_seed_other_people(crowd, tmp_path):
    root, description = crowd
    other = make(tmp_path / "seed", seed=1)
    assert other["sha256"] != description["sha256"]
    assert (tmp_path / "seed/attributes.json").read_bytes() != (root / "attributes.json").read_bytes()


def test_other_city_same_people_elsewhere(crowd, tmp_path):
    root, description = crowd
    other = make(tmp_path / "city", city="lisbon")
    assert other["sha256"]["pixels"] != description["sha256"]["pixels"]
    assert (tmp_path / "city/attributes.json").read_bytes() == (root / "attributes.json").read_bytes()
    assert [path.name for path in pictures(tmp_path / "city")] == [path.name for path in pictures(root)]
    bytes_that_are_no_text = make(tmp_path / "bytes", city="\udce9")
    assert bytes_that_are_no_text["sha256"]["pixels"] not in (
        other["sha256"]["pixels"],
        description["sha256"]["pixels"],
    )
    assert make(tmp_path / "bytes", city="\udce9") == bytes_that_are_no_text


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_every_start_method_gives_the_same_bytes(crowd, tmp_path, method):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import multiprocessing, sys
        from regard.crowd import make_crowd
        if __name__ == "__main__":
            multiprocessing.set_start_method({method!r})
            make_crowd({str(tmp_path / "made")!r}, **{OPTIONS!r}, workers=2)
            assert "torch" not in sys.modules
        """)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "images/s" in done.stderr
    assert not done.stdout
    assert contents(tmp_path / "made") == contents(crowd[0])


def test_a_crowd_that_is_there_is_not_made_again(crowd, monkeypatch):
    root, description = crowd
    monkeypatch.setattr(make_module, "render", lambda *_: pytest.fail("rendered again"))
    before = (root / "dataset.json").stat().st_mtime_ns
    assert make(root) == description
    assert (root / "dataset.json").stat().st_mtime_ns == before


def test_another_crowd_is_kept_unless_told(tmp_path):
    few = {"train_ids": 1, "test_ids": 1, "distractors": 0, "junk": 0}
    first = make(tmp_path / "crowd", **few)
    with pytest.raises(DataError, match=r"seed 0 there, 7 asked for.*overwrite=True"):
        make(tmp_path / "crowd", seed=7, **few)
    assert json.loads((tmp_path / "crowd/dataset.json").read_text()) == first
    second = make(tmp_path / "crowd", seed=7, overwrite=True, **few)
    assert json.loads((tmp_path / "crowd/dataset.json").read_text()) == second
    assert [path.name for path in tmp_path.iterdir()] == ["crowd"]


def test_a_crowd_with_files_missing_or_changed_is_told_apart(tmp_path):
    few = {"train_ids": 1, "test_ids": 1, "distractors": 0, "junk": 0}
    description = make(tmp_path / "crowd", **few)
    for folder in ("query", "masks/query"):
        file = next((tmp_path / "crowd" / folder).iterdir())
        content, before = file.read_bytes(), file.stat()
        file.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(DataError, match="with files missing or changed"):
            make(tmp_path / "crowd", **few)
        file.write_bytes(content)
        assert make(tmp_path / "crowd", **few) == description
    next((tmp_path / "crowd/query").iterdir()).unlink()
    with pytest.raises(DataError, match="with files missing"):
        make(tmp_path / "crowd", **few)


@pytest.mark.parametrize("part", ["parameters", "knobs", "images", "sha256"])
@pytest.mark.parametrize("value", [None, 3, "x", [[1]], {}])
def test_a_description_that_somebody_has_changed_is_told_apart(crowd, tmp_path, part, value):
    description = json.loads((crowd[0] / "dataset.json").read_text())
    (description["parameters"] if part == "knobs" else description)[part] = value
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(DataError, match="holds another crowd") as caught:
        make(tmp_path)
    assert "\n" not in str(caught.value)


def test_json_without_end_is_no_crowd(tmp_path):
    for name in ("dataset.json", "keypoints.json"):
        (tmp_path / name).write_text("[" * 100_000)
    with pytest.raises(DataError, match="is no crowd"):
        make(tmp_path)
    with pytest.raises(DataError, match="nested too deeply"):
        contact_sheet(tmp_path)


def test_a_contact_sheet_has_a_row_for_everyone(crowd, tmp_path):
    sheet = contact_sheet(crowd[0], people=2, columns=3, labels=True, scale=2)
    assert sheet.size == (3 * 64, 2 * 3 * 128)
    first = np.asarray(sheet)[:128, :64]
    entry = json.loads((crowd[0] / "keypoints.json").read_text())["images"]
    name = min((e for e in entry if e["pid"] == 1), key=lambda e: (e["camid"], e["file_name"]))["file_name"]
    with Image.open(crowd[0] / name) as picture:
        assert (first == np.asarray(picture.resize((64, 128), Image.Resampling.BICUBIC))).all()
    for options in ({"people": 0}, {"columns": 0}, {"scale": 0.5}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            contact_sheet(crowd[0], **options)
    coco = json.loads((crowd[0] / "keypoints.json").read_text())
    for damaged in ({}, {"images": [], "annotations": []}, {"images": [{}], "annotations": [{}]}, coco):
        (tmp_path / "keypoints.json").write_text(json.dumps(damaged))  # the last one without its pictures
        with pytest.raises(DataError, match="no crowd in") as caught:
            contact_sheet(tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_peoples_folders_are_never_touched(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("hello")
    with pytest.raises(DataError, match="is no crowd"):
        make(tmp_path, overwrite=overwrite)
    with pytest.raises(DataError, match="is no crowd"):
        make(tmp_path / "thesis.tex", overwrite=overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "hello"


def test_an_empty_folder_will_do(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / f".empty.{os.getpid()}.partial" / FOLDERS[0]).mkdir(parents=True)  # of a killed process of this number
    make(tmp_path / "empty", train_ids=1, test_ids=1)
    assert (tmp_path / "empty/dataset.json").is_file()


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    written, write = [], Studio.write

    def fail_later(self, *args):
        written.append(args)
        if len(written) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, *args)

    monkeypatch.setattr(Studio, "write", fail_later)
    with pytest.raises(StorageError, match="No space left on device") as caught:
        make(tmp_path / "deep/crowd")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "deep/crowd") in str(caught.value)
    assert not list((tmp_path / "deep").iterdir())


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write the crowd"):
        make(tmp_path / "file/crowd")
    with pytest.raises(DataError, match="File name too long"):
        make(tmp_path / ("x" * 300))
    for root in ("", "a\0b", None):
        with pytest.raises(ConfigError, match="wanted a folder to write"):
            make(root)


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(make_module, "write_labels", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "crowd", train_ids=1, test_ids=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_interrupt_key_ends_all_workers(tmp_path):
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"  # a background job would ignore it
        f"from regard.crowd import make_crowd; make_crowd({str(tmp_path / 'crowd')!r}, workers=2)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, start_new_session=True, text=True)
    while not list(tmp_path.glob(".crowd.*.partial/query/*.jpg")):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert errors.count("KeyboardInterrupt") == 1
    assert not list(tmp_path.iterdir())
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.slow
def test_workers_do_not_outlive_a_killed_parent(tmp_path):
    code = f"from regard.crowd import make_crowd; make_crowd({str(tmp_path / 'crowd')!r}, workers=2)"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, start_new_session=True)
    while not list(tmp_path.glob(".crowd.*.partial/query/*.jpg")):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not (tmp_path / "crowd").exists()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.2)
    pytest.fail("a worker is still there")


def die(_):
    os._exit(9)


def test_a_killed_worker_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(make_module, "run_job", die)
    with pytest.raises(RegardError, match="try fewer workers") as caught:
        make(tmp_path / "crowd", workers=2)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cameras": 1}, "cameras is 1, wanted a whole number from 2 to 9"),
        ({"cameras": 10}, "from 2 to 9"),
        ({"train_ids": 0}, "train_ids is 0"),
        ({"test_ids": 1.5}, "test_ids is 1.5"),
        ({"per_camera": 0}, "per_camera is 0"),
        ({"height": 16}, "from 32 to 1024"),
        ({"width": 128}, "height x width is 64x128"),
        ({"cameras_per_id": (1, 1)}, "needs a match by a second camera"),
        ({"cameras_per_id": (3, 2)}, "cameras_per_id is (3, 2)"),
        ({"cameras_per_id": 3}, "cameras_per_id is 3"),
        ({"workers": 0}, "workers is 0"),
        ({"workers": 10_000}, "workers is 10000, wanted a whole number from 1 to"),
        ({"seed": "x"}, "seed is 'x'"),
        ({"junk": -1}, "junk is -1"),
        ({"difficulty": "esay"}, "did you mean 'easy'"),
        ({"difficulty": ["easy"]}, "difficulty is ['easy'], wanted one of easy, normal, hard"),
        ({"knobs": 3}, "knobs is 3, wanted knobs by name"),
        ({"knobs": {"blur": 10**400}}, "wanted a number from 0 to 5"),
        ({"knobs": {"blur": np.ones((2, 2))}}, "knob 'blur' is array([[1., 1.], [1., 1.]]), wanted a number"),
        ({"city": None}, "city is None, wanted a number or a name"),
        ({"cameras_per_id": (2.5, 3)}, "cameras_per_id is (2.5, 3)"),
        ({"knobs": {"jpeg_qualty": 3}}, "did you mean 'jpeg_quality'"),
    ],
)
def test_bad_numbers_are_named(tmp_path, options, words):
    with pytest.raises(ConfigError) as caught:
        make(tmp_path / "crowd", **options)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert not (tmp_path / "crowd").exists()


@pytest.mark.parametrize("span", [(1, 2), (1, 6), (2, 3), (6, 6)])
@pytest.mark.parametrize("per_camera", [1, 3])
def test_every_query_has_a_match_by_another_camera(span, per_camera):
    people = {"train_ids": 20, "test_ids": 30, "cameras": 6, "distractors": 11, "junk": 9}
    request = small_request(seed=5, per_camera=per_camera, cameras_per_id=span, **people)
    shots = [
        (job.pid, visit.camera, shot.folder, shot.name)
        for job in plan_jobs(request)
        for visit in job.visits
        for shot in visit.shots
    ]
    names = [name for *_, name in shots]
    assert len(set(names)) == len(names)
    gallery = {(pid, camera) for pid, camera, folder, _ in shots if folder == "bounding_box_test" and pid > 0}
    queries = [(pid, camera) for pid, camera, folder, _ in shots if folder == "query"]
    assert queries
    assert len(set(queries)) == len(queries)
    for pid, camera in queries:
        assert any(other == pid and where != camera for other, where in gallery)
    assert sum(pid == 0 for pid, *_ in shots) == 11
    assert sum(pid == -1 for pid, *_ in shots) == 9
    assert len({pid for pid, _, folder, _ in shots if folder == "bounding_box_train"}) == 20


def test_many_distractors_have_names_of_their_own():
    shots = [
        shot.name
        for job in plan_jobs(small_request(seed=0, train_ids=1, per_camera=1, distractors=3000, junk=1500))
        for visit in job.visits
        for shot in visit.shots
    ]
    assert len(set(shots)) == len(shots)


def test_cameras_per_id_is_cut_to_the_cameras(crowd):
    _, description = crowd
    assert description["parameters"]["cameras_per_id"] == [2, 2]


def test_relative_roots_are_relative_to_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make("here/crowd", train_ids=1, test_ids=1)
    assert (tmp_path / "here/crowd/dataset.json").is_file()
