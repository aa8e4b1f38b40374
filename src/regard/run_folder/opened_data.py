"""The data that a configuration names, found and read."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from regard.config import Config, LabelFilesConfig
from regard.data.datasets import detect
from regard.data.labels import LabelRoots, label_training
from regard.data.sources import Source, find_source, hold_out, merge_sources
from regard.errors import ConfigError
from regard.runtime.fabric import Runtime
from regard.structures import Splits
from regard.threads import allowed_cores

__all__ = ["find_data", "label_roots", "open_data", "tested_on"]

CROWD = Path("runs") / "crowd"


def open_data(config: Config, runtime: Runtime | None = None, *, quiet: bool = False) -> Splits:
    """Read the data of a configuration: the data set itself, or the training splits of all in ``data.train``.

    Without a root, a crowd is made under runs/crowd first (once). With ``data.val_ids``, query and gallery are people
    held out of the training part, and everyone else is trained on.

    Raises:
        DataError: a data set is not there or not complete.
        ConfigError: a data set is named twice, or more people are to be held out than there are.
    """
    data = config.data
    home = find_data(tested_on(config), data.root, config, runtime, quiet=quiet)
    if not data.train:
        whole = _labeled(home.read(), config, runtime, quiet=quiet)
        return hold_out(whole, data.val_ids, config.train.seed) if data.val_ids else whole
    splits = home.read()
    sources = [find_data(text, data.root, config, runtime, quiet=quiet) for text in data.train]
    parts = [splits if source == home else source.read() for source in sources]
    for name in data.label_files if data.labels else ():
        places = [str(part.root) for part in parts if part.name == name]
        if len(places) > 1:
            raise ConfigError(
                f"data.label_files says where labels of {name} are, but there are {len(places)}: {', '.join(places)}; "
                "keep each one's labels in its own folder (regard data labels), and leave label_files out"
            )
    return merge_sources(splits, [_labeled(part, config, runtime, quiet=quiet) for part in parts])


def _labeled(splits: Splits, config: Config, runtime: Runtime | None, *, quiet: bool) -> Splits:
    """The data set with the labels the configuration trains on; one rank packs them, where they are to be packed."""
    if not config.data.labels or not splits.train:
        return splits
    files = config.data.label_files.get(splits.name)
    roots = label_roots(files) if files else None
    with runtime.main_first() if runtime else nullcontext():
        return label_training(splits, roots, files.pack if files else None, progress=not quiet)


def label_roots(files: LabelFilesConfig, **others: Any) -> LabelRoots:
    """Return where a run's settings say that labels are; the usual threshold is of the masks in ``mask_root`` alone.

    Args:
        files: the settings.
        others: what is to be otherwise.
    """
    said = files.model_dump(exclude={"pack"})
    if not files.mask_root and files.mask_threshold == LabelFilesConfig().mask_threshold:
        said["mask_threshold"] = None
    return LabelRoots(**said | others)


def tested_on(config: Config) -> str | None:
    """What a configuration tests on, as a text; None is whatever lies in its root."""
    return config.data.name or (config.data.train[0] if config.data.train else None)


def find_data(
    text: str | None, root: Path | None, config: Config, runtime: Runtime | None = None, *, quiet: bool = False
) -> Source:
    """The source of a text; None is whatever lies in ``root``, and the crowd needs none, it is made."""
    if root is None and text in (None, "crowd"):
        from regard.crowd import make_crowd

        if runtime is None or runtime.is_main:
            make_crowd(CROWD, workers=allowed_cores(), progress=not quiet)
        if runtime:
            runtime.barrier()
        text, root = "crowd", CROWD
    return find_source(text or detect(root or CROWD), root, config.data.options)
