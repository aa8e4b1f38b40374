"""What is trained, as its configuration has it: network, losses, loader; what of the network stays, what is recomputed.

Gradient checkpointing takes time for memory. The backward pass needs what every layer saw in the forward pass; here the
blocks of a network keep only their input and run again when their turn comes (T. Chen, B. Xu, C. Zhang, C. Guestrin:
Training Deep Nets with Sublinear Memory Cost, 2016, arXiv 1604.06174): the same gradients to the last bit, for about
one more forward pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from regard.config import Config, DataConfig
from regard.data.appearance import Appearance
from regard.data.cache import PictureCache, open_cache
from regard.data.labels import TrainingLabels
from regard.data.loaders import train_batches, train_loader
from regard.data.transforms import TrainTransform
from regard.errors import ConfigError, nearest
from regard.evaluation.embed import loader_workers, run_input
from regard.input_spec import InputSpec
from regard.layers.batch_norm import statistics_kept
from regard.layers.map_decoder import MapDecoder
from regard.layers.pyramid import AttentionPyramid
from regard.layers.row import blocks
from regard.layers.self_attention import DeepSelfAttention
from regard.losses import Criterion, Term
from regard.models import ReIDModel, create_model
from regard.models.backbone import Backbone
from regard.models.build import start_origin
from regard.models.checked import weight_of
from regard.models.cost import constant_weights
from regard.registry import LOSSES
from regard.runtime.fabric import Runtime
from regard.structures import Output, Splits
from regard.wording import count

__all__ = [
    "build_criterion",
    "build_loader",
    "build_model",
    "check_training",
    "freeze",
    "leave_unreached",
    "recompute_blocks",
]

ATTENTION: tuple[type[nn.Module], ...] = (AttentionPyramid, DeepSelfAttention, MapDecoder)
"""What acts on whole maps outside of the backbones."""


def build_model(config: Config, num_ids: int, *, started: bool = False) -> ReIDModel:
    """The model a configuration describes, for ``num_ids`` identities.

    Args:
        config: says what to build, and what weights to start from.
        num_ids: of the training data.
        started: its weights come from a checkpoint of the run, so that those to start from are not needed any more.

    Raises:
        ConfigError: ``model.num_ids`` leaves an identity without a class.
    """
    classes = config.model.num_ids or num_ids
    if classes < num_ids:
        raise ConfigError(
            f"model.num_ids is {classes}, but the training data shows {count(num_ids, 'identity')}; raise it, or leave "
            f"it out to have as many classes as identities"
        )
    pretrained = False if started else config.model.pretrained
    model = create_model(config.model.name, classes, pretrained=pretrained, **config.model.options)
    model.input = run_input(config, model.input)
    if started:
        model.origin = start_origin(config.model.pretrained, model.options)
    return model


def build_criterion(config: Config, model: ReIDModel) -> Criterion:
    """The criterion a configuration describes, for the model it is to train.

    Raises:
        ConfigError: there is no loss, or one does not fit the model.
    """
    if not any(term.weight for term in config.losses.values()):
        reason = "has no term but those of weight 0" if config.losses else "is empty"
        raise ConfigError(f"losses {reason}, so there is nothing to minimize; add at least one term")
    terms = []
    for name, term in config.losses.items():
        known = {}
        if "embed_dim" in LOSSES.options(term.loss):
            known = {"num_ids": model.num_ids, "embed_dim": output_length(config, model, name)}
        loss = LOSSES.create(term.loss, **known, **term.options)
        more = term.model_dump(include={"weight", "reduction", "gather", "target"} - set(term.options))
        terms.append(Term(name, loss, term.on, **more))
    return Criterion(terms)


def output_length(config: Config, model: ReIDModel, name: str) -> int:
    """Length D of the one output (B, D) that the term ``name`` is on, found out with a black image.

    Raises:
        ConfigError: there is no such output, there are several, or it is a map.
    """
    term = config.losses[name]
    model.eval()
    with torch.no_grad():
        black = torch.zeros(1, 3, config.data.height, config.data.width, device=weight_of(model).device)
        values = Term(name, torch.nn.Identity(), term.on).values(model(black))
    model.train()
    if len(values) > 1 or values[0].ndim != 2:
        found = "a map" if values[0].ndim != 2 else f"{len(values)} outputs"
        raise ConfigError(
            f"losses.{name}.on is {term.on!r}, which is {found}; {term.loss} wants one features.NAME, or embedding"
        )
    return values[0].shape[1]


def build_loader(config: Config, splits: Splits, folder: Path, runtime: Runtime, seen: InputSpec | None = None) -> Any:
    """The training loader of this rank, for a network that sees ``seen``; None takes what the configuration says.

    Raises:
        DataError: the recipe trains on labels of which the data set has none, or a picture to cache cannot be read.
    """
    data, seen = config.data, seen or run_input(config)
    transform = TrainTransform(
        data.height, data.width, flip=data.flip, pad=data.pad, erasing=data.erasing, erasing_fill=data.erasing_fill,
        erasing_area=data.erasing_area, enlarge=data.enlarge, interpolation=data.interpolation, mean=seen.mean,
        std=seen.std, enlarge_probability=data.enlarge_probability, appearance=build_appearance(data),
    )  # fmt: skip
    labels = None
    if data.labels:
        labels = TrainingLabels(
            transform, data.labels, data.label_stride, peak=data.label_peak, swap_on_flip=data.swap_on_flip
        )
        labels.check(splits.train)
    return train_loader(
        splits.train, transform, **_batches(config), rank=runtime.rank, world_size=runtime.world_size,
        workers=loader_workers(data.workers, runtime.world_size),
        pin_memory=runtime.device.type == "cuda", labels=labels, cache=build_cache(config, splits, folder, runtime),
    )  # fmt: skip


def build_appearance(data: DataConfig) -> Appearance | None:
    """What is drawn of how pictures look; None where nothing is.

    Raises:
        ConfigError: a range is none.
    """
    appearance = Appearance(**data.model_dump(include={field.name for field in fields(Appearance)}))
    return appearance if appearance.changes else None


def _batches(config: Config) -> dict[str, Any]:
    """What makes the batches, as :func:`regard.data.loaders.train_batches` wants it."""
    keys = {"ids_per_batch", "images_per_id", "sampler", "rounds", "keep_last", "scarce", "distinct_ids"}
    return config.data.model_dump(include=keys) | {"seed": config.train.seed}


def check_training(config: Config, splits: Splits, processes: int) -> None:
    """Check that the training data fill a batch, and that the losses fit the network, before anything is fetched.

    Raises:
        ConfigError: all faults, in one message.
    """
    faults: list[str] = []
    with _told(faults):
        build_appearance(config.data)
    with _told(faults):
        pids = [sample.pid for sample in splits.train]
        train_batches(pids, **_batches(config), rank=0, world_size=processes)
    with _told(faults), constant_weights():
        model = build_model(config, splits.num_ids, started=True)
        outputs = _outputs(model, config)
        for name, term in config.losses.items():
            with _told(faults):
                if "embed_dim" in LOSSES.options(term.loss):
                    output_length(config, model, name)
                elif outputs:
                    Term(name, torch.nn.Identity(), term.on).values(outputs)
        with _told(faults):
            freeze(model, config.optim.freeze)
    if faults:
        raise ConfigError("; ".join(faults))


@contextmanager
def _told(faults: list[str]) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        faults.append(str(error))


def _outputs(model: ReIDModel, config: Config) -> Output | None:
    """What a network in training gives for two black images; None where it gives nothing, which training will tell."""
    try:
        with torch.no_grad():
            return model.train()(torch.zeros(2, 3, config.data.height, config.data.width))
    except Exception:  # whatever a network of a plug-in raises
        return None


def build_cache(config: Config, splits: Splits, folder: Path, runtime: Runtime) -> PictureCache | None:
    """The decoded pictures that the configuration asks for; one rank writes the file that all of them map."""
    if config.data.cache == "none":
        return None
    with runtime.main_first():
        return open_cache(splits.train, config.data.cache_folder or folder / "cache")


def freeze(model: nn.Module, parts: Sequence[str]) -> list[nn.Module]:
    """Take parts of a model out of training: neither their weights nor their batch statistics move.

    Args:
        model: its parameters below ``parts`` stop asking for gradients.
        parts: names of modules or parameters, such as ``backbone.stages.0``.

    Returns:
        The modules among them, which want evaluation mode, in which batch statistics stay, after every
        ``model.train()``.

    Raises:
        ConfigError: the model has no such part, or nothing would be left to train.
    """
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    known = [*filter(None, modules), *parameters]
    for part in parts:
        if part not in known:
            tops = ", ".join(_upper_parts(model))
            raise ConfigError(f"optim.freeze: no part {part!r}{nearest(part, known)}; the network has {tops}")
    for name, parameter in parameters.items():
        if any(f"{name}.".startswith(f"{part}.") for part in parts):
            parameter.requires_grad_(False)
    if parts and not any(parameter.requires_grad for parameter in parameters.values()):
        raise ConfigError(f"optim.freeze: {', '.join(parts)} is all there is, and nothing is left to train")
    return [modules[part] for part in parts if part in modules]


def leave_unreached(model: nn.Module, criterion: Criterion, height: int, width: int) -> None:
    """Take parameters out of training that no term of the criterion reaches, such as a branch whose loss is left out.

    They would not move anyway, but several processes wait for the gradient of whatever asks for one.

    Args:
        model: in training mode afterwards, its running statistics as they were.
        criterion: what its outputs go into; terms of weight 0 reach nothing.
        height, width: of its images, in pixels.
    """
    device = weight_of(model).device
    with statistics_kept(model):
        told = (torch.zeros(2, dtype=torch.int64, device=device),) if getattr(model, "sees_cameras", False) else ()
        output = model.train()(torch.zeros(2, 3, height, width, device=device), *told)
    terms = [term for term in criterion.terms if isinstance(term, Term) and term.weight]
    values = [value.sum() for term in terms for value in term.values(output) if value.requires_grad]
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not values or not asking:
        return
    for parameter, gradient in zip(asking, torch.autograd.grad(torch.stack(values).sum(), asking, allow_unused=True)):
        if gradient is None:
            parameter.requires_grad_(False)


def _upper_parts(model: nn.Module) -> Iterable[str]:
    """Names of the model's parts, containers of stages opened."""
    for name, child in model.named_children():
        stages = getattr(child, "stages", None)
        if isinstance(stages, nn.ModuleList):
            yield from (f"{name}.stages.{index}" for index in range(len(stages)))
        else:
            yield name


