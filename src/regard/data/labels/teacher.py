"""Models that know where people are, taken from where the user has them: torchvision or Hugging Face transformers.

A person crop shows one person, so nothing is detected: the whole picture is the box. Weights are read from disk only;
where they are missing, the error says which file to fetch.

Shapes: h x w pixels of a picture.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from regard.data.transforms import normalize
from regard.errors import CheckpointError, ConfigError, require

__all__ = ["load_mask_model", "load_pose_model"]

Pose = Callable[[np.ndarray], np.ndarray]
"""(h, w, 3) uint8 -> (17, 3): x and y in pixels of the picture, and a score from 0 to 1."""

Silhouette = Callable[[np.ndarray], np.ndarray]
"""(h, w, 3) uint8 -> (h, w) uint8: 255 on the person and 0 elsewhere."""

SURE = 2.0
"""Peak of Keypoint R-CNN's maps from which its makers draw a joint: a score of a half here."""

SIZE = 512
"""Pixels a picture is as high when torchvision's models see it; they learned from far larger people than crops show."""


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
    if getattr(getattr(model, "roi_heads", None), "mask_predictor", None) is not None:
        return torch.no_grad()(lambda picture: whole_box_mask(model, picture, device))
    if not hasattr(model, "classifier") or hasattr(model, "roi_heads"):
        raise ConfigError(
            f"'{name}' finds no masks; choose deeplabv3_resnet50, fcn_resnet50, maskrcnn_resnet50_fpn or the like"
        )
    person = person_class(name)

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
    from torchvision.models import get_model

    path = weights or cached_weights(name)
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


def cached_weights(name: str) -> Path:
    """Where torchvision keeps the weights it downloads for a model.

    Raises:
        CheckpointError: they are not there.
    """
    from torchvision.models import get_model_weights

    file = Path(get_model_weights(name).DEFAULT.url).name  # pyright: ignore[reportAttributeAccessIssue]
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not path.is_file():
        raise CheckpointError(
            f"no weights for {name}: looked for '{path}'; fetch them once where there is a network with "
            f"python -c \"import torchvision; torchvision.models.get_model('{name}', weights='DEFAULT')\", "
            f"and put {file} there or give it as the weights"
        )
    return path


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


def whole_box_mask(model: Any, picture: np.ndarray, device: str) -> np.ndarray:
    """The mask a Mask R-CNN gives the person in the box that is the whole picture."""
    height, width, _ = picture.shape
    pooled, _ = pool_whole(model, model.roi_heads.mask_roi_pool, picture, device)
    scores = model.roi_heads.mask_predictor(model.roi_heads.mask_head(pooled))[:, 1:2]
    return as_mask(functional.interpolate(scores, (height, width), mode="bilinear", antialias=True)[0, 0] > 0)


def person_class(name: str) -> int:
    """Number of the class ``person`` of a segmentation model of torchvision."""
    from torchvision.models import get_model_weights

    return get_model_weights(name).DEFAULT.meta["categories"].index("person")  # pyright: ignore[reportAttributeAccessIssue]


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
