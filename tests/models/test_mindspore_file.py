"""MindSpore's checkpoints: files of the real package (``mindspore/write.py`` wrote them), and files of no package."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore_bytes import checked, field, tensor_of, value, written
from torch import Tensor

from regard.errors import CheckpointError
from regard.models.importers.mindspore_file import TYPES, is_mindspore, read_mindspore
from regard.models.importers.tensor_file import read_tensors

FILES = Path(__file__).parent / "mindspore"
KINDS = {
    "bool_": torch.bool, "bfloat16": torch.bfloat16,
    **{name: getattr(torch, name) for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")},
    **{name: getattr(torch, name) for name in ("uint64", "float16", "float32", "float64", "complex64", "complex128")},
}  # fmt: skip


@pytest.fixture
def read(tmp_path):
    """Read bytes as a file."""

    def read_bytes(content: bytes) -> dict[str, Tensor]:
        (tmp_path / "file.ckpt").write_bytes(content)
        return read_tensors(tmp_path / "file.ckpt")

    return read_bytes


@pytest.mark.parametrize("file", ["types.ckpt", "types_checked.ckpt"])
def test_every_type_of_the_real_package(file):
    tensors = read_tensors(FILES / file)
    assert len(tensors) == 2 * len(KINDS) == 2 * len(TYPES)
    for kind, dtype in KINDS.items():
        numbers = torch.from_numpy(np.arange(12).reshape(3, 2, 2) % (2 if kind == "bool_" else 12)).to(dtype)
        found, scalar = tensors[f"{kind}.of.three.axes"], tensors[f"{kind}.scalar"]
        assert (found.dtype, scalar.dtype, scalar.shape) == (dtype, dtype, ())
        assert torch.equal(found.view(torch.uint8), numbers.view(torch.uint8))
        assert scalar.item() == 1


@pytest.mark.parametrize("file", ["parts_of_bytes.ckpt", "parts_of_rows.ckpt"])
def test_a_tensor_in_parts(file):
    assert (FILES / file).read_bytes().count(b"\x0a\x04long") == 4
    tensors = read_tensors(FILES / file)
    assert list(tensors) == ["before", "long", "after"]
    assert torch.equal(tensors["long"], torch.arange(900, dtype=torch.float32).reshape(9, 100))
    assert torch.equal(tensors["before"], torch.arange(3, dtype=torch.int32))
    assert torch.equal(tensors["after"], torch.arange(3))


def test_what_a_training_notes_beside_its_weights():
    tensors = read_tensors(FILES / "notes.ckpt")
    assert torch.equal(tensors["a"], torch.ones(2))
    assert [tensors[name].item() for name in ("epoch_num", "lr", "done")] == [3, 0.5, True]
    assert "".join(map(chr, tensors["note"].tolist())) == "école №5"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("secret_0.ckpt", r"is encrypted \(AES-GCM\); load it with its key in MindSpore and save it without enc_key"),
        ("secret_1.ckpt", r"is encrypted \(AES-CBC\)"),
        ("secret_2.ckpt", r"is encrypted \(SM4-CBC\)"),
        ("hash_table.ckpt", r"'embedding\.table' is a hash table \(MapParameter\), no tensor"),
    ],
)
def test_what_is_not_read_is_said(file, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        read_tensors(FILES / file)
    assert "\n" not in str(caught.value)


FLOAT = struct.pack("<f", 1.5)
GOOD = value("a", tensor_of([1], content=FLOAT))

REFUSED = {
    "empty": (b"", "it holds no tensor"),
    "empty but for its checksum": (checked(b""), "it holds no tensor"),
    "checksum": (GOOD + b"crc_num" + bytes(10), "changed since it was written"),
    "checksum that is too large": (GOOD + b"crc_num" + b"\xff" * 10, "changed since it was written"),
    "cut number": (b"\x0a\x80", "the number at byte 1 is cut off"),
    "long number": (b"\x0a" + b"\xff" * 10 + GOOD, "has more than 64 bits"),
    "number of 65 bits": (b"\x0a" + b"\x80" * 9 + b"\x02" + GOOD, "has more than 64 bits"),
    "length beyond the file": (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + GOOD, "claims 9,223,372,036,854,775,807"),
    "length beyond its message": (field(1, b"\x0a\x7fa") + GOOD, "claims 127 bytes where 1 are left"),
    "wire type of a group": (b"\x0b" + GOOD, r"field 1, wire type 3"),
    "wire type of a float": (b"\x0d" + bytes(4), r"field 1, wire type 5"),
    "number for a value": (field(1, 5), "field 1 beside its tensors"),
    "field zero": (b"\x02\x00" + GOOD, "field 0"),
    "unknown field": (GOOD + field(2, b""), "field 2 beside its tensors"),
    "unknown field of a value": (field(1, field(1, b"a") + field(9, b"")), "has a field 9"),
    "unknown field of a tensor": (value("a", tensor_of([1], content=FLOAT) + field(4, 1)), "has a field 4"),
    "no name": (field(1, field(2, tensor_of([1], content=FLOAT))), "has no tag"),
    "number for a name": (field(1, field(1, 7) + field(2, tensor_of([1], content=FLOAT))), "has no tag"),
    "two names": (field(1, field(1, b"a") * 2 + field(2, tensor_of([1], content=FLOAT))), "tag more than 1 times"),
    "empty name": (value("", tensor_of([1], content=FLOAT)), "name at byte 4 has 0 bytes"),
    "long name": (value("a" * 1025, tensor_of([1], content=FLOAT)), "1,025 bytes, wanted 1 to 1,024"),
    "no text": (value(b"a\xff", tensor_of([1], content=FLOAT)), "is no UTF-8"),
    "line break in a name": (value("a\nb", tensor_of([1], content=FLOAT)), "cannot be printed"),
    "escape in a type": (value("a", tensor_of([1], "\x1b[2J", FLOAT)), "cannot be printed"),
    "no tensor": (field(1, field(1, b"a")), "has no tensor"),
    "hash table beside a tensor": (field(1, field(1, b"a") + field(2, b"") + field(3, b"")), "is a hash table"),
    "no type": (value("a", field(1, 1) + field(3, FLOAT)), "has no tensor_type"),
    "no numbers": (value("a", field(1, 1) + field(2, b"Float32")), "has no tensor_content"),
    "numbers twice": (value("a", tensor_of([1], content=FLOAT) + field(3, FLOAT)), "tensor_content more than 1"),
    "unknown type": (value("a", tensor_of([1], "Int4", b"x")), r"'a' is of type 'Int4', which is not read; save it"),
    "type of another library": (value("a", tensor_of([1], "float32", FLOAT)), "'float32', which is not read"),
    "negative": (value("a", tensor_of([-1], content=FLOAT)), "'a' has a dimension of -1"),
    "two negatives": (value("a", tensor_of([-1, -1], content=FLOAT)), "has a dimension of -1"),
    "most negative": (value("a", tensor_of([1, -(1 << 63)], content=FLOAT)), "dimension of -9223372036854775808"),
    "overflow to its size": (value("a", tensor_of([1 << 62, 4, 1], content=b"")), "would have 73,786,976,294,838"),
    "overflow to one": (value("a", tensor_of([(1 << 32) + 1, (1 << 32) - 1], content=FLOAT)), "would have"),
    "empty and vast": (value("a", tensor_of([0, 1 << 62, 1 << 62])), "would have 0"),
    "too many dimensions": (value("a", tensor_of([1] * 33, content=FLOAT)), "dims more than 32"),
    "too many packed": (value("a", field(1, b"\x01" * 99) + tensor_of([], content=FLOAT)), "more than 32 dim"),
    "cut packed": (value("a", field(1, b"\x80") + tensor_of([], content=FLOAT)), "number at byte 9 is cut off"),
    "too few numbers": (value("a", tensor_of([3], content=FLOAT)), r"has 4 bytes .* Float32 of \(3,\) would have 12"),
    "too many numbers": (value("a", tensor_of([1], content=FLOAT * 2)), "has 8 bytes"),
    "a broken number": (value("a", tensor_of([1], content=FLOAT[:3])), "has 3 bytes"),
    "scalar of two": (value("a", tensor_of([], content=FLOAT * 2)), r"Float32 of \(\) would have 4"),
    "truth of 2": (value("a", tensor_of([1], "Bool", b"\x02")), "is Bool and holds 2"),
    "broken text": (value("a", tensor_of([0], "str", b"abc")), "has 3 bytes"),
    "text of two dimensions": (value("a", tensor_of([1, 2], "str", FLOAT)), "has 4 bytes"),
    "twice": (GOOD + value("b", tensor_of([1], content=FLOAT)) + GOOD, "holds 'a' in 2 places"),
    "twice in a row": (GOOD + GOOD, r"has 8 bytes of numbers, and Float32 of \(1,\) would have 4"),
    "parts of two types": (GOOD + value("a", tensor_of([1], "Int32", FLOAT)), "several types or dimensions"),
    "parts of two shapes": (GOOD + value("a", tensor_of([1, 1], content=FLOAT)), "several types or dimensions"),
    "web page": (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "is no MindSpore checkpoint"),
    "text": (b"no checkpoint at all, but some words", "is no MindSpore checkpoint"),
    "zeros": (bytes(1000), "is no MindSpore checkpoint"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_files_are_refused_in_one_line(case, read):
    content, message = REFUSED[case]
    with pytest.raises(CheckpointError, match=message) as caught:
        read(content)
    said = str(caught.value)
    assert "\n" not in said
    assert "file.ckpt" in said
    assert "; " in said
    assert len(said) < 500


def test_a_file_of_more_parts_than_any_network_has(read, monkeypatch):
    monkeypatch.setattr("regard.models.importers.mindspore_file.MAX_VALUES", 3)
    whole = [value(name, tensor_of([1], content=FLOAT)) for name in "abcd"]
    assert len(read(b"".join(whole[:3]))) == 3
    with pytest.raises(CheckpointError, match="more than 3 values"):
        read(b"".join(whole))


def test_a_long_name_is_shortened_where_it_is_said(read):
    with pytest.raises(CheckpointError, match=r"'a+…' has 0 bytes") as caught:
        read(value("a" * 1000, tensor_of([1])))
    assert len(str(caught.value)) < 300


def test_what_the_format_allows(read):
    turned = field(1, field(2, field(3, FLOAT) + field(2, b"Float32") + field(1, 1)) + field(1, b"a"))
    packed = value("b", field(1, b"\x01\x01") + field(2, b"Float32") + field(3, FLOAT))
    old = value("c", tensor_of([0], content=FLOAT))
    nothing = value("d", tensor_of([0, 3]))
    tensors = read(checked(turned + packed + old + nothing))
    assert [tuple(tensor.shape) for tensor in tensors.values()] == [(1,), (1, 1), (), (0, 3)]
    assert all(tensor.eq(1.5).all() for tensor in tensors.values())
    wide = read(value("a", tensor_of([1] * 32, content=FLOAT)))
    assert wide["a"].shape == (1,) * 32


def test_a_file_is_known_by_its_bytes_whatever_it_is_called(tmp_path):
    for name in ("weights.pth", "weights.ckpt", "weights"):
        (tmp_path / name).write_bytes(GOOD)
        assert read_tensors(tmp_path / name)["a"] == 1.5
    torch.save({"state_dict": {"a": torch.ones(2)}}, tmp_path / "lightning.ckpt")
    assert not is_mindspore(tmp_path / "lightning.ckpt")
    assert torch.equal(read_tensors(tmp_path / "lightning.ckpt")["a"], torch.ones(2))
    torch.save({"a": torch.ones(2)}, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert torch.equal(read_tensors(tmp_path / "old.ckpt")["a"], torch.ones(2))


def test_claims_take_no_memory(tmp_path, monkeypatch):
    """Whatever a file claims, no tensor is made that is larger than its bytes in the file."""
    made, empty = [], torch.empty
    monkeypatch.setattr(torch, "empty", lambda size, **options: made.append(size) or empty(size, **options))
    claims = [[1 << 40], [1 << 20, 1 << 20], [1 << 31, 2], [0, 1 << 50]]
    for number, dims in enumerate(claims):
        (tmp_path / f"{number}.ckpt").write_bytes(value("a", tensor_of(dims, content=FLOAT * 3)))
        with pytest.raises(CheckpointError):
            read_mindspore(tmp_path / f"{number}.ckpt")
    assert made == []
    read_mindspore(FILES / "parts_of_bytes.ckpt")
    assert made == [12, 3600, 24]


def damaged(content: bytes, seed: int) -> bytes:
    """A file with bits turned over, cut, or with bytes put in, taken out or written twice."""
    draw = random.Random(seed)
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 5))):
        place = draw.randrange(len(data)) if data else 0
        length = draw.choice((1, 2, 8, 100))
        match draw.randrange(6):
            case 0 if data:
                data[place] ^= 1 << draw.randrange(8)
            case 1 if data:
                data[place] = draw.choice((0, 0x7F, 0x80, 0xFF))
            case 2:
                del data[place:]
            case 3:
                data[place:place] = draw.randbytes(length)
            case 4:
                del data[place : place + length]
            case _:
                data[place:place] = data[place : place + length]
    return bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "times"),
    [("types.ckpt", 200), ("types_checked.ckpt", 200), ("notes.ckpt", 800), ("parts_of_rows.ckpt", 800)],
)
def test_2000_damaged_files_are_refused_or_read(file, times, tmp_path):
    content = (FILES / file).read_bytes()
    path, sound = tmp_path / "damaged.ckpt", read_tensors(FILES / file)
    said, changed = [], 0
    for seed in range(times):
        data = damaged(content, seed)
        path.write_bytes(data)
        try:
            tensors = read_tensors(path)
        except CheckpointError as error:
            said.append(str(error))
            continue
        assert sum(tensor.nbytes for tensor in tensors.values()) <= len(data)
        changed += data != content
        if data != content and file == "types_checked.ckpt":
            assert len(tensors) < len(sound), "a checksum was right by chance"
    assert all("\n" not in line and len(line) < 600 for line in said)
    assert len(said) > times / 2
    assert changed > times / 50 or file == "types_checked.ckpt"


NAMES = st.text(st.characters(categories=("L", "N"), include_characters="._"), min_size=1, max_size=12)
TENSORS = st.builds(
    lambda dtype, shape, seed: torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)).to(dtype),
    st.sampled_from(list(TYPES.values())),
    st.lists(st.integers(0, 4), max_size=4),
    st.integers(0, 99),
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.dictionaries(NAMES, TENSORS, min_size=1, max_size=5), st.none() | st.integers(1, 9), st.booleans())
def test_there_and_back(tmp_path_factory, tensors, step, crc):
    content = written(tensors, step)
    path = tmp_path_factory.mktemp("there") / "back.ckpt"
    path.write_bytes(checked(content) if crc else content)
    if not tensors:
        return
    found = read_mindspore(path)
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found[name], tensor)
