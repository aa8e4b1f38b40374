"""Attention labels: masks and keypoints of a data set, which DAAF trains on.

  regard data labels check data/crowd                          what there is, and whether left is left
  regard data labels preview data/crowd labels.png             a look at them
  regard data labels pack data/crowd                           all in one file: fast training
  regard data labels to-coco data/market labels.json --masks mask-anno --heatmaps Market_cpn_keypoints
  regard data labels to-maps data/market maps --coco labels.json
  regard data labels make data/duke labels --pose mediapipe=pose_landmark_heavy.tflite
  regard data labels make data/duke labels --pose vitpose.onnx --mask deeplabv3_resnet50

Labels are those that the data set brings, and those that --masks, --heatmaps or --coco name.
"""

from __future__ import annotations

import argparse
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard.cli.arguments import MASK_THRESHOLD, between, close_with, output_file, output_folder
from regard.errors import ConfigError
from regard.storage import plain_text, write_atomic
from regard.wording import count, visible

if TYPE_CHECKING:
    from regard.data.labels.teacher import Teacher
    from regard.structures import Sample

HELP = "masks and keypoints: check, preview, pack, convert, make"
SPLITS = ("train", "query", "gallery")
PRESET = re.compile(r"(?P<preset>\w+)=(?P<file>.+)")
"""A file that is known without a description."""

NAMED = 5
"""Photos without labels that are named."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    verbs = parser.add_subparsers(dest="labels_action", required=True, metavar="ACTION")
    add = lambda name, text: add_action(verbs, name, text)  # noqa: E731
    check = add("check", "count labels, look at sizes, left and right; exit code 2 on faults")
    check.add_argument("--json", type=output_file, metavar="FILE", help="write the figures to a file")
    preview = add("preview", "draw a contact sheet")
    preview.add_argument("out", type=output_file, help="picture to write")
    preview.add_argument(
        "--photos",
        type=between(1, 10_000),
        default=12,
        metavar="N",
        help="how many, evenly spread, those with labels first (%(default)s)",
    )
    preview.add_argument(
        "--columns", type=between(1, 100), default=2, metavar="N", help="photos side by side (%(default)s)"
    )
    preview.add_argument(
        "--height", type=between(16, 4096), default=288, metavar="PIXELS", help="of a panel (%(default)s)"
    )
    pack = add("pack", "put all labels into one file, unless it is there and up to date")
    pack.add_argument("-o", "--out", type=output_file, metavar="FILE", help="to write (default: labels.pack in ROOT)")
    pack.add_argument("--size", metavar="HxW", help="of packed heat maps (default: as they are packed, or 128x64)")
    coco = add("to-coco", "write labels as one COCO JSON")
    coco.add_argument("out", type=output_file, help="JSON file to write")
    add_thresholds(coco)
    maps = add("to-maps", "write masks and heat maps as DAAF's authors released theirs")
    maps.add_argument("out", type=output_folder, help="folder to write")
    maps.add_argument("--size", default="256x128", metavar="HxW", help="of the heat maps (%(default)s)")
    make = add("make", "make labels with a model you have")
    make.add_argument("out", type=output_folder, help="folder to write: keypoints.json and masks/")
    make.add_argument(
        "--pose", metavar="MODEL", help="keypointrcnn_resnet50_fpn, folder or name of a ViTPose, mediapipe=FILE, "
        "FILE.onnx, .tflite or .xml with a description beside it, MODULE:FUNCTION or FILE.py:FUNCTION; where it makes "
        "masks, too, --mask may be left out",
    )  # fmt: skip
    make.add_argument("--pose-weights", type=Path, metavar="FILE", help="weights of torchvision's model")
    make.add_argument(
        "--mask",
        metavar="MODEL",
        help="deeplabv3_resnet50, fcn_resnet50, maskrcnn_resnet50_fpn ..., Hugging Face's, or as --pose",
    )
    make.add_argument("--mask-weights", type=Path, metavar="FILE", help="weights of torchvision's model")
    make.add_argument(
        "--size", type=between(16, 4096), default=512, metavar="PIXELS", help="height torchvision sees (%(default)s)"
    )
    make.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 (a GPU by its number), mps (%(default)s)")
    make.add_argument("--keep-faces", action="store_true", help="leave faces visible on people seen from behind")
    add_thresholds(make)


def add_action(verbs: Any, name: str, text: str) -> argparse.ArgumentParser:
    """A parser with the arguments that say which labels."""
    parser = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("root", type=Path, help="folder of the data set")
    parser.add_argument("--data", metavar="NAME", help="data set (default: what is in the folder)")
    parser.add_argument("--split", choices=SPLITS, action="append", help="repeatable (default: train)")
    parser.add_argument(
        "--folder",
        action="append",
        metavar="NAME",
        help="the pictures in this folder of ROOT, not a data set; repeatable",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    if name != "make":
        parser.add_argument("--masks", type=Path, metavar="DIR", help="folder of mask pictures")
        parser.add_argument("--heatmaps", type=Path, metavar="DIR", help="folder of heat maps, as released")
        parser.add_argument(
            "--heatmap-folder", default="bounding_box_train_256_2", metavar="NAME", help="folder in it (%(default)s)"
        )
        parser.add_argument("--coco", type=Path, metavar="FILE", help="COCO JSON with keypoints, masks or both")
        parser.add_argument("--mask-threshold", type=between(1, 255), metavar="GRAY", help=MASK_THRESHOLD)
        parser.add_argument(
            "--tolerance",
            type=float,
            default=1.0 if name == "preview" else 0.0,
            metavar="SHARE",
            help="photos that may lack labels (%(default)s)",
        )
    return parser


def add_thresholds(parser: argparse.ArgumentParser) -> None:
    """Declare the thresholds of visibility."""
    parser.add_argument("--visible", type=float, default=0.3, metavar="SCORE", help="a joint is seen (%(default)s)")
    parser.add_argument("--present", type=float, default=0.1, metavar="SCORE", help="a joint is there (%(default)s)")


def run(arguments: argparse.Namespace) -> int | None:
    """Do what was asked for; the exit code where it is not 0."""
    actions = {
        "check": check, "preview": preview, "pack": pack, "to-coco": to_coco, "to-maps": to_maps, "make": make,
    }  # fmt: skip
    return actions[arguments.labels_action](arguments)


def load(arguments: argparse.Namespace) -> tuple[list[Sample], Path]:
    """The samples asked for with their labels, and the data set's folder."""
    from regard.data.labels import LabelRoots, attach_labels

    samples, root = samples_of(arguments)
    roots = LabelRoots(
        arguments.masks, arguments.heatmaps, arguments.heatmap_folder, arguments.coco, arguments.mask_threshold,
        arguments.tolerance,
    )  # fmt: skip
    if roots:
        samples, coverage = attach_labels(samples, root, roots)
        print(coverage)
    return samples, root


