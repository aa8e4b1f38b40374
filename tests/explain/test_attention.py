"""What every system shows of its attention: planted gates come back, definitions hold, nothing is changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import regard
from regard.explain.attention import attention_of, holistic_map, spatial_map
from regard.explain.figures.attention_figure import attention_figure, in_blocks
from regard.explain.figures.map_figures import figure_bytes, scaled
from regard.models.daaf import JOINT_GROUPS
from regard.registry import MODELS
from small_backbones import tiny

RGA = {"agent": "rga", "height": 96, "width": 64}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def images():
    return torch.randn(2, 3, 96, 64)


def build(name, **options):
    return regard.create_model(name, 5, backbone=tiny(name), **options)


SHOWN = {
    "apnet": {"tap1.level2": "channels", "tap5.level1": "channels"},
    "msea": {"tap1.level2": "strips", "tap5.level1": "channels"},
    "dsp": {"tap2.channel": "channels", "tap4.spatial": "positions"},
    "sa": {"tap2.spatial": "positions", "tap4.spatial": "positions"},
    "daaf": {"holistic": "positions", "partial.knees": "positions", "mask": "positions", "keypoints": "points"},
    "mudeep": {"scale1.before": "positions", "scale3.asked": "channels", "scale3.mixing": "mixing"},
    "baseline": {"holistic": "positions"},
    "pcb": {"holistic": "positions"},
    "regard": {"part0": "positions", "part5": "positions"},
    "transreid": {"holistic": "positions"},
}


@pytest.mark.parametrize("name", list(MODELS))
def test_every_system_has_something_to_show(name, images):
    model = build(name).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = attention_of(model, images)
    assert SHOWN[name].items() <= {key: value.over for key, value in found.items()}.items()
    dims = {"positions": 3, "channels": 2, "strips": 3, "mixing": 3, "points": 3}
    for attention in found.values():
        assert attention.values.dtype == np.float32
        assert attention.values.shape[0] == 2
        assert attention.values.ndim == dims[attention.over]
        assert np.isfinite(attention.values).all()
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_gates_are_those_of_the_forward_pass(images):
    for model in (build("apnet", **RGA), build("msea"), build("dsp")):
        model.eval()
        found = attention_of(model, images)
        gates = model(images).maps
        assert list(found) == list(gates)
        for name, gate in gates.items():
            np.testing.assert_array_equal(found[name].values, gate.detach().numpy().reshape(found[name].values.shape))


@pytest.mark.parametrize(
    ("name", "options", "over"),
    [
        ("apnet", {"agent": "rga_sc", "level": 1}, {"tap2.level1": "positions"}),
        ("apnet", {"agent": "rga_c", "level": 1}, {"tap2.level1": "channels"}),
        ("apnet", {"agent": "rga_c", "level": 2}, {"tap2.level2": "strips", "tap2.level1": "channels"}),
        ("dsp", {"mode": "code"}, {"tap2.spatial": "channels", "tap4.spatial": "channels"}),
    ],
)
def test_gates_are_told_by_what_they_differ_over(name, options, over, images):
    """A gate per channel and position is shown over positions where it differs there, as DSP's coded one does not."""
    size = {"height": 96, "width": 64} if name == "apnet" else {}
    model = build(name, **options, **size)
    with torch.no_grad():
        for parameter in model.attention.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    found = attention_of(model, images)
    assert over.items() <= {key: value.over for key, value in found.items()}.items()


def test_a_channel_that_was_shut_has_a_bar_of_zero(images):
    model = build("apnet", level=1)
    agent = model.attention["tap5"].levels["level1"].agent
    with torch.no_grad():
        agent.squeeze.weight.abs_()
        agent.excite.weight.fill_(1)
        agent.excite.weight[7] = -1e6
    values = attention_of(model, images)["tap5.level1"].values
    assert (values[:, 7] == 0).all()
    assert (np.delete(values, 7, axis=1) >= 0.5).all()


def test_the_code_mode_of_dsp_has_no_say_about_positions(images):
    found = attention_of(build("dsp", mode="code"), images)["tap2.spatial"]
    assert found.over == "channels"
    np.testing.assert_allclose(found.values, 1)


def test_a_system_without_gates_shows_its_last_map(images):
    for model in (build("dsp", mode="released"), build("sa").strip()):
        assert list(attention_of(model, images)) == ["holistic"]


