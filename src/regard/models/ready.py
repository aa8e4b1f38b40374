"""Networks that come with regard, ready without a training: ``regard-s`` stands for a folder in the package.

A ready network is a model folder as :meth:`regard.models.ReIDModel.save` writes them, and ``ready.json`` beside it:
what it was trained on and how it did, for whoever uses it without having asked for it. What is computed from one, such
as its exports, is kept in the user's cache and never in the package.
"""

from __future__ import annotations

import os
from pathlib import Path

from regard.errors import CheckpointError, StorageError
from regard.parsing import parse_json
from regard.storage import read_regular

__all__ = ["DEFAULT", "about_ready", "cache_of_ready", "ready_folder", "ready_name", "ready_names"]

PLACE = Path(__file__).parents[1] / "ready"

DEFAULT = "regard-s"
"""What embeds where no model is named."""

ABOUT = "ready.json"
SAID = ("trained_on", "scores", "licence")


def ready_names() -> list[str]:
    """Return the names of the networks that come with this installation."""
    return sorted(folder.name for folder in PLACE.glob("*") if (folder / ABOUT).is_file())


def ready_folder(path: Path) -> Path | None:
    """Return the folder of the ready network that a name stands for; None where it is no such name.

    Args:
        path: as somebody gave it; whoever asks looks for a folder of that name first.
    """
    return PLACE / path if path.name == str(path) and path.name in ready_names() else None


def ready_name(folder: Path) -> str | None:
    """Return the name that a folder of a ready network is known by; None of any other folder."""
    return folder.name if folder.absolute().parent == PLACE.absolute() else None


def about_ready(name: str) -> str:
    """Say in a line what a ready network was trained on, how it did, and its licence.

    Raises:
        CheckpointError: it does not come with this installation, or says nothing.
    """
    path = PLACE / name / ABOUT
    if name not in ready_names():
        known = ", ".join(ready_names()) or "none"
        raise CheckpointError(f"{name} does not come with this installation (there: {known}); give --model FOLDER")
    try:
        told = parse_json(read_regular(path))
        trained, scores, licence = (str(told[key]) for key in SAID)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); install regard again") from error
    return f"{name}: trained on {trained}; {scores}; {licence}"


def cache_of_ready(name: str) -> Path:
    """Return the folder in the user's cache for what is computed from a ready network, such as its exports.

    Raises:
        StorageError: the user has no home.
    """
    variable = "LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME"
    try:
        home = Path(os.environ.get(variable) or Path.home() / ".cache")
    except RuntimeError as error:
        raise StorageError(f"the user has no home for what is made of {name}; name a folder in {variable}") from error
    return home / "regard" / "ready" / name
