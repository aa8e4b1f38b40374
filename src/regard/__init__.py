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
    from regard.integrations import Encoder
    from regard.metrics import FeatureSet, evaluate_ranking, rank
    from regard.models import ReIDModel, create_model, from_hub, import_released, load
    from regard.recipes import list_recipes
    from regard.registry import list_datasets, list_models
    from regard.structures import Batch, Output, Ranking, Sample, Splits
    from regard.version import __version__

_HOME = {
    name: home
    for home, names in {
        "regard.data": "load_dataset",
        "regard.engine.run": "train",
        "regard.errors": "RegardError",
        "regard.evaluation.run": "Run open_run",
        "regard.evaluation.verify": "compare verify",
        "regard.gallery": "Gallery",
        "regard.input_spec": "InputSpec",
        "regard.integrations": "Encoder",
        "regard.metrics": "FeatureSet evaluate_ranking rank",
        "regard.models": "ReIDModel create_model from_hub import_released load",
        "regard.recipes": "list_recipes",
        "regard.registry": "list_datasets list_models",
        "regard.structures": "Batch Output Ranking Sample Splits",
        "regard.version": "__version__",
    }.items()
    for name in names.split()
}

__all__ = [
    "Batch", "Encoder", "FeatureSet", "Gallery", "InputSpec", "Output", "Ranking", "ReIDModel", "RegardError", "Run",
    "Sample", "Splits", "__version__", "compare", "create_model", "evaluate_ranking", "from_hub", "import_released",
    "list_datasets", "list_models", "list_recipes", "load", "load_dataset", "open_run", "rank", "train", "verify",
]  # fmt: skip

__getattr__, __dir__ = lazily(__name__, _HOME)
