"""Whether labels can be trained on: counts, sizes, and whether left is left.

Shapes: h x w pixels of a photo.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from regard.data.image import read_image
from regard.data.labels.convert import joints_of
from regard.data.labels.facing import FACE, is_back
from regard.data.labels.joints import JOINTS
from regard.data.labels.labeled import Labels, has_label, read_labels
from regard.errors import DataError
from regard.progress import progress_bar
from regard.structures import Sample

__all__ = ["LabelReport", "check_labels"]

NOSE, LEFT_EYE, RIGHT_EYE, LEFT_SHOULDER, RIGHT_SHOULDER = 0, 1, 2, 5, 6
EXAMPLES = 5
ENOUGH = 20
"""Photos below which a share is no evidence."""


@dataclass
class LabelReport:
    """What :func:`check_labels` found.

    Attributes:
        photos: photos looked at.
        masks, keypoints: how many have a mask, and keypoints or heat maps.
        unreadable: what is wrong with files that cannot be read, a line each.
        mask_sizes, heatmap_sizes: "h x w" -> how many.
        empty_masks, full_masks: masks with nobody in them, and with nothing but the person.
        person_share: mean share of a photo that the mask covers.
        visible, hidden, absent: joints by visibility.
        outside: joints that are not absent and lie outside of the photo.
        on_mask: share of the visible joints that lie on the mask or within a twentieth of the photo's height of it;
            None without any, or without masks.
        facing: photos with nose and both eyes visible.
        facing_swapped: how many of those have left where right belongs.
        backs: photos of people whose shoulders and hips are seen from behind, and who do not look aside.
        backs_with_face: how many of those have nose or eyes visible.
    """

    photos: int = 0
    masks: int = 0
    keypoints: int = 0
    unreadable: list[str] = field(default_factory=list)
    mask_sizes: Counter[str] = field(default_factory=Counter)
    heatmap_sizes: Counter[str] = field(default_factory=Counter)
    empty_masks: int = 0
    full_masks: int = 0
    person_share: float = 0.0
    visible: int = 0
    hidden: int = 0
    absent: int = 0
    outside: int = 0
    on_mask: float | None = None
    facing: int = 0
    facing_swapped: int = 0
    backs: int = 0
    backs_with_face: int = 0

    def faults(self) -> list[str]:
        """What should be put right before training, a line each."""
        faults = list(self.unreadable[:EXAMPLES])
        if len(self.unreadable) > EXAMPLES:
            faults.append(f"{len(self.unreadable) - EXAMPLES:,} more labels that cannot be read")
        if not self.masks and not self.keypoints:
            faults.append("no photo has a label")
        for count, text in (
            (self.empty_masks, "masks have nobody in them; lower the mask threshold or remove them"),
            (self.full_masks, "masks are all person; raise the mask threshold or remove them"),
        ):
            if count > max(0.05 * self.masks, 0):
                faults.append(f"{count:,} of {self.masks:,} {text}")
        if self.facing >= ENOUGH and self.facing_swapped > 0.5 * self.facing:
            faults.append(
                f"in {self.facing_swapped:,} of {self.facing:,} photos of people who face the camera, left joints are "
                "on the person's right; swap them"
            )
        elif self.backs >= ENOUGH and self.backs_with_face > 0.5 * self.backs:
            faults.append(
                f"in {self.backs_with_face:,} of {self.backs:,} photos of people seen from behind, nose or eyes are "
                "called visible; make the labels with regard data labels make, which hides them"
            )
        if self.visible >= ENOUGH and self.on_mask is not None and self.on_mask < 0.5:
            faults.append(
                f"only {self.on_mask:.0%} of the visible joints lie on the mask; check that both belong to the photos"
            )
        return faults

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the faults among them."""
        values = {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}
        return {**values, "faults": self.faults()}

    def __str__(self) -> str:
        def sizes(counter: Counter[str]) -> str:
            return ", ".join(f"{size} ({times:,})" for size, times in counter.most_common(3)) or "none"

        joints = self.visible + self.hidden + self.absent
        rows = [
            ("photos", f"{self.photos:,}"),
            ("with mask", f"{self.masks:,}"),
            ("with keypoints", f"{self.keypoints:,}"),
            ("unreadable", f"{len(self.unreadable):,}"),
            ("mask sizes", sizes(self.mask_sizes)),
            (
                "person in the mask",
                f"{self.person_share:.1%} of the photo; {self.empty_masks:,} empty" if self.masks else "no mask",
            ),
            ("heat-map sizes", sizes(self.heatmap_sizes)),
            ("joints", f"{joints:,}: {self.visible:,} visible, {self.hidden:,} hidden, {self.absent:,} absent"),
            ("outside the photo", f"{self.outside:,}"),
            ("visible joints on the mask", "none to tell by" if self.on_mask is None else f"{self.on_mask:.1%}"),
            (
                "backs",
                f"{self.backs:,} people seen from behind, {self.backs_with_face:,} with a visible face"
                f" ({self.backs_with_face / max(self.backs, 1):.0%})",
            ),
            ("left and right", f"{self.facing:,} people face the camera, {self.facing_swapped:,} mirrored"),
        ]
        return "\n".join(f"{name:<28}{value}" for name, value in rows)


