"""What a run is made of: the schema, and the overrides of the command line.

A recipe (:mod:`regard.recipes`) says only what differs from the defaults below. ``regard train apnet optim.lr=1e-4``
reads the recipe and then the overrides; the result is checked as a whole, every fault is reported at once with the
nearest spelling, and it is saved beside the weights, from where it reloads the run.

The options of a model or a loss are not listed here: a constructor's signature is its schema, and ``model`` and
``losses`` are checked against it.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
    model_serializer,
    model_validator,
)

from regard.device import check_device_name
from regard.errors import ConfigError, nearest
from regard.parsing import OPTIONS, dump_yaml, parse_yaml
from regard.plugins import load_plugins
from regard.registry import DATASETS, LOGGERS, LOSSES, MODELS, Registry
from regard.storage import open_regular

__all__ = [
    "FREE", "Config", "Overrides", "check_batch", "describe_fault", "is_free", "lay_over", "load_config", "override",
    "plugins_of", "read_settings", "without_terms",
]  # fmt: skip

Overrides = Sequence[str] | Mapping[str, Any]
"""Settings that differ: texts of the command line, ``KEY=VALUE``; or values by section or dotted name, from Python."""

FREE = (
    "data.root", "data.workers", "data.cache", "data.cache_folder", "data.label_files.*.mask_root",
    "data.label_files.*.keypoint_root", "data.label_files.*.coco", "data.label_files.*.pack",
    "train.devices", "train.accelerator", "train.checkpointing", "train.profile", "train.eval_every",
    "train.keep_every", "train.save_every", "train.log_every", "train.loggers", "eval.batch_size", "plugins",
)  # fmt: skip
"""Settings that change no step of a training: where data lies, how fast it is read, what is written and when."""

MAX_BATCH_BYTES = 1 << 31
"""Pixels of a batch in bytes; 256 pictures of 384 x 192 have 57 million."""


def _place(path: Path) -> Path:
    """The absolute path: what is relative is relative to the folder of whoever gives it, now and ever after."""
    return path.expanduser().absolute()


def _weights_place(text: str) -> str:
    """Where the weights to start from are: ``package``, or the absolute path of a file or folder."""
    return text if text == "package" else str(_place(Path(text)))


def _source_place(text: str) -> str:
    """A data set's text with its folder made absolute: ``NAME``, ``NAME=FOLDER`` or ``FOLDER``, and options."""
    options = match[0] if (match := OPTIONS.search(text)) else ""
    head = text.removesuffix(options)
    name, _, folder = head.partition("=")
    if name in DATASETS:
        return f"{name}={_place(Path(folder))}{options}" if folder else text
    path = Path(head).expanduser()
    return f"{path.absolute()}{options}" if os.sep in head or path.exists() else text


def check_batch(images: int, height: int, width: int, what: str) -> None:
    """Refuse a batch that no memory is meant to hold.

    Raises:
        ConfigError: its pixels have more than :data:`MAX_BATCH_BYTES`.
    """
    size = 3 * images * height * width
    if size > MAX_BATCH_BYTES:
        raise ConfigError(
            f"{what} of {height} x {width} are a batch of {size / 2**30:,.1f} GiB of pixels, more than "
            f"{MAX_BATCH_BYTES >> 30}; choose fewer, or smaller ones"
        )


Positive = Annotated[int, Field(gt=0, le=10**9)]
Share = Annotated[float, Field(ge=0, le=1)]
Pixels = Annotated[int, Field(gt=0, le=4096)]
Place = Annotated[Path, AfterValidator(_place)]
SourceText = Annotated[str, AfterValidator(_source_place)]


def says(default: Any, description: str) -> Any:
    """A setting: its default, and what it is in words."""
    return Field(default=default, description=description)


