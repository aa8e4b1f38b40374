"""A changed default cannot hide: each of these changes makes a trace fail.

What a recipe says is changed by an override. What it leans on (a default of the configuration, of a loss, of a network
or of the optimizer's construction) is changed in the code itself, for as long as the trace runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pytest
import test_augmentation
import test_rates
import test_start
import test_three_steps
import test_trace_epochs
import torch
from published import TRAININGS, VARIANTS

from regard import config
from regard.data import samplers
from regard.data.transforms import TrainTransform
from regard.layers import heads, pyramid, self_attention
from regard.losses.cross_entropy import CrossEntropy
from regard.losses.map_mse import MapMSE
from regard.losses.metric import BatchHardTriplet
from regard.models import apnet, baseline, daaf, dsp, msea, mudeep

Change = Callable[[], AbstractContextManager[Any]]


def default(of: type, **values: Any) -> Change:
    """Another default of a constructor's option."""

    def change() -> AbstractContextManager[Any]:
        function = of.__init__
        if function.__kwdefaults__ and set(values) <= set(function.__kwdefaults__):
            return patch.object(function, "__kwdefaults__", function.__kwdefaults__ | values)
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        given = dict(zip(names[::-1], (function.__defaults__ or ())[::-1]))
        assert set(values) <= set(given), f"{of.__name__} has {given}"
        return patch.object(function, "__defaults__", tuple((given | values)[name] for name in names[-len(given) :]))

    return change


def instead(where: Any, name: str, value: Any) -> Change:
    """Another value of a name in the code."""
    return lambda: patch.object(where, name, value)


