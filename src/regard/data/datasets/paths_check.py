"""Whether splits can be trained on and evaluated.

:func:`check_splits` raises on what no run survives. The other functions only report, and leave the choice to the
caller: queries that evaluation will skip, identities on both sides of the split, counts that differ from the
published ones.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from regard.errors import DataError
from regard.structures import DISTRACTOR, JUNK, Sample, Splits

__all__ = ["Counts", "check_splits", "count", "count_differences", "shared_ids", "unmatched_queries"]


class Counts(NamedTuple):
    """Sizes of the three splits; ``gallery_images`` includes distractors and junk."""

    train_images: int
    train_ids: int
    query_images: int
    query_ids: int
    gallery_images: int
    distractors: int
    junk: int


def check_splits(splits: Splits, *, test_only: bool = False) -> None:
    """Check that there is something to train on and to evaluate.

    Args:
        splits: what a data set read.
        test_only: nothing to train on is expected.

    Raises:
        DataError: a split is empty, an image to train on or to search for shows nobody in particular (junk or
            distractor), or there is only one identity to train on.
    """
    for split in ("query", "gallery") if test_only else ("train", "query", "gallery"):
        if not getattr(splits, split):
            raise DataError(
                f"{splits.name} in '{splits.root}' has an empty {split} split, expected at least one image; "
                "unpack or make the data set again"
            )
    for split in ("train", "query"):
        nobody = next((sample for sample in getattr(splits, split) if sample.pid <= DISTRACTOR), None)
        if nobody is not None:
            raise DataError(
                f"'{nobody.path}' has pid {nobody.pid}, which marks a distractor (0) or junk (-1) and belongs in the "
                f"gallery, not in {split}; move the file or give it a pid from 1 up"
            )
    if not test_only and splits.num_ids < 2:
        raise DataError(
            f"{splits.name} in '{splits.root}' has a single training identity, expected at least 2; "
            "check the first number of the file names"
        )


def unmatched_queries(splits: Splits) -> list[Sample]:
    """Queries whose person no other camera of the gallery has seen; evaluation skips them."""
    cameras: defaultdict[int, set[int]] = defaultdict(set)
    for sample in splits.gallery:
        cameras[sample.pid].add(sample.camid)
    return [query for query in splits.query if not cameras[query.pid] - {query.camid}]


def shared_ids(splits: Splits) -> list[int]:
    """Identities both trained on and searched for, sorted; empty in every published protocol."""
    return sorted({sample.pid for sample in splits.train} & {sample.pid for sample in splits.query})


def count(splits: Splits) -> Counts:
    """Images and identities of each split."""
    return Counts(
        train_images=len(splits.train),
        train_ids=splits.num_ids,
        query_images=len(splits.query),
        query_ids=len({sample.pid for sample in splits.query}),
        gallery_images=len(splits.gallery),
        distractors=sum(sample.pid == DISTRACTOR for sample in splits.gallery),
        junk=sum(sample.pid == JUNK for sample in splits.gallery),
    )


def count_differences(splits: Splits, published: Counts) -> list[str]:
    """One line for every count that is not the published one: ``"query images: 3,367 found, 3,368 published"``."""
    return [
        f"{name.replace('_', ' ')}: {found:,} found, {expected:,} published"
        for name, found, expected in zip(Counts._fields, count(splits), published)
        if found != expected
    ]
