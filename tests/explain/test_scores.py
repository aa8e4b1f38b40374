"""Scored explanations: slow twins and values by hand of every figure, and methods whose answer is planted."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

import regard
from regard.errors import ConfigError
from regard.explain.gradcam import similarity_cam
from regard.explain.heat_methods import EVERY, usable_methods
from regard.explain.perturbation import FRACTIONS, Search, area, curves, fills, pixel_order
from regard.explain.pixel_heat import integrated_gradients, occlusion
from regard.explain.rollout import rolled, rollout
from regard.explain.sanity import (
    SAME,
    agreement,
    check_methods,
    layers_from_the_top,
    order_gap,
    randomized,
    rank_correlation,
    structural_similarity,
)
from regard.explain.twins import hits, point_at
from regard.models.contract import TokenAttention
from regard.structures import Output

TINY = "test_resnet.r160_in1k"


@pytest.fixture
def net():
    """Fresh from seed 0, but that its norms have means, so that it can tell a picture from twice that picture."""
    torch.manual_seed(0)
    model = regard.create_model("baseline", 4, backbone=TINY).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
    return model


@pytest.fixture
def images():
    return torch.randn(2, 3, 128, 64, generator=torch.Generator().manual_seed(1))


class Pixels(regard.ReIDModel):
    """A descriptor that is the picture itself, 8 x 4 cells of it: what matters is known."""

    def __init__(self, num_ids: int = 2):
        super().__init__(num_ids, 96)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Output:
        cells = self.scale * F.adaptive_avg_pool2d(images, (8, 4)).flatten(1)
        return Output(cells, {"global": cells}, {}, {})


def test_an_order_of_pixels():
    rng = np.random.default_rng(0)
    assert pixel_order(np.array([[1.0, 5.0], [3.0, 2.0]]), rng).tolist() == [[3, 0], [1, 2]]
    flat = [tuple(pixel_order(np.zeros((2, 2)), rng).ravel()) for _ in range(200)]
    assert len(set(flat)) == 24  # equal heat is no order


def test_curves_are_those_of_a_slow_loop():
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(3, 6, 4))).float()
    order = pixel_order(rng.normal(size=(6, 4)), rng)

    def embed(batch: Tensor) -> np.ndarray:
        vectors = batch.flatten(1).double().numpy()
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    others = embed(torch.from_numpy(rng.normal(size=(6, 3, 6, 4))))
    search = Search(others[0], others[1:])
    (found,) = curves(image, [order], embed, search)
    for name, fill in fills(image).items():
        for deleting, side in ((True, "deleted"), (False, "inserted")):
            similar, places = [], []
            for fraction in FRACTIONS:
                picture = (image if deleting else fill).clone()
                for row in range(6):
                    for column in range(4):
                        if order[row, column] < round(fraction * 24):
                            picture[:, row, column] = (fill if deleting else image)[:, row, column]
                vector = embed(picture[None])[0]
                similar.append(float(vector @ others[0]))
                places.append(1 + sum(float(vector @ other) > similar[-1] for other in others[1:]))
            np.testing.assert_allclose(getattr(found, side)[name], similar, atol=1e-12)
            assert getattr(found, f"{side}_rank")[name].tolist() == places
    by_hand = sum((b - a) * (x + y) / 2 for a, b, x, y in zip(FRACTIONS, FRACTIONS[1:], similar, similar[1:]))
    assert area(np.array(similar)) == pytest.approx(by_hand)


def test_what_is_filled_in():
    image = torch.zeros(3, 32, 16)
    image[:, :16] = 2.0
    filled = fills(image)
    assert torch.equal(filled["mean"], torch.ones_like(image))
    np.testing.assert_allclose(filled["blur"][0, :, 0], filled["blur"][2, :, 9], atol=1e-6)
    assert filled["blur"][0, 15, 0] == pytest.approx(2 - float(filled["blur"][0, 16, 0]), abs=1e-5)
    assert 1.0 < filled["blur"][0, 15, 0] < 1.3


def test_where_the_hottest_pixel_is():
    mask = np.zeros((8, 4), np.uint8)
    mask[:4] = 255
    maps = np.zeros((5, 4, 2))
    maps[0, 0, 0], maps[1, 3, 1], maps[2, :, :], maps[3, 0, 0] = 1, 1, 1, -1
    np.testing.assert_allclose(hits(maps, [mask] * 5), [1, 0, 0.5, np.nan, np.nan])
    found = point_at(maps[:3], [mask] * 3)
    np.testing.assert_allclose(found.share, [1, 0, 0.5])
    np.testing.assert_allclose(found.chance, 0.5)


def test_integrated_gradients_add_up(net, images):
    first, second = images[:1], images[1:]
    similar = [F.cosine_similarity(net.embed(x), net.embed(second)).item() for x in (first, torch.zeros_like(first))]
    cells = integrated_gradients(net, first, second, steps=64)
    assert cells.shape == (1, 32, 16)
    assert cells.sum().item() == pytest.approx(similar[0] - similar[1], abs=1e-4)
    pixels = Pixels()
    exact = integrated_gradients(pixels, first, second, steps=1)  # its gradient at x / 2, by hand
    here, other = F.adaptive_avg_pool2d(first / 2, (8, 4)).flatten(), pixels.embed(second)[0]
    gradient = other / (other.norm() * here.norm()) - here * (here @ other) / (other.norm() * here.norm() ** 3)
    by_hand = (gradient.view(3, 8, 4) * F.adaptive_avg_pool2d(first[0], (8, 4))).sum(0)
    np.testing.assert_allclose(exact.view(8, 4, 4, 4).sum((1, 3)), by_hand, atol=1e-5)


def test_occlusion_is_a_slow_loop(net, images):
    first, second = images[:1], images[1:]
    found = occlusion(net, first, second)[0]
    rows, columns = found.shape
    assert (rows, columns) == (12, 6)
    whole = F.cosine_similarity(net.embed(first), net.embed(second)).item()
    total, times = np.zeros((rows, columns)), np.zeros((rows, columns))
    for row in range(rows - 1):
        for column in range(columns - 1):
            covered = first.clone()
            (top, bottom), (left, right) = (
                (at * size // cells, (at + 2) * size // cells)
                for at, size, cells in ((row, 128, rows), (column, 64, columns))
            )
            covered[0, :, top:bottom, left:right] = first.mean((2, 3))[0, :, None, None]
            drop = whole - F.cosine_similarity(net.embed(covered), net.embed(second)).item()
            for y in (row, row + 1):
                for x in (column, column + 1):
                    total[y, x] += drop
                    times[y, x] += 1
    np.testing.assert_allclose(found, total / times, atol=1e-5)


def test_every_method_finds_the_only_cell_that_differs(images):
    """Of a descriptor that is the picture, what was added is what makes it different."""
    twin = images[:1].clone()
    twin[:, :, 80:96, 16:32] += 3
    mask = np.zeros((128, 64), np.uint8)
    mask[80:96, 16:32] = 255
    for name in ("integrated", "occlusion"):
        heat = EVERY[name].heat(Pixels(), torch.cat([images[:1], twin]), torch.cat([twin, images[:1]]), against=True)
        assert hits(heat.numpy(), [mask] * 2)[1] == 1, name
    with pytest.raises(ConfigError, match="no attention between tokens"):
        EVERY["rollout"].heat(Pixels(), twin, twin, against=False)


def test_grad_cam_of_the_difference_is_that_of_the_opposite_score(net, images):
    """What speaks against adds to what speaks for, at the same height, to the map before negative parts are cut."""
    layer = "backbone.stages.4"
    held, other = {}, net.embed(images[1:])
    hook = net.get_submodule(layer).register_forward_hook(lambda *given: held.update(map=given[2]))
    with torch.enable_grad():
        own = net(images[:1].clone().requires_grad_()).embedding
        score = F.cosine_similarity(own, other)
        (gradient,) = torch.autograd.grad(score.sum(), held["map"])
    hook.remove()
    by_hand = (gradient.mean((2, 3), keepdim=True) * held["map"]).sum(1).detach()
    for against, sign in ((False, 1), (True, -1)):
        wanted = F.relu(sign * by_hand)
        found = similarity_cam(net, layer, images[:1], images[1:], against=against)
        torch.testing.assert_close(found, wanted / wanted.max(), atol=1e-4, rtol=1e-4)


def layer(weights: Tensor, grid: tuple[int, int], before: int = 0) -> TokenAttention:
    """Attention between all tokens, in one window."""
    return TokenAttention(weights, torch.arange(weights.shape[-1])[None], grid, before)


def test_rollout_by_hand():
    one, two = (torch.tensor(rows)[None, None] for rows in ([[0.5, 0.5], [0, 1]], [[1.0, 0], [0.25, 0.75]]))
    layers = [(layer(each, (1, 2)), torch.ones_like(each)) for each in (one, two)]
    torch.testing.assert_close(rolled(layers, by_gradient=False)[0], torch.tensor([[0.75, 0.25], [0.09375, 0.90625]]))
    signs = torch.tensor([[1.0, -1], [1, 1]])[None, None]
    layers = [(layer(one, (1, 2)), signs), (layer(two, (1, 2)), 2 * signs)]
    # I + A1 = [[1.5, 0], [0, 2]]; I + A2 = [[3, 0], [0.5, 2.5]]; their product less I
    torch.testing.assert_close(rolled(layers, by_gradient=True)[0], torch.tensor([[3.5, 0], [0.75, 4]]))


def test_rollout_where_a_layer_sees_four_positions_as_one():
    fine = torch.full((1, 1, 4, 4), 0.25)
    flow = rolled([(layer(fine, (2, 2)), fine), (layer(torch.ones(1, 1, 1, 1), (1, 1)), fine)], by_gradient=False)
    torch.testing.assert_close(flow, torch.full((1, 1, 4), 0.25))
    with pytest.raises(ConfigError, match="wanted half"):
        rolled([(layer(fine, (2, 2)), fine), (layer(torch.ones(1, 1, 16, 16), (4, 4)), fine)], by_gradient=False)


class Transformer(regard.ReIDModel):
    """Two layers of attention over patches of 32 pixels, read from a class token, or from the patches' mean."""

    def __init__(self, num_ids: int = 2, first: bool = True):
        super().__init__(num_ids, 8)
        self.first, self.kept = first, None
        self.patch, self.token = nn.Conv2d(3, 8, 32, 32), nn.Parameter(torch.randn(1, 1, 8))
        self.mixers = nn.ModuleList(nn.Linear(8, 24) for _ in range(2))

    @contextmanager
    def token_attention(self):
        self.kept = []
        yield self.kept
        self.kept = None

    def forward(self, images: Tensor) -> Output:
        x = self.patch(images)
        grid = (x.shape[2], x.shape[3])
        x = torch.cat([self.token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1)
        for mixer in self.mixers:
            q, k, v = mixer(x).unflatten(2, (3, 1, 8)).permute(2, 0, 3, 1, 4)
            weights = (q @ k.transpose(2, 3)).softmax(-1)
            if self.kept is not None:
                self.kept.append(layer(weights, grid, 1))
            x = x + (weights @ v)[:, 0]
        read = x[:, 0] if self.first else x[:, 1:].mean(1)
        return Output(read, {"global": read}, {}, {})


@pytest.mark.parametrize("first", [True, False])
def test_rollout_of_a_transformer(first, images):
    """Heat has the patches' grid and is read where the descriptor is; the gradient's is of the pair."""
    torch.manual_seed(0)
    model = Transformer(first=first)
    with model.token_attention() as kept:
        model.embed(images)
        one, two = (each.weights[:, 0] for each in kept)
    eye = torch.eye(9)
    flow = (two + eye) / 2 @ (one + eye) / 2
    row = flow[:, 0] if first else flow[:, 1:].mean(1)
    torch.testing.assert_close(rollout(model, images), row[:, 1:].view(2, 4, 2))
    likes, differs = (rollout(model, images, images.flip(0), against=against) for against in (False, True))
    assert likes.shape == (2, 4, 2)
    assert (likes >= 0).all()
    assert not torch.allclose(likes, differs)
    usable, missing = usable_methods(model, images, ["rollout", "gradient rollout", "attention", "center"])
    assert (usable, list(missing)) == (["rollout", "gradient rollout", "center"], ["attention"])


def test_rollout_of_a_backbone(images):
    """Of a ViT whose patches are pooled: the mean over their rows, and none of the class token's."""
    torch.manual_seed(0)
    model = regard.create_model("baseline", 4, backbone="test_vit.r160_in1k").eval()
    with model.token_attention() as kept:
        model.embed(images)
        flow = torch.eye(33).expand(2, -1, -1)
        for each in kept:
            flow = (each.spread(each.weights).mean(1) + torch.eye(33)) @ flow / 2
    torch.testing.assert_close(rollout(model, images), flow[:, 1:, 1:].mean(1).view(2, 8, 4))
    assert usable_methods(model, images, ["gradient rollout"])[0] == ["gradient rollout"]


class Blind(Pixels):
    """What a runtime of another maker computes: descriptors, and nothing to look at."""

    def forward(self, images: Tensor) -> Output:
        return Output(super().forward(images).embedding.detach(), {}, {}, {})


def test_of_a_network_without_gradients_occlusion_is_left(images):
    assert usable_methods(Blind(), images)[0] == ["occlusion", "center", "edges"]
    with pytest.raises(ConfigError, match="no weights that could be made random"):
        layers_from_the_top(Blind(), images)


def test_rank_correlation_and_agreement():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 3, 6, 4)).round(1)
    wanted = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(first, second)]
    np.testing.assert_allclose(rank_correlation(first, second), wanted)
    flat = np.zeros((3, 6, 4))
    assert np.isnan(rank_correlation(flat, first)).all()
    assert rank_correlation(first, flat).tolist() == [0, 0, 0]  # heat that is gone has changed
    found = agreement({"one": first, "other": -first, "flat": flat})
    np.testing.assert_allclose(found[:2, :2], [[1, -1], [-1, 1]])
    assert np.isnan(found[2]).all()


