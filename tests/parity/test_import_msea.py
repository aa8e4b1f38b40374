"""Which MSEA Net a file holds, and which files hold none."""

from __future__ import annotations

import named_weights
import numpy as np
import pytest
import test_import_apnet
from test_parity_msea import released_keys

import regard
from regard.errors import CheckpointError


def blank(impl: str, level: int) -> dict[str, np.ndarray]:
    """Zeros of the right names and shapes; the backbone once."""
    keys = released_keys(impl, level)
    return {
        key: np.zeros(shape, dtype=np.int64 if key.endswith("num_batches_tracked") else np.float32)
        for key, shape in keys.items()
        if not key.startswith(tuple(named_weights.ALIASES))
    }


@pytest.mark.parametrize(
    ("impl", "level", "preset", "kernel"),
    [
        ("msea2023", 0, "2023", None),
        ("msea2023", 1, "2023", 3),
        ("msea2023", 2, "2023", 3),
        ("mseahead", 1, "head", None),
        ("mseahead", 2, "head", 5),
    ],
)
def test_everything_is_detected(impl, level, preset, kernel):
    tensors = blank(impl, level)
    tensors["classifier.weight"] = np.zeros((702, 2048), dtype=np.float32)
    model = regard.import_released(tensors, network="msea")
    assert model.num_ids == 702
    assert {key: model.options[key] for key in ("preset", "level", "kernel", "gate")} == {
        "preset": preset, "level": level, "kernel": kernel, "gate": None,
    }  # fmt: skip
    assert (model.options["last_stride"], model.options["stem_relu"]) == (1, False)
    assert model.import_report.unused == []


def test_another_kernel():
    tensors = blank("mseahead", 2)
    tensors |= {key: np.zeros((1, 1, 7), dtype=np.float32) for key in tensors if key.endswith(".conv.weight")}
    assert regard.import_released(tensors, network="msea").options["kernel"] == 7


def level_three(impl: str) -> dict[str, np.ndarray]:
    """As the code would have saved it, had it run: three groups of 21 channels, and one left over."""
    tensors = blank(impl, 2)
    first = "att1" if impl == "mseahead" else "att_s1"
    tensors[f"{first}.fc1.weight"] = np.zeros((32, 21, 1, 1), dtype=np.float32)
    tensors["att_ss1.conv.weight"] = np.zeros((1, 1, 5), dtype=np.float32)
    return tensors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: test_import_apnet.blank(2),
            "looks like a checkpoint of apnet, not of msea: it has .*; import it as network 'apnet'",
        ),
        (lambda: {"features.0.weight": np.zeros(3)}, "is not an MSEA checkpoint: it has no base.conv1.weight"),
        (lambda: blank("msea2023", 2) | {"att3.conv.weight": np.zeros((1, 1, 5))}, "1 of another shape"),
        (lambda: blank("msea2023", 1) | {"att_s1.conv.weight": np.zeros((1, 1, 3))}, "unexpected|missing"),
        (lambda: level_three("msea2023"), "does not split level 2 into 2 groups"),
        (lambda: level_three("mseahead"), "does not split level 1 into 2 groups"),
    ],
)
def test_wrong_files(make, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        regard.import_released(make(), network="msea")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("impl", ["msea2023", "mseahead"])
def test_apnet_points_to_msea(impl):
    with pytest.raises(CheckpointError, match=r"looks like a checkpoint of msea, .* import it as network 'msea'"):
        regard.import_released(blank(impl, 1), network="apnet")
