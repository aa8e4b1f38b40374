"""Write the files beside this one with the real package: ``pip install mindspore==2.7.0``, then run this script.

Tensors, names and activations are MindSpore's own; the tests read them without it. The networks are written here from
the names and shapes of their checkpoints: the ResNet of MindSpore's model zoo, and DAAF's network of
github.com/CYFFF/DAAF-Mindspore.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from mindspore.train import serialization
from mindspore.train.checkpoint_pb2 import Checkpoint

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[1] / "parity"))

import named_weights  # noqa: E402

KINDS = [
    "bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "bfloat16", "float32", "float64", "complex64", "complex128",
]  # fmt: skip
JOINTS = [5, 2, 2, 4, 2, 2]
IDS = 11


def save(name: str, tensors, **options) -> None:
    ms.save_checkpoint(tensors, str(HERE / name), **options)
    (HERE / name).chmod(0o644)


def named(**tensors) -> list[dict]:
    return [{"name": name, "data": value} for name, value in tensors.items()]


def files_of_tensors() -> None:
    """Every type with three dimensions or none, long tensors in parts, checksums, ciphers, notes."""
    values = {}
    for kind in KINDS:
        numbers = np.arange(12).reshape(3, 2, 2) % (2 if kind == "bool_" else 12)
        values[f"{kind}.of.three.axes"] = ms.Tensor(numbers, getattr(ms, kind))
        values[f"{kind}.scalar"] = ms.Tensor(1, getattr(ms, kind))
    save("types.ckpt", named(**values))
    save("types_checked.ckpt", named(**values), crc_check=True)
    notes = {"epoch_num": 3, "lr": 0.5, "done": True, "note": "école №5"}
    save("notes.ckpt", named(a=ms.Tensor(np.ones(2, np.float32))), append_dict=notes)
    for number, mode in enumerate(("AES-GCM", "AES-CBC", "SM4-CBC")):
        secret = named(a=ms.Tensor(np.ones(2, np.float32)))
        save(f"secret_{number}.ckpt", secret, enc_key=b"0123456789abcdef", enc_mode=mode)
    long = named(
        before=ms.Tensor(np.arange(3), ms.int32),
        long=ms.Tensor(np.arange(900).reshape(9, 100), ms.float32),
        after=ms.Tensor(np.arange(3), ms.int64),
    )
    whole, serialization.SLICE_SIZE = serialization.SLICE_SIZE, 1  # kilobytes of a part, instead of 512 MB
    save("parts_of_bytes.ckpt", long, crc_check=True)
    ms.save_checkpoint(long, str(HERE / "parts_of_rows.ckpt"), async_save="thread")
    time.sleep(2)
    (HERE / "parts_of_rows.ckpt").chmod(0o644)
    serialization.SLICE_SIZE = whole
    table = Checkpoint()
    value = table.value.add()
    value.tag = "embedding.table"
    for numbers in (np.arange(2), np.ones((2, 3), np.float32), np.zeros(2, np.int32)):
        part = value.maptensor.tensor.add()
        part.dims.extend(numbers.shape)
        part.tensor_type, part.tensor_content = str(numbers.dtype), numbers.tobytes()
    (HERE / "hash_table.ckpt").write_bytes(table.SerializeToString())


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, pad_mode="same")


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-4, momentum=0.9)


class Block(nn.Cell):
    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        width = outputs // 4
        self.conv1, self.bn1 = conv(inputs, width, 1), norm(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), norm(width)
        self.conv3, self.bn3 = conv(width, outputs, 1), norm(outputs)
        self.down_sample_layer = None
        if stride != 1 or inputs != outputs:
            self.down_sample_layer = nn.SequentialCell([conv(inputs, outputs, 1, stride), norm(outputs)])

    def construct(self, x):
        shortcut = x if self.down_sample_layer is None else self.down_sample_layer(x)
        x = ops.relu(self.bn1(self.conv1(x)))
        x = ops.relu(self.bn2(self.conv2(x)))
        return ops.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet(nn.Cell):
    def __init__(self, classes: int = 1001, blocks=(3, 4, 6, 3), widths=(64, 256, 512, 1024, 2048)):
        super().__init__()
        self.conv1, self.bn1 = conv(3, widths[0], 7, 2), norm(widths[0])
        self.maxpool = nn.MaxPool2d(3, 2, pad_mode="same")
        for number, count in enumerate(blocks):
            inputs, outputs = widths[number : number + 2]
            first = Block(inputs, outputs, 1 if number == 0 else 2)
            rest = [Block(outputs, outputs) for _ in range(count - 1)]
            setattr(self, f"layer{number + 1}", nn.SequentialCell([first, *rest]))
        self.end_point = nn.Dense(widths[-1], classes)

    def features(self, x):
        x = self.maxpool(ops.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def construct(self, x):
        return self.end_point(self.features(x).mean((2, 3)))


class DAAF(nn.Cell):
    """The network of training; ``branches=False`` is the port's plain one (its class ``Trinet``)."""

    def __init__(self, branches: bool = True):
        super().__init__()
        resnet = ResNet(10)
        self.backone = nn.SequentialCell(resnet.conv1, resnet.bn1, nn.ReLU(), resnet.maxpool, resnet.layer1)
        self.backone2 = nn.SequentialCell(resnet.layer2, resnet.layer3, resnet.layer4)
        self.reduction = nn.SequentialCell(nn.Conv2d(2048, 512, 1), nn.BatchNorm2d(512), nn.ReLU())
        for number in range(4 if branches else 0):
            setattr(self, f"trans_conv_{number}", self.doubling(340 if number == 0 else 64))
        for group, joints in enumerate(JOINTS if branches else []):
            setattr(self, f"conv_{group}", nn.Conv2d(64, joints, 1, has_bias=True))
        self.bnneck = nn.BatchNorm1d(2048)
        self.fc_class = nn.Dense(512, IDS)
        if branches:
            layers = (resnet.layer2, resnet.layer3, resnet.layer4)
            self.backbone_mask_resnet = nn.SequentialCell(*(copy.deepcopy(layer) for layer in layers))
        for number in range(4 if branches else 0):
            setattr(self, f"trans_conv_m{number}", self.doubling(2048 if number == 0 else 64))
        if branches:
            self.conv_m0 = nn.Conv2d(64, 1, 1, has_bias=True)

    @staticmethod
    def doubling(channels: int) -> nn.Conv2dTranspose:
        return nn.Conv2dTranspose(channels, 64, 2, 2, padding=0, has_bias=True)

    def decoded(self, x, branch: str = ""):
        for number in range(4):
            x = getattr(self, f"trans_conv_{branch}{number}")(x)
        return x

    def construct(self, x):
        early = self.backone(x)
        last = self.backone2(early)
        descriptor = self.reduction(last.mean((2, 3), keep_dims=True)).reshape(len(x), -1)
        parts = [last[:, 340 * group : 340 * (group + 1)] for group in range(6)]
        joints = ops.cat([getattr(self, f"conv_{group}")(self.decoded(part)) for group, part in enumerate(parts)], 1)
        mask = self.conv_m0(self.decoded(self.backbone_mask_resnet(early), "m"))
        return descriptor, self.fc_class(descriptor), joints, mask


