"""Masks and keypoints for pictures that have none, by models that the user has: of torchvision or Hugging Face.

::

    <out>/keypoints.json                      COCO keypoints of every photo
    <out>/masks/<folder>/<stem>.png           0 and 255
    <out>/keypoints.json.partial              what is done so far, a line per photo; removed at the end

A call that was interrupted goes on where it was; a photo with another content by now is labeled anew.

A person crop shows one person, so nothing is detected: the whole picture is the box. Weights are read from disk only;
where they are missing, the error says which file to fetch.

Shapes: h x w pixels of a picture.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from regard.data.image import read_image
from regard.data.labels.coco import Person, check_thresholds, keypoints_of, write_coco
from regard.data.labels.convert import write_gray
from regard.data.labels.joints import PRESENT, VISIBLE
from regard.data.transforms import normalize
from regard.errors import CheckpointError, ConfigError, DataError, StorageError, require
from regard.fingerprint import file_digest
from regard.parsing import parse_json
from regard.progress import progress_bar
from regard.storage import open_regular, read_regular, write_atomic

__all__ = ["load_mask_model", "load_pose_model", "make_labels"]

Joints = tuple[tuple[float, float, float], ...]

Pose = Callable[[np.ndarray], np.ndarray]
"""(h, w, 3) uint8 -> (17, 3): x and y in pixels of the picture, and a score from 0 to 1."""

Silhouette = Callable[[np.ndarray], np.ndarray]
"""(h, w, 3) uint8 -> (h, w) uint8: 255 on the person and 0 elsewhere."""

SURE = 2.0
"""Peak of Keypoint R-CNN's maps from which its makers draw a joint: a score of a half here."""

SIZE = 512
"""Pixels a picture is as high when torchvision's models see it; they learned from far larger people than crops show."""


def make_labels(
    photos: Mapping[str, Path],
    out: Path,
    pose: Pose | None,
    silhouette: Silhouette | None,
    description: str,
    *,
    visible: float = VISIBLE,
    present: float = PRESENT,
    progress: bool = True,
) -> Path:
    """Label photos.

    Args:
        photos: name below the data set's root -> file.
        out: folder to write.
        pose: gives (17, 3) x, y and score of a picture (h, w, 3); None makes no keypoints.
        silhouette: gives its (h, w) mask; None makes no masks.
        description: of the models, written into the JSON; a call with another one does not go on with this one's.
        visible, present: lowest score of a joint that counts as visible (2), and as there but hidden (1).
        progress: show a bar.

    Returns:
        The JSON file.

    Raises:
        ConfigError: neither model is given, or thresholds are out of order.
        DataError: a photo cannot be read, or the folder holds an unfinished call with other models.
        StorageError: the disk refused.
    """
    if pose is None and silhouette is None:
        raise ConfigError("no model is given, so there is nothing to make; give one for keypoints, masks or both")
    check_thresholds(visible, present)
    path = out / "keypoints.json"
    diary = path.with_name(f"{path.name}.partial")
    done = read_diary(diary, description, photos)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with open_regular(diary, "a", encoding="utf-8") as file:
            if file.tell() == 0:
                file.write(json.dumps({"description": description}) + "\n")
            for name, photo in progress_bar(photos.items(), "label", unit="photo", quiet=not progress, leave=True):
                if name in done:
                    continue
                picture, content = read_image(photo), file_digest(photo)
                if silhouette:
                    write_gray(out / "masks" / Path(name).with_suffix(".png"), silhouette(picture))
                joints = None if pose is None else tuple((float(x), float(y), float(s)) for x, y, s in pose(picture))
                done[name] = (picture.shape[0], picture.shape[1], joints)
                file.write(json.dumps({"name": name, "digest": content, "label": done[name]}) + "\n")
                file.flush()
    except OSError as error:
        raise StorageError(
            f"could not write {diary}: {error.strerror or error}; what is done is kept; mend that and call again"
        ) from error
    persons = [(name, annotation_of(done[name], visible, present)) for name in photos]
    write_coco(path, persons, description)
    diary.unlink(missing_ok=True)
    return path


def read_diary(diary: Path, description: str, photos: Mapping[str, Path]) -> dict[str, tuple[int, int, Joints | None]]:
    """Height, width and joints of the photos that an interrupted call has done, and that are the same by their content.

    The last line may be cut off.

    Raises:
        DataError: that call was made with other models, or what it has left cannot be read.
    """
    try:
        lines = read_regular(diary).decode(errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"cannot read {diary} ({error.strerror}); delete it to begin anew") from error
    done: dict[str, tuple[str | None, tuple[int, int, Joints | None]]] = {}
    whole: list[str] = []
    for line in lines:
        try:
            entry = parse_json(line) if line.endswith("\n") else {}
            if not whole:
                same = entry["description"] == description
            else:
                height, width, joints = entry["label"]
                done[entry["name"]] = entry.get("digest"), (int(height), int(width), joints)
        except (ValueError, KeyError, TypeError):
            break
        if not same:
            raise DataError(
                f"'{diary}' is an unfinished call with other models ({entry['description']}); finish that one, or "
                "delete the file to begin anew"
            )
        whole.append(line)
    write_atomic(diary, "".join(whole).encode())
    return {
        name: label
        for name, (content, label) in done.items()
        if name in photos and photos[name].is_file() and content == file_digest(photos[name])
    }


def annotation_of(label: tuple[int, int, Joints | None], visible: float, present: float) -> Person:
    """A photo's annotation from its height, width and joints with scores."""
    height, width, joints = label
    if joints is None:
        return Person(height, width)
    return Person(height, width, keypoints_of(joints, visible, present), tuple(score for _, _, score in joints))


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
