"""The knobs of variety, the preset that turns them on, and crowds of several cities."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import fields, replace

import numpy as np
import pytest
from crowd_album import small_request

from regard.crowd import PRESETS, Knobs, make_crowd, make_doses
from regard.crowd.body.mesh import CREASED, build_body
from regard.crowd.body.skeleton import Motion
from regard.crowd.camera.city_cameras import View, hang_camera
from regard.crowd.camera.detector import frame_figure
from regard.crowd.camera.spread import hang_spread
from regard.crowd.clothes.roster import draw_identity, draw_person
from regard.crowd.dataset.plan import plan_jobs
from regard.crowd.dataset.request import checked_request
from regard.crowd.knobs import VARIETY
from regard.crowd.render.raster import draw, place_figure
from regard.crowd.render.relief import creased
from regard.crowd.render.shoot import fallen
from regard.crowd.render.walk import draw_moments
from regard.crowd.rng import Rng
from regard.data import load_dataset
from regard.errors import ConfigError

TINY = {
    **{"train_ids": 1, "test_ids": 1, "cameras": 2, "per_camera": 1, "height": 64, "width": 32},
    **{"distractors": 0, "junk": 0, "progress": False},
}
CITIES = TINY | {"train_ids": 4, "test_ids": 2, "cities": 3, "seed": 6, "distractors": 2, "junk": 1}
PIXELS = {
    "easy": "cac96f710505b01b64b76c5a5cf641c3bf2b6d0cfcf97321c744460cf98838e9",
    "normal": "1b0a50a4e4d4b64ff053670eca70f79377a9c58d59e5a86e31b79c6b4defbeef",
    "hard": "d8f738e3021dc23185e4116adfcd644ba7ede812eed42075321da0f08676961a",
    "diverse": "05db59c87a8c311996d4a88596e8531a8f2f12311201ff5554d9c3f35d671430",
}
"""SHA-256 of the pixels of a tiny crowd of each preset. A preset that gives others breaks crowds that people have."""


def people(share, knob, count=60):
    return [draw_person(1, f"{n}", Knobs(**{knob: share})) for n in range(count)]


def standing():
    """One frame in the middle of a step."""
    return Motion(*(np.array([v]) for v in (0.7, 1.0, 0.0, 0.0, 0.0, "swing", 1, False)))


def worn_by(person):
    return person.bag.kind, person.head.hat, person.head.hair


def cameras(count=24, **knobs):
    return [hang_spread("7", index, Knobs(**knobs)) for index in range(1, count + 1)]


@pytest.mark.parametrize("difficulty", PRESETS)
def test_presets_keep_their_bytes(tmp_path, difficulty):
    made = make_crowd(tmp_path / "crowd", difficulty=difficulty, workers=1, **TINY)
    assert made["sha256"]["pixels"] == PIXELS[difficulty]
    mentioned = set(made["parameters"]["knobs"])
    assert mentioned == {f.name for f in fields(Knobs)} - (set() if difficulty == "diverse" else set(VARIETY))
    assert "cities" not in made["parameters"]


def test_a_knob_of_variety_is_written_where_it_is_turned():
    asked = {name: value for name, value in TINY.items() if name != "progress"} | {"cameras_per_id": (2, 2)}
    more = {"seed": 0, "city": 0}
    turned = checked_request(**asked, **more, difficulty="normal", knobs={"shade": 0.5}).parameters()["knobs"]
    assert set(turned) & set(VARIETY) == {"shade"}
    off = checked_request(**asked, **more, difficulty="diverse", knobs={"shade": 0}).parameters()["knobs"]
    assert off["shade"] == 0  # not left out, or the preset would be read in its place


def test_variety_is_off_in_the_presets_of_difficulty_and_on_in_diverse():
    for name in VARIETY:
        assert [getattr(PRESETS[preset], name) for preset in ("easy", "normal", "hard")] == [0, 0, 0]
        assert getattr(PRESETS["diverse"], name) > 0


def test_people_are_as_drawn_without_variety():
    assert people(0, "bodies") == [draw_identity(1, f"{n}") for n in range(60)]


def test_bodies_range_from_children_to_the_heavy():
    builds = [person.build for person in people(1, "bodies")]
    assert min(build.height for build in builds) < 1.42
    assert max(build.height for build in builds) > 1.9
    assert max(build.width for build in builds) > 1.33
    assert [person.top for person in people(1, "bodies")] == [person.top for person in people(0, "bodies")]


def test_layers_dress_for_the_cold():
    worn = people(1, "layers")
    assert {person.top.kind for person in worn} == {"coat", "jacket", "hoodie", "openjacket"}
    assert all(person.top.sleeve > 0.9 for person in worn)
    assert np.mean([person.top.loose for person in worn]) > 1.5


def test_dyes_leave_the_wardrobe_and_name_what_they_are():
    plain, any_color = people(0, "dyes"), people(1, "dyes")
    assert all(a.top.color != b.top.color for a, b in zip(plain, any_color))
    bright = next(one.top for one in any_color if max(one.top.color) - min(one.top.color) > 150)
    assert bright.color_name not in ("black", "gray", "white")


def test_carrying_and_headwear():
    loads = {person.bag.kind for person in people(1, "carrying")}
    assert {"shoulder", "trolley", "paper", "duffel"} <= loads
    heads = [person.head for person in people(1, "headwear")]
    assert {"hood", "headscarf"} <= {head.hat for head in heads}
    assert {"curly", "bald"} <= {head.hair for head in heads}


@pytest.mark.parametrize("kind", ["shoulder", "trolley", "paper", "duffel", "hood", "headscarf", "curly"])
def test_what_is_worn_is_drawn(kind):
    """Who has it shows it: pixels of a bag, or more of them of hair and hats, seen from some side."""
    person = next(p for p in people(1, "carrying") + people(1, "headwear") if kind in worn_by(p))
    bare = replace(person, bag=replace(person.bag, kind="none"), head=replace(person.head, hat="none", hair="buzz"))
    counts = []
    for one in (person, bare):
        pose, seen = build_body(one, 2).pose(standing()), 0
        for heading in (0.0, 1.6, 3.1, -1.6):
            figure = place_figure(pose, 0, View(2.0, 0.1, 0.995), heading=heading, x=0.0, z=8.0)
            drawing = draw(figure, figure.box, rows=128, columns=64, light=hang_camera("0", 1, Knobs()).light())
            seen += (drawing.labels(128, 64) == (2 if kind in ("hood", "headscarf", "curly") else 8)).sum()
        counts.append(seen)
    assert counts[0] > counts[1] + 20


def test_gestures_and_shade_come_from_streams_of_their_own():
    camera = hang_camera("0", 1, Knobs())

    def walk(**knobs):
        options = {"arms": "swing", "walkers": 8, "knobs": Knobs(**knobs)}
        return [next(draw_moments(0, f"p{n}", camera, [0.0], **options)) for n in range(40)]

    plain, moving, dark = walk(), walk(gestures=1), walk(shade=1)
    assert {"folded", "front", "hold"} <= {moment.arms for moment in moving}
    assert [(a.x, a.z, a.heading, a.exposure) for a in plain] == [(a.x, a.z, a.heading, a.exposure) for a in moving]
    assert all(moment.shade for moment in dark)
    assert not any(moment.shade for moment in plain)


def test_cameras_spread():
    plain = cameras()
    assert plain == [hang_camera("7", index, Knobs()) for index in range(1, 25)]
    high = cameras(downward=1)
    assert all(camera.view.height >= 3.6 and camera.view.pitch_sine > 0.25 for camera in high)
    zooms = [camera.zoom for camera in cameras(zoom_spread=1)]
    assert 0.5 <= min(zooms) < 0.65
    assert 1.5 < max(zooms) <= 2
    assert [camera.sensor for camera in high] == [camera.sensor for camera in plain]
    toned = cameras(tone_spread=1)
    assert np.std([camera.sensor.haze for camera in toned]) > 1.3 * np.std([camera.sensor.haze for camera in plain])
    assert all(camera.metered > 0 for camera in toned)
    assert all(camera.fit > 0.5 for camera in cameras(box_fit=1))
    assert all(camera.marked for camera in cameras(scenery=1))


def test_fitting_boxes_follow_the_figure():
    camera, knobs = hang_camera("0", 1, Knobs()), Knobs(detector_jitter=0, truncation=0)

    def shapes(fit):
        hung = replace(camera, fit=fit)
        options = {"camera": hung, "size": (128, 64), "by_hand": False, "junk": False}
        frames = [frame_figure((0.0, 0.0, wide, 0.2), Rng("box"), knobs, **options) for wide in (0.05, 0.13)]
        return [frame.native[1] / frame.native[0] for frame in frames]

    (narrow, broad), (narrow_fit, broad_fit) = shapes(0.0), shapes(1.0)
    assert narrow_fit < 0.8 * narrow
    assert broad_fit - narrow_fit > 2 * (broad - narrow)


def test_shadows_fall_on_some_of_a_picture():
    shadows = [fallen(Rng("shade", key), 64, 32) for key in range(20)]
    assert all(0.35 <= one.min() <= one.max() <= 1.001 for one in shadows)
    assert sum(one.max() - one.min() > 0.2 for one in shadows) > 12


def test_creases_bend_the_light_on_clothes_alone():
    body = build_body(draw_identity(1, "0"), 2)
    figure = place_figure(body.pose(standing()), 0, View(2.0, 0.1, 0.995), heading=0.0, x=0.0, z=8.0)
    first, second = (creased(figure, Rng("creases", key), 1.0) for key in (1, 2))
    bent = (first.normals != figure.normals).any(axis=0)
    cloth = np.concatenate([[part.name in CREASED] * ((part.rows + 1) * part.columns) for part in body.parts])
    assert not bent[~cloth].any()
    assert bent[cloth].mean() > 0.9
    assert (first.normals != second.normals).any()
    assert first.world is figure.world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world") / "crowd"
    return root, make_crowd(root, difficulty="diverse", workers=1, **CITIES)


def test_a_crowd_of_cities_loads_as_one_and_is_tested_in_a_city_of_its_own(world):
    splits = load_dataset("crowd", world[0])
    homes = defaultdict(set)
    for split in ("train", "query", "gallery"):
        for sample in getattr(splits, split):
            homes[split if sample.pid > 0 else "nobody", sample.pid].add((sample.camid - 1) // CITIES["cameras"])
    assert all(len(cities) == 1 for (split, _), cities in homes.items() if split != "nobody")
    trained = [cities for (split, _), cities in homes.items() if split == "train"]
    tested = [cities for (split, _), cities in homes.items() if split != "train"]
    assert (len(trained), set.union(*trained), set.union(*tested)) == (4, {0, 1}, {2})
    assert json.loads((world[0] / "dataset.json").read_text())["parameters"]["cities"] == 3


def test_a_crowd_of_cities_has_the_same_bytes_whatever_the_workers(world, tmp_path):
    assert make_crowd(tmp_path / "crowd", difficulty="diverse", workers=2, **CITIES) == world[1]


def test_doses_of_a_crowd_of_cities_stay_in_its_last(world, tmp_path):
    made = make_doses(world[0], tmp_path, causes=["scale"], doses=[1.0], workers=1, progress=False)
    assert made["plain"]["images"]["query"] == world[1]["images"]["query"]
    names = [{path.name for path in (root / "query").iterdir()} for root in (world[0], tmp_path / "scale_1")]
    assert names[0] == names[1]


def test_cities_share_nobody_and_lookalikes_live_together():
    many = {"train_ids": 90, "test_ids": 10, "cities": 10, "cameras": 9, "difficulty": "diverse"}
    request = small_request(**many, cameras_per_id=(2, 3), knobs={"lookalikes": 1})
    jobs = list(plan_jobs(request))
    city = {job.pid: (job.visits[0].camera - 1) // 9 for job in jobs}
    assert sorted(city) == list(range(1, 101))
    assert [list(city.values()).count(number) for number in range(10)] == [10] * 10
    dressed = defaultdict(set)
    for job in jobs:
        dressed[job.person.top.color, job.person.top.kind].add(city[job.pid])
    assert sum(len(cities) == 1 for cities in dressed.values()) > 0.9 * len(dressed)
    assert request.hung(19) == ("0.3", 1)
    names = [shot.name for job in jobs for visit in job.visits for shot in visit.shots]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cities": 0}, "cities is 0, wanted a whole number from 1 to 100"),
        ({"cities": 4, "train_ids": 2}, "train_ids is 2 in 3 cities to train in"),
    ],
)
def test_cities_that_are_none(options, words):
    with pytest.raises(ConfigError, match=words):
        small_request(**options)
