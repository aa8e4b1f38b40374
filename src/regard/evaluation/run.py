"""A run or a saved model, opened: its settings, network, data, descriptors and figures, each made when asked for.

>>> run = regard.open_run("runs/apnet_crowd")                                               # doctest: +SKIP
>>> run.report().mAP, len(run.features("gallery"))                                          # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from regard.config import Config, load_config
from regard.data.image import Picture
from regard.data.transforms import network_input
from regard.errors import ConfigError, DataError, check_choice, check_kind
from regard.evaluation.embed import SplitName, embed_split, run_input, run_options
from regard.evaluation.facts import gather_facts
from regard.evaluation.scoring import score_features, with_options
from regard.fingerprint import samples_digest
from regard.input_spec import InputSpec, known_input
from regard.metrics import FeatureSet, RankingReport
from regard.models import ReIDModel, load
from regard.models.checked import weight_of
from regard.models.cost import Cost, inference_cost
from regard.models.folder import MODEL_WANTED, model_folder, saved_input
from regard.models.model_card import Facts
from regard.models.saved import model_config, saved_system, was_imported, weights_digest
from regard.places import run_home
from regard.run_folder.folders import own_config
from regard.run_folder.opened_data import open_data, tested_on
from regard.run_folder.origin import recipe_for
from regard.runtime.fabric import Runtime
from regard.storage import as_path, check_text, plain_text
from regard.structures import Splits
from regard.wording import distinct, file_name

__all__ = ["Run", "fingerprint", "open_run", "open_runs", "run_labels"]


@dataclass(eq=False, repr=False)
class Run:
    """An opened run folder or model folder; see :func:`open_run`.

    Attributes:
        folder: as it was given.
        label: what the run is called.
        config: the settings it is scored by.
        own: those it was trained with; None for a model without a run.
        quiet: no progress bars.
    """

    folder: Path
    label: str
    config: Config
    own: Config | None = None
    quiet: bool = False
    _features: dict[str, FeatureSet] = field(default_factory=dict, init=False, repr=False)
    _report: RankingReport | None = field(default=None, init=False, repr=False)

    def __fspath__(self) -> str:
        """Return the folder, so that a run stands for it wherever a path is taken."""
        return str(self.folder)

    def __repr__(self) -> str:
        """What it is called, where it lies, and what it is scored on."""
        splits, data = vars(self).get("splits"), self.config.data
        named = " in ".join(str(each) for each in (data.name, data.root) if each is not None)
        shown = str(splits) if splits else named or None
        return f"Run({self.label!r}, folder={str(self.folder)!r}, data={shown!r})"

    @classmethod
    def of(cls, model: ReIDModel, splits: Splits, config: Config, label: str = "", *, quiet: bool = False) -> Run:
        """A network in memory, to be scored on a data set by some settings."""
        run = cls(Path(), label, config, quiet=quiet)
        run.model, run.splits = model.to(run.runtime.device), splits
        return run

    @cached_property
    def runtime(self) -> Runtime:
        """Where it is computed: the best device here, in the processes that are there."""
        return Runtime.for_scoring(self.config)

    @cached_property
    def model(self) -> ReIDModel:
        """The network, on its device."""
        return load(self.folder).to(self.runtime.device)

    @cached_property
    def splits(self) -> Splits:
        """The data set it is scored on.

        Raises:
            ConfigError: nothing says which.
            DataError: it is not there or not complete.
        """
        self.check_data()
        return open_data(self.config, self.runtime, quiet=self.quiet)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of what it is scored on: equal for runs that can be compared query by query."""
        return fingerprint(self.splits)

    @cached_property
    def cost(self) -> Cost | None:
        """What one picture costs; None of a network of another maker, whose file does not tell."""
        return inference_cost(self.model, *self.input.size) if self.model.cost_known else None

    @cached_property
    def input(self) -> InputSpec:
        """What the network is shown: size, resampling, centering of pixels, mirrored averaging."""
        network = vars(self).get("model")
        return run_input(self.config, network.input if network else saved_input(model_folder(self.folder)))

    @property
    def system(self) -> str:
        """Name of the model."""
        return str(model_config(self.model)["model"])

    def features(self, split: SplitName) -> FeatureSet:
        """Descriptors of the "query", the "gallery" or the pictures to "train" on.

        Raises:
            ConfigError: there is no such split, or nothing says which data set.
            DataError: the data set is not there, or the split is empty.
        """
        check_choice("split", split, SplitName)
        if split not in self._features:
            self._features[split] = embed_split(
                self.model, self.splits, split, self.config, self.runtime, quiet=self.quiet
            )
        return self._features[split]

    def report(self) -> RankingReport:
        """The figures of query and gallery by its settings, with what was chosen where toolkits differ.

        Raises:
            ConfigError: nothing says which data set, or options do not go together.
            DataError: the data set is not there, a split is empty, or no query has a match.
        """
        if self._report is None:
            report = score_features(self.features("query"), self.features("gallery"), self.config.eval, self.splits)
            self._report = with_options(report, run_options(self.config, self.runtime))
        return self._report

    def facts(self, model: ReIDModel | None = None) -> Facts:
        """What a card on a hub says of the run's model: data sets, recipe, scores with intervals.

        Args:
            model: the one that is uploaded; None: the run's.

        Raises:
            ConfigError: it has other weights than the run's.
        """
        if model is not None and weights_digest(model) != weights_digest(self.model):
            raise ConfigError(f"the run {self.label} is of other weights than the model; give the run that it is of")
        return gather_facts(self)  # pyright: ignore[reportArgumentType]  (a cached property)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the run's model with a card that says what the run knows: ``run.model.push_to_hub(..., run=run)``."""
        return self.model.push_to_hub(repo_id, run=self, **options)

    def on(self, splits: Splits) -> Run:
        """The same network and settings on another data set that was read."""
        other = Run.of(self.model, splits, self.config, self.label, quiet=self.quiet)
        other.folder, other.own, other.runtime = self.folder, self.own, self.runtime
        return other

    def batch(self, pictures: Sequence[Picture]) -> Tensor:
        """Pictures as the network takes them, (B, 3, H, W).

        Raises:
            DataError: there is none, one is given alone, or one cannot be read.
        """
        alone = isinstance(pictures, str | bytes | PathLike) or not isinstance(pictures, Iterable)
        pictures = [] if alone else list(pictures)
        if not pictures:
            given = "no list" if alone else "empty"
            raise DataError(f"pictures is {given}, wanted a list of at least one picture: run.batch([PICTURE])")
        return network_input(pictures, self.input, weight_of(self.model).device)

    def check_data(self) -> None:
        """Raise ConfigError where nothing says which data set to score on."""
        if self.own is None and self.config.data.name is None and self.config.data.root is None:
            raise ConfigError(f"{self.folder} is a model without a run, so it names no data set; say --root FOLDER")

    def release(self) -> None:
        """Let go of the network and the descriptors; what needs them again makes them again."""
        self._features.clear()
        vars(self).pop("model", None)


