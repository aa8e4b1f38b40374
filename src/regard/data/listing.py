"""Which files of a folder are pictures, and what becomes of the others: one rule for every verb.

* Hidden files and folders (``.DS_Store``) are passed over.
* Links are followed, to files and to folders; a folder is read once, however many links lead to it or back into it.
* A file is a picture by its ending (``IMAGE_ENDINGS``, in any case), or else by its first bytes.
* NumPy arrays are left out, though one that is named as a picture is read as one: in folders they are descriptors,
  heat maps and feature maps, those that this program writes beside its figures among them.
* Everything else is left out and counted by reason (:class:`Skipped`): links to nothing, pipes and devices, films,
  pictures of formats that are not read, and other files.

Shapes: none.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from operator import attrgetter, itemgetter
from pathlib import Path

from regard.data.header import FORMATS, kind_of
from regard.errors import DataError
from regard.wording import count

__all__ = [
    "IMAGE_ENDINGS", "OTHER", "TEXT", "Skipped", "is_noting", "is_picture", "list_folders", "list_images", "note",
    "noting", "walk_images",
]  # fmt: skip

IMAGE_ENDINGS = frozenset({".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Endings, in lower case, by which a file counts as a picture; others are looked into."""

OTHER, TEXT = "other file", "text file"
"""What is called so holds no picture, and nobody would take it for one: ``Thumbs.db``, ``readme.txt``."""

RAW = "camera raw file"

HEAD = 32
"""Bytes of a file that are looked at."""

KINDS = {
    **dict.fromkeys((".heic", ".heif"), "HEIC picture"),
    **dict.fromkeys((".cr2", ".nef", ".arw", ".dng", ".orf", ".rw2", ".pef", ".srw"), RAW),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".m4v"), "video"),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), "PNM picture"),
    **dict.fromkeys((".jp2", ".j2k"), "JPEG 2000 picture"),
    ".avif": "AVIF picture",
    ".jxl": "JPEG XL picture",
    ".svg": "SVG drawing",
    ".psd": "Photoshop file",
}
"""What files with these endings are, where their bytes do not say."""


class Skipped:
    """What was left out, by reason.

    Attributes:
        reasons: reason in the singular -> the files or rows, as text, in the order they were met, each once.
    """

    def __init__(self) -> None:
        self.reasons: dict[str, dict[str, None]] = {}

    def add(self, reason: str, what: str | Path) -> None:
        """Count one file or row."""
        self.reasons.setdefault(reason, {})[str(what)] = None

    def repeat(self) -> None:
        """Note the same once more, for whoever listens outside."""
        for reason, found in self.reasons.items():
            for what in found:
                note(reason, what)

    def without(self, *reasons: str) -> Skipped:
        """The same but for some reasons."""
        rest = Skipped()
        rest.reasons = {reason: found for reason, found in self.reasons.items() if reason not in reasons}
        return rest

    def __bool__(self) -> bool:
        return bool(self.reasons)

    def __str__(self) -> str:
        """``2 dangling links (a.jpg), 1 video (b.mp4)``."""
        return ", ".join(f"{count(len(all_), reason)} ({next(iter(all_))})" for reason, all_ in self.reasons.items())


_NOTES: ContextVar[Skipped | None] = ContextVar("skipped", default=None)


@contextmanager
def noting() -> Iterator[Skipped]:
    """Take down whatever is left out of listings within the block."""
    skipped = Skipped()
    token = _NOTES.set(skipped)
    try:
        yield skipped
    finally:
        _NOTES.reset(token)


def is_noting() -> bool:
    """Whether somebody takes down what is left out."""
    return _NOTES.get() is not None


def note(reason: str, what: str | Path) -> None:
    """Say that a file or row is left out; whoever listens counts it (:func:`noting`).

    Args:
        reason: a noun in the singular that ``s`` makes a plural.
        what: the file or row.
    """
    if (notes := _NOTES.get()) is not None:
        notes.add(reason, what)


