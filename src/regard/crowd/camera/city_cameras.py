"""The cameras of a city: where they hang, how they see, and the light they see by.

World axes: the camera stands above the origin and looks along +z; y is up and x to the left. Pictures are measured
in normalized coordinates, x to the right and y down, in multiples of the focal length. Boxes in the picture are
(left, top, right, bottom).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from regard.crowd.color import Rgb, three
from regard.crowd.knobs import Knobs
from regard.crowd.rng import Rng, cosine, sine
from regard.crowd.scene.scenes import SCENES

__all__ = ["Box", "Camera", "Light", "Sensor", "View", "hang_camera"]

Box = tuple[float, float, float, float]
N = TypeVar("N", float, np.ndarray)

PATHS = (0.0, 1.57, 0.75, -0.6, 1.2, 0.25)
"""Directions people walk in, radians from the optical axis: away, across, and between."""
SPREAD = (-1.45, -0.85, -0.28, 0.28, 0.85, 1.45)


@dataclass(frozen=True, slots=True)
class Light:
    """Light on surfaces: from everywhere, and from one side.

    Attributes:
        direction: towards the sun, (3,) of length 1.
        wrap: how far the sun's light reaches around; 0 a point, 1 the whole sky.
        ambient, sun: linear RGB strengths.
        hard: how sharp shadows are, 0 to 1.
    """

    direction: tuple[float, float, float]
    wrap: float
    ambient: Rgb
    sun: Rgb
    hard: float

    def on(self, upward: float, facing: float) -> np.ndarray:
        """Return the light on a surface by how far it looks up and towards the sun; (3,) float32."""
        return np.array([a * upward + s * facing for a, s in zip(self.ambient, self.sun)], np.float32)


@dataclass(frozen=True, slots=True)
class View:
    """A camera ``height`` meters above the ground, pitched down by the angle of which sine and cosine are given."""

    height: float
    pitch_sine: float
    pitch_cosine: float

    def project(self, x: N, y: N, z: N) -> tuple[N, N, N]:
        """Return the normalized coordinates and depth of a point in the world, or of many."""
        drop = y - self.height
        depth = z * self.pitch_cosine - drop * self.pitch_sine
        return -x / depth, -(drop * self.pitch_cosine + z * self.pitch_sine) / depth, depth


@dataclass(frozen=True, slots=True)
class Sensor:
    """From light to numbers.

    Attributes:
        exposure: factor on the light.
        balance: factors on red, green and blue.
        saturation: 0 is gray, 1 as it is.
        gamma: above 1 brighter in the middle.
        contrast: strength of an s-shaped curve.
        haze: black level.
        noise: standard deviation in the dark, of 1.
        blur: standard deviation of the optics in native pixels.
        sharpen: strength of the camera's sharpening.
        codec: step of the video's quantization, of 255.
    """

    exposure: float
    balance: Rgb
    saturation: float
    gamma: float
    contrast: float
    haze: float
    noise: float
    blur: float
    sharpen: float
    codec: float


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera and what it looks at.

    Attributes:
        city: the city's name.
        index: number from 1.
        place: number of the surroundings, which several cameras may share.
        scene: key of ``scenes.SCENES``.
        view: where it hangs.
        focal: native pixels per unit of normalized coordinates, for a picture 128 pixels high.
        path: direction people walk in, radians from the optical axis.
        near, far: distances people walk at, meters.
        sun: how much the sun shines, 0 to 1.
        sun_direction: towards it.
        ambient, sunlight, diffuse: linear RGB of the sky's light, the sun's, and the sun's behind clouds.
        sensor: from light to numbers.
        zoom: factor on the pixels that people have in the video.
        fit: how closely boxes follow the figure; 0 for boxes of the picture's shape, 1 for those of the figure's.
        marked: whether the ground has further colors and markings.
        metered: mean of the empty picture, in linear light, that a camera sets its exposure to; 0 where it does not.
    """

    city: str
    index: int
    place: int
    scene: str
    view: View
    focal: float
    path: float
    near: float
    far: float
    sun: float
    sun_direction: tuple[float, float, float]
    ambient: Rgb
    sunlight: Rgb
    diffuse: Rgb
    sensor: Sensor
    zoom: float = 1.0
    fit: float = 0.0
    marked: bool = False
    metered: float = 0.0

    @property
    def native_focal(self) -> float:
        """Return native pixels of a crop per unit of normalized coordinates, for a picture 128 pixels high."""
        return self.focal * self.zoom

    def light(self, cloud: float = 0.0) -> Light:
        """Return the light at a moment; ``cloud`` from 0 to 1 turns the sun's light into the sky's."""
        clear = 1 - cloud
        sun = three(s * clear + d for s, d in zip(self.sunlight, self.diffuse))
        ambient = three(a + 0.35 * cloud * s for a, s in zip(self.ambient, self.sunlight))
        if self.sun <= 0:
            return Light((0.0, 1.0, 0.0), 1.0, ambient, sun, 0.0)
        return Light(self.sun_direction, 0.15, ambient, sun, self.sun * clear)


