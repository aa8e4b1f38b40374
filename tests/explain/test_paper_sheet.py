"""Sheets for papers: every picture, system and level in its place, in three file forms, at the dpi asked for."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from regard.errors import ConfigError, DataError
from regard.explain.figures.map_figures import figure_bytes
from regard.explain.figures.map_grids import paper_sheet

PICTURES = [np.full((96, 48, 3), shade, np.uint8) for shade in (60, 200)]


def systems() -> dict[str, dict[str, np.ndarray]]:
    corner = np.zeros((2, 6, 3), np.float32)
    corner[:, 0, 0] = 1
    return {"apnet": {"P2": corner, "P1": corner[:, ::-1]}, "baseline": {"last stage": corner}}


def test_every_map_has_its_place():
    figure = paper_sheet(PICTURES, systems(), labels=["first", "second"])
    images = [axes for axes in figure.axes if axes.images]
    assert len(images) == 2 * (1 + 3)
    assert [axes.get_title() for axes in images if axes.get_title()] == ["P2", "P1", "last stage"]
    said = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert {"first", "second", "apnet", "baseline"} <= set(said)
    for axes in images:
        box = axes.get_position()
        assert 0 <= box.x0 < box.x1 <= 1
        assert 0 <= box.y0 < box.y1 <= 1


def test_heat_is_where_the_map_is():
    figure = paper_sheet(PICTURES, systems())
    maps = {axes.get_title(): np.asarray(axes.images[0].get_array(), int) for axes in figure.axes if axes.get_title()}
    top, bottom = (slice(0, 20), slice(0, 20)), (slice(-20, None), slice(0, 20))
    warmth = {name: (image[..., 0] - image[..., 2]) for name, image in maps.items()}
    assert warmth["P2"][top].mean() > warmth["P2"][bottom].mean() + 20
    assert warmth["P1"][bottom].mean() > warmth["P1"][top].mean() + 20


@pytest.mark.parametrize("dpi", [60, 120])
def test_png_has_the_dots_it_was_asked_for(dpi):
    figure = paper_sheet(PICTURES, systems(), width=4, dpi=dpi)
    image = Image.open(io.BytesIO(figure_bytes(figure, "png", dpi)))
    assert image.width == 4 * dpi


def test_svg_and_pdf_keep_names_as_text_and_are_the_same_each_time():
    figure = paper_sheet(PICTURES, systems(), note="what it is", dpi=60)
    svg = figure_bytes(figure, "svg", 60)
    texts = "".join(ET.fromstring(svg).itertext())
    assert all(name in texts for name in ("apnet", "last stage", "what it is"))
    assert b"data:image/png" in svg
    pdf = figure_bytes(figure, "pdf", 60)
    assert pdf.startswith(b"%PDF")
    assert svg == figure_bytes(figure, "svg", 60)
    assert pdf == figure_bytes(figure, "pdf", 60)


def test_what_cannot_be_laid_out():
    with pytest.raises(DataError, match="apnet P2 has maps of 2 pictures, the sheet has 1"):
        paper_sheet(PICTURES[:1], systems())
    with pytest.raises(DataError, match="no picture or no map"):
        paper_sheet(PICTURES, {})
    with pytest.raises(ConfigError, match="'jpg', wanted one of png, svg, pdf"):
        figure_bytes(paper_sheet(PICTURES, systems()), "jpg")
    with pytest.raises(ConfigError, match="dpi is 0"):
        figure_bytes(paper_sheet(PICTURES, systems()), "png", 0)
    with pytest.raises(ConfigError, match="more than 268,435,456 pixels; choose a smaller dpi"):
        figure_bytes(paper_sheet(PICTURES, systems()), "pdf", 100_000)