def list_folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden and unreadable ones left out."""
    try:
        return [entry.name for entry in entries_of(folder) if is_folder(entry)]
    except DataError:
        return []


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or leads to one; a link to itself does not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def list_images(folder: Path) -> list[Path]:
    """Pictures in a folder, sorted by name in code-point order; folders in it are not opened.

    Raises:
        DataError: the folder cannot be listed.
    """
    return [folder / entry.name for entry in entries_of(folder) if look(entry) == "picture"]


def walk_images(folder: Path, also: Collection[str] = (), kinds: Collection[str] = ()) -> list[Path]:
    """Pictures in a folder and in all below it; those of a folder come before those of the folders in it.

    Args:
        folder: where to begin.
        also: endings, in lower case, of other files that are wanted.
        kinds: of pictures that are wanted though they are not read everywhere, by :func:`regard.data.header.kind_of`.

    Raises:
        DataError: the folder itself cannot be listed.
    """
    found: list[tuple[tuple[str, ...], list[Path]]] = []
    folders: list[tuple[tuple[str, ...], Path]] = [((), folder)]
    links: list[tuple[tuple[str, ...], Path]] = []
    seen: set[tuple[int, int]] = set()
    while folders or links:
        parts, here = folders.pop() if folders else links.pop(0)  # a folder rather by its own name than by a link's
        try:
            entries, status = entries_of(here), here.stat()
        except (OSError, DataError) as error:
            if here == folder:
                raise DataError(str(error)) from None
            note("unreadable folder", here)
            continue
        if (status.st_dev, status.st_ino) in seen:
            note("repeated folder", here)
            continue
        seen.add((status.st_dev, status.st_ino))
        files = []
        for entry in entries:
            match look(entry, also, kinds):
                case "folder":
                    (links if entry.is_symlink() else folders).append(((*parts, entry.name), here / entry.name))
                case "picture" | "wanted":
                    files.append(here / entry.name)
        found.append((parts, files))
    return [file for _, files in sorted(found, key=itemgetter(0)) for file in files]


def entries_of(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, hidden names left out, sorted by name.

    Raises:
        DataError: it cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=attrgetter("name"))
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"cannot list '{folder}' ({reason}); expected a folder of images; check the path") from error


def look(entry: os.DirEntry[str], also: Collection[str] = (), kinds: Collection[str] = ()) -> str:
    """``picture``, ``folder``, ``wanted`` for an ending in ``also``, or nothing for what is left out and noted."""
    try:
        if entry.is_file():
            ending = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
            if ending in IMAGE_ENDINGS:
                return "picture"
            if ending in also:
                return "wanted"
            with open(entry.path, "rb") as file:  # noqa: PTH123
                if is_picture(file.read(HEAD), entry.path, kinds):
                    return "picture"
        elif entry.is_dir():
            return "folder"
        else:
            entry.stat()  # of a link to nothing, or to itself, there is none
            note("pipe, socket or device file", entry.path)
    except PermissionError:
        note("unreadable file", entry.path)
    except OSError:
        note("dangling link", entry.path)
    return ""


def is_picture(head: bytes, name: str, kinds: Collection[str] = ()) -> bool:
    """Whether a file without a picture's ending is one, by its first 32 bytes; notes what it is otherwise.

    Args:
        head: these bytes.
        name: of the file.
        kinds: that are wanted besides the formats that are read everywhere.
    """
    ending = os.path.splitext(name)[1].lower()  # noqa: PTH122
    kind = kind_of(head)
    if (kind in FORMATS and KINDS.get(ending) != RAW) or kind in kinds:
        return True
    note(KINDS.get(ending, OTHER if kind or not is_text(head) else TEXT) if kind in FORMATS or not kind else kind, name)
    return False


def is_text(head: bytes) -> bool:
    """Whether the first bytes of a file, 32 at most, are text in UTF-8 or ASCII; of an empty file they are not."""
    text = head.decode(errors="ignore")
    whole = len(head) - len(text.encode()) < 4 * (len(head) == HEAD) + 1  # the last letter may be cut
    return bool(text) and whole and all(letter.isprintable() or letter in "\t\r\n\ufeff" for letter in text)
