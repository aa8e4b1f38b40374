"""A writer of MindSpore's checkpoints for tests, sound and unsound ones, from the format's definition."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from regard.models.importers.mindspore_file import TYPES


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor_of(dims: Iterable[int], kind: str = "Float32", content: bytes = b"") -> bytes:
    return b"".join(field(1, dim) for dim in dims) + field(2, kind.encode()) + field(3, content)


def value(tag: str | bytes, tensor: bytes) -> bytes:
    return field(1, field(1, tag.encode() if isinstance(tag, str) else tag) + field(2, tensor))


def checked(content: bytes) -> bytes:
    return content + b"crc_num" + zlib.crc32(content).to_bytes(10, "big")


def written(tensors: Mapping[str, Tensor], step: int | None = None) -> bytes:
    """What the real package writes, tensors of more than ``step`` bytes in parts."""
    kinds, out = {dtype: kind for kind, dtype in TYPES.items()}, []
    for name, tensor in tensors.items():
        data = bytes(tensor.contiguous().reshape(-1).view(torch.uint8).numpy()) if tensor.numel() else b""
        length = step or max(len(data), 1)
        for start in range(0, max(len(data), 1), length):
            part = data[start : start + length]
            out.append(value(name, tensor_of(tensor.shape, kinds[tensor.dtype], part)))
    return b"".join(out)


TERMS = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def mindspore_names(tensors: Mapping[str, Tensor], down_sample: str, classifier: str) -> dict[str, Tensor]:
    """The tensors of a torch ResNet as MindSpore calls them."""
    norms = {key.removesuffix("running_var") for key in tensors if key.endswith("running_var")}
    named = {}
    for key, tensor in tensors.items():
        head, _, leaf = key.rpartition(".")
        if leaf != "num_batches_tracked":
            key = f"{head}.{TERMS[leaf] if f'{head}.' in norms else leaf}"
            named[key.replace("downsample", down_sample).replace("fc.", f"{classifier}.")] = tensor
    return named