def test_structural_similarity_is_a_slow_loop():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 1, 32, 16))
    levels = [(x - x.min()) / (x.max() - x.min()) for x in (first[0], second[0])]
    weights = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(weights, weights) / weights.sum() ** 2
    padded, values = [np.pad(x, 5, mode="symmetric") for x in levels], []
    for y in range(32):
        for x in range(16):
            a, b = (each[y : y + 11, x : x + 11] for each in padded)
            m, n = (window * a).sum(), (window * b).sum()
            va, vb, c = (window * (a - m) ** 2).sum(), (window * (b - n) ** 2).sum(), (window * (a - m) * (b - n)).sum()
            values.append((2 * m * n + 1e-4) * (2 * c + 9e-4) / ((m * m + n * n + 1e-4) * (va + vb + 9e-4)))
    assert structural_similarity(first, second)[0] == pytest.approx(np.mean(values))
    assert structural_similarity(first, 3 * first + 1)[0] == pytest.approx(1)


def test_weights_become_random_from_the_top(net, images):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    order = layers_from_the_top(net, images)
    assert not any(name.startswith("classifier") for name in order)  # not on the way to the descriptor
    assert order[-1] == "backbone.stages.0.conv1.0"
    changed = []
    for other in randomized(net, images, steps=3, seed=5):
        state = other.state_dict()
        changed.append({name.rpartition(".")[0] for name in before if not torch.equal(before[name], state[name])})
    assert changed[0] <= changed[1] <= changed[2]
    assert "backbone.stages.0.conv1.0" not in changed[1]
    assert "backbone.stages.0.conv1.0" in changed[2]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_methods_that_know_nothing_of_the_network_fail(net, images):
    """Edges and a bell stay what they are; a method that looks at its place in the batch depends on the order."""

    def place(model, pictures, partners, *, against):
        heat = EVERY["gradcam"].heat(model, pictures, partners, against=against)
        return heat * torch.arange(1, len(pictures) + 1)[:, None, None]

    methods = {name: EVERY[name].heat for name in ("gradcam", "edges", "center")}
    found = check_methods(net, methods, images, images.flip(0))
    for name in ("edges", "center"):
        assert found[name].left == pytest.approx(1)
        assert found[name].faults == [
            "its heat stays what it is when all weights are random (rank correlation 1.00, 0.5 fails)"
        ]
    assert found["gradcam"].left < SAME
    assert found["gradcam"].faults == []
    assert found["gradcam"].correlation.shape == (5, 2)
    assert order_gap(net, place, images, images.flip(0)) == pytest.approx(0.5, abs=0.01)
