"""A walking body reduced to bones: where the joints are and which way every bone faces.

Shapes: F frames. Points and directions are (3, F) in the person's own frame: x to their left, y up, z ahead, the
origin on the ground between the feet, meters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from regard.crowd.body.geometry import axis, tilt, turn, unit
from regard.crowd.identity_types import Identity
from regard.crowd.rng import cos, sin

__all__ = ["Limb", "Motion", "Skeleton", "pose_skeleton"]

HIP = 0.53
"""Height of the hip joints as a share of the body's."""
SIDES = {"left": 1, "right": -1}

HANDS = {
    "carry": (None, 0.12, 0.14, 0.05),
    "pocket": (-0.22, 0.75, 0.30, 0.35),
    "phone": (0.55, 1.65, 0.18, 0.45),
    "call": (0.75, 2.35, 0.35, 0.15),
    "behind": (-0.38, 0.55, 0.22, 0.75),
    "strap": (0.15, 2.15, 0.25, 0.35),
    "folded": (0.32, 1.75, 0.14, 0.95),
    "front": (0.22, 0.95, 0.10, 0.70),
    "hold": (0.08, 1.40, 0.10, 0.10),
    "hips": (-0.35, 1.35, 0.70, 1.35),
    "point": (1.25, 0.20, 0.16, 0.0),
    "pull": (-0.45, 0.12, 0.20, 0.02),
}
"""Arms that do not swing: shoulder angle (None: a third of the swing), elbow, spread, and how far the hand turns in."""

LOADED = {"handbag": "carry", "tote": "carry", "duffel": "carry", "paper": "hold", "trolley": "pull"}
"""What the hand with a bag does."""


@dataclass(frozen=True, slots=True)
class Motion:
    """F frames of walking, each field (F,).

    Attributes:
        phase: of the step, radians.
        stride: length of the steps as a factor; near 0 the person stands.
        head_turn, head_nod: radians to the left and down.
        lean: forward, radians.
        arms: what the hands do, one of ``wardrobe.ARMS``.
        hand: which hand does it, -1 right, 1 left.
        both: whether both hands go into the pockets.
    """

    phase: np.ndarray
    stride: np.ndarray
    head_turn: np.ndarray
    head_nod: np.ndarray
    lean: np.ndarray
    arms: np.ndarray
    hand: np.ndarray
    both: np.ndarray

    @property
    def frames(self) -> int:
        """Return F."""
        return len(self.phase)


@dataclass(slots=True)
class Limb:
    """Joints of a leg or an arm, the fronts of its two bones, and where the foot or the forearm points."""

    start: np.ndarray
    joint: np.ndarray
    end: np.ndarray
    upper_front: np.ndarray
    lower_front: np.ndarray
    tip: np.ndarray


@dataclass(slots=True)
class Skeleton:
    """Joints and directions of the body.

    Attributes:
        hip: middle of the hips.
        up, front: of the spine.
        twist: (F,) of the chest against the hips, radians.
        chest_left, chest_front: of the chest.
        legs, arms: by ``"left"`` and ``"right"``.
        neck: its base.
        head: middle of the skull.
        head_left, head_up, head_front: of the skull.
        head_radius: meters.
    """

    hip: np.ndarray
    up: np.ndarray
    front: np.ndarray
    twist: np.ndarray
    chest_left: np.ndarray
    chest_front: np.ndarray
    legs: dict[str, Limb]
    arms: dict[str, Limb]
    neck: np.ndarray
    head: np.ndarray
    head_left: np.ndarray
    head_up: np.ndarray
    head_front: np.ndarray
    head_radius: float

    def joints(self, height: float) -> np.ndarray:
        """Return the COCO-17 joints; (3, 17, F)."""
        face = [(0, -0.12, 0.86), (0.27, 0.12, 0.72), (-0.27, 0.12, 0.72), (0.60, 0, -0.05), (-0.60, 0, -0.05)]
        radius = self.head_radius
        points = [
            self.head + radius * (x * self.head_left + y * self.head_up + z * self.head_front) for x, y, z in face
        ]
        points += [arm.start - 0.008 * height * self.up for arm in self.arms.values()]
        places = ((self.arms, "joint"), (self.arms, "end"), *((self.legs, name) for name in ("start", "joint", "end")))
        points += [getattr(limb, name) for limbs, name in places for limb in limbs.values()]
        return np.stack(points, axis=1)


def pose_skeleton(person: Identity, motion: Motion) -> Skeleton:
    """Return the bones of a person in F frames of walking, the lower foot on the ground."""
    build, height = person.build, person.build.height
    lean = person.gait.lean + motion.lean
    twist = 0.16 * motion.stride * sin(motion.phase)
    up, front = tilt(lean, axis(0, 1, 0)), tilt(lean, axis(0, 0, 1))
    hip = np.repeat(axis(0, HIP * height * build.leg, 0), motion.frames, axis=1)
    legs = {side: pose_leg(person, motion, hip, sign) for side, sign in SIDES.items()}
    drop = ground_gap(person, legs)
    hip = hip - drop
    for leg in legs.values():
        leg.start, leg.joint, leg.end = leg.start - drop, leg.joint - drop, leg.end - drop
    left = axis(1, 0, 0)
    chest_left = cos(twist) * left - sin(twist) * front
    chest_front = cos(twist) * front + sin(twist) * left
    chest, directions = hip + (0.815 - HIP) * height * up + 0.006 * height * front, (chest_left, up, chest_front)
    arms = {side: pose_arm(person, motion, chest, directions, sign) for side, sign in SIDES.items()}
    neck = hip + (0.845 - HIP) * height * up + 0.012 * height * front
    nod, yaw = motion.head_nod + 0.6 * lean, motion.head_turn + 0.5 * twist
    head_left, head_up, head_front = (turn(yaw, tilt(nod, axis(*v))) for v in ((1, 0, 0), (0, 1, 0), (0, 0, 1)))
    head = neck + height * (0.026 * up + 0.059 * build.head * head_up + 0.010 * head_front)
    return Skeleton(
        *(hip, up, front, twist, chest_left, chest_front, legs, arms),
        *(neck, head, head_left, head_up, head_front, 0.0715 * height * build.head),
    )


