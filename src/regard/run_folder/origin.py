"""Which recipe a run came from, kept beside its settings in ``recipe.json``.

The settings of a run stand in ``config.yaml`` and decide what it is. That they are those of a published recipe, or what
differs from it, cannot be seen there; it is said by the recipe as it was when the run began.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from regard.config import Config, flat_settings, load_config
from regard.errors import CheckpointError, ConfigError, RegardError
from regard.parsing import parse_json
from regard.recipes import UNSAID, About, Recipe
from regard.storage import encode_text, read_regular, write_atomic

__all__ = ["Origin", "changed_settings", "keep_recipe", "read_origin"]

FILE = "recipe.json"


@dataclass(frozen=True)
class Origin:
    """The recipe that a run came from.

    Attributes:
        name: the recipe's.
        title: its first line.
        about: what was known of it; None where it did not say.
        changed: in what the run differs from it, each ``KEY=VALUE``, or ``without KEY``.
    """

    name: str
    title: str
    about: About | None
    changed: tuple[str, ...]

    def __str__(self) -> str:
        """Name and kind in one line, with what was changed."""
        kind = self.about.kind if self.about else UNSAID
        return f"{self.name} ({kind})" + (f", changed: {', '.join(self.changed)}" if self.changed else "")


def changed_settings(recipe: Recipe, config: Config) -> list[str]:
    """The settings that differ from the recipe's; none where the recipe alone, without overrides, is faulty."""
    try:
        return _changes(recipe.config(), config)
    except ConfigError:
        return []


def keep_recipe(folder: Path, recipe: Recipe | None) -> None:
    """Write down which recipe the run in ``folder`` came from; with None, that this is not known.

    Raises:
        StorageError: the disk refused.
    """
    if recipe is None:
        (folder / FILE).unlink(missing_ok=True)
        return
    try:
        settings = recipe.config().to_dict()
    except ConfigError:  # it can be faulty alone and whole with overrides
        settings = None
    about = recipe.about.model_dump(mode="json") if recipe.about else None
    content = {"name": recipe.name, "title": recipe.title, "about": about, "settings": settings}
    write_atomic(folder / FILE, encode_text(json.dumps(content, indent=1)))


def read_origin(folder: Path, config: Config) -> Origin | None:
    """The recipe that the run in ``folder`` came from; None where that was not kept.

    Args:
        folder: a run's.
        config: its settings.

    Raises:
        CheckpointError: what was kept cannot be read.
    """
    try:
        content = parse_json(read_regular(folder / FILE))
        about, settings = content["about"], content["settings"]
        changes = _changes(load_config(settings, source="settings"), config) if settings is not None else []
        kept = None if about is None else About.model_validate(about)
        return Origin(str(content["name"]), str(content["title"]), kept, tuple(changes))
    except FileNotFoundError:
        return None
    except (RegardError, OSError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"cannot read {folder / FILE} ({reason}); delete it, the run can do without") from None


def _changes(own: Config, config: Config) -> list[str]:
    """What differs, in the order of the settings; a loss term that is gone is named once."""
    before, after = (dict(flat_settings(settings.to_dict())) for settings in (own, config))
    gone = [f"losses.{name}" for name in own.losses if name not in config.losses]
    within = tuple(f"{name}." for name in gone)
    lost = [key for key in before if key not in after and not key.startswith(within)]
    return [
        *(f"without {key}" for key in (*gone, *lost)),
        *(
            f"{key}={value if isinstance(value, str) else json.dumps(value)}"
            for key, value in after.items()
            if key not in before or before[key] != value
        ),
    ]
