"""timm networks as a list of stages.

Shapes: B images in a batch, H x W pixels.

Attention goes between stages, and some systems copy or tap one, so the adapter cuts a timm network where timm's own
``feature_info`` marks the end of a resolution. Stage 0 is the stem, including the pooling that follows it; each of the
others is one resolution (a ResNet's four residual stages). What comes after the last feature point, the classifier's
own convolutions and norms, is dropped. Families that do not come as such a row are cut by a file of their own
(:mod:`regard.models.families`); their stages may pass on more than the map (:func:`regard.layers.row.passed`). Every
cut is checked when it is made: the stages in a row have to give what the whole network gives.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies

import huggingface_hub as hub
import timm
import torch
from timm.layers.blur_pool import BlurPool2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import MaxPool2dSame
from timm.models.hrnet import HighResolutionNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from regard.errors import ConfigError, RegardError, check_kind, nearest
from regard.layers.row import passed
from regard.layers.style import IBN, MixStyle, put_ibn, put_mixstyle
from regard.models.families import fastreid as _fastreid  # noqa: F401 - it registers its networks with timm
from regard.models.families import hrnet, osnet, swin, vit
from regard.models.importers.packaged import PACKAGE, packaged, read_packaged
from regard.models.importers.resnet import in_torch_words, of_mindspore
from regard.models.importers.tensor_file import read_tensors
from regard.models.saved import load_weights
from regard.plugins import load_installed, plugin_in

__all__ = ["Backbone", "backbone_plugin", "fetched_origin", "tap"]

FAMILIES: dict[type[nn.Module], ModuleType] = {
    HighResolutionNet: hrnet,
    osnet.OSNet: osnet,
    SwinTransformer: swin,
    SwinTransformerV2: swin,
    VisionTransformer: vit,
}
"""Networks that are cut by a file of their own: its ``whole``, ``cut`` and ``keep_resolution``."""

OWN_POOL = ("timm.models.vision_transformer", "timm.models.deit")
"""Where networks are made whose norm stands where their pooling wants it, so that this is not taken out of them."""

Colors = tuple[tuple[float, float, float], tuple[float, float, float]]

PROBE = 64
"""Side in pixels of the square image that measures channels and strides; four patches, where these are larger."""

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of a weights file in a repository, as timm looks for them."""

PATIENCE = 5
"""Seconds that a host has to answer."""


def tap(stage: int) -> str:
    """Name of the place after stage ``stage`` (0 is the stem), as the papers count: ``tap(0) == "tap1"``."""
    return f"tap{stage + 1}"


def fetched_origin(name: object) -> dict[str, str]:
    """Where timm fetches the weights of a backbone, and the licence it gives for them: ``source``, ``licence``."""
    about = timm.get_pretrained_cfg(name) if isinstance(name, str) and timm.is_model(name) else None
    source = str((about and (about.hf_hub_id or about.url)) or "")
    return {
        "source": source or f"what {name or 'the network'} fetched",
        "licence": (about and about.license) or "unknown",
    }


