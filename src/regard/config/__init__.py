"""What a run is made of: the schema, and the overrides of the command line.

A recipe (:mod:`regard.recipes`) says only what differs from the defaults here. ``regard train apnet optim.lr=1e-4``
reads the recipe and then the overrides; the result is checked as a whole, every fault is reported at once with the
nearest spelling, and it is saved beside the weights, from where it reloads the run.

The options of a model or a loss are not listed here: a constructor's signature is its schema, and ``model`` and
``losses`` are checked against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from regard.config.data import DataConfig, LabelFilesConfig
from regard.config.faults import fault_in
from regard.config.network import LossConfig, ModelConfig
from regard.config.overrides import Overrides, lay_over, override, plugins_of, without_terms
from regard.config.training import EvalConfig, OptimConfig, ScheduleConfig, TrainConfig
from regard.config.values import MAX_BATCH_BYTES, OpenSection, Positive, Section, Share, SourceText, check_batch, says
from regard.config.whole import FREE, Config, is_free
from regard.errors import ConfigError
from regard.parsing import parse_yaml
from regard.plugins import load_plugins
from regard.storage import open_regular

__all__ = [
    "FREE", "MAX_BATCH_BYTES", "Config", "DataConfig", "EvalConfig", "LabelFilesConfig", "LossConfig", "ModelConfig",
    "OpenSection", "OptimConfig", "Overrides", "Positive", "ScheduleConfig", "Section", "Share", "SourceText",
    "TrainConfig", "check_batch", "describe_fault", "is_free", "lay_over", "load_config", "override", "plugins_of",
    "read_settings", "says", "without_terms",
]  # fmt: skip


def read_settings(path: Path) -> str:
    """The text of a YAML file.

    Raises:
        ConfigError: it is missing, no regular file, or no text in UTF-8.
    """
    try:
        with open_regular(path, "r", encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text in UTF-8"
        raise ConfigError(f"cannot read recipe {path}: {reason}; 'regard recipes' lists those on board") from None


def load_config(recipe: str | Mapping[str, Any], overrides: Overrides = (), source: str = "recipe") -> Config:
    """Read, override and check a configuration.

    Args:
        recipe: YAML text, or the mapping it would parse to.
        overrides: ``"optim.lr=1e-4"``: a dotted key, ``=``, a YAML value; ``"losses.center=null"`` takes a term out. Or
            values, ``{"optim": {"lr": 1e-4}, "losses.center": None}``, laid over as a recipe is over its base.
        source: what to call the recipe in error messages.

    Raises:
        PluginError: a plug-in that it names is not there, or cannot be loaded.
        ConfigError: everything that is wrong, in one message.
    """
    tree = parse_yaml(recipe, source) if isinstance(recipe, str) else recipe
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{source} holds {type(tree).__name__}, not a mapping of sections; see 'regard recipes NAME'")
    tree = without_terms(override(tree, overrides), tree, source)
    if (named := plugins_of(tree)) is not None:
        tree["plugins"] = load_plugins(named, wanted_by=source)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        faults = [describe_fault(fault) for fault in error.errors()]
        raise ConfigError(f"{source}: " + "; ".join(faults)) from None


def describe_fault(fault: Any, schema: type[BaseModel] = Config, inside: str = "") -> str:
    """One fault of pydantic's list in our words.

    Args:
        fault: an entry of ``ValidationError.errors()``.
        schema: what was validated.
        inside: the dotted place of it.
    """
    return fault_in(fault, schema, inside)
