"""What a setting of a configuration may be: kinds of values, sections of them, and how much is too much."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from regard.errors import ConfigError
from regard.parsing import OPTIONS
from regard.registry import DATASETS

__all__ = [
    "MAX_BATCH_BYTES", "OpenSection", "Pixels", "Place", "Positive", "Section", "Share", "SourceText", "check_batch",
    "says", "weights_place",
]  # fmt: skip

MAX_BATCH_BYTES = 1 << 31
"""Pixels of a batch in bytes; 256 pictures of 384 x 192 have 57 million."""


def _place(path: Path) -> Path:
    """The absolute path: what is relative is relative to the folder of whoever gives it, now and ever after."""
    return path.expanduser().absolute()


def weights_place(text: str) -> str:
    """Where the weights to start from are: ``package``, or the absolute path of a file or folder."""
    return text if text == "package" else str(_place(Path(text)))


def _source_place(text: str) -> str:
    """A data set's text with its folder made absolute: ``NAME``, ``NAME=FOLDER`` or ``FOLDER``, and options."""
    options = match[0] if (match := OPTIONS.search(text)) else ""
    head = text.removesuffix(options)
    name, _, folder = head.partition("=")
    if name in DATASETS:
        return f"{name}={_place(Path(folder))}{options}" if folder else text
    path = Path(head).expanduser()
    return f"{path.absolute()}{options}" if os.sep in head or path.exists() else text


def check_batch(images: int, height: int, width: int, what: str) -> None:
    """Refuse a batch that no memory is meant to hold.

    Raises:
        ConfigError: its pixels have more than :data:`MAX_BATCH_BYTES`.
    """
    size = 3 * images * height * width
    if size > MAX_BATCH_BYTES:
        raise ConfigError(
            f"{what} of {height} x {width} are a batch of {size / 2**30:,.1f} GiB of pixels, more than "
            f"{MAX_BATCH_BYTES >> 30}; choose fewer, or smaller ones"
        )


Positive = Annotated[int, Field(gt=0, le=10**9)]
Share = Annotated[float, Field(ge=0, le=1)]
Pixels = Annotated[int, Field(gt=0, le=4096)]
Place = Annotated[Path, AfterValidator(_place)]
SourceText = Annotated[str, AfterValidator(_source_place)]


def says(default: Any, description: str) -> Any:
    """A setting: its default, and what it is in words."""
    return Field(default=default, description=description)


class Section(BaseModel):
    """A part of the configuration: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if fault := next(iter(self._faults()), None):
            raise ConfigError(fault)
        return self

    def _faults(self) -> Iterable[str]:
        """What does not go together; the first is told. Checks that others make raise ConfigError themselves."""
        return ()


class OpenSection(Section):
    """A part in which further keys are options of a registered thing."""

    model_config = ConfigDict(extra="allow")

    @property
    def options(self) -> dict[str, Any]:
        """Its keyword options, as the recipe has them."""
        return dict(self.model_extra or {})
