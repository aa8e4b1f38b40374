"""The whole configuration of a run, and which of its settings change no step of a training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from regard.config.data import DataConfig
from regard.config.network import LossConfig, ModelConfig
from regard.config.training import EvalConfig, OptimConfig, ScheduleConfig, TrainConfig
from regard.config.values import Section, check_batch, says
from regard.parsing import dump_yaml

__all__ = ["FREE", "Config", "is_free"]

FREE = (
    "data.root", "data.workers", "data.cache", "data.cache_folder", "data.label_files.*.mask_root",
    "data.label_files.*.keypoint_root", "data.label_files.*.coco", "data.label_files.*.pack",
    "train.devices", "train.accelerator", "train.checkpointing", "train.profile", "train.eval_every",
    "train.keep_every", "train.save_every", "train.log_every", "train.loggers", "eval.batch_size", "plugins",
)  # fmt: skip
"""Settings that change no step of a training: where data lies, how fast it is read, what is written and when."""


class Config(Section):
    """Everything a run is made of."""

    data: DataConfig = DataConfig()
    model: ModelConfig
    losses: dict[str, LossConfig]
    optim: OptimConfig = OptimConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    plugins: tuple[str, ...] = says(
        (), "what is imported first: FILE.py, MODULE, MODULE@FILE, or NAME@PACKAGE==VERSION of an installed package"
    )

    def _faults(self) -> Iterator[str]:
        data, train = self.data, self.train
        for setting in ("accumulate", "bn_share"):
            pieces = getattr(train, setting)
            if data.keep_last and pieces > 1:
                yield (
                    f"data.keep_last is true, but train.{setting} is {pieces}, and a smaller last batch does not make "
                    "as many equal pieces; leave one of them out"
                )
        drawn = data.images_per_id if data.sampler == "pk" else 1
        for name, term in self.losses.items():
            group = term.options.get("group") if term.loss == "triplet" else None
            if group not in (None, drawn):
                yield (
                    f"losses.{name}.group is {group}, but a batch shows its people in rows of {drawn} (data.sampler "
                    f"{data.sampler}, data.images_per_id {data.images_per_id}); make them equal"
                )
        for setting, wrong, why in (
            ("protocol=lists", self.eval.protocol == "lists", "lists name pictures of the test part"),
            ("ignore_cameras", self.eval.ignore_cameras, "a camera is what keeps a picture from being its own match"),
        ):
            if data.val_ids and wrong:
                yield (
                    f"data.val_ids is {data.val_ids}, whose pictures are query and gallery at once, which does "
                    f"not go with eval.{setting}: {why}; leave one of them out"
                )
        if train.bn_share > 1:
            yield from self._faults_of_shares(train.bn_share)
        views = (5 if self.eval.five_crops else 1) * (2 if self.eval.flip else 1)
        what = f"eval.batch_size {self.eval.batch_size:,} pictures"
        check_batch(self.eval.batch_size * views, data.height, data.width, what)

    def _faults_of_shares(self, shares: int) -> Iterator[str]:
        for setting, other in (("sync_bn=true", self.train.sync_bn), ("accumulate", self.train.accumulate > 1)):
            if other:
                yield (
                    f"train.bn_share is {shares}, but train.{setting} says otherwise what batch statistics are of; "
                    "leave one of them out"
                )
        people, images = self.data.ids_per_batch, self.data.ids_per_batch * self.data.images_per_id
        units, name = (people, "identities") if self.data.sampler == "pk" else (images, "images")
        if units % shares or images < 2 * shares:
            yield (
                f"train.bn_share is {shares}, but the {units} {name} of a batch do not make {shares} equal shares of "
                "at least two images; choose a divisor"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, every default spelled out: ``load_config`` of it gives this configuration again."""
        return self.model_dump(mode="json")

    def flat(self) -> dict[str, Any]:
        """The same by dotted key."""
        return dict(_flatten(self.to_dict()))

    def to_yaml(self) -> str:
        """The same as YAML."""
        return dump_yaml(self.to_dict())


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def is_free(key: str) -> bool:
    """Whether a setting, by its dotted key, changes no step of a training."""
    return any(fnmatchcase(key, free) for free in FREE)
