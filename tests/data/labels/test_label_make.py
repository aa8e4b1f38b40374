"""Labels made by models: resumable, honest about missing weights, and loaded the way users load them."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest
import torch
from PIL import Image

from regard.cli import labels_verb
from regard.data.labels.coco import read_coco
from regard.data.labels.make import load_mask_model, load_pose_model, make_labels
from regard.errors import CheckpointError, ConfigError, DataError


def fake_pose(picture: np.ndarray) -> np.ndarray:
    """Joints that depend on the picture, with scores 0, 1/16, ... 1."""
    return np.stack([np.arange(17) + picture[0, 0, 0] / 255, np.arange(17) * 2.0, np.arange(17) / 16], 1)


def fake_silhouette(picture: np.ndarray) -> np.ndarray:
    return np.where(picture[:, :, 0] > 127, np.uint8(255), np.uint8(0))


@pytest.fixture
def pictures(tmp_path, photos):
    return {s.path.relative_to(tmp_path).as_posix(): s.path for s in photos(tmp_path)}


def test_what_is_written(tmp_path, pictures):
    made = make_labels(pictures, tmp_path / "out", fake_pose, fake_silhouette, "fakes", progress=False)
    assert made == (tmp_path / "out" / "keypoints.json", 6, True, True, 0, {})
    path = made.path
    persons, _ = read_coco(path)
    assert list(persons) == list(pictures)
    for name, photo in pictures.items():
        with Image.open(photo) as image:
            picture = np.array(image)
        person = persons[name]
        assert (person.height, person.width) == (64, 32)
        assert [v for _, _, v in person.keypoints] == [0, 0, 1, 1, 1, *[2] * 12]
        assert person.keypoints[0] == (0, 0, 0)
        assert person.keypoints[7][:2] == pytest.approx((7 + picture[0, 0, 0] / 255, 14), abs=0.006)
        assert person.scores == pytest.approx(np.arange(17) / 16, abs=1e-4)
        with Image.open(tmp_path / "out" / "masks" / name.replace(".jpg", ".png")) as mask:
            assert (np.array(mask) == fake_silhouette(picture)).all()
    assert json.loads(path.read_text())["info"]["description"] == "fakes"
    assert not list((tmp_path / "out").glob("*.partial"))


@pytest.mark.parametrize("torn", [b"", b'{"name": "bounding_box', b'{"name": 5}\n', b"\xff\xfe\n", b"[]\n"])
def test_an_interrupted_call_goes_on(tmp_path, pictures, torn):
    out, seen = tmp_path / "out", []

    def pose(picture):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(picture)
        return fake_pose(picture)

    with pytest.raises(KeyboardInterrupt):
        make_labels(pictures, out, pose, None, "fakes", progress=False)
    assert not (out / "keypoints.json").exists()
    with (out / "keypoints.json.partial").open("ab") as file:
        file.write(torn)
    with pytest.raises(DataError, match=r"unfinished call with other models \(fakes\)"):
        make_labels(pictures, out, pose, None, "others", progress=False)
    rest = []
    path, *_ = make_labels(pictures, out, lambda p: rest.append(p) or fake_pose(p), None, "fakes", progress=False)
    assert len(rest) == 3
    whole, *_ = make_labels(pictures, tmp_path / "whole", fake_pose, None, "fakes", progress=False)
    assert path.read_bytes() == whole.read_bytes()


def test_a_photo_that_changed_in_between_is_labeled_anew(tmp_path, pictures):
    out, seen = tmp_path / "out", []

    def pose(picture):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(picture)
        return fake_pose(picture)

    with pytest.raises(KeyboardInterrupt):
        make_labels(pictures, out, pose, None, "fakes", progress=False)
    path = next(iter(pictures.values()))
    with path.open("ab") as file:
        file.write(b"\0")
    rest = []
    make_labels(pictures, out, lambda p: rest.append(p) or fake_pose(p), None, "fakes", progress=False)
    assert len(rest) == len(pictures) - 3 + 1


def test_nothing_to_make(tmp_path, pictures):
    with pytest.raises(ConfigError, match="no model is given"):
        make_labels(pictures, tmp_path, None, None, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("load", "name"), [(load_pose_model, "keypointrcnn_resnet50_fpn"), (load_mask_model, "deeplabv3_resnet50")]
)
def test_missing_weights_say_what_to_fetch(tmp_path, monkeypatch, load, name):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(CheckpointError, match=rf"no weights for {name}: looked for .*{name}_coco-.*\.pth") as caught:
        load(name)
    assert f"get_model('{name}', weights='DEFAULT')" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_other_names_are_hugging_face_s(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"'somebody/vitpose' is no model of torchvision.*needs transformers.*regard"):
        load_pose_model("somebody/vitpose")


def random_weights(name: str, path) -> None:
    from torchvision.models import get_model

    torch.manual_seed(0)
    torch.save(get_model(name, weights=None, weights_backbone=None).state_dict(), path)


def test_weights_that_do_not_fit(tmp_path):
    for content in (b"", b"no weights"):
        (tmp_path / "a.pth").write_bytes(content)
        with pytest.raises(CheckpointError, match="does not fit lraspp_mobilenet_v3_large"):
            load_mask_model("lraspp_mobilenet_v3_large", tmp_path / "a.pth")
    torch.save({"some": torch.zeros(2)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"does not fit .*expected its state dict") as caught:
        load_mask_model("lraspp_mobilenet_v3_large", tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_segmentation_model_labels_a_data_set(tmp_path, market, monkeypatch, capsys):
    """Random weights from torchvision's own cache; the person's class is made to win in the left half."""
    from torchvision.models import get_model_weights

    file = get_model_weights("lraspp_mobilenet_v3_large").DEFAULT.url.rsplit("/", 1)[1]
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    path = tmp_path / "hub" / "checkpoints" / file
    random_weights("lraspp_mobilenet_v3_large", path)
    parser = argparse.ArgumentParser()
    labels_verb.add_arguments(parser)
    arguments = ["make", market, tmp_path / "out", "--mask", "lraspp_mobilenet_v3_large", "--size", 64, "-q"]
    labels_verb.run(parser.parse_args(list(map(str, arguments))))
    assert "; 30 photos; next: regard data labels preview " in capsys.readouterr().out
    masks = sorted((tmp_path / "out" / "masks" / "bounding_box_train").iterdir())
    assert len(masks) == 30
    state = torch.load(path, weights_only=True)
    bias = [name for name in state if name.endswith("classifier.bias")]
    for person, expected in ((1e3, 255), (-1e3, 0)):
        for name in bias:
            state[name][15] = person
        torch.save(state, path)
        silhouette = load_mask_model("lraspp_mobilenet_v3_large", size=64)
        mask = silhouette(np.random.default_rng(0).integers(0, 256, (40, 20, 3), dtype=np.uint8))
        assert mask.shape == (40, 20)
        assert (mask == expected).all()


@pytest.mark.slow
def test_joints_of_a_keypoint_resnet50(tmp_path):
    """Random weights; then a head whose maps are flat, of which the first pixel's center is the peak."""
    from torchvision.models import get_model

    torch.manual_seed(0)
    model = get_model("keypointrcnn_resnet50_fpn", weights=None, weights_backbone=None)
    torch.save(model.state_dict(), tmp_path / "a.pth")
    pose = load_pose_model("keypointrcnn_resnet50_fpn", tmp_path / "a.pth", size=64)
    picture = np.random.default_rng(0).integers(0, 256, (56, 28, 3), dtype=np.uint8)
    joints = pose(picture)
    assert joints.shape == (17, 3)
    assert len(np.unique(joints[:, :2].round())) > 5
    for axis, length in ((0, 28), (1, 56)):
        assert (joints[:, axis] >= 0).all()
        assert (joints[:, axis] <= length - 1).all()
    assert ((joints[:, 2] >= 0) & (joints[:, 2] <= 1)).all()
    with torch.no_grad():
        for part in model.roi_heads.keypoint_predictor.parameters():
            part.zero_()
    torch.save(model.state_dict(), tmp_path / "a.pth")
    flat = load_pose_model("keypointrcnn_resnet50_fpn", tmp_path / "a.pth", size=64)(picture)
    np.testing.assert_allclose(flat, [[0, 0, 1 / (1 + np.exp(2))]] * 17, atol=1e-6)
    with pytest.raises(ConfigError, match="finds no masks"):
        load_mask_model("keypointrcnn_resnet50_fpn", tmp_path / "a.pth", size=64)