class Section(BaseModel):
    """A part of the configuration: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if fault := next(iter(self._faults()), None):
            raise ConfigError(fault)
        return self

    def _faults(self) -> Iterable[str]:
        """What does not go together; the first is told. Checks that others make raise ConfigError themselves."""
        return ()


class OpenSection(Section):
    """A part in which further keys are options of a registered thing."""

    model_config = ConfigDict(extra="allow")

    @property
    def options(self) -> dict[str, Any]:
        """Its keyword options, as the recipe has them."""
        return dict(self.model_extra or {})


class LabelFilesConfig(Section):
    """Where masks and keypoints of a data set are kept (docs/how-to/labels.md)."""

    mask_root: Place | None = says(None, "folder of mask pictures")
    keypoint_root: Place | None = says(None, "folder of heat maps")
    keypoint_folder: str = says("bounding_box_train_256_2", "the folder in it")
    coco: Place | None = says(None, "COCO JSON of keypoints and segmentations")
    mask_threshold: Annotated[int, Field(ge=1, le=255)] = says(100, "lowest gray level of a mask that is the person")
    tolerance: Share = says(0.0, "share of the pictures that may be without")
    pack: Place | None = says(None, "file they are packed into, made or renewed where needed")


class DataConfig(Section):
    """What to train on, and how pictures become batches."""

    name: SourceText | None = says(None, "data set; None looks at what is in root, or makes a crowd without root")
    root: Place | None = says(None, "its folder, or one that holds it and others")
    train: tuple[SourceText, ...] = says(
        (), "data sets to train on together: NAME, NAME=FOLDER or FOLDER; name, or the first, is tested on"
    )
    options: dict[str, dict[str, Any]] = says({}, "data set -> its options, such as cuhk03: {boxes: labeled}")
    val_ids: Annotated[int, Field(ge=2, le=10**6)] | None = says(
        None,
        "people held out of the training part, drawn by train.seed, on whom training is evaluated instead "
        "of on the test part; null: everyone is trained on",
    )
    height: Pixels = says(256, "pixels the crops are resized to")
    width: Pixels = says(128, "pixels the crops are resized to")
    ids_per_batch: Positive = says(16, "P of the P x K batch, over all ranks")
    images_per_id: Positive = says(4, "K of the P x K batch")
    sampler: Literal["pk", "shuffle", "sorted"] = says(
        "pk",
        "pk: P identities with K images each; shuffle: any P x K images, each once an epoch; sorted: the "
        "same by identity, in the same order in every epoch",
    )
    rounds: Positive | None = says(
        None,
        "of pk: passes over the identities in an epoch, each with K images of everyone; null: until the images run out",
    )
    keep_last: bool = says(False, "what does not fill a batch at the end of an epoch is a smaller one, not dropped")
    scarce: Literal["draw", "repeat"] = says(
        "draw",
        "of pk: who has fewer than K images draws K with replacement, or repeats them all until there are "
        "K or more and draws from those",
    )
    distinct_ids: bool = says(True, "of rounds: no identity comes twice in a batch, not even where a round ends in it")
    interpolation: Literal["bilinear", "bicubic"] = says(
        "bilinear", "how pictures are resized, in training and evaluation"
    )
    flip: Share = says(0.5, "probability of a horizontal flip")
    enlarge: Annotated[float, Field(ge=1, le=4)] = says(
        1.0, "resize to this many times height and width before the random crop"
    )
    enlarge_probability: Share = says(
        1.0, "of being enlarged; the other pictures are resized to height and width at once"
    )
    pad: Annotated[int, Field(ge=0, le=1024)] = says(10, "black border in pixels before the random crop")
    erasing: Share = says(0.5, "probability of random erasing")
    erasing_fill: Literal["mean", "released", "mindspore", "random", "normal"] = says(
        "mean", "what is put into the hole"
    )
    erasing_area: tuple[Share, Share] = says((0.02, 0.4), "smallest and largest part of the picture that is erased")
    labels: tuple[Literal["mask", "keypoints"], ...] = says(
        (), "what training predicts besides identities: extra.mask, extra.keypoints"
    )
    label_stride: Pixels = says(1, "pixels of the input per pixel of those labels")
    label_files: dict[str, LabelFilesConfig] = says({}, "data set -> where its labels are kept, unless it knows itself")
    label_peak: Literal["one", "score"] = says("one", "height of a joint in its map")
    swap_on_flip: bool = says(True, "a mirrored picture's left joints are its right ones")
    workers: Annotated[int, Field(ge=0, le=256)] | None = says(None, "loader processes; None: by core count")
    cache: Annotated[Literal["none", "disk"], BeforeValidator(lambda kind: "disk" if kind == "ram" else kind)] = says(
        "none", "disk: decoded training pictures in a file, which the system keeps in memory; ram is the same"
    )
    cache_folder: Place | None = says(None, "of cache=disk; None: in the run folder")

    def _faults(self) -> Iterator[str]:
        for name, options in ({key: {} for key in self.label_files} | self.options).items():
            _check_options(DATASETS, name, options, ("root",))
        images = self.ids_per_batch * self.images_per_id
        check_batch(images, self.height, self.width, f"{self.ids_per_batch:,} x {self.images_per_id:,} pictures")
        if self.val_ids and self.train:
            yield f"val_ids is {self.val_ids}, but train names data sets to train on together; drop one"
        if self.rounds and self.sampler != "pk":
            yield f"rounds is {self.rounds}, but sampler {self.sampler} has none; leave one of them out"
        if self.keep_last and self.sampler == "pk" and not self.rounds:
            yield "keep_last is true, but an epoch of sampler pk has a last batch only where it has rounds; set rounds"
        if self.scarce == "repeat" and self.sampler != "pk":
            yield f"scarce is repeat, but sampler {self.sampler} takes every image once; leave one of them out"
        if not self.distinct_ids and not self.rounds:
            yield (
                "distinct_ids is false, but identities come twice in a batch only around the end of a round; set rounds"
            )


class ModelConfig(OpenSection):
    """The system and its options (``regard models NAME`` lists them)."""

    name: str = says("baseline", "registered model")
    num_ids: Positive | None = says(
        None, "identities that the classifiers tell apart; None: as many as there are to train on"
    )
    pretrained: bool | Annotated[str, AfterValidator(_weights_place)] = says(
        False,
        "weights to start from: true fetches the backbone's, package takes an installed package's, a file holds the "
        "backbone's, the folder of a run or of a model holds the whole network's",
    )

    def _faults(self) -> Iterable[str]:
        _check_options(MODELS, self.name, self.options, ("num_ids", "pretrained"))
        return ()


def _of_the_loss(value: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """A value of the term, checked; as it is where it is an option of the loss, whose signature checks it."""
    loss = str(info.data.get("loss"))
    return value if loss in LOSSES and info.field_name in LOSSES.options(loss) else check(value)


Shared = (WrapValidator(_of_the_loss), PlainSerializer(lambda value: value, return_type=Any))


class LossConfig(OpenSection):
    """One term of the criterion; further keys are options of the loss.

    ``reduction`` and ``target`` are the loss's where its constructor has options of these names.
    """

    loss: str = Field(description="registered loss")
    on: str = Field(description="outputs it applies to: features.NAME, logits.NAME or maps.NAME, * for all")
    weight: float = says(1.0, "factor in the total; 0: computed and logged, but moves nothing")
    reduction: Annotated[Literal["mean", "sum"], *Shared] = says("mean", "over the outputs matched")
    gather: bool = says(False, "compare across ranks")
    target: Annotated[str, *Shared] = says("pids", "pids, or extra.NAME")

    @property
    def options(self) -> dict[str, Any]:
        """The keyword options of the loss, as the recipe has them."""
        return {key: getattr(self, key) for key in self._shared() if key in self.model_fields_set} | super().options

    def _shared(self) -> list[str]:
        return [key for key in ("reduction", "target") if key in LOSSES.options(self.loss)]

    @model_serializer(mode="wrap")
    def _as_said(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is the loss's own and was not given, so that it keeps the loss's default."""
        unsaid = {key for key in self._shared() if key not in self.model_fields_set}
        return {key: value for key, value in dump(self).items() if key not in unsaid}

    def unsaid(self) -> list[str]:
        """The term's own settings that are as they are without being given."""
        plain = {key: field for key, field in type(self).model_fields.items() if not field.is_required()}
        return [key for key, field in plain.items() if key not in self.options and getattr(self, key) == field.default]

    def _faults(self) -> Iterator[str]:
        for key, option in LOSSES.options(self.loss).items():
            if key in ("loss", "on", "weight", "gather") and option.default is option.empty:
                yield f"the constructor of {self.loss} wants {key!r}, which is the term's; rename that option"
        _check_options(LOSSES, self.loss, self.options, ("num_ids", "embed_dim"))