def hang_camera(city: str, index: int, knobs: Knobs) -> Camera:
    """Draw camera ``index`` of a city.

    The cameras of a city share its weather and the make of its sensors; ``knobs.places`` of them have different
    surroundings. About a third hang low and see walls, cars and other people.
    """
    rng = Rng("city", city, "camera", index)
    order = Rng("city", city, "scenes").shuffled(SCENES)
    place = (index - 1) % knobs.places
    scene = order[place % len(order)]
    indoor = SCENES[scene].indoor
    low = (index + len(order[0])) % 3 == 0
    if low:
        height, pitch = rng.uniform(1.7, 2.3), rng.uniform(0.0, 0.07)
    else:
        height = rng.uniform(2.5, 3.3) if indoor else rng.uniform(2.6, 4.8)
        pitch = rng.uniform(0.10, 0.20) if indoor else rng.uniform(0.10, 0.26)
    near = max(6.0, (height - 0.9) / 0.42)
    focal = 690 + 150 * stratified(city, "focal", index)
    sun, direction, ambient, sunlight, diffuse = draw_light(rng, city, indoor=indoor)
    return Camera(
        *(city, index, place, scene, View(height, sine(pitch), cosine(pitch)), focal),
        *(PATHS[(index - 1) % 6] + rng.normal(0, 0.12), near, near + rng.uniform(3.5, 7.0)),
        *(sun, direction, ambient, sunlight, diffuse, draw_sensor(rng, city, index, knobs)),
    )


def draw_light(rng: Rng, city: str, *, indoor: bool) -> tuple[float, Rgb, Rgb, Rgb, Rgb]:
    """Draw the strength of the sun, its direction, and the colors of sky, sun and cloud."""
    weather = Rng("city", city, "weather")
    sunny, evening = weather.uniform(1, 7), weather.uniform(0, 0.5)
    azimuth, elevation = rng.uniform(0, 2 * math.pi), rng.uniform(0.5, 1.15) * (1 - 0.4 * evening)
    direction = cosine(elevation) * sine(azimuth), sine(elevation), cosine(elevation) * cosine(azimuth)
    sun = 0.0 if indoor else rng.weighted(((0.0, 4.0), (0.45, 3.0), (1.0, sunny)))
    warm = rng.normal(0, 0.05) + 0.10 * evening
    level = rng.uniform(0.75, 1.2)
    sky = (0.72, 0.69, 0.62) if indoor else (0.62, 0.66, 0.72)
    ambient = three(level * value for value in sky)
    sunlight = three(level * sun * value for value in (1.05 + warm, 0.98, 0.86 - warm))
    diffuse = three((1 - sun) * level * value for value in (0.33, 0.33, 0.33))
    return sun, direction, ambient, sunlight, diffuse


def draw_sensor(rng: Rng, city: str, index: int, knobs: Knobs) -> Sensor:
    """Draw a sensor of the city's make, with its own errors."""
    make = Rng("city", city, "sensors")
    spread = knobs.camera_spread
    tint, color, curve = 0.03 * make.normal(), 0.08 * make.normal(), 0.04 * make.normal()
    coarse, grainy = make.uniform(0.8, 1.25), make.uniform(0.8, 1.25)

    def error(what: str) -> float:
        return spread * stratified(city, what, index)

    return Sensor(
        exposure=max(0.4, 1.0 + 0.16 * error("exposure")),
        balance=(
            max(0.5, 1 + tint + 0.085 * error("red")),
            1 + spread * rng.normal(0, 0.03),
            max(0.5, 1 - tint + 0.10 * error("blue")),
        ),
        saturation=min(1.35, max(0.35, 0.95 + color + 0.17 * error("saturation"))),
        gamma=max(0.6, 1 + curve + 0.10 * error("gamma")),
        contrast=max(0.0, rng.uniform(0.0, 0.5) * spread),
        haze=max(0.0, rng.normal(0.015, 0.02) * spread),
        noise=rng.uniform(0.006, 0.020) * grainy * knobs.noise,
        blur=rng.uniform(0.35, 0.75) * knobs.blur,
        sharpen=rng.uniform(0.0, 0.7),
        codec=rng.uniform(6, 16) * coarse * knobs.codec,
    )


def stratified(city: str, what: str, index: int) -> float:
    """Return a number of mean 0 and variance 1 of which every six cameras have high, middle and low ones.

    So the difficulty of a crowd depends little on the city.
    """
    block, place = divmod(index - 1, len(SPREAD))
    order = Rng("city", city, "spread", what, block).shuffled(SPREAD)
    return order[place] + Rng("city", city, "spread", what, block, index).uniform(-0.2, 0.2)
