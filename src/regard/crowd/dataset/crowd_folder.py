"""The folder of a crowd: made under another name, given its own only when it is complete."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regard.crowd.dataset.plan import FOLDERS
from regard.crowd.dataset.request import FORMAT, VERSION, Request
from regard.errors import DataError, StorageError
from regard.storage import read_regular

__all__ = [
    "CAMERAS", "MASKS", "digest", "existing_crowd", "is_complete", "pair_digest", "publish", "read_description",
    "read_json", "staging",
]  # fmt: skip

MASKS = "masks"
CAMERAS = "cameras"
"""Working folder of the processes, gone before the data set gets its name."""


def existing_crowd(root: Path, request: Request, *, overwrite: bool) -> dict[str, Any] | None:
    """Return ``dataset.json`` if ``root`` already holds the crowd asked for; None if there is room for it.

    Raises:
        DataError: the folder holds something else and may not be overwritten.
    """
    if is_free(root):
        return None
    found = read_description(root)
    if found is None:
        raise DataError(
            f"'{root}' exists and is no crowd, wanted a new or empty folder; choose another one or move it away"
        )
    difference = describe_difference(found, request)
    if not difference and is_complete(root, found):
        return found
    if not overwrite:
        raise DataError(
            f"'{root}' holds another crowd ({difference or 'with files missing or changed'}); "
            "choose another folder, or remove that one first (overwrite=True in Python)"
        )
    return None


def is_free(root: Path) -> bool:
    """Return whether there is no folder yet, or nothing in it."""
    try:
        return not root.exists() or (root.is_dir() and not any(root.iterdir()))
    except OSError as error:
        raise DataError(
            f"cannot read '{root}' ({error.strerror or error}), wanted a folder for a crowd; choose another one"
        ) from error


def read_description(root: Path) -> dict[str, Any] | None:
    """Read ``dataset.json`` of a crowd; None if there is none or it is something else's."""
    try:
        found = read_json(root / "dataset.json")
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None


def read_json(path: Path) -> Any:
    """Read what a JSON file holds.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ValueError: it is no JSON, or has more collections in one another than can be read.
    """
    try:
        return json.loads(read_regular(path))
    except RecursionError:
        raise ValueError("nested too deeply to be read") from None


def describe_difference(found: dict[str, Any], request: Request) -> str:
    """Return ``"seed 1 there, 0 asked for"``; empty where the crowd there is the one asked for."""
    if found.get("version") != VERSION:
        return f"format version {found.get('version')} there, {VERSION} asked for"
    there, asked = flat(section(found, "parameters")), flat(request.parameters())
    names = sorted(name for name in there.keys() | asked.keys() if there.get(name) != asked.get(name))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"{name} {there.get(name)} there, {asked.get(name)} asked for" for name in names[:3]) + more


def flat(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters with the knobs beside the rest."""
    return {name: value for name, value in parameters.items() if name != "knobs"} | section(parameters, "knobs")


def section(found: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the named values under a name; none where somebody has written something else there."""
    values = found.get(name)
    return values if isinstance(values, dict) else {}


def is_complete(root: Path, found: dict[str, Any]) -> bool:
    """Return whether every folder holds the pictures and masks that ``dataset.json`` speaks of, to the byte."""
    try:
        counts = {name: [len([*(root / part / name).iterdir()]) for part in ("", MASKS)] for name in FOLDERS}
    except OSError:
        return False
    labels = all((root / name).is_file() for name in ("keypoints.json", "attributes.json"))
    whole = labels and all(counts[name] == [section(found, "images").get(name)] * 2 for name in FOLDERS)
    return whole and digest_of_files(root) == section(found, "sha256").get("files")


def digest_of_files(root: Path) -> str | None:
    """Return the digest of the files there, as ``label_files.digests`` has it; None where one cannot be read."""
    try:
        return digest(
            f"{name}/{picture.name} {pair_digest(picture.read_bytes(), mask.read_bytes())}"
            for name in sorted(FOLDERS)
            for picture in sorted((root / name).iterdir())
            for mask in [root / MASKS / name / f"{picture.stem}.png"]
        )
    except OSError:
        return None


def pair_digest(jpeg: bytes, png: bytes) -> str:
    """Return the SHA-256 of the two files of a picture."""
    return hashlib.sha256(jpeg + png).hexdigest()


def digest(lines: Iterable[str]) -> str:
    """Return the SHA-256 of lines of text."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@contextmanager
def staging(root: Path) -> Iterator[Path]:
    """Yield a hidden folder beside ``root`` to make the crowd in; gone afterwards, whatever happens.

    Raises:
        StorageError: the disk refused a write.
    """
    place = root.parent / f".{root.name}.{secrets.token_hex(4)}.partial"
    try:
        for name in FOLDERS:
            (place / name).mkdir(parents=True)
            (place / MASKS / name).mkdir(parents=True)
        (place / CAMERAS).mkdir()
        yield place
    except OSError as error:
        raise StorageError(
            f"cannot write the crowd to '{root}' ({error.strerror or error}); nothing was kept; "
            "free some space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def publish(place: Path, root: Path, request: Request) -> None:
    """Give the finished folder its name, replacing an older crowd there.

    Another process may have made the same crowd in the meantime; then that one stays.
    """
    shutil.rmtree(place / CAMERAS)
    aside = place.with_suffix(".replaced")
    if root.exists():
        found = read_description(root)
        if found and not describe_difference(found, request) and is_complete(root, found):
            return
        root.rename(aside)
    try:
        place.rename(root)
    except OSError:
        if aside.exists():
            aside.rename(root)
        raise
    shutil.rmtree(aside, ignore_errors=True)
