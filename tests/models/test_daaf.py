"""DAAF: sizes, what the branches' losses reach, what stripping leaves, the decoder and the loss against naive twins."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import regard
from regard.data import TestTransform, read_image
from regard.engine.build import build_criterion
from regard.engine.train import train
from regard.evaluation.embed import extract
from regard.layers.map_decoder import MapDecoder
from regard.losses.map_mse import MapMSE
from regard.models.cost import count_gflops as gflops
from regard.models.daaf import JOINT_GROUPS
from regard.recipes import list_recipes, read_recipe
from regard.runtime.fabric import Runtime

pytestmark = pytest.mark.slow

TINY = "test_resnet.r160_in1k"
TRUNK = 23_508_032
SETTINGS = [
    {"preset": preset, "hab": hab, "pab": pab}
    for preset in ("bot", "trinet")
    for hab in (True, False)
    for pab in (True, False)
]


def create(**options) -> regard.ReIDModel:
    torch.manual_seed(0)
    return regard.create_model("daaf", 5, **{"backbone": TINY, **options})


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, 128, 64, generator=torch.Generator().manual_seed(1))


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_sizes_on_resnet50():
    bot = regard.create_model("daaf", 751)
    assert count(bot.backbone) == TRUNK
    assert count(bot.hab.copied) == 23_282_688
    assert (bot.pab.channels, bot.pab.outputs) == (341, [5, 2, 2, 4, 2, 2])
    assert count(bot.strip()) == TRUNK + 2 * 2048
    trinet = regard.create_model("daaf", 751, preset="trinet", group_width=340)
    assert count(trinet.neck) == 2_230_400
    assert not trinet.hab.copied
    assert trinet.pab.channels == 340
    released = regard.create_model("daaf", 751, preset="trinet", hab_tap="layer4_half", grouped=False)
    assert (released.hab.first, released.hab.decoder.channels) == (1020, 1028)
    assert (released.pab.channels, released.pab.outputs) == (2048, [17])
    assert count(trinet.strip()) == 25_738_432


def test_cost_on_resnet50():
    """Stripped, a network costs what it costs without DAAF."""
    size = 1, 3, 256, 128
    plain = gflops(regard.create_model("baseline", 751), *size)
    neck_and_classes = 2 * 751 * 2048 / 1e9
    model = regard.create_model("daaf", 751)
    assert gflops(model, *size) > 2 * plain
    assert gflops(model.strip(), *size) == pytest.approx(plain - neck_and_classes, rel=1e-9)
    assert gflops(regard.create_model("daaf", 751, preset="trinet").strip(), *size) == pytest.approx(5.343, abs=5e-4)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))
def test_outputs_and_branches(settings, images):
    model = create(**settings)
    out = model(images)
    size = (128, 64) if settings["preset"] == "bot" else (64, 32)
    expected = {"hab": (4, 1, *size), "pab": (4, 17, *size)}
    assert {name: tuple(m.shape) for name, m in out.maps.items()} == {
        name: shape for name, shape in expected.items() if settings[name]
    }
    if settings["preset"] == "trinet":
        assert out.embedding.shape == (4, 128)
        assert out.features["global"] is out.embedding
        assert out.logits == {}
        assert all(m.min() >= 0 and m.max() <= 1 for m in out.maps.values())
    else:
        assert out.embedding.shape == (4, 96)
        assert out.logits["global"].shape == (4, 5)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))
def test_the_branches_change_no_descriptor(settings, images):
    """Unstripped, stripped, and never built: the same bits; and stripped, bot is the baseline."""
    model = create(**settings)
    model(images)
    plain = create(**{**settings, "hab": False, "pab": False})
    plain.load_state_dict(model.state_dict() | {}, strict=False)
    reference = model.eval()(images).embedding
    assert torch.equal(model.embed(images), reference)
    assert torch.equal(plain.embed(images), reference)
    assert torch.equal(model.strip().embed(images), reference)
    assert model.state_dict().keys() == plain.strip().state_dict().keys()
    assert model(images).maps == {}
    if settings["preset"] == "bot":
        baseline = regard.create_model("baseline", 5, backbone=TINY).strip()
        baseline.load_state_dict(model.state_dict())
        assert torch.equal(baseline.embed(images), reference)
        assert count(baseline) == count(model)


def test_embedding_runs_no_branch(images):
    model = create()

    def refuse(*_):
        raise AssertionError("a branch was computed")

    for branch in (model.hab, model.pab):
        branch.register_forward_pre_hook(refuse)
    model.embed(images)
    with pytest.raises(AssertionError, match="a branch was computed"):
        model(images)


@pytest.mark.parametrize("nonlinear", [False, True])
@pytest.mark.parametrize("group", range(6))
def test_a_group_s_loss_touches_only_its_channels(group, nonlinear):
    """In training mode, normalizations included."""
    torch.manual_seed(0)
    joints = [len(group) for group in JOINT_GROUPS.values()]
    decoder = MapDecoder(7, joints, nonlinear=nonlinear)
    x = torch.randn(3, 44, 3, 2, requires_grad=True)
    maps = decoder(x)
    channels = tuple(JOINT_GROUPS.values())[group]
    target = torch.rand(maps.shape), torch.ones(3, 17, 1, 1, dtype=torch.bool)
    MapMSE(channels=channels)(maps, target).backward()
    touched = x.grad.abs().amax((0, 2, 3)) > 0
    assert touched.tolist() == [7 * group <= channel < 7 * (group + 1) for channel in range(44)]
    assert [head.weight.grad.any().item() for head in decoder.heads] == [number == group for number in range(6)]


def test_which_channels_the_released_trinet_s_branches_read(images):
    """Every joint all, the mask the second half of the tiny trunk's 96."""
    model = create(preset="trinet", hab_tap="layer4_half", grouped=False, end_norm=True)
    touched = {}
    for branch in (model.pab, model.hab):
        x = torch.randn(4, 96, 2, 2, requires_grad=True)
        (branch(x)[:, 0] * torch.randn(4, 32, 32)).sum().backward()
        touched[branch] = (x.grad.abs().amax((0, 2, 3)) > 0).tolist()
    assert touched[model.pab] == [True] * 96
    assert touched[model.hab] == [False] * 48 + [True] * 48
    assert "pab.heads.0.bias" not in model.state_dict()
    assert not [name for name in create(preset="trinet").state_dict() if "end_norms" in name]


