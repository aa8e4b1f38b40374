"""Detectors of other makers: where people are in a picture. None is part of regard, and nothing is ever downloaded."""

from __future__ import annotations

from regard.detection.detector import Detector, Finder, open_detector

__all__ = ["Detector", "Finder", "open_detector"]
