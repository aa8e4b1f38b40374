"""What a similarity says: the probability that two pictures show the same person.

Shapes: M pairs, K knots of a curve, N any number of similarities.

A similarity is evidence for one person or for two. How strong it is does not depend on how many people are about, so
what is learned is the evidence, the log-likelihood ratio of one person against two, a rising curve over similarity:

    ln( p(s | same) / p(s | different) )         log odds = evidence + ln( prior / (1 - prior) )

The prior, the share of same-person pairs among those one asks about, is the user's to say: 0.5 by default.

    isotonic    pool adjacent violators on all pairs, both kinds with the same total weight, one pair of the other kind
                added at either end, so that no evidence is infinite; linear between the centers of the pools
    logistic    a straight line, fitted to Platt's smoothed targets

A pair of cameras may shift and stretch the evidence, e' = shift + stretch · e, both drawn towards 0 and 1 by a penalty
that counts as so many same-person pairs: where there are few, the curve of all cameras holds. Which curve, and how
strong a penalty, is chosen by the log loss on people left out of the fit, at the prior and at the share of same-person
pairs in the data, which is small and so weighs the look-alikes; every quality figure is about people left out, too.

Sources: Zadrozny and Elkan, KDD 2002 (isotonic); Oron and Flournoy, Statistics in Biopharmaceutical Research 2017
(centered isotonic regression); Platt 1999; Brümmer and du Preez, Computer Speech and Language 2006 (evidence and prior
apart).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, logit

from regard.calibration.curves import (
    FEWEST,
    Camera,
    apply_cameras,
    evidence_at,
    fit_cameras,
    fit_isotonic,
    fit_logistic,
)
from regard.calibration.reliability import (
    Reliability,
    Threshold,
    class_weights,
    log_loss,
    reliability,
    threshold,
    widen,
)
from regard.errors import CheckpointError, ConfigError, DataError, check_kind, nearest

if TYPE_CHECKING:
    from regard.metrics.pair_sampling import PairSample

__all__ = ["CURVES", "RATES", "Calibration", "Camera", "fit_calibration"]

CURVES = ("isotonic", "logistic")
"""Forms of the curve from similarity to evidence; ``"auto"`` takes the better one on people left out."""

FORMAT = "regard-calibration-1"
RATES = (0.1, 0.01, 0.001, 0.0001)
FOLDS = 5
PENALTIES = (1000.0, 100.0, 10.0)
_FEWEST_PEOPLE = 4


@dataclass(frozen=True)
class Calibration:
    """From similarity to probability.

    Attributes:
        curve: "isotonic" or "logistic".
        knots: (K, 2) similarity and evidence, both rising; a logistic curve goes on straight beyond them.
        prior: share of same-person pairs assumed where none is given.
        metric: the distance that the similarity comes from.
        cameras: (smaller, larger camera number) -> its :class:`Camera`.
        thresholds: for the false-alarm rates that could be known.
        quality: ECE, Brier and log loss on people left out of the fit, at ``prior``, as plain numbers.
        about: what it was fitted on, and how pictures were embedded, as plain values.
    """

    curve: str
    knots: np.ndarray
    prior: float = 0.5
    metric: str = "cosine"
    cameras: Mapping[tuple[int, int], Camera] = field(default_factory=dict)
    thresholds: Sequence[Threshold] = ()
    quality: Mapping[str, float] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def evidence(self, similarity: Any, cameras: tuple[int, int] | None = None) -> np.ndarray:
        """Log-likelihood ratio of one person against two, in nats; never falls as similarity rises.

        Args:
            similarity: (N,) or a number.
            cameras: numbers of the two cameras, where known; those never calibrated change nothing.
        """
        values = evidence_at(self.knots, np.asarray(similarity, np.float64), self.curve)
        found = self.cameras.get((min(cameras), max(cameras))) if cameras is not None else None
        return values if found is None else found.shift + found.stretch * values

    def probability(
        self, similarity: Any, *, cameras: tuple[int, int] | None = None, prior: float | None = None
    ) -> np.ndarray:
        """Probability that two pictures show the same person.

        Args:
            similarity: (N,) or a number.
            cameras: as for :meth:`evidence`.
            prior: share of same-person pairs among those asked about; None takes the calibration's.

        Raises:
            ConfigError: the prior is not between 0 and 1.
        """
        return expit(self.evidence(similarity, cameras) + logit(check_prior(self.prior if prior is None else prior)))

    def threshold(self, rate: float) -> Threshold:
        """The threshold for a false-alarm rate, one of those that were calibrated.

        Raises:
            ConfigError: it was not.
        """
        for found in self.thresholds:
            if np.isclose(found.rate, rate, rtol=1e-9, atol=0):
                return found
        known = ", ".join(f"{found.rate:g}" for found in self.thresholds) or "none"
        raise ConfigError(
            f"there is no threshold for a false-alarm rate of {rate:g} (there are: {known}); calibrate with "
            f"--rates {rate:g}, on enough pictures"
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain Python types, ready for JSON."""
        return {
            "format": FORMAT,
            "curve": self.curve,
            "metric": self.metric,
            "prior": self.prior,
            "knots": np.asarray(self.knots, np.float64).tolist(),
            "cameras": [[*pair, *values] for pair, values in sorted(self.cameras.items())],
            "thresholds": [found._asdict() for found in self.thresholds],
            "quality": dict(self.quality),
            "about": dict(self.about),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Calibration:
        """Read what :meth:`to_dict` wrote, such as ``model.calibration``.

        Raises:
            CheckpointError: it is something else.
        """
        try:
            if content["format"] != FORMAT or content["curve"] not in CURVES:
                raise ValueError(f"format {content['format']!r}, curve {content['curve']!r}")
            knots = np.array(content["knots"], np.float64).reshape(-1, 2)
            if not np.isfinite(knots).all() or (np.diff(knots, axis=0) < 0).any():
                raise ValueError("knots that do not rise")
            if not len(knots) or (content["curve"] == "logistic" and len(np.unique(knots[:, 0])) != 2):
                raise ValueError(f"{len(knots)} knots")
            return cls(
                curve=content["curve"],
                knots=knots,
                prior=check_prior(content["prior"]),
                metric=content["metric"],
                cameras={(int(a), int(b)): Camera(float(c), float(d)) for a, b, c, d in content["cameras"]},
                thresholds=[Threshold(**found) for found in content["thresholds"]],
                quality=content["quality"],
                about=content["about"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"this is not a calibration that regard can read ({error}); make it again with 'regard calibrate RUN'"
            ) from error


def fit_calibration(
    pairs: PairSample,
    *,
    curve: str = "auto",
    prior: float = 0.5,
    metric: str = "cosine",
    rates: Sequence[float] = RATES,
    seed: int = 0,
) -> tuple[Calibration, Reliability]:
    """Learn what similarity says, and measure it on people left out.

    Args:
        pairs: from :func:`regard.metrics.pair_sampling.sample_pairs`.
        curve: one of ``CURVES``, or "auto".
        prior: share of same-person pairs that quality is measured at, and that is assumed later.
        metric: the distance that the similarities come from.
        rates: false-alarm rates to find thresholds for; those that need more pairs than there are, are left out.
        seed: of the split of people, and of resampling.

    Returns:
        The calibration, fitted on all people, and its reliability, where each person was left out of the fit in turn.

    Raises:
        ConfigError: an option is wrong.
        DataError: too few pairs or people, or all pairs alike.
    """
    if curve not in (*CURVES, "auto"):
        raise ConfigError(f"unknown curve {curve!r}{nearest(str(curve), CURVES)}; known: auto, {', '.join(CURVES)}")
    check_prior(prior)
    people = _check_pairs(pairs)
    folds = _folds(pairs, min(FOLDS, people // 2), seed)
    kinds = CURVES if curve == "auto" else (curve,)
    penalties = PENALTIES if pairs.cameras is not None else ()
    losses, left_out = {}, {}
    for kind in kinds:
        held = [_left_out(pairs, folds, fold, kind, penalties) for fold in range(folds.max() + 1)]
        checked = np.concatenate([rows for rows, _ in held])
        for penalty in (None, *penalties):
            evidence = np.concatenate([found[penalty] for _, found in held])
            left_out[kind, penalty] = checked, evidence
            losses[kind, penalty] = sum(
                _relative_loss(evidence, pairs.same[checked], assumed) for assumed in (prior, pairs.share)
            )
    kind, penalty = min(losses, key=lambda choice: losses[choice])
    checked, evidence = left_out[kind, penalty]
    found = reliability(
        expit(evidence + logit(prior)), pairs.same[checked], pairs.people[checked], prior=prior, seed=seed
    )
    knots = _fit(pairs, kind)
    fitted = Calibration(
        curve=kind,
        knots=knots,
        prior=prior,
        metric=metric,
        cameras=_cameras(pairs, knots, kind, penalty),
        thresholds=_thresholds(pairs, rates, seed),
        quality={name: getattr(found, name) for name in ("ece", "ece_low", "ece_high", "brier", "log_loss", "prior")},
        about={
            "people": people,
            "same_person_pairs": int(pairs.same.sum()),
            "two_person_pairs": int((~pairs.same).sum()),
            "share_of_same_person_pairs": pairs.share,
            "camera_penalty": penalty,
        },
    )
    return fitted, found


def _relative_loss(evidence: np.ndarray, same: np.ndarray, prior: float) -> float:
    """Log loss at a prior, as a share of the loss of knowing nothing but the prior."""
    nothing = log_loss(np.full(len(same), logit(prior)), same, class_weights(same, prior))
    return log_loss(evidence + logit(prior), same, class_weights(same, prior)) / nothing


def check_prior(prior: float) -> float:
    """Return the prior.

    Raises:
        ConfigError: it is not between 0 and 1.
    """
    check_kind("prior", prior, (int, float, np.floating), "a share between 0 and 1, for example 0.01")
    if not 0 < prior < 1:
        raise ConfigError(f"prior is {prior}: give the share of same-person pairs, between 0 and 1, for example 0.01")
    return float(prior)


def _check_pairs(pairs: PairSample) -> int:
    """Number of people with a pair of their own."""
    right, people = int(pairs.same.sum()), len(np.unique(pairs.people[pairs.same]))
    wrong = len(pairs.same) - right
    if right < FEWEST or wrong < FEWEST or people < _FEWEST_PEOPLE:
        raise DataError(
            f"{right} pairs of one person, {wrong} of two, {people} people: calibration needs {FEWEST} of each kind "
            f"and {_FEWEST_PEOPLE} people at least; give a larger data set"
        )
    if not np.isfinite(pairs.similarity).all():
        raise DataError("similarities hold NaN or infinite values; check the descriptors")
    if np.ptp(pairs.similarity) == 0:
        raise DataError(
            f"all {len(pairs.same):,} pairs have the similarity {pairs.similarity[0]:g}, so it tells nobody apart; "
            f"train the model first"
        )
    return people


def _folds(pairs: PairSample, count: int, seed: int) -> np.ndarray:
    """(M, 2) fold of each of the two people; those with a pair of their own are spread evenly."""
    generator = np.random.default_rng([seed, 2])
    names, codes = np.unique(pairs.people, return_inverse=True)
    known = np.isin(names, pairs.people[pairs.same])
    fold = np.empty(len(names), np.int64)
    for group in (known, ~known):
        fold[group] = generator.permutation(group.sum()) % count
    return fold[codes.reshape(pairs.people.shape)]


def _left_out(
    pairs: PairSample, folds: np.ndarray, fold: int, kind: str, penalties: Sequence[float]
) -> tuple[np.ndarray, dict[float | None, np.ndarray]]:
    """Rows of pairs of the fold's people, and their evidence by a fit without these people, for each penalty."""
    fitted = pairs.part((folds != fold).all(1))
    mask = (folds == fold).all(1)
    knots = _fit(fitted, kind)
    plain = evidence_at(knots, pairs.similarity[mask], kind)
    found: dict[float | None, np.ndarray] = {None: plain}
    if pairs.cameras is not None and fitted.cameras is not None:
        cameras = pairs.cameras[mask]
        known = evidence_at(knots, fitted.similarity, kind)
        for penalty in penalties:
            found[penalty] = apply_cameras(plain, cameras, fit_cameras(known, fitted.same, fitted.cameras, penalty))
    return np.flatnonzero(mask), found


def _fit(pairs: PairSample, kind: str) -> np.ndarray:
    """(K, 2) knots of the curve."""
    class_weights(pairs.same, 0.5)
    return (fit_isotonic if kind == "isotonic" else fit_logistic)(pairs.similarity, pairs.same)


def _cameras(pairs: PairSample, knots: np.ndarray, kind: str, penalty: float | None) -> dict[tuple[int, int], Camera]:
    """What pairs of cameras change; nothing without a penalty."""
    if penalty is None or pairs.cameras is None:
        return {}
    return fit_cameras(evidence_at(knots, pairs.similarity, kind), pairs.same, pairs.cameras, penalty)


def _thresholds(pairs: PairSample, rates: Sequence[float], seed: int) -> list[Threshold]:
    """Thresholds for the rates that can be known from so many pairs."""
    different, same = pairs.similarity[~pairs.same], pairs.similarity[pairs.same]
    known = [threshold(different, rate, same) for rate in rates if rate * (len(different) + 1) >= 1 or not 0 < rate < 1]
    return widen(known, different, pairs.people[~pairs.same], seed=seed)
