"""Evaluation: descriptors of pictures, runs scored on data sets, compared, calibrated and verified."""
