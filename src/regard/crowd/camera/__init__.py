"""Cameras: where they hang, what their light and sensors do, and what a detector makes of their pictures."""
