"""Checkpoints of the originally released networks, brought into ours.

Each importer is one entry of ``IMPORTERS``: a function from the file's tensors (and what to call the file in an error)
to a :class:`~regard.models.importers.translation.Translation`, in a module for networks of one kind. What all of them
share - reading, building, fitting, reporting - is here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regard.errors import CheckpointError, UnknownNameError
from regard.input_spec import InputSpec
from regard.models.build import create_model
from regard.models.contract import ReIDModel
from regard.models.importers import (
    fastreid,
    reid_folder,
    released_daaf,
    released_parts,
    released_pyramids,
    resnet,
    torchreid_osnet,
    transreid_vit,
)
from regard.models.importers.tensor_file import as_tensors, read_tensors
from regard.models.importers.translation import RELEASES, ImportReport, Translation
from regard.models.saved import load_weights
from regard.storage import as_path

__all__ = ["IMPORTERS", "import_released"]

HALF = (0.5, 0.5, 0.5)
"""Mean and deviation of the pixels that ViTs of ImageNet-21k are shown, and those that start from them."""


def import_released(
    source: str | Path | Mapping[str, Any],
    network: str | None = "apnet",
    *,
    size: tuple[int, int] | None = None,
    **options: Any,
) -> ReIDModel:
    """Build a model from a checkpoint of the authors' code.

    Files are read without running anything in them. Level, variant and number of identities are detected from the
    tensors; ``model.import_report`` says what was used, unused, missing or in conflict.

    Args:
        source: a ``.pt``, ``.pth``, ``.safetensors`` or MindSpore ``.ckpt`` file, or a state dict of tensors or arrays.
        network: whose checkpoint it is, a key of ``IMPORTERS``; None: found from the tensors' names.
        size: height and width of the pictures it was trained on, where they are not those of its paper's tables.
        options: of the model, where the tensors do not tell: ``descriptor="logits"`` for an APNet of MSMT17.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        UnknownNameError: no importer for that network.
        ConfigError: the model has no such option.
        CheckpointError: the file is damaged, or is not a checkpoint of that network, or of one that is told apart.
    """
    if network is not None and (not isinstance(network, str) or network not in IMPORTERS):
        raise UnknownNameError("released network", network, IMPORTERS)
    told = None
    if isinstance(source, Mapping):
        origin, tensors = "the given state dict", as_tensors(source, "the given state dict")
    else:
        path = as_path("source", source, "a checkpoint file, or a mapping of names to tensors")
        origin = str(path)
        if network is None and (path / reid_folder.CONFIG).is_file():
            network = "reid"
        if network == "reid":
            tensors, told = reid_folder.read_folder(path)
        else:
            tensors = read_tensors(path)
    network = network or _whose(tensors, origin)
    _check_network(tensors, network, origin)
    translate, usual = IMPORTERS[network]
    try:
        translation = translate(tensors, origin)
    except (IndexError, TypeError) as error:  # of a tensor with fewer axes than any that was trained
        raise CheckpointError(f"{origin} holds tensors that no {network} has ({error}); give a whole file") from error
    if translation.size:
        size = size or (None if isinstance(translation.size, str) else translation.size)
        if size is None:
            raise CheckpointError(f"{origin} does not tell the size of its pictures: {translation.size}")
        options = {"height": size[0], "width": size[1], **options}
    model = create_model(translation.model, translation.num_ids, **{**translation.options, **options})
    model.input, model.imported = (told or translation.seen or usual).resized(size), network
    model.origin = dict(zip(("source", "licence"), RELEASES[network]))
    model.import_report = _fit(model, tensors, translation, origin)
    return model.eval()


def _whose(tensors: Mapping[str, Tensor], origin: str) -> str:
    """The network that tensors are of, by the names that only it has.

    Raises:
        CheckpointError: they are of none that is known, or of one of several.
    """
    found = [set(owners) for mark, owners in MARKS.items() if mark in tensors]
    if not found and tensors.keys() >= PLAIN:
        return "apnet"
    common = set.intersection(*found) if found else set()
    if "transreid" in common:
        return "transreid"
    if len(common) > 1 and "backone.0.weight" not in tensors:
        common -= {"daaf-mindspore"}
    if len(common) == 1:
        return common.pop()
    what = f"is of {' or '.join(sorted(common))}" if common else "shows none of the networks that are known"
    raise CheckpointError(
        f"{origin} {what}: it has {', '.join(sorted(tensors)[:3])}, …; say which it is: --network "
        f"{', '.join(sorted(common) or IMPORTERS)}; any other network comes as ONNX"
    )


def _check_network(tensors: Mapping[str, Tensor], network: str, origin: str) -> None:
    """Refuse a checkpoint that shows whose it is, where that is not ``network``."""
    if any(key.startswith("backbone.stages.") for key in tensors):
        raise CheckpointError(
            f"{origin} is a model that regard saved and needs no import; give its folder to 'regard eval'"
        )
    for mark, owners in MARKS.items():
        if mark in tensors and network not in owners:
            raise CheckpointError(
                f"{origin} looks like a checkpoint of {' or '.join(owners)}, not of {network}: it has {mark}; "
                f"import it as network {' or '.join(map(repr, owners))}"
            )


def _fit(model: ReIDModel, tensors: Mapping[str, Tensor], translation: Translation, origin: str) -> ImportReport:
    """Fill ``model`` with the source's tensors under their new names."""
    ours = model.state_dict()
    values = {name: _joined([tensors[key] for key in keys]) for name, keys in translation.joined.items()}
    values |= {name: value for name, (value, _) in translation.made.items()}
    used = {*translation.names, *(key for keys in translation.joined.values() for key in keys)}
    used |= {*translation.told, *(key for _, keys in translation.made.values() for key in keys)}
    conflicting = []
    for key, name in translation.names.items():
        value = _without_kernel(tensors[key], ours.get(name))
        if name in values and not torch.equal(values[name], value):
            conflicting.append(key)
        values[name] = value
    known = [name for name in ours if name.endswith("num_batches_tracked") or name.startswith(translation.fresh)]
    missing = [name for name in known if name not in values]
    load_weights(model, values | {name: ours[name] for name in missing}, origin)
    if conflicting:
        warnings.warn(
            f"{origin}: {len(conflicting)} tensors are stored twice and differ ({conflicting[0]} is one), so the file "
            f"was edited after training; the copy the released network runs on was taken",
            stacklevel=3,
        )
    return ImportReport(origin, sorted(used), sorted(tensors.keys() - used), missing, conflicting)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Tensors one after the other along the first axis; the first alone where they do not go together."""
    fit = all(part.ndim and part.shape[1:] == parts[0].shape[1:] for part in parts)
    return torch.cat(list(parts)) if fit else parts[0]


def _without_kernel(value: Tensor, wanted: Tensor | None) -> Tensor:
    """A tensor without the axes of length 1 that ours does not have: the weight of a 1 x 1 convolution,
    (out, in, 1, 1), as that of a linear layer, a vector that was kept as (1, C, 1, 1)."""
    if wanted is not None and [n for n in value.shape if n > 1] == [n for n in wanted.shape if n > 1]:
        return value.reshape(wanted.shape)
    return value


PLAIN = {"base.conv1.weight", "bottleneck.weight", "classifier.weight"}
"""What an APNet without attention has, and any bag of tricks written as its authors wrote theirs."""

MARKS: dict[str, tuple[str, ...]] = {
    "att1.fc.0.weight": ("apnet",),
    "att1.conv.weight": ("msea",),
    "att1.fc1.weight": ("msea",),
    "conv_all.conv1.weight": ("mudeep",),
    "local_conv_layer1.weight": ("dsp", "sa"),
    "backone.0.weight": ("daaf-mindspore",),
    "trans_conv_0.weight": ("daaf", "daaf-mindspore"),
    "trans_conv_m0.weight": ("daaf", "daaf-mindspore"),
    "backbone.rga_att1.gx_spatial.0.weight": ("rga",),
    "backbone.rga_att1.gx_channel.0.weight": ("rga",),
    "conv2.0.conv1.conv.weight": ("osnet",),
    "heads.bottleneck.0.weight": ("fastreid",),
    "heads.bnneck.weight": ("fastreid",),
    "base.cls_token": ("transreid", "transreid-deit"),
}
"""Tensor that only some released networks have -> those networks."""

IMPORTERS: dict[str, tuple[Callable[[Mapping[str, Tensor], str], Translation], InputSpec]] = {
    "apnet": (released_pyramids.apnet, InputSpec(384, 192)),
    "daaf": (released_daaf.daaf, InputSpec(256, 128, flip=False)),
    "daaf-mindspore": (released_daaf.daaf_mindspore, InputSpec(256, 128)),
    "dsp": (released_parts.dsp, InputSpec(384, 128, flip=False)),
    "sa": (released_parts.sa, InputSpec(384, 128, flip=False)),
    "fastreid": (fastreid.fastreid, InputSpec(256, 128, "bicubic", flip=False)),
    "msea": (released_pyramids.msea, InputSpec(384, 192)),
    "mudeep": (released_parts.mudeep, InputSpec(384, 192, "bicubic")),
    "osnet": (torchreid_osnet.osnet, InputSpec(256, 128, flip=False)),
    "pcb": (released_parts.pcb, InputSpec(384, 128, flip=False)),
    "reid": (reid_folder.plain_resnet, InputSpec(256, 128, flip=False)),
    "resnet": (resnet.resnet, InputSpec(256, 128, flip=False)),
    "rga": (released_pyramids.rga, InputSpec(256, 128, flip=False)),
    "transreid": (transreid_vit.transreid, InputSpec(256, 128, mean=HALF, std=HALF, flip=False)),
    "transreid-deit": (transreid_vit.transreid, InputSpec(256, 128, flip=False)),
}
"""Released network -> reader of its state dict, and what its authors' code shows it in training and test, which no
tensor tells."""