def test_groups_are_the_joints_of_coco_in_order():
    assert [joint for group in JOINT_GROUPS.values() for joint in group] == list(range(17))
    assert sum(len(group) / 17 for group in JOINT_GROUPS.values()) == pytest.approx(1)


@pytest.mark.parametrize("tap", ["layer1_copy", "layer4", "layer4_half"])
def test_where_the_mask_s_loss_reaches(tap, images):
    model = create(hab_tap=tap)
    model(images).maps["hab"].square().mean().backward()
    reached = [any(p.grad is not None and p.grad.any() for p in stage.parameters()) for stage in model.backbone.stages]
    assert reached == [True, True, *[tap != "layer1_copy"] * 3]
    assert all(p.grad is None for p in (*model.pab.parameters(), *model.neck.parameters()))
    assert all(p.grad is not None for p in model.hab.parameters())


def test_the_copy_starts_as_the_trunk_and_goes_its_own_way():
    model = create()
    for stage, copied in zip(model.backbone.stages[2:], model.hab.copied, strict=True):
        for (name, value), (other, copy) in zip(stage.state_dict().items(), copied.state_dict().items()):
            assert name == other
            assert torch.equal(value, copy)
            assert value.data_ptr() != copy.data_ptr()


@pytest.mark.parametrize("kernel", ["3x3", "2x2"])
@pytest.mark.parametrize("outputs", [[1], [2, 3]])
def test_one_linear_map_is_the_five_layers(kernel, outputs):
    """Values and all gradients, at the border too, with biases that matter and a channel left over."""
    torch.manual_seed(0)
    decoder = MapDecoder(5, outputs, kernel).double()
    for double in decoder.doublings:
        torch.nn.init.normal_(double.bias)
    x = torch.randn(2, 5 * len(outputs) + 1, 3, 2, dtype=torch.float64, requires_grad=True)
    groups = x[:, : 5 * len(outputs)].split(5, 1)
    fast, slow = decoder(x), torch.cat(decoder.layer_by_layer(groups), 1)
    assert fast.shape == (2, sum(outputs), 48, 32)
    torch.testing.assert_close(fast, slow)
    parameters = [x, *decoder.parameters()]
    weights = torch.randn_like(fast)
    for one, other in zip(*(torch.autograd.grad((maps * weights).sum(), parameters) for maps in (fast, slow))):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("end", [False, True])
def test_the_nonlinear_decoder_is_its_formula(end):
    torch.manual_seed(0)
    decoder = MapDecoder(6, [1], nonlinear=True, end_norm=end)
    x = torch.randn(3, 6, 2, 2)
    hidden = x
    for number, (double, norm) in enumerate(zip(decoder.doublings, decoder.norms)):
        hidden = F.conv_transpose2d(hidden, double.weight, stride=2, padding=1, output_padding=1)
        hidden = F.batch_norm(hidden, None, None, norm.weight, norm.bias, training=True)
        hidden = hidden.relu() if number < 3 else hidden
    logits = decoder.heads[0](hidden)
    logits = (logits - logits.mean()) / (logits.var(correction=0) + 1e-5).sqrt() if end else logits
    torch.testing.assert_close(decoder(x), logits.sigmoid())


