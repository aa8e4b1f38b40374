"""Every loss against a loop one can read, and against the published reference numbers."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
import torch

from regard.errors import ConfigError
from regard.losses import Criterion, Term
from regard.losses.cross_entropy import CrossEntropy
from regard.losses.metric import BatchHardTriplet, CenterLoss, hardest_pairs, pairwise_euclidean
from regard.structures import Batch, Output


def uniform(name: str, n: int) -> np.ndarray:
    """splitmix64 over (crc32(name) << 32) + index: the rule the reference numbers were made with."""
    with np.errstate(over="ignore"):
        x = np.arange(n, dtype=np.uint64) + (np.uint64(zlib.crc32(name.encode())) << np.uint64(32))
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53


SCORES = torch.tensor(4 * uniform("scores", 8 * 751).reshape(8, 751) - 2, dtype=torch.float32)
FEATURES = torch.tensor(2 * uniform("feats", 8 * 2048).reshape(8, 2048) - 1, dtype=torch.float32)
LABELS = torch.tensor([0, 0, 0, 0, 5, 5, 5, 5])


@pytest.mark.parametrize(
    ("columns", "smoothing_ids", "expected"),
    [(751, None, 7.3242178), (751, 751, 7.3242178), (702, 751, 7.2096806), (702, None, 7.2564187)],
)
def test_cross_entropy_gives_the_published_numbers(columns, smoothing_ids, expected):
    loss = CrossEntropy(0.1, smoothing_ids)(SCORES[:, :columns], LABELS)
    assert loss.item() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("margin", "expected"), [(0.3, 1.2396706), (None, 1.2949234)])
def test_triplet_gives_the_published_numbers(margin, expected):
    assert BatchHardTriplet(margin)(FEATURES, LABELS).item() == pytest.approx(expected, abs=5e-6)


def slow_cross_entropy(logits, labels, smoothing, num_ids):
    total = 0.0
    for row, label in zip(logits.double().tolist(), labels.tolist()):
        log_sum = math.log(sum(math.exp(v) for v in row))
        for j, value in enumerate(row):
            target = smoothing / num_ids + (1 - smoothing) * (j == label)
            total -= target * (value - log_sum)
    return total / len(logits)


def slow_triplet(features, labels, margin, under_root=0.0):
    total = 0.0
    rows = features.double()
    for i in range(len(rows)):
        distances = [math.sqrt((rows[i] - row).square().sum().item() + under_root) for row in rows]
        positive = max(d for d, label in zip(distances, labels) if label == labels[i])
        negative = min((d for d, label in zip(distances, labels) if label != labels[i]), default=math.inf)
        gap = positive - negative
        total += math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin)
    return total / len(rows)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("margin", [0.0, 0.3, None])
def test_losses_equal_their_slow_twins(seed, margin):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(10, 6, generator=generator)
    features[3] = features[0]  # coinciding points
    labels = torch.randint(0, 4, (10,), generator=generator)
    assert BatchHardTriplet(margin)(features, labels).item() == pytest.approx(
        slow_triplet(features, labels, margin), abs=2e-6
    )
    logits = torch.randn(10, 7, generator=generator)
    for smoothing, ids in [(0.0, None), (0.1, None), (0.2, 11)]:
        expected = slow_cross_entropy(logits, labels, smoothing, ids or 7)
        assert CrossEntropy(smoothing, ids)(logits, labels).item() == pytest.approx(expected, abs=2e-6)


def test_triplet_of_groups_by_their_place_as_mudeep_has_it():
    """A person drawn twice is its own negative; something stands under every root; rows show one person each."""
    pids = torch.tensor([3, 3, 3, 3, 1, 1, 2, 2])
    loss = BatchHardTriplet(0.3, under_root=0.5, group=2)
    by_place = slow_triplet(FEATURES, [0, 0, 1, 1, 2, 2, 3, 3], 0.3, under_root=0.5)
    assert loss(FEATURES, pids).item() == pytest.approx(by_place, rel=1e-5)
    assert by_place != pytest.approx(slow_triplet(FEATURES, pids.tolist(), 0.3, under_root=0.5), rel=1e-3)
    with pytest.raises(ConfigError, match=r"group is 3, but .* set it to data\.images_per_id"):
        BatchHardTriplet(group=3)(FEATURES, pids)
    for wrong in ({"group": 0}, {"under_root": -1e-8}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))} is .*, wanted"):
            BatchHardTriplet(**wrong)


def test_triplet_has_finite_gradients_on_coinciding_features():
    features = torch.zeros(4, 3, requires_grad=True)
    BatchHardTriplet(0.3)(features, torch.tensor([0, 0, 1, 1])).backward()
    assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize("margin", [0.3, None])
def test_triplet_without_negatives_is_zero_with_zero_gradient(margin):
    features = torch.randn(4, 3, requires_grad=True)
    loss = BatchHardTriplet(margin)(features, torch.zeros(4, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert (features.grad == 0).all()


def test_normalized_triplet_ignores_the_length_of_features():
    loss = BatchHardTriplet(0.3, normalize=True)
    scale = torch.arange(1.0, 9.0)[:, None]
    torch.testing.assert_close(loss(FEATURES, LABELS), loss(FEATURES * scale, LABELS))


def test_hardest_pairs_of_anchors_against_other_candidates():
    distances = torch.tensor([[1.0, 5.0, 2.0], [4.0, 3.0, 9.0]])
    positive, negative = hardest_pairs(distances, torch.tensor([7, 8]), torch.tensor([7, 8, 7]))
    assert positive.tolist() == [2, 3]
    assert negative.tolist() == [5, 4]


def test_pairwise_euclidean_equals_differences():
    a, b = FEATURES[:3], FEATURES[3:]
    torch.testing.assert_close(pairwise_euclidean(a, b), (a[:, None] - b).norm(dim=2), rtol=1e-5, atol=1e-5)


def slow_center(features, labels, centers):
    """The released code's loss: a matrix of squared distances, masked, clamped and summed."""
    total = 0.0
    for feature, label in zip(features.double(), labels.tolist()):
        for pid, center in enumerate(centers.double()):
            squared = (feature - center).square().sum().item() if pid == label else 0.0
            total += min(max(squared, 1e-12), 1e12)
    return total / len(features)


