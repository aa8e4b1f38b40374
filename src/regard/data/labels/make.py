"""Masks and keypoints for pictures that have none, by models that the user has: of torchvision, of Hugging Face, or any
other that a :class:`~regard.data.labels.teacher.Teacher` asks.

::

    <out>/keypoints.json                      COCO keypoints of every photo
    <out>/masks/<folder>/<stem>.png           0 and 255
    <out>/keypoints.json.partial              what is done so far, a line per photo; removed when all is

A call that was interrupted goes on where it was; a photo with another content by now is labeled anew. A photo that no
label can be made of is named, and the others go on; the next call tries it again.

A person crop shows one person, so nothing is detected: the whole picture is the box. Weights are read from disk only;
where they are missing, the error says which file to fetch.

Shapes: h x w pixels of a picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from regard.data.labels.coco import check_thresholds, write_coco
from regard.data.labels.joints import PRESENT, VISIBLE
from regard.data.labels.labeling import (
    annotation_of,
    label_some,
    mask_file,
    needs_hiding,
    read_diary,
    side_by_side,
    write_down,
)
from regard.data.labels.teacher import Pose, Silhouette, Teacher, combined
from regard.data.transforms import normalize
from regard.errors import CheckpointError, ConfigError, DataError, StorageError, require
from regard.progress import progress_bar
from regard.storage import open_regular
from regard.wording import count

__all__ = ["Made", "load_mask_model", "load_pose_model", "make_labels"]

SURE = 2.0
"""Peak of Keypoint R-CNN's maps from which its makers draw a joint: a score of a half here."""

SIZE = 512
"""Pixels a picture is as high when torchvision's models see it; they learned from far larger people than crops show."""


MANY = 0.6
"""Share of backs that no camera shows of people who go either way."""


class Made(NamedTuple):
    """What :func:`make_labels` made.

    Attributes:
        path: the JSON file.
        labeled: photos with labels.
        joints, masks: whether there are some.
        backs: photos of people seen from behind whose faces were called visible, which they are no more.
        failed: names of photos without labels -> why.
    """

    path: Path
    labeled: int
    joints: bool
    masks: bool
    backs: int
    failed: dict[str, str]

    @property
    def mostly_backs(self) -> bool:
        """Whether so many faces were hidden that left and right may rather have been exchanged."""
        return self.backs > MANY * self.labeled


def make_labels(
    photos: Mapping[str, Path],
    out: Path,
    pose: Pose | Teacher | None,
    silhouette: Silhouette | Teacher | None,
    description: str,
    *,
    visible: float = VISIBLE,
    present: float = PRESENT,
    hide_faces: bool = True,
    progress: bool = True,
) -> Made:
    """Label photos.

    Args:
        photos: name below the data set's root -> file.
        out: folder to write.
        pose: gives (17, 3) x, y and score of a picture (h, w, 3); None makes no keypoints. A teacher that is given
            alone makes masks, too, where it finds some.
        silhouette: gives its (h, w) mask; None makes no masks.
        description: of the models, written into the JSON; a call with another one does not go on with this one's.
        visible, present: lowest score of a joint that counts as visible (2), and as there but hidden (1).
        hide_faces: nose and eyes of people seen from behind (:func:`~regard.data.labels.facing.is_back`) are hidden,
            whatever their score.
        progress: show a bar.

    Raises:
        ConfigError: neither model is given, or thresholds are out of order.
        DataError: no photo could be labeled, two would share a mask, or the folder holds an unfinished call with
            other models.
        StorageError: the disk refused.
    """
    if pose is None and silhouette is None:
        raise ConfigError("no model is given, so there is nothing to make; give one for keypoints, masks or both")
    check_thresholds(visible, present)
    teacher = combined(pose, silhouette)
    if silhouette is not None or isinstance(pose, Teacher):
        check_mask_files(photos, out)
    path = out / "keypoints.json"
    diary = path.with_name(f"{path.name}.partial")
    done = read_diary(diary, description, photos)
    failed: dict[str, str] = {}
    left = [(name, photo) for name, photo in photos.items() if name not in done]
    masks = (out / "masks").is_dir() if done else False
    try:
        out.mkdir(parents=True, exist_ok=True)
        with open_regular(diary, "a", encoding="utf-8") as file:
            if file.tell() == 0:
                file.write(json.dumps({"description": description}) + "\n")
            groups = [left[start : start + teacher.batch] for start in range(0, len(left), teacher.batch)]
            tried = side_by_side(lambda group: label_some(teacher, group, out), groups, teacher.workers)
            with progress_bar(
                total=len(photos), title="label", unit="photo", initial=len(done), quiet=not progress, leave=True
            ) as bar:
                for attempts in tried:
                    masks |= any(attempt.mask for attempt in attempts)
                    write_down(attempts, file, done, failed)
                    bar.update(len(attempts))
    except OSError as error:
        raise StorageError(
            f"could not write {diary}: {error.strerror or error}; what is done is kept; mend that and call again"
        ) from error
    if failed and not done:
        raise DataError(
            f"none of {count(len(photos), 'photo')} could be labeled; {next(iter(failed))}: "
            f"{next(iter(failed.values()))}"
        )
    names = [name for name in photos if name in done]
    backs = [hide_faces and needs_hiding(done[name], visible) for name in names]
    persons = [(name, annotation_of(done[name], visible, present, back=back)) for name, back in zip(names, backs)]
    write_coco(path, persons, description)
    if not failed:
        diary.unlink(missing_ok=True)
    joints = any(label[2] is not None for label in done.values())
    return Made(path, len(names), joints, masks, sum(backs), failed)