def naive_map_mse(maps, wanted, valid) -> float:
    errors = [
        (maps[index] - wanted[index]).item() ** 2
        for index in torch.cartesian_prod(*map(torch.arange, maps.shape)).tolist()
        for index in [tuple(index)]
        if valid.expand(maps.shape)[index]
    ]
    return sum(errors) / len(errors) if errors else 0.0


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (2, 3, 4, 2), (2, 1, 4, 2)])
def test_map_loss_is_its_naive_twin(share, shape):
    generator = torch.Generator().manual_seed(3)
    maps, wanted = torch.randn(2, 2, 3, 4, 2, generator=generator)
    valid = torch.rand(shape, generator=generator) < share
    maps.requires_grad_()
    loss = MapMSE()(maps, (wanted.half(), valid))
    assert loss.item() == pytest.approx(naive_map_mse(maps.detach(), wanted.half().float(), valid), rel=1e-5)
    loss.backward()
    assert not maps.grad[~valid.expand_as(maps)].any()
    everything = MapMSE(missing="zero")(maps, (wanted, valid))
    torch.testing.assert_close(everything, F.mse_loss(maps, wanted))


def test_map_loss_of_garbage_that_is_not_valid():
    maps = torch.tensor([1.0, torch.inf, torch.nan, 3.0]).view(1, 4, 1, 1).requires_grad_()
    valid = torch.tensor([True, False, False, True]).view(1, 4, 1, 1)
    loss = MapMSE()(maps, (torch.zeros(1, 4, 1, 1), valid))
    assert loss.item() == 5.0


def test_group_weights_cancel():
    """The published sum over groups of n_g / 17 times the group's mean is the mean over all maps."""
    generator = torch.Generator().manual_seed(0)
    maps, wanted = torch.rand(2, 3, 17, 4, 4, generator=generator)
    target = wanted, torch.ones(3, 17, 1, 1, dtype=torch.bool)
    by_group = sum(len(g) / 17 * MapMSE(channels=g)(maps, target) for g in JOINT_GROUPS.values())
    torch.testing.assert_close(MapMSE()(maps, target), by_group)
    torch.testing.assert_close(MapMSE()(wanted + 0.5, target), torch.tensor(0.25))


@pytest.mark.parametrize("missing", ["ignore", "zero"])
def test_labels_on_another_scale(missing):
    """A prediction in gray levels against 255 times the labels."""
    maps, wanted = torch.rand(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    target = wanted, torch.tensor([True, False, True] * 2).view(2, 3, 1, 1)
    loss = MapMSE(missing, scale=255)
    torch.testing.assert_close(loss(255 * maps, target), 255**2 * MapMSE(missing)(maps, target))
    with pytest.raises(regard.RegardError, match="scale is 0, wanted a positive number"):
        MapMSE(scale=0)


def test_trinet_s_released_weights_are_the_half_sums_of_its_code():
    """1e-7 and 6e-8 times half the sum of squares over 64 maps of 128 x 64, groups weighted by n_g / 17."""
    terms = read_recipe("daaf_trinet_market1501_released").config().losses
    generator = torch.Generator().manual_seed(0)
    pab, heat = torch.rand(2, 64, 17, 128, 64, generator=generator)
    mask, person = torch.rand(2, 64, 1, 128, 64, generator=generator)
    person = person.round()
    whole = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    found = {}
    for name, term in terms.items():
        if name != "triplet":
            maps, label = (mask, person) if name == "hab" else (pab, heat)
            loss = MapMSE(**term.options)
            found[name] = term.weight * loss(maps, (label, whole.expand(64, maps.shape[1], 1, 1)))
    half = {name: (255 * heat - pab)[:, list(joints)].square().sum() / 2 for name, joints in JOINT_GROUPS.items()}
    by_group = {name: 1e-7 * len(JOINT_GROUPS[name]) / 17 * value for name, value in half.items()}
    pairs = torch.stack([by_group[name] for name in ("shoulders", "elbows", "knees", "ankles")]).sum()
    expected = {"pab_head": by_group["head"], "pab_pairs": pairs, "pab_wrists_hips": by_group["wrists_hips"]}
    expected["hab"] = 6e-8 * (person - mask).square().sum() / 2
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=2e-3, atol=0)


