"""Contents, not places: stale exactly where bytes differ."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regard.fingerprint import bytes_digest, file_digest, files_digest, samples_digest, tensors_digest, values_digest
from regard.structures import Sample

contents = st.lists(st.binary(max_size=40), min_size=1, max_size=4)
once_made = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(folder: Path, files: list[bytes]) -> list[Sample]:
    """Samples with these files, in a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    paths = [folder / f"{number}.jpg" for number in range(len(files))]
    for path, content in zip(paths, files):
        path.write_bytes(content)
    return [Sample(path, pid=number, camid=1) for number, path in enumerate(paths)]


@pytest.mark.slow
@once_made
@given(contents, st.data())
def test_stale_exactly_where_bytes_differ(tmp_path, files, data):
    """Same size, same time, same name: only the bytes count; and nothing but the bytes."""
    samples = written(tmp_path / "here", files)
    paths = [sample.path for sample in samples]
    before, listed = files_digest(paths), samples_digest(samples, tmp_path / "here")
    assert [file_digest(path) for path in paths] == [bytes_digest(content) for content in files]
    for path in paths:
        os.utime(path, ns=(1, 1))
        path.write_bytes(path.read_bytes())
    moved = [tmp_path / "there" / path.name for path in paths]
    shutil.rmtree(tmp_path / "there", ignore_errors=True)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert files_digest(paths) == files_digest(moved) == before
    again = [Sample(path, sample.pid, sample.camid) for path, sample in zip(moved, samples)]
    assert samples_digest(again, tmp_path / "there") == listed
    which = data.draw(st.integers(0, len(files) - 1))
    changed = data.draw(st.one_of(st.binary(max_size=40), st.permutations(list(files[which])).map(bytes)))
    times = paths[which].stat()
    paths[which].write_bytes(changed)
    os.utime(paths[which], ns=(times.st_atime_ns, times.st_mtime_ns))
    same = changed == files[which]
    assert (files_digest(paths) == before) == same
    assert (samples_digest(samples, tmp_path / "here") == listed) == same


def test_two_files_whose_bytes_are_cut_elsewhere_differ(tmp_path):
    one, other = (written(tmp_path / name, files) for name, files in (("a", [b"ab", b"c"]), ("b", [b"a", b"bc"])))
    assert files_digest(s.path for s in one) != files_digest(s.path for s in other)


names = st.text("abc.", min_size=1, max_size=4)
tensors = st.dictionaries(names, st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=4), min_size=1)


@pytest.mark.slow
@settings(deadline=None)
@given(tensors, st.data())
def test_tensors_are_known_by_name_shape_and_values(values, data):
    arrays = {name: np.array(value, np.float32) for name, value in values.items()}
    digest = tensors_digest(safetensors.numpy.save(arrays))
    noted = safetensors.numpy.save(dict(reversed(arrays.items())), {"epoch": data.draw(st.text(max_size=5))})
    assert tensors_digest(noted) == digest
    assert tensors_digest(safetensors.numpy.save({k: v.astype(np.float64) for k, v in arrays.items()})) == digest
    name = data.draw(st.sampled_from(sorted(arrays)))
    for other in (arrays[name][None], np.nextafter(arrays[name], np.float32(1e9)), arrays[name].view(np.int32)):
        assert tensors_digest(safetensors.numpy.save({**arrays, name: other})) != digest
    fewer = {key: value for key, value in arrays.items() if not f"{key}.".startswith(f"{name}.")}
    assert tensors_digest(safetensors.numpy.save(arrays), (name,)) == tensors_digest(safetensors.numpy.save(fewer))


@pytest.mark.parametrize("content", [b"", b"123", b"\xff" * 20, safetensors.numpy.save({"a": np.zeros(9)})[:-1]])
def test_what_is_no_file_of_tensors_is_a_value_error(content):
    with pytest.raises(ValueError, match="cut short"):
        tensors_digest(content)


def test_values_count_in_any_order_and_without_their_own_digest():
    content = {"a": 1, "b": [1.5, None]}
    assert values_digest(content) == values_digest(json.loads('{"b": [1.5, null], "digest": "x", "a": 1}'))
    assert values_digest(content) != values_digest({"a": 1, "b": [1.5, 0]})
