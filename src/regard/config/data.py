"""What a run trains on: the ``data`` section."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from regard.config.faults import check_options
from regard.config.values import Pixels, Place, Positive, Section, Share, SourceText, check_batch, says
from regard.registry import DATASETS

__all__ = ["DataConfig", "LabelFilesConfig"]

HalfCircle = Annotated[float, Field(ge=0, le=0.5)]


class LabelFilesConfig(Section):
    """Where masks and keypoints of a data set are kept (docs/how-to/labels.md)."""

    mask_root: Place | None = says(None, "folder of mask pictures")
    keypoint_root: Place | None = says(None, "folder of heat maps")
    keypoint_folder: str = says("bounding_box_train_256_2", "the folder in it")
    coco: Place | None = says(None, "COCO JSON of keypoints and segmentations")
    mask_threshold: Annotated[int, Field(ge=1, le=255)] = says(100, "lowest gray level of a mask that is the person")
    tolerance: Share = says(0.0, "share of the pictures that may be without")
    pack: Place | None = says(None, "file they are packed into, made or renewed where needed")


class DataConfig(Section):
    """What to train on, and how pictures become batches."""

    name: SourceText | None = says(None, "data set; None looks at what is in root, or makes a crowd without root")
    root: Place | None = says(None, "its folder, or one that holds it and others")
    train: tuple[SourceText, ...] = says(
        (), "data sets to train on together: NAME, NAME=FOLDER or FOLDER; name, or the first, is tested on"
    )
    options: dict[str, dict[str, Any]] = says({}, "data set -> its options, such as cuhk03: {boxes: labeled}")
    val_ids: Annotated[int, Field(ge=2, le=10**6)] | None = says(
        None,
        "people held out of the training part, drawn by train.seed, on whom training is evaluated instead "
        "of on the test part; null: everyone is trained on",
    )
    height: Pixels = says(256, "pixels the crops are resized to")
    width: Pixels = says(128, "pixels the crops are resized to")
    ids_per_batch: Positive = says(16, "P of the P x K batch, over all ranks")
    images_per_id: Positive = says(4, "K of the P x K batch")
    sampler: Literal["pk", "shuffle", "sorted"] = says(
        "pk",
        "pk: P identities with K images each; shuffle: any P x K images, each once an epoch; sorted: the "
        "same by identity, in the same order in every epoch",
    )
    rounds: Positive | None = says(
        None,
        "of pk: passes over the identities in an epoch, each with K images of everyone; null: until the images run out",
    )
    keep_last: bool = says(False, "what does not fill a batch at the end of an epoch is a smaller one, not dropped")
    scarce: Literal["draw", "repeat"] = says(
        "draw",
        "of pk: who has fewer than K images draws K with replacement, or repeats them all until there are "
        "K or more and draws from those",
    )
    distinct_ids: bool = says(True, "of rounds: no identity comes twice in a batch, not even where a round ends in it")
    interpolation: Literal["bilinear", "bicubic"] = says(
        "bilinear", "how pictures are resized, in training and evaluation"
    )
    flip: Share = says(0.5, "probability of a horizontal flip")
    enlarge: Annotated[float, Field(ge=1, le=4)] = says(
        1.0, "resize to this many times height and width before the random crop"
    )
    enlarge_probability: Share = says(
        1.0, "of being enlarged; the other pictures are resized to height and width at once"
    )
    pad: Annotated[int, Field(ge=0, le=1024)] = says(10, "black border in pixels before the random crop")
    erasing: Share = says(0.5, "probability of random erasing")
    erasing_fill: Literal["mean", "released", "mindspore", "random", "normal"] = says(
        "mean", "what is put into the hole"
    )
    erasing_area: tuple[Share, Share] = says((0.02, 0.4), "smallest and largest part of the picture that is erased")
    jitter: tuple[Share, Share, Share, HalfCircle] = says(
        (0, 0, 0, 0),
        "largest change of brightness, contrast and saturation as a share of them, and of hue as a part of its circle; "
        "in an order that is drawn",
    )
    jitter_probability: Share = says(1.0, "of changing these")
    gray: Share = says(0.0, "probability of taking the colors out")
    blur: Share = says(0.0, "probability of a Gaussian blur")
    blur_sigma: tuple[float, float] = says((0.3, 1.5), "range of its deviation, in pixels of the input")
    low_resolution: Share = says(0.0, "probability of shrinking the picture and enlarging it again")
    low_resolution_scale: tuple[Share, Share] = says((0.25, 0.8), "range of the factor by which it is shrunk")
    noise: Share = says(0.0, "probability of normal noise")
    noise_deviation: tuple[Share, Share] = says((0.01, 0.08), "range of its deviation, as a share of white")
    jpeg: Share = says(0.0, "probability of JPEG compression")
    jpeg_quality: tuple[int, int] = says((20, 80), "range of its quality, 1 to 100")
    labels: tuple[Literal["mask", "keypoints"], ...] = says(
        (), "what training predicts besides identities: extra.mask, extra.keypoints"
    )
    label_stride: Pixels = says(1, "pixels of the input per pixel of those labels")
    label_files: dict[str, LabelFilesConfig] = says({}, "data set -> where its labels are kept, unless it knows itself")
    label_peak: Literal["one", "score"] = says("one", "height of a joint in its map")
    swap_on_flip: bool = says(True, "a mirrored picture's left joints are its right ones")
    workers: Annotated[int, Field(ge=0, le=256)] | None = says(None, "loader processes; None: by core count")
    cache: Annotated[Literal["none", "disk"], BeforeValidator(lambda kind: "disk" if kind == "ram" else kind)] = says(
        "none", "disk: decoded training pictures in a file, which the system keeps in memory; ram is the same"
    )
    cache_folder: Place | None = says(None, "of cache=disk; None: in the run folder")

    def _faults(self) -> Iterator[str]:
        for name, options in ({key: {} for key in self.label_files} | self.options).items():
            check_options(DATASETS, name, options, ("root",))
        images = self.ids_per_batch * self.images_per_id
        check_batch(images, self.height, self.width, f"{self.ids_per_batch:,} x {self.images_per_id:,} pictures")
        if self.val_ids and self.train:
            yield f"val_ids is {self.val_ids}, but train names data sets to train on together; drop one"
        if self.rounds and self.sampler != "pk":
            yield f"rounds is {self.rounds}, but sampler {self.sampler} has none; leave one of them out"
        if self.keep_last and self.sampler == "pk" and not self.rounds:
            yield "keep_last is true, but an epoch of sampler pk has a last batch only where it has rounds; set rounds"
        if self.scarce == "repeat" and self.sampler != "pk":
            yield f"scarce is repeat, but sampler {self.sampler} takes every image once; leave one of them out"
        if not self.distinct_ids and not self.rounds:
            yield (
                "distinct_ids is false, but identities come twice in a batch only around the end of a round; set rounds"
            )
