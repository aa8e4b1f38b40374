"""The published trainings: what papers and released code say, in numbers of their own.

Every number here is from the authors (or, where a recipe of regard says that it departs from them, from that recipe's
header), none is read from regard. A recipe, or a default that it leans on, that says otherwise fails a trace.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from plain_training import (
    Drawn,
    Optimizer,
    Pictures,
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


def maps(name: str, label: str, missing: str = "ignore", joints: tuple[int, ...] = (), white: float = 1.0) -> TermOf:
    return lambda seen, batch, _: squared_error(seen[2][name], batch.extra[label], missing, joints, white)


def all_scores(seen, batch, _):
    """The plain sum of unsmoothed cross entropies."""
    return sum(cross_entropy(logits, batch.pids, 0.0) for logits in seen[1].values())


def three_scales(seen, batch, _, added: float = 0.0):
    """Of the global vectors on the unit sphere, one term per scale."""
    vectors = [seen[0][f"scale{scale}.global"] for scale in (1, 2, 3)]
    return sum(triplet(vector, batch.pids, 1.0, normalized=True, added=added) for vector in vectors)


TRICKS: Terms = {
    "id": (1.0, smoothed()),
    "triplet": (1.0, hard(0.3)),
    "center": (5e-4, lambda seen, batch, centers: center(seen[0]["global"], batch.pids, centers)),
}
BRANCHES: Terms = {"pab": (65.0, maps("pab", "keypoints")), "hab": (20.0, maps("hab", "mask"))}
COUNTED: Terms = {"pab": (65.0, maps("pab", "keypoints", "zero")), "hab": (20.0, maps("hab", "mask", "zero"))}
"""A label that is missing counts as zeros."""

GRAY: Terms = {
    "hab": (0.0157, maps("hab", "mask", "zero")),
    "pab_head": (0.03855, maps("pab", "keypoints", "zero", tuple(range(5)), 255)),
    "pab_pairs": (0.02467, maps("pab", "keypoints", "zero", (5, 6, 7, 8, 13, 14, 15, 16), 255)),
    "pab_wrists_hips": (0.02467, maps("pab", "keypoints", "zero", (9, 10, 11, 12), 255)),
}
"""Half sums over 64 maps of 128 x 64, 6e-8 of the masks' and 1e-7 n / 17 of those of a group of n joints, as means:
times 262,144, and n for a group. Joints in gray levels, held against a sigmoid."""

MINDSPORE: Terms = {
    "id": (1.0, smoothed(smoothing=0.0)),
    "triplet": (1.0, hard(1.2)),
    "pab": (1e-5, maps("pab", "keypoints", "zero", white=255)),
    "hab": (1e-5, maps("hab", "mask", "zero")),
}
PAIR: Terms = {"id": (1.0, smoothed()), "triplet": (1.0, hard(0.3))}
SIXTEEN: Terms = {"id": (0.5, all_scores), "triplet": (1.0, three_scales)}
SUM: Terms = {"id": (1.0, all_scores)}

HOLE = (124, 116, 104)
"""The mean color, zero after normalization; (152, 142, 127), the default here, is what comes of writing the mean into a
normalized picture: mean + std * mean."""


def in_mindspore(rate: float, milestones: list[int], epochs: int) -> Training:
    """DAAF's port to MindSpore; its channels are 340 of 2048 there, and a sixth of the tiny trunk's here."""
    optimizer, pictures = Optimizer("adam", rate, 5e-4), Pictures((256, 128), pad=0)
    narrow = ("model.group_width=16", "train.devices=1")
    drawn = Drawn(12, 4, 1)
    return Training(
        "daaf_mindspore", MINDSPORE, optimizer, dropping(milestones), epochs, drawn, pictures, narrow, (64, 64)
    )


def strong(network: str, terms: Terms, epochs: int, **more) -> Training:
    """Bag of tricks: Adam 3.5e-4, ten epochs of warm-up from a hundredth, a tenth at 40 and at 70."""
    factor, pictures = dropping([40, 70], warm=10), Pictures((256, 128))
    optimizer = Optimizer("adam", 3.5e-4, 5e-4)
    return Training(network, terms, optimizer, factor, epochs, Drawn(16, 4), pictures, centers=0.5, **more)


def pyramids(network: str, people: int = 20, size: tuple[int, int] = (384, 192), **more) -> Training:
    """APNet and all that descend from it: Adam 4e-4, decay 1e-3, a tenth at 40, 80 and 120."""
    factor, optimizer = dropping([40, 80, 120], warm=10), Optimizer("adam", 4e-4, 1e-3)
    return Training(network, PAIR, optimizer, factor, 160, Drawn(people, 4), Pictures(size), **more)


def supervised(network: str, milestones: list[int], epochs: int, erasing: float = 0.5, fixed: bool = False) -> Training:
    """SA and DSP: SGD 0.1 with Nesterov's momentum, a tenth of it for the trunk; 48 pictures of anybody."""
    optimizer = Optimizer("sgd", 0.1, 5e-4, slow=("backbone.",))
    pictures = Pictures((384, 128), pad=0, erasing=erasing, area=(0.02, 0.2), fill=None)
    drawn = Drawn(48, 1, None, fixed)
    return Training(network, SUM, optimizer, dropping(milestones), epochs, drawn, pictures, small=(96, 32))