def samples_of(arguments: argparse.Namespace) -> tuple[list[Sample], Path]:
    """The samples asked for as they are read, and the folder that their names are relative to."""
    from regard.data import detect, load_dataset
    from regard.data.listing import list_images
    from regard.structures import Sample

    if arguments.folder:
        if arguments.split or arguments.data:
            raise ConfigError("--folder is instead of a data set, --data and --split are of one; leave one of them out")
        paths = [path for folder in arguments.folder for path in list_images(arguments.root / folder)]
        return [Sample(path, 0, 0) for path in paths], arguments.root
    splits = load_dataset(arguments.data or detect(arguments.root), arguments.root)
    return [sample for split in arguments.split or ["train"] for sample in getattr(splits, split)], splits.root


def check(arguments: argparse.Namespace) -> int:
    """Say what labels there are; 2 where something is wrong."""
    from regard.data.labels.check import check_labels

    samples, _ = load(arguments)
    report = check_labels(samples, progress=not arguments.quiet)
    print(report)
    if arguments.json:
        write_atomic(arguments.json, json.dumps(report.to_dict(), indent=2).encode())
    for fault in report.faults():
        print(f"fault: {fault}")
    close_with([arguments.json])
    return 2 if report.faults() else 0


def preview(arguments: argparse.Namespace) -> None:
    """Draw a contact sheet."""
    from regard.data.labels.preview import choose_shown, preview_labels

    samples, _ = load(arguments)
    chosen = choose_shown(samples, arguments.photos)
    buffer = io.BytesIO()
    preview_labels(chosen, arguments.columns, arguments.height).save(buffer, "PNG")
    write_atomic(arguments.out, buffer.getvalue())
    close_with([arguments.out], count(len(chosen), "photo"))


def pack(arguments: argparse.Namespace) -> None:
    """Make the pack, or find it up to date."""
    from regard.data.labels import pack_labels
    from regard.data.labels.attach import PACK

    samples, root = load(arguments)
    path = arguments.out or root / PACK
    size = size_of(arguments.size) if arguments.size else None
    pack_labels(samples, path, size, progress=not arguments.quiet)
    close_with([f"{path} ({path.stat().st_size / 1e6:.1f} MB)"], count(len(samples), "photo"))


def to_coco(arguments: argparse.Namespace) -> None:
    """Write labels as COCO JSON."""
    from regard.data.labels.convert import to_coco

    samples, root = load(arguments)
    written = to_coco(
        samples, root, arguments.out, visible=arguments.visible, present=arguments.present, progress=not arguments.quiet
    )
    then = ["data", "labels", "preview", root, "labels.png", "--coco", arguments.out]
    close_with([arguments.out], count(written, "photo"), then)


def to_maps(arguments: argparse.Namespace) -> None:
    """Write labels as pictures."""
    from regard.data.labels.convert import to_maps

    samples, _ = load(arguments)
    written = to_maps(
        samples, arguments.out, arguments.heatmap_folder, size_of(arguments.size), progress=not arguments.quiet
    )
    close_with([arguments.out], count(written, "picture"))