class Backbone(nn.Module):
    """A timm network cut into stages.

    Args:
        name: timm's name, as ``"resnet50"`` or ``"resnet50.tv_in1k"``.
        pretrained: ``False``, ``True`` (timm's download), ``"package"`` (an installed package's, see
            :mod:`regard.models.importers.packaged`) or the path of a local weights file.
        last_stride: 1 keeps the last stage at the resolution of the one before: every stride 2 in it becomes 1, with
            dilation left at 1. 2 leaves the network alone.
        stem_relu: whether the activation between the stem's normalization and its pooling stays. Only networks that
            have it as a separate module (``act1``, the ResNets) can lose it; the others ignore this.
        same_padding: pad where the resolution is halved as TensorFlow and MindSpore do, by as little as gives H / 2,
            the odd row and column at the bottom and on the right, where PyTorch pads all sides alike.
        norm_eps: added to the variance in every batch normalization; None leaves the network's own.
        ibn: ``"a"`` or ``"b"``, instance normalization in the early stages (:func:`regard.layers.style.put_ibn`).
        mixstyle: stages behind which training mixes styles (:class:`regard.layers.style.MixStyle`), 0 being the stem.
        mixstyle_p, mixstyle_alpha: probability of mixing a batch, and alpha of the Beta distribution of the shares.

    Attributes:
        stages: callables, each maps one feature map to the next; called by :func:`~regard.layers.row.passed`.
        names: of the taps, the places after each stage, by :func:`tap`.
        channels: channels after each stage.
        strides: pixels of the image per position of the map, after each stage.
        plugin: the plug-in that has registered it with timm, as it is to be kept; None where timm has it.
        colors: mean and deviation, in fractions of white, of the pixels that its weights were trained on; None where
            it starts from none, or they are of those whose network centers the pixels itself.

    Raises:
        ConfigError: timm has no such network, it does not come in stages, no package has its weights, or it cannot
            have an option.
        CheckpointError: the local weights file does not fit.
        RegardError: the weights could not be fetched.
    """

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool | str | Path = False,
        last_stride: int = 1,
        stem_relu: bool = False,
        same_padding: bool = False,
        norm_eps: float | None = None,
        ibn: IBN | None = None,
        mixstyle: Sequence[int] | None = None,
        mixstyle_p: float = 0.5,
        mixstyle_alpha: float = 0.1,
    ):
        super().__init__()
        if last_stride not in (1, 2):
            raise ConfigError(f"last_stride is {last_stride}, wanted 1 (keep the resolution) or 2 (halve it)")
        network, self.colors = _create(name, pretrained=pretrained)
        self.name = name
        self.plugin = backbone_plugin(name)
        family = next((FAMILIES[kind] for kind in FAMILIES if isinstance(network, kind)), None)
        probe = _patch(network) * max(PROBE // _patch(network), 4)
        self.stages = _stages(name, network, family, probe)
        if family is None and not stem_relu and "act1" in self.stages[0]._modules:
            del self.stages[0].act1
        if last_stride == 1:
            (family.keep_resolution if family else _keep_resolution)(self.stages[-1])
        if same_padding:
            _pad_same(self.stages)
        if norm_eps is not None:
            for norm in self.stages.modules():
                if isinstance(norm, nn.BatchNorm2d):
                    norm.eps = norm_eps
        maps = _probe(self.stages, probe)
        self.names = [tap(number) for number in range(len(maps))]
        self.channels = [x.shape[1] for x in maps]
        self.strides = [probe // x.shape[-1] for x in maps]
        if ibn is not None:
            put_ibn(self.stages, ibn, self.channels, name)
        if mixstyle:
            put_mixstyle(self.stages, mixstyle, MixStyle(mixstyle_p, mixstyle_alpha), name)

    def forward(self, images: Tensor, after: Callable[[str, Tensor], Tensor] | None = None) -> Tensor:
        """The last map: (B, 3, H, W) -> (B, channels[-1], H / strides[-1], W / strides[-1]).

        Args:
            images: B.
            after: from the name of a tap and its map to the map that goes on.
        """
        return self.walk(images, after)[0]

    def walk(
        self, images: Tensor, after: Callable[[str, Tensor], Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The last map as :meth:`forward` gives it, and what goes beside it."""
        x, beside = images, ()
        for name, stage in zip(self.names, self.stages):
            x, beside = passed(stage, x, beside)
            x = after(name, x) if after else x
        return x, beside

    def taps(self, attention: nn.ModuleDict | None = None) -> dict[str, nn.Module]:
        """The layers that return the map of each stage, in order, by the names of the taps.

        Args:
            attention: what follows a tap; its map is ``"tap2.after"`` then, and the stage's ``"tap2.before"``.
        """
        layers: dict[str, nn.Module] = {}
        for name, stage in zip(self.names, self.stages):
            if attention is not None and name in attention:
                layers |= {f"{name}.before": stage, f"{name}.after": attention[name]}
            else:
                layers[name] = stage
        return layers


def backbone_plugin(name: str) -> str | None:
    """The plug-in that has registered a backbone with timm, as it is to be kept; None where timm has it, or nobody."""
    return plugin_in(timm.model_entrypoint(name.partition(".")[0]).__module__) if _is_known(name) else None


def _is_known(name: str) -> bool:
    """Whether timm has it, or an installed plug-in registers it."""
    if not timm.is_model(name):
        load_installed()
    return timm.is_model(name)


def _create(name: str, *, pretrained: bool | str | Path) -> tuple[nn.Module, Colors | None]:
    """The whole timm network without its classifier, with the weights asked for, and the colors they are for."""
    check_kind("backbone", name, str, "a name of timm's, such as 'resnet50'")
    if not _is_known(name):
        raise ConfigError(
            f"timm has no backbone {name!r}{nearest(name, timm.list_models())}; timm.list_models() lists them"
        )
    download = pretrained is True
    if download:
        _announce_download(name)
    kept = timm.model_entrypoint(name.partition(".")[0]).__module__.startswith(OWN_POOL)
    options: dict[str, Any] = {} if kept else {"global_pool": ""}
    try:
        network = timm.create_model(name, pretrained=download, num_classes=0, **options)
    except Exception as error:  # the hub's client raises whatever its transport does
        if not download:
            raise ConfigError(f"timm could not build backbone {name!r}: {_line(error)}") from error
        raise _not_fetched(name, _line(error)) from error
    if pretrained == PACKAGE:
        own = network.state_dict()
        load_weights(network, read_packaged(name, own), source=packaged(name).source)
        return network, (packaged(name).mean, packaged(name).std)
    if pretrained is False:
        return network, None
    if not isinstance(pretrained, bool):
        _load_local(network, pretrained)
    about: Any = network.pretrained_cfg
    return network, (about["mean"], about["std"])


def _announce_download(name: str) -> None:
    """Say what is about to be fetched, unless it has been before.

    Raises:
        RegardError: the host that has it does not answer: the hub's client would try for a minute.
    """
    about = timm.get_pretrained_cfg(name)
    if about is None or about.file or about.state_dict or not (about.hf_hub_id or about.url):
        return
    where = about.url if isinstance(about.url, str) else ""
    repository, _, revision = str(about.hf_hub_id or "").partition("@")
    if repository:
        names = [about.hf_hub_filename] if about.hf_hub_filename else [*HUB_FILES]
        kept = any(
            isinstance(hub.try_to_load_from_cache(repository, one, revision=revision or None), str) for one in names
        )
    else:
        kept = (Path(torch.hub.get_dir()) / "checkpoints" / where.rpartition("/")[2]).is_file()
    if kept:
        return
    address = urlsplit(hub.constants.ENDPOINT if repository else where)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(
            f"regard: fetching the pretrained weights of {name} ({repository or where}) from {address.hostname}; "
            "model.pretrained=false goes without",
            file=sys.stderr,
        )
    if not (hub.constants.HF_HUB_OFFLINE or {"https", "http", "all"} & getproxies().keys()):
        try:
            port = address.port or (80 if address.scheme == "http" else 443)
            socket.create_connection((address.hostname, port), timeout=PATIENCE).close()
        except OSError as error:
            raise _not_fetched(name, f"{address.hostname} cannot be reached: {_line(error)}") from None


def _not_fetched(name: str, why: str) -> RegardError:
    return RegardError(
        f"could not fetch the pretrained weights of {name!r} ({why}); give a local file with model.pretrained=PATH, or "
        "model.pretrained=false to start from random weights"
    )


def _load_local(network: nn.Module, path: str | Path) -> None:
    """Weights in timm's own layout (for ResNets torchvision's is the same), with or without the classifier's.

    Those of a ResNet of MindSpore have its names.
    """
    tensors = read_tensors(path)
    if of_mindspore(tensors):
        tensors = in_torch_words(tensors, network.state_dict(), str(path))
    config: Any = network.pretrained_cfg
    classifier = config.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    kept = {k: v for k, v in tensors.items() if not k.startswith(tuple(f"{head}." for head in heads))}
    counters = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    load_weights(network, counters | kept, source=str(path))


def _cut(name: str, network: nn.Module) -> list[nn.Sequential]:
    """One sequence of modules per feature point, after one for the stem where that has no point of its own."""
    info = getattr(network, "feature_info", None) or []
    points = [point["module"] for point in info]
    reductions = [point["reduction"] for point in info]
    if len(points) < 2 or any(a >= b for a, b in pairwise(reductions)):
        raise ConfigError(
            f"backbone {name!r} does not come in stages of falling resolution, and attention goes between stages; "
            "choose one that does, such as resnet50, convnext_tiny or swin_tiny_patch4_window7_224, or a plain ViT as "
            "deit_small_patch16_224"
        )
    units = dict(_units(network, points))
    paths = list(units)
    ends = list(points)
    if reductions[0] > 2 and points[0] in units and paths.index(points[0]) > 0:
        ends.insert(0, paths[paths.index(points[0]) - 1])
    stages: list[OrderedDict[str, nn.Module]] = [OrderedDict()]
    for path, unit in units.items():
        if len(stages) > len(ends):
            break
        pools_stage_before = "pool" in path and not stages[-1] and len(stages) > 1
        stages[-2 if pools_stage_before else -1][path.replace(".", "_")] = unit
        if path in ends:
            stages.append(OrderedDict())
    return [nn.Sequential(stage) for stage in stages if stage]


def _units(module: nn.Module, points: list[str], prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Modules in order, with their paths; a container is opened where a feature point lies inside it."""
    for name, child in module.named_children():
        path = prefix + name
        if any(point.startswith(f"{path}.") for point in points):
            yield from _units(child, points, f"{path}.")
        else:
            yield path, child


def _patch(network: nn.Module) -> int:
    """Side of the patches that a network takes as one, in pixels."""
    size = getattr(getattr(network, "patch_embed", None), "patch_size", 1)
    return max(size) if isinstance(size, tuple) else size


def _image(side: int) -> Tensor:
    """A test image, (1, 3, side, side)."""
    return torch.linspace(-2, 2, 3 * side * side).view(1, 3, side, side)


@torch.no_grad()
def _probe(stages: nn.ModuleList, side: int) -> list[Tensor]:
    """The map after each stage for the test image, in evaluation mode."""
    stages.eval()
    maps, x, beside = [], _image(side), ()
    for stage in stages:
        x, beside = passed(stage, x, beside)
        maps.append(x)
    stages.train()
    return maps


def _stages(name: str, network: Any, family: ModuleType | None, probe: int) -> nn.ModuleList:
    """The stages of a network, checked.

    Raises:
        ConfigError: its own forward is not its stages in a row (skips between stages, channels-last maps, …).
    """
    cut = None if family else _cut(name, network)
    network.eval()
    try:
        with torch.no_grad():
            whole = family.whole(network, _image(probe)) if family else _last_map(network, _image(probe))
        stages = nn.ModuleList(family.cut(network) if family else cut)
        same = torch.allclose(_probe(stages, probe)[-1], whole, atol=1e-5)
    except (AttributeError, AssertionError, NotImplementedError, RuntimeError, TypeError, ValueError):
        same, stages = False, nn.ModuleList()
    if not same:
        raise ConfigError(
            f"backbone {name!r} cannot be cut: run one after the other, its stages are not the network; "
            f"choose one whose stages are a plain sequence, such as resnet50 or convnext_tiny"
        )
    return stages


def _last_map(network: Any, image: Tensor) -> Tensor:
    """The map at the last feature point, as the network computes it."""
    return network.forward_intermediates(image, intermediates_only=True)[-1]


def _keep_resolution(stage: nn.Module) -> None:
    """Set every stride 2 of a stage to 1, as if the network had been built so, with the same weights.

    A convolution without padding (a patch merging) gets what keeps the size.
    """
    for parent, name, child in _children(stage):
        if isinstance(child, nn.Conv2d) and child.stride == (2, 2):
            child.stride = (1, 1)
            if child.padding == (0, 0) and child.kernel_size != (1, 1):
                setattr(parent, name, _same(child))
        elif isinstance(child, nn.AvgPool2d | nn.MaxPool2d | BlurPool2d) and child.stride in (2, (2, 2)):
            setattr(parent, name, nn.Identity())


def _pad_same(stages: nn.ModuleList) -> None:
    """Let everything that halves the resolution pad as TensorFlow does, with the same weights under the same names."""
    for parent, name, child in _children(stages):
        if isinstance(child, nn.Conv2d) and child.stride == (2, 2) and child.kernel_size != (1, 1):
            setattr(parent, name, _same(child))
        elif isinstance(child, nn.MaxPool2d) and child.stride in (2, (2, 2)):
            setattr(parent, name, MaxPool2dSame(child.kernel_size, child.stride))


def _children(module: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    """Every module inside, with the one that it is of and its name there."""
    return [(parent, name, child) for parent in module.modules() for name, child in parent.named_children()]


def _same(conv: nn.Conv2d) -> nn.Conv2d:
    """The convolution with TensorFlow's padding and the same parameters."""
    same = Conv2dSame(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        groups=conv.groups,
        bias=conv.bias is not None,
    )
    same.weight, same.bias = conv.weight, cast(nn.Parameter, conv.bias)
    return cast(nn.Conv2d, same)


def _line(error: Exception) -> str:
    """The first line of an error that was not written for users."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
