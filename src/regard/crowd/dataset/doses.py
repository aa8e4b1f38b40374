"""The test half of a crowd at several doses of single causes, a set for each, and a sheet that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from regard.crowd.cause import CAUSES, Cause, checked_cause
from regard.crowd.dataset.crowd_folder import read_description, section
from regard.crowd.dataset.generate import make_crowd
from regard.crowd.dataset.label_files import picture_of, read_entries
from regard.crowd.dataset.plan import QUERY
from regard.crowd.dataset.request import VERSION, Request, whole
from regard.errors import DataError, check_kind
from regard.storage import as_path

__all__ = ["DOSES", "PLAIN", "dose_sheet", "make_doses"]

DOSES = (0.25, 0.5, 0.75, 1.0)
PLAIN = "plain"
"""Folder of the set without a cause."""
MARGIN, LINE = 52, 14
"""Pixels of a sheet that names take: to the left of rows, and above columns."""


def make_doses(
    crowd: str | Path,
    root: str | Path,
    *,
    causes: Sequence[str] = tuple(CAUSES),
    doses: Sequence[float] = DOSES,
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, dict[str, Any]]:
    """Write query and gallery of a crowd as they are, in ``plain``, and at doses of causes, in ``CAUSE_DOSE``.

    People, cameras and every draw but those of the cause are the same in all sets, file names too, so that what a
    network scores can be paired query by query. Sets that are there already are left as they are.

    Args:
        crowd: folder of the crowd, which is only read.
        root: folder to make the sets in.
        causes: names of ``regard.crowd.CAUSES``.
        doses: of each, above 0 up to 1; 0 is the plain set, which is always made.
        workers, progress: as for :func:`regard.crowd.make_crowd`.

    Returns:
        Folder name -> the contents of its ``dataset.json``.

    Raises:
        ConfigError: an unknown cause, or a dose out of its bounds.
        DataError: there is no crowd, or one that has a cause itself, or ``root`` holds something else.
        StorageError: the disk refused a write; nothing half-made is left.
    """
    crowd, root = as_path("crowd", crowd, "a crowd's folder"), as_path("root", root, "a folder to write")
    for name, values in (("causes", causes), ("doses", doses)):
        check_kind(name, values, (list, tuple), "a list")
    given = [checked_cause(name, dose) for name in dict.fromkeys(causes) for dose in dict.fromkeys(doses)]
    parameters = read_parameters(crowd)
    made = {}
    for cause in (None, *(each for each in given if each)):
        place = PLAIN if cause is None else f"{cause.name}_{cause.dose:g}"
        more: dict[str, Any] = {"cause": cause.name, "dose": cause.dose} if cause else {}
        if progress:
            print(place)
        made[place] = make_crowd(
            root / place, **parameters, **more, test_only=True, workers=workers, progress=progress
        )  # fmt: skip
    return made


def read_parameters(crowd: Path) -> dict[str, Any]:
    """Return what a crowd was asked for, as :func:`make_crowd` takes it.

    Raises:
        DataError: there is no crowd, or it has a cause itself, or is of another version.
    """
    found = read_description(crowd)
    if found is None:
        raise DataError(f"no crowd in '{crowd}', wanted dataset.json; make one with `regard data make {crowd}`")
    parameters = {name: value for name, value in section(found, "parameters").items() if name != "test_only"}
    if "cause" in parameters:
        raise DataError(f"the crowd in '{crowd}' has the cause {parameters['cause']!r} itself; give one that has none")
    known = {field.name for field in fields(Request)} - {"cause", "test_only", "cities"}
    if found.get("version") != VERSION or parameters.keys() - {"cities"} != known:
        raise DataError(f"'{crowd}' was made by another version of regard; make it again to have it at doses")
    return parameters


def dose_sheet(root: str | Path, *, people: int = 3, scale: int = 1) -> Image.Image:
    """Show sets of :func:`make_doses`: a row for each cause, a column for each dose, the same pictures in all.

    Args:
        root: folder of the sets.
        people: pictures in each, a query of that many people.
        scale: enlargement.

    Raises:
        ConfigError: a number is less than 1.
        DataError: the folder holds no such sets, or not all of a set.
    """
    for name, number in (("people", people), ("scale", scale)):
        whole(name, number, 1, 100)
    root = Path(root)
    sets = find_sets(root)
    causes = [name for name in CAUSES if any(cause and cause.name == name for cause in sets)]
    doses = sorted({cause.dose for cause in sets if cause})
    if None not in sets or not causes:
        raise DataError(f"no sets of doses in '{root}', wanted {PLAIN} and others; make them with `regard data doses`")
    try:
        names = chosen_queries(sets[None], people)
        width, height = picture_of(sets[None] / names[0], scale).size
        sheet = Image.new("RGB", (MARGIN + (len(doses) + 1) * (len(names) * width + 4), LINE + len(causes) * height))
        canvas = ImageDraw.Draw(sheet)
        for column, dose in enumerate((0.0, *doses)):
            left = MARGIN + column * (len(names) * width + 4)
            canvas.text((left + 2, 1), f"{dose:g}", fill="white")
            for row, cause in enumerate(causes):
                canvas.text((2, LINE + row * height + height // 2), cause, fill="white")
                folder = sets.get(Cause(cause, dose) if dose else None)
                for place, name in enumerate(names if folder else ()):
                    assert folder is not None
                    sheet.paste(picture_of(folder / name, scale), (left + place * width, LINE + row * height))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"a set in '{root}' is not whole ({error}); make it with `regard data doses` again") from error
    return sheet


def find_sets(root: Path) -> dict[Cause | None, Path]:
    """Return the crowds in a folder by the cause that was added to each.

    Raises:
        ConfigError: one says that it has a cause which is none.
        DataError: the folder cannot be read.
    """
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir())
    except OSError as error:
        raise DataError(f"cannot read '{root}' ({error.strerror or error}), wanted sets of doses in it") from error
    found: dict[Cause | None, Path] = {}
    for folder in folders:
        if description := read_description(folder):
            parameters = section(description, "parameters")
            found[checked_cause(parameters.get("cause"), parameters.get("dose"))] = folder
    return found


def chosen_queries(root: Path, people: int) -> list[str]:
    """Return queries of the first people, each from another camera than the last where there is one."""
    entries = [image for image, _ in read_entries(root) if image["file_name"].startswith(f"{QUERY}/")]
    by_person: dict[int, list[str]] = {}
    for image in entries:
        by_person.setdefault(image["pid"], []).append(image["file_name"])
    if not by_person:
        raise ValueError("it has no query")
    return [names[place % len(names)] for place, names in enumerate(list(by_person.values())[:people])]
