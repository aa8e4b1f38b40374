"""Runs: what lies in a run folder, written and read without training."""
