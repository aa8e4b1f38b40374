"""Boxes cut out of a picture: rounding, edges, and boxes of which nothing is left."""

import numpy as np
import pytest

from regard.data.box_table import read_boxes
from regard.data.boxes import as_boxes, clip_boxes, crops, in_fractions
from regard.errors import DataError

FRAME = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


@pytest.mark.parametrize(
    ("box", "wanted"),
    [
        ((1, 2, 4, 5), (1, 2, 4, 5)),
        ((0.49, 0.5, 2.5, 3.49), (0, 1, 3, 3)),  # to the nearest border, halves up
        ((-9, -1e300, 3, np.inf), (0, 0, 3, 5)),
        ((-np.inf, -np.inf, np.inf, np.inf), (0, 0, 7, 5)),
        ((4, 1, 2, 3), (0, 0, 0, 0)),  # reversed
        ((7, 0, 12, 5), (0, 0, 0, 0)),  # beside the picture
        ((-3, 0, 0.4, 5), (0, 0, 0, 0)),
        ((1.5, 0, 2.4, 5), (0, 0, 0, 0)),  # thinner than a pixel
        ((np.nan, 0, 3, 5), (0, 0, 0, 0)),
        ((0, 0, 3, np.nan), (0, 0, 0, 0)),
    ],
)
def test_a_box_covers_the_pixels_nearest_to_it(box, wanted):
    assert clip_boxes([box], 5, 7).tolist() == [list(wanted)]
    x0, y0, x1, y1 = wanted
    (cut,) = crops(FRAME, [box])
    assert np.array_equal(cut, FRAME[y0:y1, x0:x1])
    assert cut.size == 3 * (x1 - x0) * (y1 - y0)


def test_crops_are_views_in_the_order_of_the_boxes_and_empty_ones_keep_their_place():
    found = crops(FRAME, np.float32([[0, 0, 2, 2], [9, 9, 9, 9], [3, 3, 7, 5]]))
    assert [cut.shape for cut in found] == [(2, 2, 3), (0, 0, 3), (2, 4, 3)]
    assert np.shares_memory(found[2], FRAME)
    assert crops(FRAME, []) == crops(FRAME, np.empty((0, 4))) == []


@pytest.mark.parametrize(
    "boxes", [[1, 2, 3, 4], [[1, 2, 3]], [[[1, 2, 3, 4]]], ["abcd"], [[1], [1, 2]], None, [[1j] * 4]]
)
def test_what_is_no_list_of_boxes_is_refused(boxes):
    with pytest.raises(DataError, match=r"boxes are .*wanted \(N, 4\)"):
        as_boxes(boxes)


@pytest.mark.parametrize("frame", [FRAME.astype(float), FRAME[..., 0], FRAME[..., :2], "frame.jpg"])
def test_a_frame_is_three_bytes_a_pixel(frame):
    with pytest.raises(DataError, match=r"the frame is .*wanted \(H, W, 3\) uint8"):
        crops(frame, [[0, 0, 1, 1]])


@pytest.mark.parametrize(
    ("boxes", "wanted"),
    [
        ([[0.1, 0.2, 0.6, 0.9]], True), ([[0, 0, 1, 0.5], [0, 0, 0, 0]], True), ([[0, 0, 1, 1]], False), ([], False),
        ([[0.1, 0.2, 0.6, 0.9], [3, 4, 50, 60]], False), ([[-0.1, 0.2, 0.6, 0.9]], False), ([[np.nan] * 4], False),
    ],
)  # fmt: skip
def test_fractions_are_told_from_pixels(boxes, wanted):
    assert in_fractions(as_boxes(boxes)) is wanted


def test_a_table_of_fractions_is_refused(tmp_path):
    table = tmp_path / "boxes.csv"
    table.write_text("picture,x0,y0,x1,y1\na.jpg,0.1,0.2,0.6,0.9\nb.jpg,0,0,1,0.5\n")
    with pytest.raises(
        DataError, match=r"has boxes in fractions \(0\.1, 0\.2, 0\.6, 0\.9\), expected pixels; multiply"
    ):
        read_boxes(table)
    table.write_text("picture,x0,y0,x1,y1\na.jpg,0.1,0.2,0.6,0.9\nb.jpg,0,0,10,50\n")
    assert len(read_boxes(table)) == 2
