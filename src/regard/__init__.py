"""regard: person re-identification with attention.

>>> import regard
>>> model = regard.create_model("apnet", num_ids=751, backbone="test_resnet.r160_in1k")
>>> model.embed_dim
96

Importing this package imports nothing heavy; each name below is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regard.lazy import lazily

if TYPE_CHECKING:
    from regard.data import load_dataset
    from regard.engine.run import train
    from regard.errors import RegardError
    from regard.evaluation.run import Run, open_run
    from regard.evaluation.verify import compare, verify
    from regard.gallery import Gallery
    from regard.input_spec import InputSpec
    from regard.metrics import FeatureSet, evaluate_ranking, rank
    from regard.models import ReIDModel, create_model, import_released, load
    from regard.recipes import list_recipes
    from regard.registry import list_datasets, list_models
    from regard.structures import Batch, Output, Ranking, Sample, Splits
    from regard.version import __version__

_HOME = {
    "Batch": "regard.structures",
    "FeatureSet": "regard.metrics",
    "Gallery": "regard.gallery",
    "InputSpec": "regard.input_spec",
    "Output": "regard.structures",
    "Ranking": "regard.structures",
    "ReIDModel": "regard.models",
    "RegardError": "regard.errors",
    "Run": "regard.evaluation.run",
    "Sample": "regard.structures",
    "Splits": "regard.structures",
    "compare": "regard.evaluation.verify",
    "create_model": "regard.models",
    "evaluate_ranking": "regard.metrics",
    "import_released": "regard.models",
    "list_datasets": "regard.registry",
    "list_models": "regard.registry",
    "list_recipes": "regard.recipes",
    "load": "regard.models",
    "load_dataset": "regard.data",
    "open_run": "regard.evaluation.run",
    "rank": "regard.metrics",
    "verify": "regard.evaluation.verify",
    "train": "regard.engine.run",
    "__version__": "regard.version",
}

__all__ = [
    "Batch",
    "FeatureSet",
    "Gallery",
    "InputSpec",
    "Output",
    "Ranking",
    "ReIDModel",
    "RegardError",
    "Run",
    "Sample",
    "Splits",
    "__version__",
    "compare",
    "create_model",
    "evaluate_ranking",
    "import_released",
    "list_datasets",
    "list_models",
    "list_recipes",
    "load",
    "load_dataset",
    "open_run",
    "rank",
    "train",
    "verify",
]

__getattr__, __dir__ = lazily(__name__, _HOME)