def filled(network: nn.Cell) -> nn.Cell:
    """The network with weights that follow from its checkpoint's names."""
    for _, parameter in network.parameters_and_names():
        leaf = parameter.name.rsplit(".", 1)[-1]
        terms = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
        name = parameter.name.removesuffix(leaf) + terms.get(leaf, leaf)
        parameter.set_data(ms.Tensor(named_weights.tensor(name, parameter.shape)))
    return network.set_train(False)


def keys(network: nn.Cell) -> dict[str, list[int]]:
    return {parameter.name: list(parameter.shape) for _, parameter in network.parameters_and_names()}


def files_of_networks() -> None:
    """A tiny ResNet after three steps with its optimizer, names and shapes of the large ones, what they answer."""
    ms.set_seed(1)
    draw = np.random.default_rng(1)
    tiny = ResNet(3, (1, 1, 1, 1), (4, 8, 8, 8, 8))
    optimizer = nn.Momentum(tiny.trainable_params(), 0.1, 0.9)
    step = nn.TrainOneStepCell(nn.WithLossCell(tiny, nn.CrossEntropyLoss()), optimizer).set_train()
    for _ in range(3):
        step(ms.Tensor(draw.normal(size=(4, 3, 32, 32)), ms.float32), ms.Tensor([0, 1, 2, 0], ms.int32))
    save("tiny_resnet.ckpt", step)
    tiny.set_train(False)
    images = named_weights.image(2, 64, 32)
    answers = {"tiny": tiny.features(ms.Tensor(images)).asnumpy()}
    tables = {}
    resnet = filled(ResNet())
    tables["resnet50"] = keys(resnet)
    answers["resnet50"] = resnet.features(ms.Tensor(images)).mean((2, 3)).asnumpy()
    tables["daaf_plain"] = keys(DAAF(branches=False))
    daaf = filled(DAAF())
    tables["daaf"] = keys(daaf)
    descriptor, logits, joints, mask = (value.asnumpy() for value in daaf(ms.Tensor(images)))
    answers |= {
        "descriptor": descriptor,
        "logits": logits,
        "joints": joints[:, :, ::8, ::8],
        "mask": mask[:, :, ::8, ::8],
    }
    np.savez_compressed(HERE / "answers.npz", **answers)
    rows = [
        f' "{name}": {{\n' + ",\n".join(f'  "{k}": {s}' for k, s in t.items()) + "\n }" for name, t in tables.items()
    ]
    (HERE / "keys.json").write_text("{\n" + ",\n".join(rows) + "\n}\n")
    json.loads((HERE / "keys.json").read_text())


if __name__ == "__main__":
    files_of_tensors()
    files_of_networks()