class OptimConfig(Section):
    """The optimizer."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Annotated[float, Field(gt=0)] = says(3.5e-4, "base learning rate")
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = says(0.9, "of sgd")
    nesterov: bool = says(False, "of sgd")
    decay_norm_and_bias: bool = says(True, "weight decay on one-dimensional parameters too, as published")
    lr_scale: dict[str, Annotated[float, Field(ge=0)]] = says({}, "parameter name prefix -> factor on lr")
    freeze: tuple[str, ...] = says((), "parts of the network that stay as they are, such as backbone.stages.0")
    clip_norm: Annotated[float, Field(gt=0)] | None = says(None, "largest gradient norm")
    fused: bool = says(False, "one kernel for all parameters: faster, last digits differ")


class ScheduleConfig(Section):
    """The learning rate over time, as a factor on ``optim.lr``."""

    name: Literal["step", "cosine", "exponential", "constant"] = "step"
    milestones: tuple[float, ...] = says((40, 70), "epochs at which the factor is multiplied by gamma")
    gamma: float = 0.1
    warmup_epochs: Annotated[float, Field(ge=0)] = 10
    warmup_start: Share = says(0.01, "factor at the very beginning")
    start: Annotated[float, Field(ge=0)] = says(0, "epoch at which the exponential decay begins")
    end: Share = says(0.0, "factor at the end of the cosine or of the exponential decay")
    per: Literal["epoch", "step"] = says("epoch", "how often the rate changes")

    def _faults(self) -> Iterator[str]:
        if self.name == "exponential" and not self.end:
            yield "end is 0, which an exponential decay never reaches; give a factor, such as 0.001"


class TrainConfig(Section):
    """The loop."""

    epochs: Positive = 120
    seed: Annotated[int, Field(ge=0, lt=2**62)] = 1
    devices: Annotated[int, Field(gt=0, le=256)] = says(
        1, "processes on this machine; torchrun decides where it is used"
    )
    accelerator: Annotated[str, BeforeValidator(check_device_name)] = says(
        "auto", "where to compute: cpu, cuda, cuda:1 (a GPU by its number), mps; auto: a GPU if any"
    )
    precision: Literal["auto", "fp32", "tf32", "bf16"] = says(
        "auto", "of products; auto: bf16 autocast where the hardware multiplies in it"
    )
    channels_last: bool = True
    compile: bool | Literal["auto"] = says(False, "torch.compile, which changes last digits; auto: where there is CUDA")
    sync_bn: bool = says(False, "batch-norm statistics over all ranks")
    bn_share: Positive = says(
        1,
        "equal shares of a batch that batch-norm statistics are of, over all ranks: 2 is what two devices "
        "do without sync_bn, on one",
    )
    ema: Annotated[float, Field(gt=0, lt=1)] | None = says(None, "decay of averaged weights, e.g. 0.999")
    accumulate: Positive = says(1, "pieces in which a batch passes the network; losses see all of it")
    checkpointing: bool = says(False, "compute blocks again instead of keeping what they saw")
    profile: Annotated[int, Field(ge=0)] = says(0, "steps to time part by part, for profile.txt")
    eval_every: Positive | None = says(20, "epochs between evaluations; null: only at the end")
    keep_every: Positive | None = says(
        None, "epochs between networks that are kept for good, in epochs/ of the run folder"
    )
    save_every: Positive | None = says(None, "steps between checkpoints within an epoch")
    log_every: Positive = says(10, "steps between writes to the log (every step is logged)")
    loggers: tuple[str, ...] | None = says(
        None,
        "where figures go besides metrics.jsonl: tensorboard, wandb, mlflow; null: tensorboard where it is installed",
    )

    def _faults(self) -> Iterator[str]:
        for place, name in enumerate(self.loggers or ()):
            LOGGERS.get(name)
            if name in self.loggers[:place]:  # pyright: ignore[reportOptionalSubscript]
                yield f"loggers names {name} twice; name it once"


class EvalConfig(Section):
    """How embeddings are compared."""

    metric: Literal["cosine", "euclidean"] = "cosine"
    flip: bool = says(True, "average the embedding with the flipped image's")
    five_crops: bool = says(False, "average center and corners of the image at 9/8 of the size (with flip: ten views)")
    ap: Literal["step", "trapezoid"] = says("step", "form of the average precision")
    rerank: bool = says(False, "k-reciprocal re-ranking")
    expansion: bool = says(False, "queries averaged with their five nearest gallery images first")
    cmc: Literal["market1501", "cuhk03", "allshots"] = says(
        "market1501", "first right image; one drawn image per person; every right image"
    )
    unmatched: Literal["skip", "zero"] = says("skip", "what a query without a match counts")
    junk: Literal["before", "query"] = says(
        "before", "when junk leaves the gallery: before anything is compared, or query by query"
    )
    protocol: Literal["rule", "lists"] = says(
        "rule", "what is right: by identity and camera, or by the data set's own good and junk lists (gt_query)"
    )
    ignore_cameras: bool = says(
        False, "a person's pictures by the query's own camera are right, instead of being removed"
    )
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = says(
        "auto", "of products; auto: fp32 for imported networks, else as trained"
    )
    batch_size: Positive = says(128, "pictures at a time")


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


def is_free(key: str) -> bool:
    """Whether a setting, by its dotted key, changes no step of a training."""
    return any(fnmatchcase(key, free) for free in FREE)


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


def override(tree: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    """A copy of the settings ``tree`` with ``overrides`` in it, unchecked.

    Raises:
        ConfigError: an override has no key or no value, or goes into what is no section; of values, one is given twice.
    """
    if isinstance(overrides, Mapping):
        return lay_over(_copy(tree), _by_section(overrides))
    changed: dict[str, Any] = _copy(tree)
    for text in overrides:
        _apply(changed, text)
    return changed


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def lay_over(
    below: Mapping[str, Any], above: Mapping[str, Any], *, once: bool = False, inside: str = ""
) -> dict[str, Any]:
    """Settings with others laid over them: mappings are joined key by key, everything else replaces.

    Raises:
        ConfigError: something would be replaced that may be given ``once``; ``inside`` is the place of the settings.
    """
    joined = dict(below)
    for key, value in above.items():
        under = joined.get(key)
        if isinstance(under, Mapping) and isinstance(value, Mapping):
            value = lay_over(under, value, once=once, inside=f"{inside}{key}.")
        elif once and key in joined:
            raise ConfigError(f"{inside}{key} is given twice; give it once")
        joined[key] = value
    return joined


def _by_section(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by section or dotted name as a tree of sections; below them a dot is a part of a name."""
    tree: dict[str, Any] = {}
    for dotted, value in values.items():
        keys = _keys_of(dotted, f"override {dotted!r:.90}")
        if not all(keys):
            raise ConfigError(f"cannot read override {dotted!r}; it wants a section or a dotted name, such as optim.lr")
        for key in reversed(keys):
            value = {key: value}
        tree = lay_over(tree, _plain(value), once=True)
    return tree


