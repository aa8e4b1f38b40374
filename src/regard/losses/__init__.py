"""Losses: functions of tensors, registered under the names recipes use, and the criterion that adds them up."""

from regard.losses.criterion import Criterion, Term

__all__ = ["Criterion", "Term"]
