"""Losses of cosines, over pairs and over classes, against loops one can read."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from regard.config import OptimConfig
from regard.engine.step import build_optimizer
from regard.errors import ConfigError
from regard.losses import Criterion, Term
from regard.losses.cosine import ArcFace, CircleSoftmax, CosFace
from regard.losses.metric import BatchHardTriplet, CenterLoss
from regard.losses.pairs import CircleLoss, MultiSimilarity, SupervisedContrastive
from regard.structures import Batch, Output

LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3])
"""Identity 2 has one picture, and so no positive."""


def features(seed: int, spread: float = 1.0) -> torch.Tensor:
    """Eight vectors, of which two coincide; with little spread, people are hard to tell apart."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(1, 6, generator=generator) + spread * torch.randn(8, 6, generator=generator)
    values[1] = values[0]
    return values


def cosines(values: torch.Tensor) -> list[list[float]]:
    rows = values.double().tolist()
    lengths = [math.sqrt(sum(x * x for x in row)) for row in rows]
    return [[sum(x * y for x, y in zip(a, b)) / (p * q) for b, q in zip(rows, lengths)] for a, p in zip(rows, lengths)]


def split(row: list[float], labels: list[int], i: int) -> tuple[list[float], list[float]]:
    """An image's cosines with its positives and with its negatives."""
    positive = [s for j, s in enumerate(row) if labels[j] == labels[i] and j != i]
    return positive, [s for j, s in enumerate(row) if labels[j] != labels[i]]


def slow_circle(values, labels, margin, gamma):
    losses = []
    for i, row in enumerate(cosines(values)):
        positive, negative = split(row, labels, i)
        if not positive or not negative:
            continue
        pull = sum(math.exp(-gamma * max(0, 1 + margin - s) * (s - (1 - margin))) for s in positive)
        push = sum(math.exp(gamma * max(0, s + margin) * (s - margin)) for s in negative)
        losses.append(math.log(1 + pull * push))
    return sum(losses) / max(1, len(losses))


def slow_multi_similarity(values, labels, alpha, beta, base, epsilon):
    total = 0.0
    for i, row in enumerate(cosines(values)):
        positive, negative = split(row, labels, i)
        hard_n = [s for s in negative if s > min(positive, default=math.inf) - epsilon]
        hard_p = [s for s in positive if s < max(negative, default=-math.inf) + epsilon]
        total += math.log(1 + sum(math.exp(-alpha * (s - base)) for s in hard_p)) / alpha
        total += math.log(1 + sum(math.exp(beta * (s - base)) for s in hard_n)) / beta
    return total / len(values)


def slow_supcon(values, labels, temperature):
    losses = []
    for i, row in enumerate(cosines(values)):
        positive, negative = split(row, labels, i)
        everyone = sum(math.exp(s / temperature) for s in (*positive, *negative))
        if positive:
            losses.append(-sum(math.log(math.exp(s / temperature) / everyone) for s in positive) / len(positive))
    return sum(losses) / max(1, len(losses))


PAIRS = [
    (CircleLoss, slow_circle, {"margin": 0.25, "gamma": 16.0}),
    (CircleLoss, slow_circle, {"margin": 0.1, "gamma": 128.0}),
    (MultiSimilarity, slow_multi_similarity, {"alpha": 2.0, "beta": 50.0, "base": 0.5, "epsilon": 0.1}),
    (MultiSimilarity, slow_multi_similarity, {"alpha": 3.0, "beta": 20.0, "base": 0.8, "epsilon": -0.05}),
    (SupervisedContrastive, slow_supcon, {"temperature": 0.1}),
    (SupervisedContrastive, slow_supcon, {"temperature": 0.5}),
]


