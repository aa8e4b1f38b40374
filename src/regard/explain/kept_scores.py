"""The scores of a run's explanations, in its folder: what a page that shows heat says of it, as long as it is of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regard.errors import DataError
from regard.explain.scores import ExplanationScores
from regard.models import ReIDModel
from regard.models.saved import weights_digest
from regard.parsing import parse_json
from regard.places import run_home
from regard.storage import read_regular

__all__ = ["kept_content", "read_faults", "scores_file"]

NAME = "explain_score.json"
FORMAT, VERSION = "regard-explanation-scores", 1


def scores_file(folder: Path) -> Path:
    """Where the scores of a run or a saved model are kept."""
    return run_home(folder) / NAME


def kept_content(scores: ExplanationScores, model: ReIDModel, data: str) -> dict[str, Any]:
    """What is kept: the scores, of which weights they are, and on which data."""
    return {
        "format": FORMAT, "version": VERSION, "weights": weights_digest(model), "data": data, **scores.to_dict()
    }  # fmt: skip


def read_faults(folder: Path, model: ReIDModel) -> dict[str, list[str]]:
    """Why methods fail the sanity checks on a network: method -> sentences, empty where it passes.

    Nothing is known where the folder keeps no scores, or scores of other weights.

    Raises:
        DataError: the file is there and is damaged.
    """
    path = scores_file(folder)
    if not path.is_file():
        return {}
    try:
        content = parse_json(read_regular(path))
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise ValueError(f"it is of the form {content['format']} {content['version']}")
        if content["weights"] != weights_digest(model):
            return {}
        return {name: _sentences(one["sanity"]) for name, one in content["methods"].items() if one.get("sanity")}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        told = " ".join(str(error).split())[:100]
        raise DataError(
            f"'{path}' is damaged ({told}); delete it, or write it again with 'regard explain score'"
        ) from error


def _sentences(sanity: Mapping[str, Any]) -> list[str]:
    faults = sanity["faults"]
    if not isinstance(faults, list) or not all(isinstance(one, str) for one in faults):
        raise ValueError("faults of a method are no list of text")
    return faults
