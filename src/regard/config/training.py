"""How a run trains and is scored: the sections ``optim``, ``schedule``, ``train`` and ``eval``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from regard.config.values import Positive, Section, Share, says
from regard.device import check_device_name
from regard.registry import LOGGERS

__all__ = ["EvalConfig", "OptimConfig", "ScheduleConfig", "TrainConfig"]


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
