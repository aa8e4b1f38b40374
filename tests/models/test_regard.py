"""Our own system against its formula; what every system promises is in test_contract."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

import regard
from regard.errors import ConfigError

TINY = "test_resnet.r160_in1k"


def create(**options) -> regard.ReIDModel:
    torch.manual_seed(0)
    return regard.create_model("regard", 7, backbone=TINY, **options)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, 96, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
@pytest.mark.parametrize("control", ["off", "constant", "none", "shuffled"])
def test_it_is_its_formula(control, images):
    """The whole and weighted means over positions, by hand, position by position."""
    model = create(attention_control=control, gate_start="released", parts=3, overlap=0.7).double()
    for _ in range(2):
        model(images.double())
    model.eval()
    out = model(images.double())
    x = images.double()
    for stage in model.backbone.stages:
        x = stage(x)
    moves = control in ("none", "shuffled")
    moved = model.attention["parts"](x) if moves else x.new_zeros(4, 3, *x.shape[2:])
    rows, columns = x.shape[2:]
    for picture in range(4):
        told = moved[(picture + 2) % 4 if control == "shuffled" else picture].tolist()
        totals, sums = [0.0] * 3, [torch.zeros(x.shape[1], dtype=torch.float64) for _ in range(3)]
        for row in range(rows):
            y = 3 * (row + 0.5) / rows
            for column in range(columns):
                powers = [math.exp(-((y - p - 0.5) ** 2) / 0.7 + told[p][row][column]) for p in range(3)]
                for p, power in enumerate(powers):
                    totals[p] += power / sum(powers)
                    sums[p] += power / sum(powers) * x[picture, :, row, column]
        vectors = torch.stack([x[picture].mean((1, 2)), *(s / total for s, total in zip(sums, totals))])
        wanted = F.normalize(vectors).T.flatten()
        torch.testing.assert_close(out.embedding[picture].double(), wanted, rtol=1e-5, atol=1e-6)
    assert list(out.maps) == (["parts"] if moves else [])
    head = model.heads["part1"]
    neck = F.batch_norm(out.features["part1"], head.neck.running_mean, head.neck.running_var, head.neck.weight)
    torch.testing.assert_close(out.logits["part1"], neck @ head.classifier.weight.T)


@pytest.mark.slow
def test_windows_have_edges_where_nothing_overlaps(images):
    sharp, six = create(overlap=0, attention_control="off"), create(descriptor="both", attention_control="off")
    six.load_state_dict(sharp.state_dict())
    torch.testing.assert_close(sharp.embed(images), six.embed(images))
    narrow = create(overlap=1e-3, attention_control="off", parts=3)
    narrow.load_state_dict(create(overlap=0, attention_control="off", parts=3).state_dict())
    edges = create(overlap=0, attention_control="off", parts=3)
    torch.testing.assert_close(narrow.embed(images), edges.embed(images), rtol=1e-4, atol=1e-5)
    assert edges.head_layers()["part2"].rows(6) == slice(4, 6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"parts": 0}, "parts is 0, but there is at least 1; our recipes have 6"),
        ({"overlap": -1}, "overlap is -1, wanted 0"),
        ({"overlap": 0}, "parts with edges cannot move; give attention_control off"),
        ({"gate_start": "late"}, "gate_start"),
    ],
)
def test_what_cannot_be_is_said(options, said):
    with pytest.raises(ConfigError, match=said):
        create(**options)
