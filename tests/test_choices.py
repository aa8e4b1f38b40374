"""A choice that there is not is refused where it is given, and taken for no other one."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from regard.cli import gallery_verb
from regard.data.labels import LabeledSample, has_label, read_labels
from regard.data.loaders import train_loader
from regard.data.transforms import TestTransform
from regard.errors import ConfigError, check_choice
from regard.explain.correlation import correlate
from regard.explain.figures.overlay import framed
from regard.layers.heads import PartHeads
from regard.layers.map_decoder import MapDecoder
from regard.layers.pyramid import AttentionLevel, AttentionPyramid
from regard.layers.self_attention import DeepSelfAttention, SpatialAttention
from regard.precision import Products
from regard.structures import Sample

SAMPLE, LABELED = Sample(Path("a.jpg"), 1, 1), LabeledSample(Path("a.jpg"), 1, 1)
CHOICES: dict[str, Callable[[Any], object]] = {
    "action": lambda choice: gallery_verb.run(argparse.Namespace(action=choice, gallery="none")),
    "axis": lambda choice: correlate(np.ones((2, 2, 2)), choice),
    "frame": lambda choice: framed(np.zeros((4, 4, 3), np.uint8), choice),
    "gating": lambda choice: AttentionPyramid([nn.Identity()], 4, gating=choice),
    "kernel": lambda choice: MapDecoder(4, [1], choice),
    "label": lambda choice: has_label(SAMPLE, choice),
    "label of files": lambda choice: has_label(LABELED, choice),
    "labels": lambda choice: read_labels(SAMPLE, (choice,)),
    "level": lambda choice: AttentionLevel(nn.Identity(), 4, normalize=False, gating=choice),
    "order": lambda choice: AttentionPyramid([nn.Identity()], 4, order=choice),
    "position gate": lambda choice: SpatialAttention(choice),
    "precision": lambda choice: Products(choice, torch.device("cpu")),
    "sampler": lambda choice: train_loader(
        [SAMPLE] * 4, TestTransform(8, 4), ids_per_batch=1, images_per_id=2, sampler=choice
    ),
    "self-attention": lambda choice: DeepSelfAttention(4, choice),
    "sharing": lambda choice: PartHeads(4, 2, 2, 2, 0.0, sharing=choice, classified=[]),
}


def outcome(use: Callable[[Any], object], choice: Any) -> str:
    try:
        use(choice)
    except ConfigError as error:
        return str(error)
    return "taken"


@pytest.mark.parametrize("choice", ["other", "", None, True, 0, ["mask"]])
def test_a_choice_that_there_is_not_is_refused(choice):
    told = {name: outcome(use, choice) for name, use in CHOICES.items()}
    assert {name: text for name, text in told.items() if "wanted one of" not in text} == (
        {"action": told["action"]} if told["action"].startswith("unknown action") else {}
    )


def test_choices_are_told_apart_from_what_equals_them():
    for good in ("a", np.str_("a"), None, False):
        check_choice("it", good, Literal["a", None, False])
    for bad in (0, 1, "A", ["a"], np.zeros(2)):
        with pytest.raises(ConfigError, match=r"^it is .*, wanted one of: a, None, False$"):
            check_choice("it", bad, Literal["a", None, False])
    with pytest.raises(ConfigError, match="did you mean 'softmax'"):
        SpatialAttention("softmx")
