"""Calibration: what a similarity says, and how far its probabilities can be trusted. Arrays in, numbers out."""
