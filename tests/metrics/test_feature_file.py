from __future__ import annotations

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from regard.errors import ConfigError, DataError
from regard.metrics import evaluate_ranking, read_features

FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)
ARRAYS = {"embeddings": FEATURES, "pids": np.array([1, 2, 0, -1]), "camids": np.array([1, 1, 2, 3], np.int16)}


def same(got):
    np.testing.assert_array_equal(got.embeddings, FEATURES)
    assert (got.embeddings.dtype, got.pids.dtype) == (np.float32, np.int64)
    assert got.pids.tolist() == [1, 2, 0, -1]
    assert got.camids.tolist() == [1, 1, 2, 3]


def test_npz(tmp_path):
    np.savez(tmp_path / "a.npz", **ARRAYS)
    same(read_features(tmp_path / "a.npz"))
    np.savez_compressed(
        tmp_path / "b.npz", embeddings=FEATURES.astype(float), pids=[1, 2, 3, 3], tracklets=[7, 7, 8, 9]
    )
    got = read_features(str(tmp_path / "b.npz"))
    assert got.camids is None
    assert got.tracklets is not None
    report = evaluate_ranking(got.embeddings, got.embeddings, got.pids, got.pids)
    assert report.rank(1) == 1


@pytest.mark.parametrize("plural", [True, False])
@pytest.mark.parametrize("fixed", [True, False])
def test_parquet(tmp_path, plural, fixed):
    kind = pyarrow.list_(pyarrow.float32(), 3) if fixed else pyarrow.list_(pyarrow.float64())
    names = ARRAYS if plural else [name.removesuffix("s") for name in ARRAYS]
    columns = [pyarrow.array(FEATURES.tolist(), kind), ARRAYS["pids"], ARRAYS["camids"]]
    parquet.write_table(pyarrow.table(dict(zip(names, columns))), tmp_path / "a.parquet", row_group_size=3)
    same(read_features(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"embedding": [[1.0, 2.0], [1.0]], "pid": [1, 2]}, "lists in column embedding differ in length, 1 to 2"),
        ({"embedding": [1.0, 2.0], "pid": [1, 2]}, "column embedding is of type double: give a list of numbers"),
        ({"embedding": [[1.0], [2.0]], "pid": [1, None]}, "column pid has 1 empty rows"),
        ({"embedding": [[1.0], [2.0]]}, "lacks pids, it holds embeddings"),
        ({"embedding": [["a"], ["b"]], "pid": [1, 2]}, "give an .N, D. array of real numbers"),
    ],
)
def test_wrong_tables_are_refused_in_one_line(tmp_path, columns, says):
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=says) as caught:
        read_features(tmp_path / "a.parquet")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("a.csv", b"", ConfigError, "read from .npz or .parquet files, not .csv"),
        ("a.npz", None, DataError, "no file .*a.npz"),
        ("a.npz", b"PK\x03\x04 and no more", DataError, "a.npz cannot be read as .npz"),
        ("a.npz", {"pids": [1]}, DataError, "a.npz lacks embeddings, it holds pids"),
        ("a.npz", {"embeddings": FEATURES, "pids": [1]}, DataError, r"a.npz: pids has shape \(1,\) for 4"),
        ("a.npz", {"embeddings": FEATURES, "pids": [1, 2, -2, 3]}, DataError, "a.npz: pids holds -2 .1 of 4 below -1"),
        (
            "a.npz",
            {"embeddings": FEATURES, "pids": np.full(4, 2**63, np.uint64)},
            DataError,
            "wanted integers up to 2.63 - 1",
        ),
        ("a.npz", {"embeddings": FEATURES * np.nan, "pids": [1] * 4}, DataError, "a.npz features hold NaN"),
        ("a.npz", {"embeddings": np.array([None, 1], object), "pids": [1, 2]}, DataError, "a.npz cannot be read"),
    ],
)
def test_wrong_files_are_refused_in_one_line(tmp_path, name, content, error, says):
    if isinstance(content, dict):
        np.savez(tmp_path / name, **content)
    elif content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=says) as caught:
        read_features(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_single_array_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", FEATURES)
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"a.npz cannot be read as .npz"):
        read_features(tmp_path / "a.npz")
