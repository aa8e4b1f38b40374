"""The published trainings: what papers and released code say, in numbers of their own.

Every number here is from the authors (or, where a recipe of regard says that it departs from them, from that recipe's
header), none is read from regard. A recipe, or a default that it leans on, that says otherwise fails a trace.
"""

from __future__ import annotations

from plain_training import (
    Optimizer,
    TermOf,
    Training,
    center,
    cross_entropy,
    decaying,
    dropping,
    squared_error,
    triplet,
)

Terms = dict[str, tuple[float, TermOf]]


def smoothed(name: str = "global", smoothing: float = 0.1) -> TermOf:
    return lambda seen, batch, _: cross_entropy(seen[1][name], batch.pids, smoothing)


def hard(margin: float | None) -> TermOf:
    return lambda seen, batch, _: triplet(seen[0]["global"], batch.pids, margin)


def maps(name: str, label: str, missing: str = "ignore") -> TermOf:
    return lambda seen, batch, _: squared_error(seen[2][name], batch.extra[label], missing)


def all_scores(seen, batch, _):
    """The plain sum of unsmoothed cross entropies."""
    return sum(cross_entropy(logits, batch.pids, 0.0) for logits in seen[1].values())


def three_scales(seen, batch, _):
    """Of the global vectors on the unit sphere, one term per scale."""
    return sum(triplet(seen[0][f"scale{scale}.global"], batch.pids, 1.0, normalized=True) for scale in (1, 2, 3))


TRICKS: Terms = {
    "id": (1.0, smoothed()),
    "triplet": (1.0, hard(0.3)),
    "center": (5e-4, lambda seen, batch, centers: center(seen[0]["global"], batch.pids, centers)),
}
BRANCHES: Terms = {"pab": (65.0, maps("pab", "keypoints")), "hab": (20.0, maps("hab", "mask"))}
PAIR: Terms = {"id": (1.0, smoothed()), "triplet": (1.0, hard(0.3))}
SIXTEEN: Terms = {"id": (0.5, all_scores), "triplet": (1.0, three_scales)}
SUM: Terms = {"id": (1.0, all_scores)}
SLOW = ("backbone.", "streams.", "guide.", "gamma.")
TALL = (96, 32)


def strong(network: str, terms: Terms, **more) -> Training:
    """Bag of tricks: Adam 3.5e-4, ten epochs of warm-up from a hundredth, a tenth at 40 and at 70."""
    factor = dropping([40, 70], warm=10)
    return Training(network, terms, Optimizer("adam", 3.5e-4, 5e-4), factor, centers=0.5, **more)


def pyramids(network: str, **more) -> Training:
    """APNet and all that descend from it: Adam 4e-4, decay 1e-3, a tenth at 40, 80 and 120."""
    factor = dropping([40, 80, 120], warm=10)
    return Training(network, PAIR, Optimizer("adam", 4e-4, 1e-3), factor, **more)


def supervised(network: str, milestones: list[int], **more) -> Training:
    """SA and DSP: SGD 0.1 with Nesterov's momentum, a tenth of it for the trunk."""
    optimizer = Optimizer("sgd", 0.1, 5e-4, slow=("backbone.",))
    return Training(network, SUM, optimizer, dropping(milestones), size=TALL, **more)


def mudeep(rate: float, milestones: list[int]) -> Training:
    """MuDeep: SGD with Nesterov's momentum, a tenth of the rate for all but heads, classifiers and attention."""
    optimizer = Optimizer("sgd", rate, 5e-4, slow=SLOW)
    small = ("model.guidance=16", "model.feature_dim=12")
    return Training("mudeep", SIXTEEN, optimizer, dropping(milestones), small, size=TALL)


def sized(training: Training) -> tuple[str, ...]:
    return tuple(f"model.{side}={pixels}" for side, pixels in zip(("height", "width"), training.size))


TRAININGS: dict[str, Training] = {
    "baseline_market1501": strong("baseline", TRICKS),
    "apnet_market1501": pyramids("apnet"),
    "apnet_s_market1501": pyramids("apnet_s", overrides=("model.height=64", "model.width=32")),
    "apnet_rga_cuhk03": Training(
        "rga_s",
        PAIR,
        Optimizer("adam", 8e-4, 5e-4),
        dropping(range(80, 361, 40), by=0.5, warm=20),
        overrides=("model.height=64", "model.width=32"),
    ),
    "msea_2023_market1501": pyramids("msea_2023"),
    "msea_head_market1501": pyramids("msea_head"),
    "msea_market1501": pyramids("msea_lite"),
    "mudeep_market1501": mudeep(0.09, [79, 159]),
    "mudeep_market1501_2020": mudeep(0.1, [39, 79]),
    "daaf_market1501": strong("daaf_bot", TRICKS | BRANCHES),
    "daaf_trinet_market1501": Training(
        "daaf_trinet",
        {"triplet": (1.0, hard(None)), **BRANCHES},
        Optimizer("adam", 1e-4, 0.0),
        decaying(326, 1739),
    ),
    "sa_market1501": supervised("sa", [40, 80]),
    "dsp_market1501": supervised("dsp", [40]),
}
"""By recipe."""

VARIANTS: dict[str, Training] = {
    "sa_market1501 model.rescale=false": supervised("sa_released", [40, 80]),
    "dsp_market1501 model.mode=released": supervised("dsp_released", [40]),
    "dsp_market1501 model.mode=code": supervised("dsp_code", [40]),
}
"""By recipe and override."""
