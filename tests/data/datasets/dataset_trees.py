"""Published data sets in miniature, with their true folders and names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from scipy.io import savemat


def write_pictures(root: Path, names: Iterable[str]) -> Path:
    """Different pictures under the given names."""
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (16, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return root


def write_duke(root: Path) -> Path:
    names = [f"bounding_box_train/{pid:04d}_c{c}_f{1000 + pid:07d}.jpg" for pid in (1, 5, 9) for c in (1, 8)]
    names += ["query/0002_c2_f0046182.jpg", "query/0011_c5_f0066412.jpg"]
    names += [f"bounding_box_test/{n}.jpg" for n in ("0002_c1_f0044158", "0011_c6_f0085587", "7139_c4_f0155216")]
    return write_pictures(root, names)


MSMT = {
    "train": ["0000/0000_000_01_0303morning_0015_0.jpg", "0000/0000_001_14_0303morning_0026_0.jpg",
              "0001/0001_000_05_0303noon_0199_0.jpg", "0001/0001_001_15_0302afternoon_0400_1.jpg"],
    "val": ["0000/0000_002_09_0303morning_0031_0.jpg"],
    "query": ["0000/0000_000_10_0303morning_0008_0.jpg", "0001/0001_004_11_0303noon_0017_2.jpg"],
    "gallery": ["0000/0000_001_04_0303morning_0006_0.jpg", "0001/0001_000_15_0302noon_1006_0.jpg",
                "0002/0002_000_12_0302noon_0100_0.jpg"],
}  # fmt: skip
"""MSMT17's lists: training and test start again at 0, for other people."""


def write_msmt17(root: Path, train: str = "mask_train_v2", test: str = "mask_test_v2") -> Path:
    for split, names in MSMT.items():
        folder = train if split in ("train", "val") else test
        write_pictures(root, [f"{folder}/{name}" for name in names])
        lines = [f"{name} {int(name[:4])}" for name in names]
        (root / f"list_{split}.txt").write_text("\n".join(lines) + "\n")
    return root


def write_converted_msmt17(root: Path) -> Path:
    names = [f"bounding_box_train/{n}.jpg" for n in ("0000_c1_0015", "0000_c14_0026", "0001_c5_0199", "0001_c15_0400")]
    names += ["query/0000_c10_0008.jpg", "query/0001_c11_0017.jpg"]
    names += [f"bounding_box_test/{n}.jpg" for n in ("0000_c4_0006", "0001_c15_1006", "0002_c12_0100")]
    return write_pictures(root, names)


CUHK = {
    "train": ["1_001_1_01.png", "1_001_2_06.png", "2_001_1_02.png", "2_001_2_10.png"],
    "query": ["1_002_1_01.png", "1_002_2_07.png"],
    "gallery": ["1_002_1_03.png", "1_002_2_08.png"],
}
CUHK_LABELS = {"1_001": 1, "2_001": 2, "1_002": 3}


def write_extracted_cuhk03(root: Path, kinds: Iterable[str] = ("detected", "labeled")) -> Path:
    for kind in kinds:
        names = [f"{kind}/bounding_box_train/{n}.png" for n in ("0001_c1_1", "0001_c2_6", "0002_c1_2", "0002_c2_10")]
        names += [f"{kind}/query/0003_c1_1.png", f"{kind}/query/0003_c2_7.png"]
        names += [f"{kind}/bounding_box_test/0003_c1_3.png", f"{kind}/bounding_box_test/0003_c2_8.png"]
        write_pictures(root, names + ([f"{kind}/bounding_box_train/0002_c2_9.png"] if kind == "labeled" else []))
    return root


def write_cuhk03_release(root: Path) -> dict[str, np.ndarray]:
    """The .mat files as MATLAB writes them: cells as arrays of references, everything transposed, empty cells marked.

    Returns:
        The pixels (H, W, 3) of every picture of ``detected``, by the name it must be extracted to.
    """
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    names = sorted(name for part in CUHK.values() for name in part)
    pictures = {name: rng.integers(0, 256, (20 + i, 10 + i, 3), dtype=np.uint8) for i, name in enumerate(names)}
    with h5py.File(root / "cuhk-03.mat", "w", userblock_size=512) as file:
        stored = file.create_group("#refs#")
        empty = stored.create_dataset("empty", data=np.array([0, 0], dtype=np.uint64))
        empty.attrs["MATLAB_empty"] = np.uint8(1)
        for name, pixels in pictures.items():
            stored.create_dataset(name, data=pixels.T)  # 3 x W x H
        for boxes in ("detected", "labeled"):
            pairs = np.empty((1, 5), dtype=h5py.ref_dtype)  # MATLAB's 5 x 1
            for pair in range(1, 6):
                cell = np.empty((10, 2), dtype=h5py.ref_dtype)  # MATLAB's people x 10
                for person in (1, 2):
                    for index in range(1, 11):
                        name = f"{pair}_{person:03d}_{1 + (index > 5)}_{index:02d}.png"
                        cell[index - 1, person - 1] = stored[name].ref if name in pictures else empty.ref
                people = stored.create_dataset(f"{boxes}_{pair}", data=cell, dtype=h5py.ref_dtype)
                people.attrs["MATLAB_class"] = np.bytes_("cell")
                pairs[0, pair - 1] = people.ref
            file.create_dataset(boxes, data=pairs, dtype=h5py.ref_dtype).attrs["MATLAB_class"] = np.bytes_("cell")
    for boxes in ("detected", "labeled"):
        filelist = np.empty((len(names), 1), dtype=object)
        filelist[:, 0] = names
        content = {
            "filelist": filelist,
            "labels": np.array([[CUHK_LABELS[name[:5]]] for name in names], dtype=np.uint16),
            "camId": np.array([[int(name[6])] for name in names], dtype=np.uint8),
        }
        for split, part in CUHK.items():
            content[f"{split}_idx"] = np.array([[names.index(name) + 1] for name in part], dtype=np.uint16)
        savemat(root / f"cuhk03_new_protocol_config_{boxes}.mat", content)
    return pictures


def write_partial(root: Path, query: str, gallery: str, name: str = "{pid:03d}_{shot:03d}.jpg") -> Path:
    shots = range(1, 3) if "shot" in name else range(1, 2)
    return write_pictures(
        root, [f"{part}/{name.format(pid=p, shot=s)}" for part in (query, gallery) for p in (1, 2, 60) for s in shots]
    )


def write_viper(root: Path, people: int = 8) -> Path:
    return write_pictures(root, [f"cam_{c}/{p:03d}_{a}.bmp" for c, a in (("a", 0), ("b", 90)) for p in range(people)])


def write_grid(root: Path, people: int = 8, distractors: int = 3) -> Path:
    names = [f"probe/{p:04d}_{1 + p % 4}_25004_107_32_106_221.jpeg" for p in range(1, people + 1)]
    names += [f"gallery/{p:04d}_{5 + p % 4}_25123_109_31_100_210.jpeg" for p in range(1, people + 1)]
    return write_pictures(root, names + [f"gallery/0000_{d % 8 + 1}_{d}_1_2_3_4.jpeg" for d in range(distractors)])


def write_prid(root: Path) -> Path:
    first = [f"single_shot/cam_a/person_{p:04d}.png" for p in (1, 2, 3, 200, 201, 385)]
    return write_pictures(
        root, first + [f"single_shot/cam_b/person_{p:04d}.png" for p in (1, 2, 3, 200, 201, 385, 749)]
    )
