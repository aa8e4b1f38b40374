"""Robustness: how far descriptors hold when pictures get worse."""
