"""Ablations: a plan of trainings that differ in what is varied, run side by side, and the one table that they make.

:mod:`~regard.ablation.plan` reads and checks, :mod:`~regard.ablation.running` trains,
:mod:`~regard.ablation.outcome` is what came out, and :func:`~regard.ablation.ablate.ablate` does all of it.
"""