@pytest.mark.slow
def test_the_mask_of_a_mask_rcnn_resnet50(tmp_path):
    from torchvision.models import get_model

    torch.manual_seed(0)
    model = get_model("maskrcnn_resnet50_fpn", weights=None, weights_backbone=None)
    with torch.no_grad():
        model.roi_heads.mask_predictor.mask_fcn_logits.bias[1] = 1e3
    torch.save(model.state_dict(), tmp_path / "a.pth")
    silhouette = load_mask_model("maskrcnn_resnet50_fpn", tmp_path / "a.pth", size=64)
    mask = silhouette(np.zeros((40, 20, 3), np.uint8))
    assert mask.shape == (40, 20)
    assert (mask == 255).all()
    with pytest.raises(ConfigError, match="finds no joints"):
        load_pose_model("maskrcnn_resnet50_fpn", tmp_path / "a.pth", size=64)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_models_of_hugging_face(tmp_path):
    """Tiny models with random weights, saved and read as folders."""
    transformers = pytest.importorskip("transformers")
    body = transformers.VitPoseBackboneConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=[64, 48], patch_size=[16, 16],
        out_indices=[1],
    )  # fmt: skip
    for joints in (17, 5):
        config = transformers.VitPoseConfig(backbone_config=body, num_labels=joints, use_simple_decoder=True)
        transformers.VitPoseForPoseEstimation(config).save_pretrained(tmp_path / f"pose{joints}")
        size = {"height": 64, "width": 48}
        transformers.VitPoseImageProcessor(size=size).save_pretrained(tmp_path / f"pose{joints}")
    picture = np.random.default_rng(0).integers(0, 256, (48, 24, 3), dtype=np.uint8)
    found = load_pose_model(str(tmp_path / "pose17"))(picture)
    assert found.shape == (17, 3)
    assert np.isfinite(found).all()
    with pytest.raises(ConfigError, match="finds 5 joints, expected COCO's 17"):
        load_pose_model(str(tmp_path / "pose5"))
    names = ["wall", "person"]
    segformer = transformers.SegformerConfig(
        hidden_sizes=[8] * 4, depths=[1] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8,
        id2label=dict(enumerate(names)), label2id={name: number for number, name in enumerate(names)},
    )  # fmt: skip
    model = transformers.SegformerForSemanticSegmentation(segformer)
    transformers.SegformerImageProcessor(size=size).save_pretrained(tmp_path / "mask")
    for score, expected in ((1e3, 255), (-1e3, 0)):
        with torch.no_grad():
            model.decode_head.classifier.bias[1] = score
        model.save_pretrained(tmp_path / "mask")
        mask = load_mask_model(str(tmp_path / "mask"))(picture)
        assert mask.shape == (48, 24)
        assert (mask == expected).all()
    with pytest.raises(CheckpointError, match=r"cannot load .*nothing' as VitPoseForPoseEstimation"):
        load_pose_model(str(tmp_path / "nothing"))
