"""A detector as a gallery and a search use it, whatever computes it: a picture in, boxes of people out.

* ``NAME=WEIGHTS``: one of torchvision's, with weights from a file (:mod:`regard.detection.torchvision_detector`).
* ``FILE.onnx``, ``FILE.xml``: a graph with a description beside it (:mod:`regard.detection.graph_detector`).
* ``MODULE:FUNCTION``, ``FILE.py:FUNCTION``: a function of yours (:class:`Finder`).

Shapes: H x W pixels of a picture, N boxes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from regard.data.boxes import as_boxes, in_fractions
from regard.errors import ConfigError, DataError, RegardError
from regard.fingerprint import bytes_digest
from regard.plugins import load_function
from regard.storage import read_regular
from regard.wording import one_line

__all__ = ["MOST", "Detector", "Finder", "open_detector"]

MOST = 1000
"""People of one picture; a detector that finds more finds something else."""

SLACK = 1e-3
"""What rounding may put a score beyond 0 and 1."""

NAMED = re.compile(r"(\w+)=(.+)", re.DOTALL)

WAYS = "NAME=WEIGHTS of torchvision, FILE.onnx or FILE.xml with a description beside it, or MODULE:FUNCTION"


class Finder(Protocol):
    """What finds people: any function of this form is a detector."""

    def __call__(self, picture: np.ndarray, /) -> Any:
        """Find the people in a picture.

        Args:
            picture: (H, W, 3) uint8, RGB.

        Returns:
            (N, 4) or (N, 5) numbers: x0, y0, x1, y1 in pixels of the picture, and how sure it is, from 0 to 1.
        """
        ...


@dataclass(frozen=True)
class Detector:
    """Finds people in pictures.

    Attributes:
        name: as it was asked for.
        digest: of all that decides what it finds, as far as that can be known.
        find: what computes.
        min_score: lowest score of a box that is kept; boxes without a score are kept.
    """

    name: str
    digest: str
    find: Finder
    min_score: float = 0.0

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Find the people in a picture.

        Args:
            picture: (H, W, 3) uint8, RGB; it stays as it is.

        Returns:
            (N, 4) or (N, 5) float64, the surest first; N is 1,000 at most.

        Raises:
            ConfigError: the detector fails, or makes something else than boxes in pixels with scores from 0 to 1.
            DataError: it finds more people in this picture than that.
        """
        try:
            found = self.find(picture.copy())
        except RegardError:
            raise
        except (Exception, SystemExit) as error:  # somebody's function raises what it likes, and may end its program
            kind = type(error).__name__
            raise ConfigError(f"the detector {self.name} failed ({kind}: {one_line(error)}); mend it") from error
        try:
            boxes = as_boxes(found, (4, 5))
        except DataError as error:
            raise ConfigError(f"the detector {self.name} makes no boxes: {error}") from None
        if boxes.shape[1] == 5:
            if wrong := [score for score in boxes[:, 4] if not -SLACK <= score <= 1 + SLACK]:
                raise ConfigError(
                    f"the detector {self.name} says it is {wrong[0]:g} sure of a box, wanted 0 to 1; divide percents "
                    "by 100, or describe which of a graph's numbers are scores"
                )
            boxes = boxes[boxes[:, 4] >= self.min_score]
            boxes = boxes[np.argsort(-boxes[:, 4], kind="stable")]
        if in_fractions(boxes):
            raise ConfigError(
                f"the detector {self.name} makes boxes in fractions ({', '.join(f'{x:g}' for x in boxes[0, :4])}), "
                "wanted pixels; multiply x by the picture's width and y by its height"
            )
        if len(boxes) > MOST:
            raise DataError(
                f"the detector {self.name} finds {len(boxes):,} people in one picture, wanted {MOST:,} or fewer; let "
                "fewer through with --min-score, or look at what it takes for people"
            )
        return boxes


def open_detector(text: str, *, min_score: float | None = None, device: str | None = None) -> Detector:
    """Open a detector.

    Args:
        text: which, in one of the forms of this module.
        min_score: lowest score of a box that is kept; None: 0.5, what the graph's description says, or, for a function,
            whatever it returns.
        device: where torchvision's compute.

    Raises:
        ConfigError: it is none of these forms, its description is wrong, or a package is missing.
        CheckpointError: its file cannot be read, or is another network's.
        PluginError: the module cannot be imported, or has no such function.
    """
    if min_score is not None and not 0 <= min_score <= 1:
        raise ConfigError(f"--min-score is {min_score}, wanted a number from 0 to 1")
    if text.endswith((".onnx", ".xml")):
        from regard.detection.graph_detector import GraphDetector

        graph = GraphDetector(Path(text))
        graph.min_score = graph.min_score if min_score is None else min_score  # overlaps are looked for after it
        return Detector(text, graph.digest, graph, graph.min_score)
    if named := NAMED.fullmatch(text):
        from regard.detection.torchvision_detector import TorchvisionDetector

        theirs = TorchvisionDetector(named[1], Path(named[2]), device)
        return Detector(text, theirs.digest, theirs, 0.5 if min_score is None else min_score)
    if ":" in text:
        function = load_function(text)
        return Detector(text, _digest_of(function), function, min_score or 0.0)
    raise ConfigError(f"--detector {text!r} is no detector, wanted {WAYS}; weights are never downloaded")


def _digest_of(function: Any) -> str:
    """Digest of the file that a function stands in; empty where there is none."""
    file = getattr(getattr(function, "__code__", None), "co_filename", "")
    try:
        return bytes_digest(read_regular(Path(file)))
    except (OSError, ValueError):
        return ""
