"""Squared error of predicted maps (DAAF: Chen et al., Pattern Recognition 126 (2022), arXiv 2003.00517)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from regard.errors import ConfigError, check_choice
from regard.registry import LOSSES

__all__ = ["MapMSE"]

Missing = Literal["ignore", "zero"]


@LOSSES.register("map_mse")
class MapMSE(nn.Module):
    """Mean squared error of maps against labels that may be missing in part.

    DAAF weighs the mean squared errors of its six groups of joints by n_g / 17, n_g being the joints of group g: that
    is the mean over all 17 maps, and this is what the loss computes.

    Args:
        missing: what to do where there is no label: "ignore" leaves those elements out of the mean, "zero" holds the
            prediction against a map of zeros, as the released code does.
        channels: look at these maps only, e.g. [5, 6] for the shoulders; None looks at all.
        scale: the prediction is held against this many times the labels: 255 are gray levels, as DAAF's TensorFlow and
            MindSpore codes have their heat maps.

    Raises:
        ConfigError: no such ``missing``, or a scale that is not positive.
    """

    def __init__(self, missing: Missing = "ignore", channels: tuple[int, ...] | None = None, scale: float = 1.0):
        super().__init__()
        check_choice("missing", missing, Missing)
        if not scale > 0:
            raise ConfigError(f"scale is {scale}, wanted a positive number; 255 makes gray levels of labels")
        self.missing = missing
        self.scale = scale
        self.channels = None if channels is None else list(channels)

    def forward(self, maps: Tensor, target: tuple[Tensor, Tensor]) -> Tensor:
        """Mean loss of predicted maps (B, N, h, w).

        Args:
            maps: the prediction.
            target: the labels (B, N, h, w) from 0 to 1, and where they are valid, a bool tensor that broadcasts to
                them. Where nothing is, the loss is 0.

        Raises:
            ConfigError: prediction and labels differ in size, or there is no such map.
        """
        wanted, valid = target
        if maps.shape != wanted.shape:
            predicted, labeled = (" x ".join(map(str, each.shape[1:])) for each in (maps, wanted))
            raise ConfigError(
                f"the predicted maps are {predicted}, but their labels are {labeled}; set data.label_stride, "
                f"and data.height and data.width to multiples of the network's stride"
            )
        if self.channels is not None:
            if not all(0 <= channel < maps.shape[1] for channel in self.channels):
                raise ConfigError(f"channels is {self.channels}, but the maps are numbered 0 to {maps.shape[1] - 1}")
            maps, wanted = maps[:, self.channels], wanted[:, self.channels]
            valid = valid[:, self.channels] if valid.shape[1] > 1 else valid
        error = (maps - self.scale * wanted.to(maps.dtype)).square()
        if self.missing == "zero":
            return error.mean()
        if valid.shape[2:] == (1, 1):  # whole maps are counted or not: a third of the work
            error = error.mean((2, 3), keepdim=True)
        counted = valid.expand_as(error)
        return error.masked_fill(~counted, 0).sum() / counted.sum().clamp(min=1)