def pose_leg(person: Identity, motion: Motion, hip: np.ndarray, side: int) -> Limb:
    """Return a leg before the body is put on the ground."""
    gait, build = person.gait, person.build
    bone = build.height * build.leg
    phase = motion.phase + (0.0 if side > 0 else math.pi)
    stride, step = motion.stride, cos(phase)
    thigh = gait.stride * stride * sin(phase) + 0.05 * stride
    swing = np.maximum(0.0, cos(phase + 0.35))
    bend = 0.07 + 0.10 * stride * np.maximum(0.0, -step) + 0.80 * stride * swing**2 * (0.6 + 0.4 * gait.stride / 0.44)
    shank = thigh - bend
    joint = hip + side * 0.052 * build.height * build.hip * axis(1, 0, 0)
    joint = joint - side * 0.02 * stride * sin(motion.phase) * axis(0, 0, 1)
    spread = side * 0.018 * gait.width
    knee = joint + 0.245 * bone * unit(direction(spread, thigh))
    ankle = knee + 0.246 * bone * unit(direction(spread * 0.3, shank))
    planted, lifted = np.minimum(0.0, shank * 0.9 + 0.10), np.minimum(0.12, shank * 0.75 + 0.08)
    pitch = np.where(step < 0, planted, lifted)
    foot = turn(np.full(motion.frames, side * gait.toe), ahead(pitch))
    return Limb(joint, knee, ankle, ahead(thigh), ahead(shank), foot)


def direction(sideways: float, angle: np.ndarray) -> np.ndarray:
    """Return the direction down, swung forward by an angle, and a little to the side."""
    return np.stack([np.full(angle.shape, sideways), -cos(angle), sin(angle)])


def ahead(angle: np.ndarray) -> np.ndarray:
    """Return the direction forward, tipped up by an angle."""
    return np.stack([np.zeros(angle.shape), sin(angle), cos(angle)])


def ground_gap(person: Identity, legs: dict[str, Limb]) -> np.ndarray:
    """Return the way that the body has to come down for the lower foot to stand; (3, F)."""
    sole = 0.07 if person.shoes.kind == "boot" else 0.062
    lowest = [np.minimum(leg.end[1], (leg.end + 0.16 * leg.tip)[1] + 0.03) for leg in legs.values()]
    return (np.minimum(*lowest) - sole) * axis(0, 1, 0)


def pose_arm(
    person: Identity, motion: Motion, chest: np.ndarray, directions: tuple[np.ndarray, ...], side: int
) -> Limb:
    """Return an arm that swings or does something else; the chest's directions are left, up and front."""
    left, up, front = directions
    build, height = person.build, person.build.height
    angle, elbow, spread, inward, behind = arm_angles(person, motion, side)
    reach = 0.1015 * height * build.shoulder * (1 + 0.35 * (build.width - 1))
    shoulder = chest + side * reach * left
    out = sin(spread)
    upper = unit(side * out * left + cos(spread) * (sin(angle) * front - cos(angle) * up))
    lower_angle = angle + elbow
    swing = sin(lower_angle) * front - cos(lower_angle) * up
    forearm = side * (out - inward * np.minimum(1.0, elbow)) * left + cos(spread) * swing
    forearm = unit(np.where(behind, -0.75 * side * left - 0.6 * up - 0.28 * front, forearm))
    joint = shoulder + 0.172 * height * upper
    wrist = joint + 0.148 * height * forearm
    upper_front = cos(angle) * front + sin(angle) * up
    fore_front = cos(lower_angle) * front + sin(lower_angle) * up
    return Limb(shoulder, joint, wrist, upper_front, fore_front, forearm)


def arm_angles(person: Identity, motion: Motion, side: int) -> tuple[np.ndarray, ...]:
    """Return shoulder angle, elbow, spread, inward turn, and whether the hand is behind the back; each (F,)."""
    gait = person.gait
    swing = sin(motion.phase + (math.pi if side > 0 else 0.0))
    angle = gait.arm * motion.stride * swing + 0.02
    elbow = gait.elbow + 0.25 * motion.stride * np.maximum(0.0, swing)
    spread = np.full(motion.frames, gait.spread + 0.02 * person.top.loose)
    inward = np.full(motion.frames, 0.10)
    doing = [hand_does(person, motion, side, frame) for frame in range(motion.frames)]
    for frame, activity in enumerate(doing):
        if activity in HANDS:
            fixed, elbow[frame], spread[frame], inward[frame] = HANDS[activity]
            angle[frame] = angle[frame] * 0.3 if fixed is None else fixed
    return angle, elbow, spread, inward, np.array([activity == "behind" for activity in doing])


def hand_does(person: Identity, motion: Motion, side: int, frame: int) -> str:
    """Return what each hand is at: a key of ``HANDS`` or ``"swing"``."""
    if person.bag.kind in LOADED and person.bag.side == side:
        return LOADED[person.bag.kind]
    activity = motion.arms[frame]
    mine = motion.hand[frame] == side
    if activity in ("behind", "folded", "front") or mine or (activity == "pocket" and motion.both[frame]):
        return activity
    return "swing"