def open_run(
    folder: str | PathLike[str],
    name: str | None = None,
    root: str | PathLike[str] | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    size: tuple[int, int] | None = None,
    label: str | None = None,
    quiet: bool = False,
) -> Run:
    """Open a run or a saved model; nothing is loaded or computed before it is asked for.

    Args:
        folder: run folder (or a model folder in it), or the folder of a model alone, whose settings are those of its
            system's recipe for Market-1501, with pictures of the size the model was saved with.
        name, root: data set to score on, as :func:`regard.data.sources.find_source` reads it; both None takes the
            run's own, and a name alone is looked for where that lies.
        changes: settings of the ``eval`` section that differ. What then leaves the precision open means fp32 for a
            model without a run, and for one that was imported.
        size: height and width of the network's input, where they differ.
        label: what the run is called; None takes the folder's name.
        quiet: no progress bars.

    Raises:
        CheckpointError: no such run and no such model.
        ConfigError: a setting is wrong.
    """
    folder = as_path("folder", folder, MODEL_WANTED)
    root = None if root is None else as_path("root", root, "the folder of a data set, or None")
    check_text(folder)
    check_kind("changes", changes, (Mapping, type(None)), 'settings of the eval section: {"rerank": True}')
    place, own = model_folder(folder), own_config(folder)
    tree = (own or recipe_for(saved_system(place)).config()).to_dict()
    data, seen = tree["data"], known_input(saved_input(place), size, folder)
    data |= {key: getattr(seen, key) for key in ("height", "width", "interpolation")}
    tree["eval"] |= {"flip": seen.flip, **(changes or {})}
    if tree["eval"]["precision"] == "auto" and (own is None or was_imported(place)):
        tree["eval"]["precision"] = "fp32"
    data["name"] = name if name or root or own is None else tested_on(own)
    data["root"] = str(root) if root else None if own is None else data["root"]
    data["train"], data["labels"], data["val_ids"] = [], [], None  # only what is tested on is read
    source = "changes" if changes else str(folder)
    return Run(folder, label or next(iter(run_labels([folder]))), load_config(tree, source=source), own, quiet)


def open_runs(
    folders: Sequence[Path] | Mapping[str, Path], *arguments: Any, baseline: Path | None = None, **options: Any
) -> list[Run]:
    """Open several, by label or each labeled by :func:`run_labels`; further arguments are of :func:`open_run`."""
    labels = folders if isinstance(folders, Mapping) else run_labels(folders, baseline)
    return [open_run(folder, *arguments, label=label, **options) for label, folder in labels.items()]


def run_labels(folders: Sequence[Path], baseline: Path | None = None) -> dict[str, Path]:
    """Short names that tell the folders apart, as names of files too.

    Raises:
        ConfigError: no folder, one twice, or a baseline that is not among them.
    """
    if not folders:
        raise ConfigError("there is no run to compare; give one or more run folders")
    folders = [as_path("folder", folder, MODEL_WANTED) for folder in folders]
    baseline = None if baseline is None else as_path("baseline", baseline, MODEL_WANTED)
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigError(f"a run is given twice among {', '.join(map(str, folders))}; give each once")
    if baseline is not None and baseline not in folders:
        raise ConfigError(f"baseline {baseline} is not among the runs {', '.join(map(str, folders))}; give it as a run")
    places = [folder.resolve() for folder in folders]
    short = [place.name if run_home(place) == place else "/".join(place.parts[-2:]) for place in places]
    labels = [plain_text(label) for label in distinct(short, places, "{place}")]
    files = [file_name(label).lower() for label in labels]
    return {
        label if files.count(file) == 1 else f"{number} {label}": folder
        for number, (label, file, folder) in enumerate(zip(labels, files, folders), 1)
    }


def fingerprint(splits: Splits) -> str:
    """Digest of the contents, identities and cameras of query and gallery: equal for what can be paired."""
    return "".join(samples_digest(part, splits.root) for part in (splits.query, splits.gallery))
