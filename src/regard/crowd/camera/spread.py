"""Cameras that differ more than those of a city's make: where they hang, how they see, and how their boxes fit.

Every knob has a stream of its own, named after it, the city and the camera.
"""

from __future__ import annotations

import math
from dataclasses import replace

from regard.crowd.camera.city_cameras import Camera, Sensor, View, hang_camera
from regard.crowd.color import three
from regard.crowd.knobs import Knobs
from regard.crowd.rng import Rng, rounded
from regard.crowd.scene.scenes import FURTHER

__all__ = ["hang_spread"]

LARGEST_FOCAL = 900.0
"""Of a high camera: its empty picture grows with the square."""


def hang_spread(city: str, index: int, knobs: Knobs) -> Camera:
    """Draw camera ``index`` of a city as the knobs of variety have it; with these at 0 it is ``hang_camera``'s."""
    camera = hang_camera(city, index, knobs)

    def stream(knob: str) -> Rng:
        return Rng("city", city, knob, index)

    place = Rng("city", city, "scenery", camera.place)  # cameras of one place share it
    if place.chance(knobs.scenery):
        camera = replace(camera, scene=place.choice(list(FURTHER)), marked=True)
    if (rng := stream("downward")).chance(knobs.downward):
        camera = raised(camera, rng)
    if knobs.zoom_spread > 0:
        octaves = knobs.zoom_spread * stream("zoom_spread").uniform(-1, 1)
        camera = replace(camera, zoom=rounded(2.0**octaves))
    if knobs.tone_spread > 0:
        rng = stream("tone_spread")
        metered = rounded(0.26 * 2.0 ** (knobs.tone_spread * rng.uniform(-1, 1)))
        camera = replace(camera, sensor=toned(camera.sensor, rng, knobs.tone_spread), metered=metered)
    fit = stream("box_fit")
    return replace(camera, fit=fit.uniform(0.6, 1.0)) if fit.chance(knobs.box_fit) else camera


def raised(camera: Camera, rng: Rng) -> Camera:
    """Return a camera on a mast or a wall, which looks down at people from 15 to 45 degrees above them."""
    height, slope = rng.uniform(3.6, 9.0), rng.uniform(0.27, 1.0)
    away = (height - 0.9) / slope
    length = math.sqrt(1 + slope * slope)
    focal = min(LARGEST_FOCAL, rng.uniform(80, 125) * away * length / 1.6)
    view = View(height, slope / length, 1 / length)
    return replace(camera, view=view, focal=focal, near=away * rng.uniform(0.8, 0.92), far=away * rng.uniform(1.1, 1.3))


def toned(sensor: Sensor, rng: Rng, amount: float) -> Sensor:
    """Return a sensor of another make, further off the more the amount, 1 being what one meets."""
    gray = rng.chance(0.04 * amount)
    color = 1 + amount * rng.uniform(-0.4, 0.3)
    return replace(
        sensor,
        balance=three(max(0.4, b * (1 + amount * rng.normal(0, 0.05))) for b in sensor.balance),
        saturation=0.0 if gray else max(0.0, sensor.saturation * color),
        gamma=max(0.5, sensor.gamma * (1 + amount * rng.normal(0, 0.10))),
        contrast=sensor.contrast * 0.6 + amount * rng.uniform(0.0, 0.6),
        haze=sensor.haze + amount * rng.uniform(-0.09, 0.05),
        noise=sensor.noise * rounded(2.0 ** (amount * rng.uniform(-3.0, 0.8))),
        blur=sensor.blur * rounded(2.0 ** (amount * rng.uniform(-0.8, 0.8))),
        sharpen=sensor.sharpen + amount * rng.uniform(0.0, 1.2),
        codec=sensor.codec * (1 - min(1.0, amount) * rng.uniform(0.0, 0.9)),
    )