def make(arguments: argparse.Namespace) -> int | None:
    """Label pictures with models; 2 where some could not be."""
    from regard.data.labels.make import make_labels

    photos = photos_of(arguments)
    if arguments.pose is None and arguments.mask is None:
        raise ConfigError(
            "no model is named; add --pose keypointrcnn_resnet50_fpn, --mask deeplabv3_resnet50 or both, --pose "
            "mediapipe=FILE, or the folder or file of another model"
        )
    pose, silhouette, description = models_of(arguments)
    made = make_labels(
        photos, arguments.out, pose, silhouette, description, visible=arguments.visible, present=arguments.present,
        hide_faces=not arguments.keep_faces, progress=not arguments.quiet,
    )  # fmt: skip
    if made.backs:
        mostly = "; if most of them face the camera, left and right are exchanged" if made.mostly_backs else ""
        print(f"hidden: nose and eyes of {count(made.backs, 'person')} seen from behind, called visible{mostly}")
    for name, reason in list(made.failed.items())[:NAMED]:
        print(f"left out: {visible(plain_text(name))}: {visible(plain_text(reason))}")
    if len(made.failed) > NAMED:
        print(f"left out: {len(made.failed) - NAMED:,} more")
    found = ["--coco", made.path] if made.joints else []
    found += ["--masks", arguments.out / "masks"] if made.masks else []
    folders = [word for folder in arguments.folder or () for word in ("--folder", folder)]
    then = ["data", "labels", "preview", arguments.root, "labels.png", *folders, *found]
    told = count(made.labeled, "photo")
    if made.failed:
        told += f", {len(made.failed):,} left out, which the next call tries again"
    close_with([made.path], told, then)
    return 2 if made.failed else None


def models_of(arguments: argparse.Namespace) -> tuple[Any, Any, str]:
    """What finds joints and masks, and what to call both.

    Raises:
        ConfigError: something is named that does not find what it is asked for.
    """
    from regard.data.labels.make import load_mask_model, load_pose_model
    from regard.device import choose_device

    pose, mask = arguments.pose, arguments.mask
    options = {"device": str(choose_device(arguments.device, "--device")), "size": arguments.size}
    names = list(dict.fromkeys(name for name in (pose, mask) if name))
    teachers = {
        name: teacher_of(name, joints=name == pose, mask=mask is None or name == mask)
        for name in names
        if is_teacher(name)
    }
    for name, weights, option in (
        (pose, arguments.pose_weights, "--pose-weights"),
        (mask, arguments.mask_weights, "--mask-weights"),
    ):
        if weights and name in teachers:
            raise ConfigError(f"{option} means nothing for {name}, which brings its own; leave it out")
    models = (
        teachers[pose][0] if pose in teachers else pose and load_pose_model(pose, arguments.pose_weights, **options),
        teachers[mask][0] if mask in teachers else mask and load_mask_model(mask, arguments.mask_weights, **options),
    )
    told = ", ".join(teachers[name][1] if name in teachers else f"{name} at {arguments.size} pixels" for name in names)
    return *models, f"labels by {told}"


def is_teacher(name: str) -> bool:
    """Whether a model is named by its file or as a function, and not as torchvision and Hugging Face have them."""
    told = PRESET.fullmatch(name) or ":" in name or name.endswith((".onnx", ".tflite", ".xml"))
    return bool(told) and not Path(name).is_dir()


def teacher_of(name: str, *, joints: bool, mask: bool) -> tuple[Teacher, str]:
    """A teacher that is a file or a function, and what to call it.

    Args:
        name: ``PRESET=FILE``, a file with a description beside it, ``MODULE:FUNCTION`` or ``FILE.py:FUNCTION``.
        joints: it is asked for joints.
        mask: it is asked for masks, or for what it has besides joints.

    Raises:
        ConfigError: it does not find what it is asked for.
    """
    from regard.data.labels.teacher import by_function
    from regard.models.teacher import open_teacher
    from regard.plugins import load_function

    told = None if Path(name).is_file() else PRESET.fullmatch(name)
    file = Path(told["file"] if told else name)
    if ":" in name and not told and not file.is_file():
        return by_function(load_function(name), name, masks=not joints), name
    graph = open_teacher(file, told["preset"] if told else None)
    if (joints and graph.joints is None) or (not joints and graph.mask is None):
        raise ConfigError(
            f"{name} finds no {'joints' if joints else 'masks'}, by its description; give it with "
            f"{'--mask' if joints else '--pose'}, or correct the description"
        )
    return graph.teacher(joints=joints, mask=mask), f"{file.name} ({graph.digest[:12]})"


def photos_of(arguments: argparse.Namespace) -> dict[str, Path]:
    """Photos to label, by their name below the root."""
    from regard.data.labels.attach import relative_name

    samples, root = samples_of(arguments)
    return {relative_name(sample.path, root): sample.path for sample in samples}


def size_of(text: str) -> tuple[int, int]:
    """Height and width from ``"128x64"``."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and 0 < int(height) < 4096 and 0 < int(width) < 4096):
        raise ConfigError(f"--size is {text!r}, expected height and width such as 128x64; correct it")
    return int(height), int(width)