def _plain(value: Any) -> Any:
    """A value of Python as YAML would have it: paths are texts, tuples are lists."""
    if isinstance(value, Mapping):
        return {key: _plain(under) for key, under in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def plugins_of(tree: Mapping[str, Any]) -> list[str] | None:
    """The plug-ins that settings name; None where what stands there is no list of names."""
    named = tree.get("plugins", ())
    named = [named] if isinstance(named, str) else named
    return list(named) if isinstance(named, list | tuple) and all(isinstance(text, str) for text in named) else None


def without_terms(tree: Mapping[str, Any], before: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The settings ``tree`` without the terms of ``losses`` that are null in it.

    Args:
        tree: settings after a change.
        before: settings before it, which have the terms that can be taken out.
        source: what to call them in an error.

    Raises:
        ConfigError: there was no such term.
    """
    losses, had = tree.get("losses"), before.get("losses")
    if not isinstance(losses, Mapping):
        return dict(tree)
    terms = [name for name, term in had.items() if term is not None] if isinstance(had, Mapping) else []
    for name, term in losses.items():
        if term is None and name not in terms:
            raise ConfigError(
                f"{source}: losses.{name} is null, which takes a term out, but there is no such term"
                f"{nearest(str(name), map(str, terms))} (terms: {', '.join(map(str, terms)) or 'none'})"
            )
    return {**tree, "losses": {name: term for name, term in losses.items() if term is not None}}


def _copy(tree: Any) -> Any:
    return {key: _copy(value) for key, value in tree.items()} if isinstance(tree, Mapping) else tree


def _apply(tree: dict[str, Any], override: str) -> None:
    said = f"override {override!r:.90}"
    dotted, sign, text = override.partition("=")
    keys = _keys_of(dotted, said)
    if not sign or not all(keys):
        raise ConfigError(f"cannot read {said}; it wants section.key=value, for example optim.lr=1e-4")
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{said}: {key!r} holds a value, not a section")
    plain = _is_place(keys) and text[:1] not in ("", "'", '"') and text not in ("~", "null", "true", "false")
    tree[keys[-1]] = text if plain else parse_yaml(text, said)


def _keys_of(dotted: str, said: str) -> list[str]:
    """Return the parts of a dotted name; ``said`` tells in an error what was given."""
    keys = dotted.split(".")
    if keys[0] in ("base", "about"):
        raise ConfigError(f"{said}: {keys[0]} is said in a recipe's file, not beside it; leave it out")
    return keys


def _is_place(keys: Sequence[str]) -> bool:
    """Whether a setting is a folder or a file, whose name may look like a number or hold a ``#``."""
    kind: Any = Config
    for key in keys:
        if get_origin(kind) is dict:
            kind = get_args(kind)[-1]
        else:
            field = getattr(kind, "model_fields", {}).get(key)
            kind = field.annotation if field else None
    return "Path" in str(kind) or list(keys) == ["model", "pretrained"]


def _check_options(registry: Registry, name: str, options: dict[str, Any], given: tuple[str, ...]) -> None:
    """Check options against the signature of the entry ``name``; raises ConfigError naming every fault.

    Args:
        registry, name: where the entry is found.
        options: as the recipe has them.
        given: what the engine fills in, so that no recipe can.
    """
    schema = _option_schema(registry, name, given)
    try:
        schema.model_validate(options)
    except ValidationError as error:
        raise ConfigError("; ".join(describe_fault(fault, schema) for fault in error.errors())) from None


@lru_cache
def _option_schema(registry: Registry, name: str, given: tuple[str, ...]) -> type[BaseModel]:
    entry = registry.get(name)
    hints = get_type_hints(entry.__init__ if inspect.isclass(entry) else entry)
    fields: dict[str, Any] = {}
    for key, parameter in registry.options(name).items():
        if key not in given:
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[key] = (hints.get(key, Any), default)
    return create_model(f"{name} options", __config__=ConfigDict(extra="forbid", protected_namespaces=()), **fields)


def describe_fault(fault: Any, schema: type[BaseModel] = Config, inside: str = "") -> str:
    """One fault of pydantic's list in our words.

    Args:
        fault: an entry of ``ValidationError.errors()``.
        schema: what was validated.
        inside: the dotted place of it.
    """
    where = ".".join(filter(None, (inside, *map(str, fault["loc"]))))
    error = fault.get("ctx", {}).get("error")
    if isinstance(error, ConfigError):
        return f"{where}: {error}" if where else str(error)
    if fault["type"] == "missing":
        return f"{where}: missing"
    unknown = fault["type"] == "extra_forbidden"
    known = _keys_at(schema, fault["loc"][: -1 if unknown else None])
    keys = f" (keys: {', '.join(known)})" if known else ""
    if unknown:
        return f"{where}: no such key{nearest(str(fault['loc'][-1]), known)}{keys}"
    if fault["type"] in ("dict_type", "model_type"):
        wanted = f"a section, such as {where}.{known[0] if known else 'KEY'}=VALUE"
        if where.startswith("data.options"):
            wanted = "options by data set, such as data.options.cuhk03.boxes=labeled"
        return f"{where}: got {fault['input']!r}, wanted {wanted}{keys}"
    if fault["type"] in ("tuple_type", "list_type"):
        return f"{where}: got {fault['input']!r}, wanted a list, such as {where}=[{fault['input']}]"
    return f"{where}: got {fault['input']!r}; {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _keys_at(schema: type[BaseModel], path: Sequence[Any]) -> list[str]:
    """The keys the schema knows at a dotted place."""
    section: Any = schema
    for part in path:
        field = getattr(section, "model_fields", {}).get(part)
        if field is None:
            return []
        section = field.annotation
    return list(getattr(section, "model_fields", {}))
