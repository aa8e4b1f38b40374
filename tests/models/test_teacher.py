"""Networks in files that make labels: described, tried, asked by several threads, to the pixels they found."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from knowing_teacher import write_teacher
from regard.cli import labels_verb
from regard.data.image import read_image
from regard.data.labels.canvas import lay_out
from regard.data.labels.coco import read_coco
from regard.errors import CheckpointError, ConfigError, RegardError
from regard.models.teacher import PRESETS, open_teacher

SIZE = (48, 40)
SEEN = "color: rgb\nscale: 255\nmean: [0, 0, 0]\nstd: [1, 1, 1]\nfit: edge\nmargin: 1.15\n"
POINTS = "joints: {kind: coordinates, output: points, order: coco17}\n"
MASKS = "mask: {kind: probabilities, output: masks}\n"


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Five photos of different shapes, one colored square in each."""
    root = tmp_path_factory.mktemp("photos")
    (root / "mine").mkdir()
    for number, (h, w) in enumerate([(60, 30), (40, 40), (30, 50), (90, 20), (64, 32)]):
        pixels = np.full((h, w, 3), 40 * number, np.uint8)
        pixels[h // 4 : h // 2, w // 4 : w // 2] = (250, 10 * number, 100)
        Image.fromarray(pixels).save(root / "mine" / f"{number}.png")
    return root


def teach(folder: Path, photos: Path, *, described: str = SEEN + POINTS + MASKS, **options) -> Path:
    """A network that knows the squares of the photos."""
    canvases, points, masks = [], [], []
    for path in sorted((photos / "mine").iterdir()):
        picture = read_image(path)
        made, canvas = lay_out(picture, SIZE, "edge", margin=1.15)
        top, left, height, width = canvas.place
        square = (picture[..., 0] == 250).astype(np.uint8) * 255
        mask = np.zeros(SIZE, np.uint8)
        small = Image.fromarray(square).resize((width, height), Image.Resampling.BILINEAR)
        mask[top : top + height, left : left + width] = small
        x, y = left + np.linspace(0.3, 0.6, 17) * width, top + np.linspace(0.2, 0.9, 17) * height
        canvases.append(made)
        masks.append(mask[None] / 255)
        points.append(np.stack([x, y, np.linspace(0, 1, 17)], 1))
    path = write_teacher(folder / "teacher.onnx", canvases, np.stack(points), np.stack(masks), **options)
    Path(f"{path}.yaml").write_text(described)
    return path


def run(*arguments) -> int | None:
    parser = argparse.ArgumentParser()
    labels_verb.add_arguments(parser)
    return labels_verb.run(parser.parse_args([*map(str, arguments), "-q"]))


@pytest.mark.slow
@pytest.mark.parametrize("batch", [None, 2])
def test_one_pass_gives_joints_and_masks(tmp_path, photos, capsys, batch):
    path = teach(tmp_path, photos, batch=batch)
    out = tmp_path / "out"
    assert run("make", photos, out, "--folder", "mine", "--pose", path, "--keep-faces") is None
    assert f"preview {photos} labels.png --folder mine --coco {out}" in capsys.readouterr().out
    for name, person in read_coco(out / "keypoints.json")[0].items():
        picture, mask = read_image(photos / name), read_image(out / "masks" / name)[..., 0]
        h, w = picture.shape[:2]
        wanted = np.stack([np.linspace(0.3, 0.6, 17) * w, np.linspace(0.2, 0.9, 17) * h], 1) - 0.5
        levels = np.array([level for _, _, level in person.keypoints])
        assert levels.tolist() == [0, 0, 1, 1, 1, *[2] * 12]
        np.testing.assert_allclose(np.array(person.keypoints)[levels > 0, :2], wanted[levels > 0], atol=0.02)
        square = picture[..., 0] == 250
        assert (square & (mask > 0)).sum() / (square | (mask > 0)).sum() > 0.8
    if batch:
        return
    assert run("preview", photos, tmp_path / "labels.png", "--folder", "mine", "--coco", out / "keypoints.json") is None
    assert run("make", photos, tmp_path / "masks", "--folder", "mine", "--mask", path) is None
    assert read_coco(tmp_path / "masks" / "keypoints.json")[0]["mine/0.png"].keypoints is None


@pytest.mark.slow
def test_functions_label_and_what_fails_is_told(tmp_path, photos, capsys):
    own = tmp_path / "own_teacher.py"
    own.write_text("def find(picture):\n    return (picture > 0)[..., 0] if picture.shape[0] < 80 else 1 / 0\n")
    assert run("make", photos, tmp_path / "out", "--folder", "mine", "--mask", f"{own}:find") == 2
    told = capsys.readouterr().out
    assert "left out: mine/3.png: ZeroDivisionError: division by zero" in told
    assert "4 photos, 1 left out, which the next call tries again; next: " in told
    assert len(list((tmp_path / "out" / "masks" / "mine").iterdir())) == 4
    with pytest.raises(RegardError, match="has none called 'lost'"):
        run("make", photos, tmp_path / "out2", "--folder", "mine", "--mask", f"{own}:lost")


@pytest.mark.slow
def test_what_does_not_fit_is_refused_before_any_work(tmp_path, photos):
    path = teach(tmp_path, photos)
    beside = Path(f"{path}.yaml")
    for described, message in (
        (SEEN, "says neither joints nor mask"),
        (SEEN + POINTS.replace("points", "lost"), "has the outputs points, masks, and lost of them is asked for"),
        (SEEN + MASKS.replace(", output: masks", ""), "and none of them is asked for; say output: NAME"),
        (SEEN + POINTS.replace("coco17", "mediapipe33"), r"tried on a gray picture: .*\(17, 3\).* 33 points"),
        (SEEN.replace("edge", "square") + POINTS, "fit in .* is 'square', wanted one of: stretch, letterbox, edge"),
        (SEEN.replace("1.15", "0.5") + POINTS, "margin in .* is 0.5, wanted a number from 1"),
        (SEEN.replace("edge", "stretch") + POINTS, "says margin, which means nothing where fit is stretch"),
        (SEEN.replace("[1, 1, 1]", "[1, 0, 1]") + POINTS, "std in .*three numbers above 0"),
        (SEEN + POINTS + "flip: true\n", "says 'flip'"),
        (SEEN + "size: [48, 41]\n" + POINTS, "takes pictures of 48 x 40, and its description says"),
    ):
        beside.write_text(described)
        with pytest.raises(ConfigError, match=message) as caught:
            open_teacher(path)
        assert "\n" not in str(caught.value)
    beside.write_text(SEEN + MASKS)
    with pytest.raises(ConfigError, match="finds no joints, by its description; give it with --mask"):
        run("make", photos, tmp_path / "out", "--folder", "mine", "--pose", path)
    beside.unlink()
    with pytest.raises(ConfigError, match=r"nothing says what .* sees; write teacher.onnx.yaml beside it"):
        open_teacher(path)
    with pytest.raises(ConfigError, match="no preset is called 'mediapip', did you mean 'mediapipe'"):
        run("make", photos, tmp_path / "out", "--folder", "mine", "--pose", f"mediapip={path}")
    beside.write_text(SEEN + POINTS)
    with pytest.raises(ConfigError, match="--pose-weights means nothing for"):
        run("make", photos, tmp_path / "out", "--folder", "mine", "--pose", path, "--pose-weights", "x.pth")


@pytest.mark.slow
def test_the_preset_reads_what_its_makers_write(tmp_path, photos):
    """The outputs of @mediapipe/pose in an ONNX file: 39 points of five numbers, and a mask of logits."""
    shape = (256, 256)
    canvases = [lay_out(read_image(p), shape, "edge", margin=1.15)[0] for p in sorted((photos / "mine").iterdir())]
    rows = np.tile(np.array([128.0, 64.0, 3.0, 20.0, 20.0]), (5, 39, 1))
    rows[:, 11] = (10, 64, 0, 20, -20)
    path = write_teacher(tmp_path / "fake.onnx", canvases, rows.reshape(5, 195), np.full((5, 1, *shape), 900.0))
    import onnx

    model = onnx.load(path)
    for old, new in (("points", "Identity"), ("masks", "Identity_2")):
        for node in model.graph.node:
            node.output[:] = [new if name == old else name for name in node.output]
        for output in model.graph.output:
            output.name = new if output.name == old else output.name
    onnx.save(model, path)
    teacher = open_teacher(path, "mediapipe").teacher()
    (found,) = teacher.find([read_image(photos / "mine" / "1.png")])
    np.testing.assert_allclose(found.joints[0], [19.5, 19.5 - 0.25 * 40 * 1.15, 1], atol=0.15)
    assert found.joints[5, 2] == 0
    assert found.mask.all()
    assert PRESETS["mediapipe"]["margin"] == 1.15
    damaged = tmp_path / "pose_landmark_lite.tflite"
    damaged.write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    with pytest.raises(CheckpointError, match=r"openvino does not take .*pose_landmark_lite\.tflite") as caught:
        open_teacher(damaged, "mediapipe")
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="cannot read"):
        open_teacher(tmp_path / "lost.tflite", "mediapipe")