def check_mask_files(photos: Mapping[str, Path], out: Path) -> None:
    """Refuse photos of which the masks would have the same name.

    Raises:
        DataError: there are some.
    """
    taken: dict[Path, str] = {}
    for name in photos:
        if (other := taken.setdefault(mask_file(out, name), name)) != name:
            raise DataError(f"the masks of {other} and {name} would be one file; rename one of the photos")


def load_pose_model(name: str, weights: Path | None = None, device: str = "cpu", size: int = SIZE) -> Pose:
    """A model that finds 17 joints.

    Args:
        name: ``keypointrcnn_resnet50_fpn``, or folder or cached name of a ViTPose of Hugging Face.
        weights: file of torchvision's weights; None looks where torchvision keeps its downloads.
        device: to compute on.
        size: height in pixels at which torchvision's model sees the picture.

    Raises:
        CheckpointError: the weights are missing or do not fit.
        ConfigError: the model finds no joints, or its library is missing.
    """
    if not in_torchvision(name):
        return hugging_pose(name, device)
    model = load_torchvision(name, weights, device, size)
    if getattr(getattr(model, "roi_heads", None), "keypoint_predictor", None) is None:
        raise ConfigError(f"'{name}' finds no joints; choose keypointrcnn_resnet50_fpn, or the folder of a ViTPose")

    def pose(picture: np.ndarray) -> np.ndarray:
        heads: Any = model.roi_heads
        pooled, box = pool_whole(model, heads.keypoint_roi_pool, picture, device)
        maps = heads.keypoint_predictor(heads.keypoint_head(pooled))
        from torchvision.models.detection.roi_heads import keypointrcnn_inference

        (points,), (heights,) = keypointrcnn_inference(maps, [box])
        joints = points[0].cpu().numpy().astype(np.float64)
        joints[:, :2] -= 0.5  # from pixel corners to centers
        joints[:, 2] = (heights[0] - SURE).sigmoid().cpu().numpy()
        return joints

    return torch.no_grad()(pose)


def load_mask_model(name: str, weights: Path | None = None, device: str = "cpu", size: int = SIZE) -> Silhouette:
    """A model that finds the person's pixels.

    Args:
        name: a segmentation model or Mask R-CNN of torchvision, or folder or cached name of a semantic segmentation
            model of Hugging Face with a class ``person``.
        weights, device, size: as in :func:`load_pose_model`.

    Raises:
        CheckpointError: the weights are missing or do not fit.
        ConfigError: the model finds no person, or its library is missing.
    """
    if not in_torchvision(name):
        return hugging_mask(name, device)
    model = load_torchvision(name, weights, device, size)
    heads: Any = getattr(model, "roi_heads", None)
    if getattr(heads, "mask_predictor", None) is not None:

        def box_mask(picture: np.ndarray) -> np.ndarray:
            pooled, _ = pool_whole(model, heads.mask_roi_pool, picture, device)
            scores = heads.mask_predictor(heads.mask_head(pooled))[:, 1:2]
            size = picture.shape[:2]
            return as_mask(functional.interpolate(scores, size, mode="bilinear", antialias=True)[0, 0] > 0)

        return torch.no_grad()(box_mask)
    if not hasattr(model, "classifier") or hasattr(model, "roi_heads"):
        raise ConfigError(
            f"'{name}' finds no masks; choose deeplabv3_resnet50, fcn_resnet50, maskrcnn_resnet50_fpn or the like"
        )
    from torchvision.models import get_model_weights

    person = get_model_weights(name).DEFAULT.meta["categories"].index("person")  # pyright: ignore[reportAttributeAccessIssue]

    def silhouette(picture: np.ndarray) -> np.ndarray:
        height, width, _ = picture.shape
        images = normalize(as_batch(picture, device))
        enlarged = (size, max(32, round(size * width / height)))
        scores = model(functional.interpolate(images, enlarged, mode="bilinear", antialias=True))["out"]
        scores = functional.interpolate(scores, (height, width), mode="bilinear", antialias=True)
        return as_mask(scores[0].argmax(0) == person)

    return torch.no_grad()(silhouette)


def in_torchvision(name: str) -> bool:
    """Whether torchvision has a model of that name.

    Raises:
        ConfigError: torchvision is not installed.
    """
    require("torchvision", "a model that finds joints and masks", "labels")
    from torchvision.models import list_models

    return name in list_models()