@pytest.mark.parametrize(
    ("loss", "shape", "message"),
    [
        (MapMSE(), (2, 17, 8, 4), r"predicted maps are 17 x 4 x 4, but their labels are 17 x 8 x 4"),
        (MapMSE(), (2, 1, 4, 4), "their labels are 1 x 4 x 4"),
        (MapMSE(channels=(3, 17)), (2, 17, 4, 4), "numbered 0 to 16"),
    ],
)
def test_map_loss_refuses_what_does_not_fit(loss, shape, message):
    with pytest.raises(regard.RegardError, match=message) as caught:
        loss(torch.zeros(2, 17, 4, 4), (torch.zeros(shape), torch.ones(shape, dtype=torch.bool)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "mgn"}, "preset is 'mgn', wanted one of: bot, trinet"),
        ({"decoder": "4x4"}, "decoder is '4x4', wanted one of: 3x3, 2x2"),
        ({"hab_tap": "layer2"}, "hab_tap is 'layer2', wanted one of: layer1_copy, layer4, layer4_half"),
        ({"end_norm": True}, "end_norm is true, but it is of nonlinear decoders; set nonlinear=true"),
        ({"group_width": 16, "grouped": False}, "group_width is 16, but grouped is false and all joints read all"),
        ({"group_width": 17}, "group_width is 17, but 6 groups of 96 channels hold 1 to 16 each"),
        ({"group_width": 0}, "group_width is 0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(regard.RegardError, match=message) as caught:
        create(**options)
    assert "\n" not in str(caught.value)
    with pytest.raises(regard.RegardError, match="missing is 'skip', wanted one of: ignore, zero"):
        MapMSE(missing="skip")


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenetv3_large_100", "regnety_004"])
@pytest.mark.parametrize("preset", ["bot", "trinet"])
def test_on_other_backbones(backbone, preset):
    model = create(preset=preset, backbone=backbone)
    out = model(torch.randn(2, 3, 64, 32))
    sum(m.square().mean() for m in out.maps.values()).backward()
    assert out.maps["pab"].shape[1] == 17


@pytest.mark.parametrize("name", [name for name in list_recipes() if name.startswith("daaf")])
def test_a_recipe_s_losses_fit_its_network(name):
    """Terms, outputs, labels and their sizes belong together; the backbone is small here."""
    config = read_recipe(name).config([f"model.backbone={TINY}", "model.pretrained=false", "model.group_width=null"])
    height, width, stride = config.data.height, config.data.width, config.data.label_stride
    size = height // stride, width // stride
    model = regard.create_model("daaf", 5, **config.model.options)
    target = {
        name: (torch.rand(2, maps, *size), torch.ones(2, maps, 1, 1, dtype=torch.bool))
        for name, maps in (("mask", 1), ("keypoints", 17))
        if name in config.data.labels
    }
    batch = regard.Batch(torch.zeros(2, 3, height, width), torch.tensor([0, 1]), torch.zeros(2), target)
    loss, terms = build_criterion(config, model)(model(batch.images), batch)
    loss.backward()
    assert {"triplet", "pab", "hab"} <= {name.split("_")[0] for name in terms}
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_run_learns_from_labels(market, tiny_overrides, tmp_path):
    """The crowd's recipe on pictures of which some have labels: all four terms are logged, the maps get better."""
    overrides = [*tiny_overrides, "train.eval_every=null", "train.epochs=4", "data.label_stride=1"]
    config = read_recipe("daaf_crowd").config(overrides)
    splits = regard.load_dataset("market1501", market)
    Image.fromarray(np.pad(np.full((40, 12), 255, np.uint8), ((4, 4), (6, 6)))).save(tmp_path / "mask.png")
    joints = tuple((12.0, 4.0 + 2 * joint, 2) for joint in range(17))
    labeled = [
        replace(s, mask=tmp_path / "mask.png", keypoints=joints) if number % 3 else s
        for number, s in enumerate(splits.train)
    ]
    (tmp_path / "run").mkdir()
    train(config, replace(splits, train=labeled), tmp_path / "run", Runtime(config.train), quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["event"] == "step"]
    assert {"loss/id", "loss/triplet", "loss/pab", "loss/hab"} <= steps[0].keys()
    assert steps[-1]["loss/hab"] < 0.8 * steps[0]["loss/hab"]
    with pytest.raises(regard.RegardError, match="none of the 36 training pictures has a label 'mask'"):
        train(config, splits, tmp_path / "run", Runtime(config.train), quiet=True)


def test_ten_views(market):
    """Five crops and their mirror images of the picture at 9/8 of the size, as TriNet was tested."""
    model = create(preset="trinet").eval()
    samples = regard.load_dataset("market1501", market).query[:3]
    found = extract(model, samples, seen=regard.InputSpec(64, 32), five_crops=True, workers=0)
    for sample, embedding in zip(samples, found):
        pixels = torch.from_numpy(TestTransform(72, 36)(read_image(sample.path)).copy())[None]
        image = regard.data.normalize(pixels)
        views = [
            view[:, :, top : top + 64, left : left + 32]
            for view in (image, image.flip(3))
            for top, left in ((4, 2), (0, 0), (0, 4), (8, 0), (8, 4))
        ]
        torch.testing.assert_close(
            torch.from_numpy(embedding), torch.cat([model.embed(v) for v in views]).mean(0), rtol=1e-4, atol=1e-5
        )