def mudeep(rate: float, milestones: list[int], epochs: int, each: int) -> Training:
    """MuDeep: SGD with Nesterov's momentum, a tenth of the rate for all but heads, classifiers and attention."""
    optimizer = Optimizer("sgd", rate, 5e-4, slow=("backbone.", "streams.", "guide.", "gamma."))
    pictures = Pictures((384, 192), pad=0, fill=HOLE, bicubic=True)
    narrow = ("model.guidance=16", "model.feature_dim=12")
    drawn = Drawn(12, each, 3)
    return Training("mudeep", SIXTEEN, optimizer, dropping(milestones), epochs, drawn, pictures, narrow, (48, 32))


ONE_SIZE = ("model.height=64", "model.width=32")


def relations(network: str) -> Training:
    """RGA: four pictures of everyone an epoch, every second picture translated, Adam 8e-4, halved every 40 epochs."""
    return Training(
        network,
        PAIR,
        Optimizer("adam", 8e-4, 5e-4),
        dropping(range(80, 361, 40), by=0.5, warm=20),
        600,
        Drawn(16, 4, 1),
        Pictures((256, 128), pad=0, enlarge=1.125, enlarged=0.5, fill=HOLE),
        ONE_SIZE,
        shares=2,
    )


TRAININGS: dict[str, Training] = {
    "baseline_market1501": strong("baseline", TRICKS, 120),
    "apnet_market1501": pyramids("apnet"),
    "apnet_s_market1501": pyramids("apnet_s", size=(256, 128), overrides=ONE_SIZE),
    "apnet_rga_cuhk03": relations("rga_s"),
    "rga_sc_cuhk03": relations("rga_sc"),
    "rga_sc_market1501": relations("rga_sc"),
    "pcb_market1501": Training(
        "pcb",
        SUM,
        Optimizer("sgd", 0.1, 5e-4, slow=("backbone.",)),
        dropping([40]),
        60,
        Drawn(64, 1, None),
        Pictures((384, 128), pad=0, erasing=0.0),
        small=(96, 32),
    ),
    "msea_2023_market1501": pyramids("msea_2023"),
    "msea_head_market1501": pyramids("msea_head", people=15),
    "msea_market1501": pyramids("msea_lite"),
    "mudeep_market1501": mudeep(0.09, [79, 159], 160, 6),
    "mudeep_market1501_2020": mudeep(0.1, [39, 79], 100, 4),
    "daaf_market1501": strong("daaf_bot", TRICKS | BRANCHES, 480, small=(32, 32)),
    "daaf_trinet_market1501": Training(
        "daaf_trinet",
        {"triplet": (1.0, hard(None)), "pab": (1.0, maps("pab", "keypoints")), "hab": (0.0157, maps("hab", "mask"))},
        Optimizer("adam", 1e-4, 0.0),
        decaying(326, 1739),
        1739,
        Drawn(16, 4, 1),
        Pictures((256, 128), pad=0, enlarge=1.125, erasing=0.0),
    ),
    "sa_market1501": supervised("sa", [40, 80], 100),
    "dsp_market1501": supervised("dsp", [40], 50),
    "sa_market1501_released": supervised("sa_released", [40, 80], 100, erasing=0.0),
    "dsp_market1501_released": supervised("dsp_released", [40], 50, erasing=0.0, fixed=True),
}
"""By recipe."""

VARIANTS: dict[str, Training] = {
    "apnet_market1501_released": replace(TRAININGS["apnet_market1501"], shares=2),
    "mudeep_market1501_released": replace(
        TRAININGS["mudeep_market1501"],
        terms=SIXTEEN | {"triplet": (1.0, partial(three_scales, added=1e-8))},
        overrides=(*TRAININGS["mudeep_market1501"].overrides, "data.images_per_id=2", "losses.triplet.group=2"),
        drawn=Drawn(12, 6, 3, distinct=False),
        shares=2,
    ),
    "daaf_market1501_released": replace(
        TRAININGS["daaf_market1501"], terms=TRICKS | COUNTED, overrides=("model.group_width=16",)
    ),
    "daaf_trinet_market1501_released": replace(
        TRAININGS["daaf_trinet_market1501"],
        network="daaf_trinet_released",
        terms={"triplet": (1.0, hard(None))} | GRAY,
        drawn=Drawn(16, 4, 1, scarce="repeat"),
    ),
    "daaf_mindspore_market1501": in_mindspore(1.5e-4, [320, 380], 400),
    "daaf_mindspore_8_market1501": in_mindspore(2.5e-4, [640, 760], 800),
    "dsp_no_parts_market1501": supervised("dsp_no_parts", [40], 50),
    "trinet_market1501": replace(
        TRAININGS["daaf_trinet_market1501"], network="trinet", terms={"triplet": (1.0, hard(None))}
    ),
    "dsp_market1501 model.mode=code": supervised("dsp_code", [40], 50),
}
"""By recipe and override."""