def test_center_loss_equals_the_released_one():
    torch.manual_seed(0)
    loss = CenterLoss(num_ids=6, embed_dim=2048)
    assert loss.centers.mean().item() == pytest.approx(0, abs=0.03)
    assert loss.centers.std().item() == pytest.approx(1, abs=0.03)
    assert loss(FEATURES, LABELS).item() == pytest.approx(slow_center(FEATURES, LABELS, loss.centers), rel=1e-6)


@pytest.mark.parametrize("weight", [5e-4, 1.0, 30.0])
def test_centers_move_at_their_own_rate_whatever_the_weight(weight):
    """Released code: gradient of weight * loss, multiplied by 1 / weight, then SGD of rate 0.5."""
    torch.manual_seed(0)
    loss = CenterLoss(num_ids=6, embed_dim=2048)
    before = loss.centers.detach().clone()
    output, batch = outputs()
    criterion = Criterion([Term("id", CrossEntropy(), "logits.*"), Term("c", loss, "features.global", weight=weight)])
    optimizer = torch.optim.SGD(criterion.parameter_groups())
    criterion(output, batch)[0].backward()
    optimizer.step()
    expected = before.clone()
    for feature, label in zip(FEATURES, LABELS.tolist()):
        expected[label] -= 0.5 * 2 / 8 * (before[label] - feature)
    torch.testing.assert_close(loss.centers.detach(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(loss.centers[1], before[1])
    gradient = weight * 2 / 8 * (FEATURES - before[LABELS])
    torch.testing.assert_close(output.features["global"].grad, gradient, rtol=1e-5, atol=1e-8)


def test_losses_without_parameters_need_no_optimizer():
    terms = [Term("id", CrossEntropy(), "logits.*"), Term("c", CenterLoss(3, 4), "features.global", weight=0)]
    assert Criterion(terms).parameter_groups() == []
    with pytest.raises(ConfigError, match="the centers' lr is 0, wanted a number above 0"):
        CenterLoss(3, 4, lr=0)


def outputs() -> tuple[Output, Batch]:
    features = {"global": FEATURES.clone().requires_grad_(), "part0": FEATURES * 2}
    output = Output(FEATURES, features, {"global": SCORES}, {})
    return output, Batch(torch.zeros(8, 3, 2, 2), LABELS, LABELS, {})


def test_criterion_adds_weighted_terms_and_names_them():
    output, batch = outputs()
    criterion = Criterion(
        [
            Term("id", CrossEntropy(), "logits.*", weight=0.5),
            Term("triplet", BatchHardTriplet(), "features.*", weight=2.0, reduction="sum"),
        ]
    )
    total, values = criterion(output, batch)
    one, two = BatchHardTriplet()(FEATURES, LABELS), BatchHardTriplet()(FEATURES * 2, LABELS)
    torch.testing.assert_close(values["triplet"], one + two)
    torch.testing.assert_close(total, 0.5 * values["id"] + 2 * values["triplet"])
    assert total.requires_grad
    assert not values["id"].requires_grad


def test_a_term_of_weight_0_is_told_of_and_adds_nothing_not_even_what_is_no_number():
    output, batch = outputs()
    spoiled = Term("c", lambda value, _: (value * torch.inf).sum(), "features.global", weight=0.0)  # pyright: ignore
    triplet = Term("t", BatchHardTriplet(), "features.global")
    total, values = Criterion([triplet, spoiled])(output, batch)
    assert not values["c"].isfinite()
    total.backward()
    with_it = output.features["global"].grad
    other, _ = outputs()
    alone, _ = Criterion([triplet])(other, batch)
    alone.backward()
    assert torch.equal(total, alone)
    assert torch.equal(with_it, other.features["global"].grad)


def test_mean_reduction_averages_over_matched_outputs():
    output, batch = outputs()
    value = Term("t", BatchHardTriplet(), "features.*")(output, batch)
    torch.testing.assert_close(
        value, (BatchHardTriplet()(FEATURES, LABELS) + BatchHardTriplet()(FEATURES * 2, LABELS)) / 2
    )


def test_only_gathering_terms_see_other_ranks():
    output, batch = outputs()
    twice = lambda tensor: torch.cat([tensor, tensor + 10])  # noqa: E731
    plain = Term("t", BatchHardTriplet(), "features.global")
    gathering = Term("t", BatchHardTriplet(), "features.global", gather=True)
    assert plain(output, batch, twice) == plain(output, batch)
    both = BatchHardTriplet()(twice(FEATURES), twice(LABELS))
    torch.testing.assert_close(gathering(output, batch, twice), both)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"on": "feature.global"}, "losses.t.on is 'feature.global'"),
        ({"on": "features"}, "losses.t.on is 'features'"),
        ({"on": "features.*", "reduction": "max"}, "losses.t.reduction is 'max'"),
    ],
)
def test_a_wrong_term_is_refused_when_built(options, wanted):
    with pytest.raises(ConfigError, match=wanted):
        Term("t", BatchHardTriplet(), **options)


def test_a_term_on_nothing_says_what_there_is():
    output, batch = outputs()
    with pytest.raises(ConfigError, match="the model's features are global, part0"):
        Term("t", BatchHardTriplet(), "features.ds1")(output, batch)
    with pytest.raises(ConfigError, match="the data set gives no labels"):
        Term("t", BatchHardTriplet(), "features.*", target="extra.mask")(output, batch)
