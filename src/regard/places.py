"""Where the networks of a run lie, and what tells the folder of a run from any other that has a ``config.yaml``."""

from __future__ import annotations

from pathlib import Path

from regard.errors import ConfigError
from regard.parsing import parse_yaml
from regard.storage import read_regular

__all__ = ["EPOCHS", "SETTINGS", "is_run", "run_home"]

SETTINGS = "config.yaml"
"""File of a run with all its settings."""

EPOCHS = "epochs"
"""Folder of a run with the networks of single epochs."""

MODELS = ("final", "best")
"""Folders of a run with a network each."""

MARKS = ("metrics.jsonl", "recipe.json", "last.safetensors", "previous.safetensors")
"""Files that only a training writes beside its settings."""

SECTIONS = {"data", "model", "losses", "optim", "schedule", "train", "eval"}
"""What the settings of every run hold, whichever version wrote them."""


def is_run(folder: Path) -> bool:
    """Whether a folder is one of a run: beside its settings lies what a training writes, or they are whole.

    Many tools keep a ``config.yaml``; that of another says nothing of a network that was saved near it.
    """
    settings = folder / SETTINGS
    if not settings.is_file():
        return False
    if any((folder / name).is_file() for name in MARKS):
        return True
    try:
        tree = parse_yaml(read_regular(settings).decode(), str(settings))
    except (OSError, UnicodeDecodeError, ConfigError):
        return False
    return isinstance(tree, dict) and tree.keys() >= SECTIONS


def run_home(folder: Path) -> Path:
    """The run folder that a folder is, or is a part of; a model folder that is of no run is its own."""
    if folder.parent.name == EPOCHS:
        above = folder.parent.parent
    elif folder.name in MODELS:
        above = folder.parent
    else:
        return folder
    return above if is_run(above) else folder