@pytest.mark.parametrize(("loss", "slow", "options"), PAIRS)
def test_losses_of_pairs_equal_their_slow_twins(loss, slow, options):
    for seed in range(4):
        for spread in (1.0, 0.2):
            values = features(seed, spread)
            for labels in (LABELS, LABELS * 0, torch.arange(8)):  # mixed; one person; everyone once
                found = loss(**options)(values, labels).item()
                assert found == pytest.approx(slow(values, labels.tolist(), **options), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("loss", [CircleLoss(), MultiSimilarity(), SupervisedContrastive()])
def test_losses_of_pairs_have_finite_gradients_that_turn_and_do_not_stretch(loss):
    for labels in (LABELS * 0, torch.arange(8), LABELS):
        values = features(3).requires_grad_()
        loss(values, labels).backward()
        assert torch.isfinite(values.grad).all()
        torch.testing.assert_close((values.grad * values).sum(1), torch.zeros(8), rtol=0, atol=1e-4)
    assert values.grad.abs().sum() > 0
    scaled = features(3) * torch.arange(1.0, 9.0)[:, None]
    torch.testing.assert_close(loss(scaled, LABELS), loss(features(3), LABELS))


def test_weights_of_circle_loss_pass_no_gradient():
    margin, gamma = 0.25, 8.0
    values, others = (features(1).double().requires_grad_() for _ in range(2))
    losses = []
    for i, label in enumerate(LABELS.tolist()):
        s = F.cosine_similarity(values[i], values)
        positive = [j for j in range(8) if LABELS[j] == label and j != i]
        pull = [-gamma * max(0, 1 + margin - s[j].item()) * (s[j] - 1 + margin) for j in positive]
        push = [gamma * max(0, s[j].item() + margin) * (s[j] - margin) for j in range(8) if LABELS[j] != label]
        if pull:
            losses.append(torch.log(1 + torch.stack(pull).exp().sum() * torch.stack(push).exp().sum()))
    torch.stack(losses).mean().backward()
    CircleLoss(margin, gamma)(others, LABELS).backward()
    torch.testing.assert_close(others.grad, values.grad)


def slow_classes(kind, values, classes, labels, scale, margin, smoothing):
    """Cross-entropy of scores, each computed by itself from an angle or a cosine."""
    total, count = 0.0, len(classes)
    for value, label in zip(values.double(), labels.tolist()):
        scores = []
        for j, direction in enumerate(classes.double()):
            s = (value @ direction / value.norm() / direction.norm()).item()
            if kind is CircleSoftmax:
                a, d = (1 + margin - s, s - 1 + margin) if j == label else (s + margin, s - margin)
                scores.append(scale * max(0, a) * d)
            elif j != label:
                scores.append(scale * s)
            elif kind is CosFace:
                scores.append(scale * (s - margin))
            else:
                theta = math.acos(max(-1, min(1, s)))
                wide = theta > math.pi - margin
                scores.append(scale * (s - margin * math.sin(margin) if wide else math.cos(theta + margin)))
        log_sum = math.log(sum(math.exp(score) for score in scores))
        for j, score in enumerate(scores):
            total -= (smoothing / count + (1 - smoothing) * (j == label)) * (score - log_sum)
    return total / len(values)


@pytest.mark.parametrize(
    ("kind", "name", "scale", "margin"),
    [(ArcFace, "scale", 30.0, 0.5), (ArcFace, "scale", 8.0, 1.2), (CosFace, "scale", 30.0, 0.35),
     (CircleSoftmax, "gamma", 16.0, 0.25)],
)  # fmt: skip
def test_cosine_classifiers_equal_their_slow_twins(kind, name, scale, margin):
    for seed in range(3):
        for smoothing in (0.0, 0.1):
            torch.manual_seed(seed)
            loss = kind(5, 6, margin=margin, smoothing=smoothing, **{name: scale})
            assert loss.classes.std().item() == pytest.approx(0.01, rel=0.5)
            values = features(seed).requires_grad_()
            with torch.no_grad():
                loss.classes[0] = -2 * values[0]  # an angle of pi, beyond pi - margin
                loss.classes[3] = 3 * values[6]  # and one of 0
            found = loss(values, LABELS)
            wanted = slow_classes(kind, values.detach(), loss.classes.detach(), LABELS, scale, margin, smoothing)
            assert found.item() == pytest.approx(wanted, rel=2e-3)
            found.backward()
            assert torch.isfinite(values.grad).all()
            assert torch.isfinite(loss.classes.grad).all()


def test_without_margin_arcface_and_cosface_are_softmax_of_scaled_cosines():
    torch.manual_seed(0)
    one, two = ArcFace(5, 6, scale=10, margin=0), CosFace(5, 6, scale=10, margin=0)
    two.load_state_dict(one.state_dict())
    values = features(0)
    plain = F.cross_entropy(10 * F.normalize(values) @ F.normalize(one.classes).T, LABELS)
    torch.testing.assert_close(one(values, LABELS), plain)
    torch.testing.assert_close(two(values, LABELS), plain)


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: CircleLoss(margin=0), "margin is 0, wanted a number above 0"),
        (lambda: MultiSimilarity(beta=-1), "beta is -1, wanted a number above 0"),
        (lambda: SupervisedContrastive(0), "temperature is 0, wanted"),
        (lambda: ArcFace(2, 3, margin=1.6), "margin is 1.6, wanted an angle in radians"),
        (lambda: CosFace(2, 3, margin=1), "margin is 1, wanted a cosine"),
        (lambda: CosFace(2, 3, scale=0), "scale is 0, wanted"),
        (lambda: CircleSoftmax(2, 3, smoothing=1), "smoothing is 1, wanted 0 or more and less than 1"),
    ],
)
def test_options_out_of_range_are_told_in_one_line(make, wanted):
    with pytest.raises(ConfigError, match=wanted):
        make()


def test_classes_learn_with_the_network_and_centers_beside_it():
    """At the optimizer's rate and decay, under names that optim.lr_scale knows; weight 0 moves nothing."""
    network = torch.nn.Linear(3, 6)
    terms = [
        Term("id", CosFace(5, 6), "embedding"),
        Term("c", CenterLoss(5, 6), "features.global"),
        Term("watched", ArcFace(5, 6), "embedding", weight=0),
        Term("t", BatchHardTriplet(), "features.global"),
    ]
    criterion = Criterion(terms)
    assert list(criterion.shared_parameters()) == ["losses.id.classes"]
    assert [len(group["params"]) for group in criterion.parameter_groups()] == [1]
    optimizer = build_optimizer(network, OptimConfig(lr=0.1, weight_decay=0.5, lr_scale={"losses.id": 10}), criterion)
    classes = terms[0].loss.classes
    found = {(group["lr"], group["weight_decay"]): group["params"] for group in optimizer.param_groups}
    assert {key: len(parameters) for key, parameters in found.items()} == {(0.1, 0.5): 2, (1.0, 0.5): 1}
    assert found[1.0, 0.5][0] is classes
    with pytest.raises(ConfigError, match=r"starts with 'head'; the model has bias, losses, weight"):
        build_optimizer(network, OptimConfig(lr_scale={"head": 2}), criterion)


def test_a_term_on_the_embedding_sees_what_retrieval_compares():
    values = features(2).requires_grad_()
    output = Output(values, {"global": values * 3 + 1}, {}, {})
    term = Term("t", BatchHardTriplet(), "embedding")
    total, _ = Criterion([term])(output, Batch(torch.zeros(8, 3, 2, 2), LABELS, LABELS, {}))
    torch.testing.assert_close(total, BatchHardTriplet()(values, LABELS))
    with pytest.raises(ConfigError, match=r"losses.t.on is 'embeddings'; it wants .*, or embedding"):
        Term("t", BatchHardTriplet(), "embeddings")
