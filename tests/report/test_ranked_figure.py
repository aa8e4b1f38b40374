"""The picture of ranked lists shows every answer as what it is."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from regard.errors import ConfigError
from regard.explain.figures.map_figures import figure_bytes
from regard.explain.figures.svg import PALETTE
from regard.metrics import FeatureSet, rank
from regard.report.ranked import Hit, RankedList
from regard.report.ranked_figure import ranked_figure
from regard.structures import Sample, Splits


@pytest.fixture
def found(tmp_path):
    samples = []
    for number, width in enumerate((32, 40, 24, 32)):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (width, 64), (250, 250, 250)).save(path)
        samples.append(Sample(path, number, number + 1))
    hits = (
        Hit(samples[1], None, 0.05, True, junk=True), Hit(samples[2], 1, 0.1234, True), Hit(samples[3], 2, 0.5, False)
    )  # fmt: skip
    return [RankedList("query 4, hard", samples[0], hits, 0.755), RankedList("query 9", samples[1], hits[1:], 0.25)]


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in (axes.title, *axes.texts)] + [
        text.get_text() for text in figure.texts
    ]


def test_every_answer_has_its_rank_distance_and_camera(found):
    figure = ranked_figure({"apnet": found}, ["a note", ""])
    said = texts(figure)
    assert "query 4, hard: person 0, camera 1" in said
    assert {"query", "junk", "1", "2", "0.123\ncamera 3", "0.500\ncamera 4", "AP\n75.5 %", "a note"} <= set(said)
    assert len(figure.axes) == 4 + 3
    assert any("junk, which does not count" in text for text in said)
    assert not any("apnet" in text for text in said)


def test_what_is_right_is_seen_with_and_without_color(found):
    axes = ranked_figure({"apnet": found}).axes
    for cell, kind in zip(axes[:4], ("query", "junk", "right", "wrong")):
        pixels = cell.images[0].get_array() / 255
        color = to_rgb(PALETTE[{"query": "ink", "junk": "muted"}.get(kind, kind)])
        edge = np.abs(pixels[:, 1] - color).max(-1) < 0.02
        assert edge.any()
        dashed = (~edge).mean() > 0.2
        assert dashed == (kind in ("junk", "wrong"))
        badge = np.abs(pixels[8:30, -25:-8] - color).max(-1) < 0.02
        assert (badge.mean() > 0.3) == (kind in ("right", "wrong"))


def test_pictures_keep_their_proportions(found):
    figure = ranked_figure({"apnet": found})
    for axes in figure.axes:
        height, width = axes.images[0].get_array().shape[:2]
        box = axes.get_window_extent()
        assert box.width / box.height == pytest.approx(width / height, rel=0.01)


def test_runs_stand_one_below_the_other(found):
    figure = ranked_figure({"baseline": found, "apnet": found})
    said = texts(figure)
    assert said.count("baseline\nAP\n75.5 %") == said.count("apnet\nAP\n75.5 %") == 1
    assert said.count("query 4, hard: person 0, camera 1") == 1
    figure.draw_without_rendering()
    edge = figure.bbox
    for axes in figure.axes:
        box = axes.get_tightbbox()
        assert edge.x0 <= box.x0 <= box.x1 <= edge.x1
        assert edge.y0 <= box.y0 <= box.y1 <= edge.y1


@pytest.mark.parametrize(("form", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_forms(found, form, start):
    content = figure_bytes(ranked_figure({"apnet": found}), form, 60)
    assert content.startswith(start)
    if form == "png":
        assert Image.open(io.BytesIO(content)).width > 200
    if form == "svg":
        assert b"0.123" in content  # text stays text


def test_mistakes(found):
    for nothing in ({}, {"apnet": []}):
        with pytest.raises(ConfigError, match="got no ranked list"):
            ranked_figure(nothing)
    with pytest.raises(ConfigError, match="different queries"):
        ranked_figure({"apnet": found, "baseline": found[::-1]})


@pytest.fixture
def people(tmp_path):
    """A data set of four people, person p at p along the line that the descriptors lie on, and its two sides."""
    parts, sides = {"train": []}, []
    for side, camid in (("query", 1), ("gallery", 2)):
        parts[side] = [Sample(tmp_path / side / f"{pid}.png", pid, camid) for pid in range(1, 5)]
        (tmp_path / side).mkdir()
        for sample in parts[side]:
            Image.new("RGB", (8, 16), (40 * sample.pid,) * 3).save(sample.path)
        sides.append(FeatureSet.of(np.arange(1.0, 5)[:, None], parts[side]))
    return Splits.of("line", tmp_path, parts), *sides


def drawn(figure) -> list[int]:
    """Who is shown, read off the middles of the pictures."""
    return [round(axes.images[0].get_array()[128, 60, 0] / 40) for axes in figure.axes]


@pytest.mark.slow
def test_a_ranking_draws_whom_its_names_say(people):
    splits, query, gallery = people
    for ranking in (rank(query, gallery, metric="euclidean"), rank(query, gallery[::-1], metric="euclidean")):
        assert drawn(figure := ranking.plot(splits, [3], 2)) == [4, 4, 3]
        assert figure._repr_png_().startswith(b"\x89PNG")  # what a notebook shows
    turned = rank(query[::-1], gallery[:3], metric="euclidean")
    for queries in ([0, 3], (row for row in (0, 3)), np.array([0, 3])):
        assert drawn(turned.plot(splits, queries, depth=2)) == [4, 3, 2, 1, 1, 2]
    assert drawn(rank(gallery[1:], query, metric="euclidean").plot(SimpleNamespace(splits=splits), [0], 1)) == [2, 2]


def test_a_ranking_refuses_what_it_cannot_draw(people):
    splits, query, gallery = people
    ranking, bare = rank(query, gallery), rank(replace(query[:3], names=None), gallery)
    rows, pictures = "wanted row numbers of the ranking", "wanted a whole number of pictures"
    for call, said in (
        *((lambda depth=depth: ranking.plot(splits, [0], depth), pictures) for depth in (0, -1, None, 1.5, "a", True)),
        *((lambda one=one: ranking.plot(splits, one), rows) for one in (3, [True], query.pids > 1, "0", [0.0], [None])),
        *((lambda one=one: ranking.plot(one), "samples is .*, wanted the data set") for one in (None, "crowd", query)),
        (lambda: ranking.plot(splits, [-1]), "there is no query -1, the ranking has 4, counted from 0"),
        (lambda: bare.plot(splits), "has 3 queries without names, line has 4; pass the data set"),
        (lambda: rank(replace(query, names=list("abcd")), gallery).plot(splits), "query 'a' is no picture"),
        (lambda: rank(query, replace(gallery, names=list("abcd"))).plot(splits), "gallery 'a' is no picture"),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)