def check_labels(samples: Sequence[Sample], *, progress: bool = False) -> LabelReport:
    """Read the labels of every sample and count.

    Args:
        samples: with labels attached.
        progress: show a bar.
    """
    report, shares, hits = LabelReport(), [], []
    for sample in progress_bar(samples, "check", unit="photo", quiet=not progress, leave=True):
        report.photos += 1
        if not has_label(sample, "mask") and not has_label(sample, "keypoints"):
            continue
        try:
            labels, size = read_labels(sample), read_image(sample.path).shape[:2]
        except DataError as error:
            report.unreadable.append(str(error))
            continue
        if labels.mask is not None:
            shares.append(share := float((labels.mask > 0).mean()))
            report.masks += 1
            report.mask_sizes[f"{labels.mask.shape[0]} x {labels.mask.shape[1]}"] += 1
            report.empty_masks += share == 0
            report.full_masks += share == 1
        joints = joints_of(labels, size)
        if joints is not None:
            count_joints(report, labels, joints, size)
            if labels.mask is not None:
                hits += near_mask(labels.mask, joints, size)
    report.person_share = float(np.mean(shares)) if shares else 0.0
    report.on_mask = float(np.mean(hits)) if hits else None
    return report


def count_joints(report: LabelReport, labels: Labels, joints: np.ndarray, size: tuple[int, int]) -> None:
    """Add the (17, 4) joints of a photo of h x w to the report."""
    height, width = size
    report.keypoints += 1
    if labels.heatmaps is not None:
        report.heatmap_sizes[f"{labels.heatmaps.shape[1]} x {labels.heatmaps.shape[2]}"] += 1
    visibility = joints[:, 2]
    report.visible += int((visibility >= 2).sum())
    report.hidden += int(((visibility > 0) & (visibility < 2)).sum())
    report.absent += len(JOINTS) - int((visibility > 0).sum())
    x, y = joints[:, 0], joints[:, 1]
    beyond = (x < -0.5) | (y < -0.5) | (x > width - 0.5) | (y > height - 0.5)
    report.outside += int((beyond & (visibility > 0)).sum())
    if (visibility[[NOSE, LEFT_EYE, RIGHT_EYE, LEFT_SHOULDER, RIGHT_SHOULDER]] >= 2).all():
        report.facing += 1
        report.facing_swapped += bool(x[LEFT_SHOULDER] < x[RIGHT_SHOULDER])
    if is_back(joints[:, :2], visibility > 0):
        report.backs += 1
        report.backs_with_face += bool((visibility[FACE] >= 2).any())


def near_mask(mask: np.ndarray, joints: np.ndarray, size: tuple[int, int]) -> list[bool]:
    """For each visible joint inside a photo of h x w, whether the mask has somebody near it."""
    scale = mask.shape[0] / size[0], mask.shape[1] / size[1]
    reach = max(1, round(mask.shape[0] / 20))
    hits = []
    for x, y, visibility, _ in joints:
        row, column = int((y + 0.5) * scale[0]), int((x + 0.5) * scale[1])
        if visibility >= 2 and 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]:
            around = mask[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
            hits.append(bool(around.any()))
    return hits