def setting(section: str, **values: Any) -> Change:
    """Other defaults of the configuration, for what a recipe does not say."""
    merged = config.override

    def override(tree: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
        changed = merged(tree, overrides)
        return changed | {section: values | changed.get(section, {})}

    return lambda: patch.object(config, "override", override)


def torchs(name: str, **values: Any) -> Change:
    """Another default of a layer of torch."""
    return default(getattr(torch.nn, name).__mro__[1], **values)


class Mutation(NamedTuple):
    """A change, and the trace that has to fail.

    Attributes:
        what: what is changed.
        trace: "steps", "rates", "epochs", "pictures", "sizes" or "start".
        recipe: whose.
        change: an override, or a change of the code.
        cheap: whether the suite runs it every time; REGARD_ALL_MUTATIONS=1 runs all.
    """

    what: str
    trace: str
    recipe: str
    change: str | Change
    cheap: bool = False


BASE, APNET, DEEP, DAAF = "baseline_market1501", "apnet_market1501", "mudeep_market1501", "daaf_market1501"
RGA, TRINET, SA, DSP = "apnet_rga_cuhk03", "daaf_trinet_market1501", "sa_market1501", "dsp_market1501"
TO_THE_LETTER, PORT = "daaf_trinet_market1501_released", "daaf_mindspore_market1501"
MUTATIONS = [
    Mutation("smoothing", "steps", BASE, "losses.id.smoothing=0.2", True),
    Mutation("smoothing by default", "steps", SA, "losses.id={loss: cross_entropy, on: logits.*, reduction: sum}"),
    Mutation("smoothing over 751", "steps", BASE, "losses.id.smoothing_ids=751"),
    Mutation("default of smoothing_ids", "steps", APNET, default(CrossEntropy, smoothing_ids=751), True),
    Mutation("margin", "steps", APNET, "losses.triplet.margin=0.5", True),
    Mutation("soft margin", "steps", TRINET, "losses.triplet.margin=0.3"),
    Mutation("default of normalize", "steps", BASE, default(BatchHardTriplet, normalize=True), True),
    Mutation("features of MuDeep's triplet", "steps", DEEP, "losses.triplet.normalize=false"),
    Mutation("sum over heads", "steps", DEEP, "losses.id.reduction=mean"),
    Mutation("weight of the center loss", "steps", BASE, "losses.center.weight=1e-3", True),
    Mutation("rate of the centers", "steps", BASE, "losses.center.lr=0.4"),
    Mutation("weight of the masks", "steps", DAAF, "losses.hab.weight=10"),
    Mutation("default of missing labels", "steps", DAAF, default(MapMSE, missing="zero")),
    Mutation("decay of norms and biases", "steps", BASE, setting("optim", decay_norm_and_bias=False), True),
    Mutation("default of weight_decay", "steps", DEEP, setting("optim", weight_decay=1e-4)),
    Mutation("default of betas", "steps", APNET, setting("optim", betas=[0.9, 0.99]), True),
    Mutation("default of momentum", "steps", DSP, setting("optim", momentum=0.8), True),
    Mutation("nesterov", "steps", DSP, "optim.nesterov=false", True),
    Mutation("rate of the trunk", "steps", SA, "optim.lr_scale={}", True),
    Mutation("default of clip_norm", "steps", BASE, setting("optim", clip_norm=0.01)),
    Mutation("optimizer", "steps", APNET, "optim.name=adamw"),
    Mutation("default of dropout, DSP", "steps", DSP, default(dsp.DSP, dropout=0.4), True),
    Mutation("default of dropout, MuDeep", "steps", DEEP, default(mudeep.MuDeep, dropout=0.0)),
    Mutation("default of the last stride", "steps", BASE, default(baseline.Baseline, last_stride=2), True),
    Mutation("default of the stem's activation", "steps", APNET, default(apnet.APNet, stem_relu=True), True),
    Mutation("default of the order of levels", "steps", APNET, default(apnet.APNet, order="coarse_to_fine")),
    Mutation(
        "MSEA's squared gate", "steps", "msea_2023_market1501",
        lambda: patch.dict(msea.PRESETS, {"2023": msea.PRESETS["2023"]._replace(gating="multiply")}),
    ),
    Mutation("default of rescale", "steps", SA, default(dsp.SA, rescale=False), True),
    Mutation("default of SA's mode", "steps", SA, default(dsp.SA, mode="softmax")),
    Mutation("default of DSP's mode", "steps", DSP, default(dsp.DSP, mode="code")),
    Mutation(
        "HAB's tap", "steps", DAAF,
        lambda: patch.dict(daaf.PRESETS, {"bot": daaf.PRESETS["bot"]._replace(hab_tap="layer4")}),
    ),
    Mutation(
        "TriNet's decoders", "steps", TRINET,
        lambda: patch.dict(daaf.PRESETS, {"trinet": daaf.PRESETS["trinet"]._replace(nonlinear=False)}),
    ),
    Mutation("channels of the mask", "steps", TO_THE_LETTER, "model.hab_tap=layer4"),
    Mutation("channels of the joints", "steps", TO_THE_LETTER, "model.grouped=true"),
    Mutation("end of the decoders", "steps", TO_THE_LETTER, "model.end_norm=false", True),
    Mutation("gray levels", "steps", PORT, "losses.pab.scale=1", True),
    Mutation("epsilon", "steps", PORT, instead(daaf, "MINDSPORE_EPS", 1e-5)),
    Mutation("pixels", "steps", PORT, "model.pixel_mean=[0.485, 0.456, 0.406]"),
    Mutation("classifiers of stripes", "steps", "dsp_no_parts_market1501", "model.part_classifiers=true"),
    Mutation("under the root", "steps", "mudeep_market1501_released", "losses.triplet.under_root=0", True),
    Mutation("shift of the neck", "steps", BASE, instead(heads, "without_shift", lambda norm: norm)),
    Mutation("shift between levels", "steps", APNET, instead(pyramid, "without_shift", lambda norm: norm)),
    Mutation("epsilon under the energies", "steps", DSP, instead(self_attention, "EPS", 1e-3)),
    Mutation("default of accumulate", "steps", BASE, setting("train", accumulate=2)),
    Mutation("shares of batch statistics", "steps", RGA, "train.bn_share=1", True),
    Mutation("start of the warm-up", "rates", BASE, "schedule.warmup_start=0.1", True),
    Mutation("default of gamma", "rates", APNET, setting("schedule", gamma=0.2), True),
    Mutation("default of warm-up", "rates", DSP, "schedule={name: step, milestones: [40]}", True),
    Mutation("default of per", "rates", BASE, setting("schedule", per="step")),
    Mutation("milestones", "rates", SA, "schedule.milestones=[40, 70]", True),
    Mutation("rate by steps", "rates", TRINET, "schedule.per=epoch"),
    Mutation("epochs", "rates", DSP, "train.epochs=60"),
    Mutation("K", "epochs", BASE, "data.images_per_id=8", True),
    Mutation("P", "epochs", APNET, "data.ids_per_batch=16"),
    Mutation("rounds", "epochs", DEEP, "data.rounds=2", True),
    Mutation("default of rounds", "epochs", BASE, setting("data", rounds=1)),
    Mutation("scarce", "epochs", TO_THE_LETTER, "data.scarce=draw", True),
    Mutation("sampler", "epochs", SA, "data.sampler=pk", True),
    Mutation(
        "left-over pictures", "epochs", BASE,
        instead(
            samplers.PKBatchSampler, "plan",
            lambda self, rng: samplers.draw_rounds(np.asarray(self.pids), 16, 4, 4, rng),
        ),
    ),
    Mutation("default of erasing", "pictures", APNET, setting("data", erasing=0.4), True),
    Mutation("default of erasing_area", "pictures", BASE, setting("data", erasing_area=[0.02, 0.33]), True),
    Mutation("default of erasing_ratio", "pictures", BASE, default(TrainTransform, erasing_ratio=(0.5, 2.0)), True),
    Mutation("default of erasing_fill", "pictures", DEEP, setting("data", erasing_fill="random"), True),
    Mutation("erasing_fill", "pictures", SA, "data.erasing_fill=random"),
    Mutation("default of flip", "pictures", SA, setting("data", flip=0.4), True),
    Mutation("default of pad", "pictures", APNET, setting("data", pad=8), True),
    Mutation("default of pad_fill", "pictures", BASE, default(TrainTransform, pad_fill="mean")),
    Mutation("enlarge_probability", "pictures", RGA, "data.enlarge_probability=1"),
    Mutation("enlarge", "pictures", TRINET, "data.enlarge=1.25"),
    Mutation("interpolation", "sizes", DEEP, "data.interpolation=bilinear", True),
    Mutation("default of interpolation", "sizes", BASE, setting("data", interpolation="bicubic"), True),
    Mutation("width", "sizes", APNET, "data.width=128", True),
    Mutation("default of height", "sizes", BASE, "data.height=288"),
    Mutation("default of se_hidden", "start", APNET, default(apnet.APNet, se_hidden=16), True),
    Mutation("default of the decoder", "start", DAAF, default(daaf.DAAF, decoder="2x2")),
    Mutation("default of head_dim", "start", SA, default(dsp.SA, head_dim=128), True),
    Mutation("default of guidance", "start", DEEP, default(mudeep.MuDeep, guidance=256)),
    Mutation("start of TriNet", "start", TO_THE_LETTER, "model.decoder_start=torch", True),
    Mutation("momentum of batch statistics", "start", BASE, torchs("BatchNorm1d", momentum=0.2)),
    Mutation(
        "start of the classifier", "start", BASE,
        instead(baseline, "identity_classifier", lambda dim, ids: torch.nn.Linear(dim, ids, bias=False)),
    ),
]  # fmt: skip

TRACES: dict[str, Callable[[str, list[str], Path, Path], None]] = {
    "steps": lambda recipe, overrides, market, folder: test_three_steps.trace(
        recipe, (TRAININGS | VARIANTS)[recipe], market, folder, overrides
    ),
    "rates": test_rates.check,
    "epochs": lambda recipe, overrides, _, folder: test_trace_epochs.check(recipe, overrides, folder),
    "pictures": lambda recipe, overrides, _, folder: test_augmentation.check(recipe, overrides, folder),
    "sizes": lambda recipe, overrides, _, folder: test_augmentation.check_resizing(recipe, overrides, folder),
    "start": lambda recipe, overrides, *_: test_start.check(recipe, overrides),
}

FAILURES = AssertionError, KeyError, RuntimeError
"""A network of other parts or sizes than published has no such weight, or cannot be multiplied."""


def failure(mutation: Mutation, market: Path, folder: Path) -> BaseException | None:
    """What the trace says to the change; None where it does not see it."""
    text = isinstance(mutation.change, str)
    with nullcontext() if text else mutation.change():
        try:
            TRACES[mutation.trace](mutation.recipe, [mutation.change] if text else [], market, folder)
        except FAILURES as error:
            return error
    return None


@pytest.mark.parametrize(
    "mutation",
    [mutation for mutation in MUTATIONS if mutation.cheap or os.environ.get("REGARD_ALL_MUTATIONS")],
    ids=lambda mutation: f"{mutation.what}, {mutation.recipe}",
)
def test_a_change_fails_its_trace(mutation, market, tmp_path):
    assert failure(mutation, market, tmp_path) is not None