def load_torchvision(name: str, weights: Path | None, device: str, size: int) -> nn.Module:
    """A model of torchvision with its weights, ready for use.

    Raises:
        CheckpointError: the weights are missing or do not fit.
    """
    from torchvision.models import get_model, get_model_weights

    path = weights
    if path is None:
        file = Path(get_model_weights(name).DEFAULT.url).name  # pyright: ignore[reportAttributeAccessIssue]
        path = Path(torch.hub.get_dir()) / "checkpoints" / file
        if not path.is_file():
            raise CheckpointError(
                f"no weights for {name}: looked for '{path}'; fetch them once where there is a network with "
                f"python -c \"import torchvision; torchvision.models.get_model('{name}', weights='DEFAULT')\", "
                f"and put {file} there or give it as the weights"
            )
    options = {"min_size": size // 2, "max_size": size} if "rcnn" in name else {}
    model = get_model(name, weights=None, weights_backbone=None, **options)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = {key: value for key, value in state.items() if not key.startswith("aux_classifier.")}
        model.load_state_dict(state)
    except Exception as error:  # what a damaged or foreign file makes the unpickler raise is not documented
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"'{path}' does not fit {name} ({reason}), expected its state dict; pass the weights of that model"
        ) from error
    return model.eval().to(device)


def as_batch(picture: np.ndarray, device: str) -> Tensor:
    """(1, 3, h, w) uint8 on the device."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None].to(device)


def as_mask(person: Tensor) -> np.ndarray:
    """(h, w) uint8, 255 where the bool tensor is true."""
    return person.cpu().numpy().view(np.uint8) * np.uint8(255)


def pool_whole(model: Any, pool: Any, picture: np.ndarray, device: str) -> tuple[Tensor, Tensor]:
    """Features of an R-CNN for one box that is the whole picture.

    Returns:
        The pooled features, and the box (1, 4) in pixels of the picture.
    """
    height, width, _ = picture.shape
    images, _ = model.transform([as_batch(picture, device)[0].float() / 255])
    features = model.backbone(images.tensors)
    seen_height, seen_width = images.image_sizes[0]
    seen = torch.tensor([[0.0, 0.0, seen_width, seen_height]], device=device)
    return pool(features, [seen], images.image_sizes), torch.tensor([[0.0, 0.0, width, height]], device=device)


def hugging_pose(name: str, device: str) -> Pose:
    """A ViTPose."""
    processor, model = load_hugging(name, "VitPoseForPoseEstimation", device)

    def pose(picture: np.ndarray) -> np.ndarray:
        height, width, _ = picture.shape
        boxes = [[[0.0, 0.0, float(width), float(height)]]]
        inputs = processor(picture, boxes=boxes, return_tensors="pt").to(device)
        if getattr(model.config.backbone_config, "num_experts", 1) > 1:
            inputs["dataset_index"] = torch.zeros(1, dtype=torch.int64, device=device)  # the expert for COCO
        (person,) = processor.post_process_pose_estimation(model(**inputs), boxes=boxes)[0]
        joints = torch.cat([person["keypoints"], person["scores"][:, None]], 1).cpu().numpy().astype(np.float64)
        joints[:, 2] = joints[:, 2].clip(0, 1)
        return joints

    if model.config.num_labels != 17:
        raise ConfigError(f"'{name}' finds {model.config.num_labels} joints, expected COCO's 17; choose another model")
    return torch.no_grad()(pose)


def hugging_mask(name: str, device: str) -> Silhouette:
    """A semantic segmentation model with a class ``person``."""
    processor, model = load_hugging(name, "AutoModelForSemanticSegmentation", device)
    classes = {str(label).split(",")[0].strip().lower(): number for number, label in model.config.id2label.items()}
    if "person" not in classes:
        raise ConfigError(f"'{name}' has no class 'person', only {', '.join(list(classes)[:8])}; choose another model")

    def silhouette(picture: np.ndarray) -> np.ndarray:
        inputs = processor(picture, return_tensors="pt").to(device)
        (found,) = processor.post_process_semantic_segmentation(model(**inputs), target_sizes=[picture.shape[:2]])
        return as_mask(found == int(classes["person"]))

    return torch.no_grad()(silhouette)


def load_hugging(name: str, kind: str, device: str) -> tuple[Any, Any]:
    """Processor and model from a folder or from the cache of Hugging Face.

    Raises:
        CheckpointError: there is no such model on this machine, or it is of another kind.
        ConfigError: transformers is not installed.
    """
    transformers: Any = require(
        "transformers",
        f"'{name}' is no model of torchvision, and one of Hugging Face",
        "labels",
        "choose keypointrcnn_resnet50_fpn and deeplabv3_resnet50",
    )
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(name, local_files_only=True)
        model = getattr(transformers, kind).from_pretrained(name, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"cannot load '{name}' as {kind} ({reason}); fetch it once with Hugging Face's command line "
            f"(hf download {name}), or pass the folder that holds config.json, preprocessor_config.json and the weights"
        ) from error
    return processor, model.eval().to(device)