def recompute_blocks(model: nn.Module) -> int:
    """Make the blocks of every stage of a model's backbones, and its attention, run again in the backward pass.

    Classes change, in place; parameters, buffers, state-dict keys and results stay. Blocks that the system has copied
    from its backbone (streams, branches) count too, and a stage without blocks, such as a stem, is one.

    Returns:
        The number of blocks.
    """
    backbones = [module for module in model.modules() if isinstance(module, Backbone)]
    stages = [stage for backbone in backbones for stage in backbone.stages]
    kinds = {type(block) for stage in stages for block in blocks(stage)}
    plain = [stage for stage in stages if not any(blocks(stage))]  # stems
    chosen = [*plain, *_outermost(model, (*kinds, *ATTENTION))]
    for module in chosen:
        kind = type(module)
        module.__class__ = type(f"Recomputed{kind.__name__}", (_Recomputed, kind), {})
    return len(chosen)


def _outermost(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> Iterator[nn.Module]:
    """Modules of these kinds that lie in no other."""
    for child in module.children():
        if isinstance(child, kinds):
            yield child
        else:
            yield from _outermost(child, kinds)


class _Recomputed(nn.Module):
    """Mixed into a block: the same block, whose layers' inputs are not kept."""

    def forward(self, *args: Any, **options: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(*args, **options)
        if torch.compiler.is_compiling():  # the compiler keeps apart what is written and what is computed again
            return checkpoint(super().forward, *args, use_reentrant=False, **options)
        return checkpoint(super().forward, *args, use_reentrant=False, context_fn=self._contexts, **options)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Around the first run, and around the second, whose batch statistics have been counted already."""
        return nullcontext(), statistics_kept(self)
