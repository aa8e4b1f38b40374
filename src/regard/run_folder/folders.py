"""Where things lie in a run folder."""

from __future__ import annotations

from pathlib import Path

from regard.config import Config, load_config, read_settings

__all__ = ["own_config", "run_home"]

EPOCHS = "epochs"
"""Folder of a run with the networks of single epochs."""


def run_home(folder: Path) -> Path:
    """The run folder that a folder is, or is a part of; a model folder is its own."""
    above = folder.parent.parent if folder.parent.name == EPOCHS else folder.parent
    inside = (above != folder.parent or folder.name in ("final", "best")) and (above / "config.yaml").is_file()
    return above if inside else folder


def own_config(folder: Path) -> Config | None:
    """The configuration a run was trained with; None for the folder of a model alone."""
    settings = run_home(folder) / "config.yaml"
    return load_config(read_settings(settings), source=str(settings)) if settings.is_file() else None