def test_mudeep_mixes_as_its_definition_says(images):
    model = build("mudeep", guidance=16).eval()
    with torch.no_grad():
        model.gamma["scale2"].fill_(0.7)
    found = attention_of(model, images)
    streams = {}
    handle = model.streams["scale2"].register_forward_hook(lambda _m, _i, out: streams.update(x=out.detach()))
    after = model.in_full(images).maps["scale2"].detach()
    handle.remove()
    mixing = torch.from_numpy(found["scale2.mixing"].values)
    torch.testing.assert_close(mixing.sum(2), torch.ones(2, mixing.shape[1]))
    x = streams["x"]
    mixed = (0.7 * mixing @ x.flatten(2)).view(x.shape) + x
    torch.testing.assert_close(mixed, after, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["scale2.after"].values, after.norm(dim=1), rtol=1e-4)
    np.testing.assert_allclose(found["scale2.added"].values, (after - x).norm(dim=1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found["scale2.asked"].values, mixing.sum(1), rtol=1e-4)
    assert not found["scale1.added"].values.any()  # a fresh gamma is 0
    assert "scale1.mixing" not in attention_of(build("mudeep", attention="none"), images)


def test_daaf_shows_means_of_the_groups_channels(images):
    model = build("daaf", group_width=11).eval()
    found = attention_of(model, images)
    last = model.backbone(images).detach().numpy()
    np.testing.assert_allclose(found["holistic"].values, last.mean(1), rtol=1e-5)
    for number, group in enumerate(JOINT_GROUPS):
        mean = last[:, 11 * number : 11 * number + 11].mean(1)
        np.testing.assert_allclose(found[f"partial.{group}"].values, mean, rtol=1e-5)
    maps = model(images).maps
    np.testing.assert_array_equal(found["mask"].values, maps["hab"][:, 0].detach())
    x, y, peak = found["keypoints"].values[1, 9]
    joint = maps["pab"][1, 9].detach().numpy()
    assert peak == joint.max()
    assert joint[int(y * joint.shape[0]), int(x * joint.shape[1])] == peak
    assert not {"mask", "keypoints"} & set(attention_of(model.strip(), images))
    ungrouped = attention_of(build("daaf", grouped=False), images)
    assert found.keys() - ungrouped.keys() == {f"partial.{group}" for group in JOINT_GROUPS}


def test_the_holistic_map_is_what_is_pooled(images):
    for name in ("baseline", "apnet", "dsp", "mudeep"):
        model = build(name)
        values = holistic_map(model, images).values
        assert values.shape == (2, 6, 4) if name != "mudeep" else values.ndim == 3
    model = build("apnet").eval()
    pooled = model(images).features["global"].mean(1).detach()
    np.testing.assert_allclose(holistic_map(model, images).values.mean((1, 2)), pooled, rtol=1e-4)


def test_strips_become_a_map_of_rows(images):
    found = attention_of(build("msea"), images)
    assert spatial_map(found["tap5.level1"]) is None
    rows = spatial_map(found["tap2.level2"])
    assert rows.shape == (2, 24, 1)
    np.testing.assert_allclose(rows[:, :, 0], found["tap2.level2"].values.mean(1))


@pytest.mark.parametrize("name", ["msea", "mudeep", "daaf"])
def test_figures_say_what_they_show(name, images):
    figure = attention_figure(np.full((96, 64, 3), 90, np.uint8), attention_of(build(name), images), 1)
    titles = [text.get_text() for axes in figure.axes for text in (axes.title, *axes.texts)]
    assert {"picture", *SHOWN[name]} <= set(titles)
    data = figure_bytes(figure, dpi=40)
    assert data.startswith(b"\x89PNG")
    assert data == figure_bytes(figure, dpi=40)


def test_a_flat_map_is_not_stretched_into_heat(images):
    model = build("apnet", **RGA, level=1)
    with torch.no_grad():
        model.attention["tap5"].levels["level1"].agent.attend[-2].weight.fill_(1e-4)
    figure = attention_figure(np.full((96, 64, 3), 90, np.uint8), attention_of(model, images))
    below = {axes.get_title(): [text.get_text() for text in axes.texts] for axes in figure.axes}
    assert below["tap5.level1"] == ["0.5 all over"]


def test_scaling_and_blocks():
    assert scaled(np.array([2.0, 4.0, 3.0])).tolist() == [0, 1, 0.5]
    assert scaled(np.array([2.0, 4.0]), 0, 2).tolist() == [1, 1]
    assert not scaled(np.full(3, 7.0)).any()
    blocks = in_blocks(np.arange(36.0).reshape(6, 6), 3)
    np.testing.assert_allclose(blocks, np.arange(36.0).reshape(3, 2, 3, 2).mean((1, 3)))
