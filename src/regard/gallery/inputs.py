"""Where pictures come from: files, folders, tar shards (WebDataset), Parquet tables; and what is known of them.

Sources are listed in one order (folders sorted, archives in theirs), so that every process of a group lists the same.

A picture's camera, time, track, person and attributes come from, the later the stronger:

* its EXIF, which says when it was taken;
* its file name, where it is in Market-1501's form (``0002_c1s1_000451_03.jpg``);
* the JSON of the same name in a tar shard, or the other columns of its row in a Parquet table;
* its path, by ``--camera-from`` (:class:`regard.gallery.origins.PathReader`);
* a table given with ``--meta`` (CSV, JSON lines or Parquet) with a column ``path``.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from regard.data.datasets.market1501 import NAMING
from regard.data.image import MAX_BYTES, read_bytes
from regard.data.listing import IMAGE_ENDINGS, Skipped, is_picture, note, noting, walk_images
from regard.data.modern import how_to_read, readable_kinds
from regard.data.rows import MAX_COLUMNS, read_rows
from regard.errors import DataError
from regard.gallery.facts import heard
from regard.gallery.origins import PathReader
from regard.gallery.record import FACTS, Record, parse_time, record_id
from regard.parsing import parse_json
from regard.storage import open_regular, plain_text

__all__ = ["Listing", "Source", "list_inputs", "list_sources", "read_table"]

SHARDS = frozenset({".tar", ".parquet"})


@dataclass(frozen=True, slots=True)
class Source:
    """A picture that can be read.

    Attributes:
        path: where it comes from, as the gallery will say.
        read: gives its bytes; raises DataError where it cannot.
        facts: what it says of itself: its name, what lies beside it in a shard, its row.
        told: what the command was told of it, which is stronger.
        zone: of times that say none.
        box: where it lies in its scene, of a crop; x0, y0, x1, y1 in pixels.
    """

    path: str
    read: Callable[[], bytes] = field(compare=False)
    facts: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)
    zone: tzinfo = UTC
    box: tuple[int, int, int, int] | None = None

    @property
    def id(self) -> str:
        """Id of its record."""
        return record_id(self.path)

    @property
    def is_dated(self) -> bool:
        """Whether something else than its EXIF says when it was taken."""
        return any(facts.get("time") not in (None, "") for facts in (self.facts, self.told))

    def record(self, stored: Record | None = None, taken: float | None = None) -> Record:
        """The record of the picture.

        Args:
            stored: the one that there is, which may know more (:func:`regard.gallery.facts.heard`).
            taken: when, by its EXIF.

        Raises:
            DataError: what is known of it is not in order.
        """
        record = stored or Record(self.id, self.path)
        for who, facts in (("own", self.facts), ("told", self.told)):
            said = {key: value for key, value in facts.items() if value is not None and value != ""}
            known = {key: said.pop(key) for key in FACTS if key in said}
            attributes = {tidy(key): value for key, value in said.items()}
            try:
                known["time"] = parse_time(known.get("time", taken if who == "own" else None), self.zone)
                says = Record.from_dict({"id": record.id, "path": self.path, **known, "attributes": attributes})
            except DataError as error:
                raise DataError(f"{self.path}: {error}") from None
            record = heard(record, says, who)
        return record


class Listing(NamedTuple):
    """The pictures of the inputs.

    Attributes:
        sources: each once, in order.
        inputs: what was given.
        shards: those that were listed whole, as records call them.
        skipped: what was left out.
    """

    sources: list[Source]
    inputs: list[Path]
    shards: set[str]
    skipped: Skipped


def list_sources(
    inputs: Iterable[Path | str],
    meta: Mapping[str, Mapping[str, Any]] | None = None,
    paths: PathReader | None = None,
    zone: tzinfo = UTC,
) -> list[Source]:
    """Every picture of the inputs, each once; see :func:`list_inputs`."""
    return list_inputs(inputs, meta, paths, zone).sources


def list_inputs(
    inputs: Iterable[Path | str],
    meta: Mapping[str, Mapping[str, Any]] | None = None,
    paths: PathReader | None = None,
    zone: tzinfo = UTC,
) -> Listing:
    """Every picture of the inputs, each once; what is left out is noted (:func:`regard.data.listing.noting`).

    Args:
        inputs: files, folders (searched whole), ``.tar`` shards, ``.parquet`` tables.
        meta: what is known besides, by path or by the end of it; see :func:`read_table`.
        paths: what their paths say.
        zone: of times that say none.

    Raises:
        DataError: an input is missing or cannot be listed, one of them holds things but no picture, there is no
            picture in any, or neither a row of ``meta`` nor a path speaks of one.
    """
    found: dict[str, Source] = {}
    given, shards = [Path(each) for each in inputs], set()
    with noting() as skipped:
        for path in given:
            if not path.exists():
                raise DataError(f"there is no {path}; give pictures, folders, .tar shards or .parquet tables")
            with noting() as here:
                listed = list(of_path(path, shards))
            if not listed and here:
                raise DataError(
                    f"there are no pictures in {path}, only {here}; {how_to_read(here.reasons) or 'name others'}"
                )
            if not listed:
                note("input without pictures", path)
            for source in listed:
                found.setdefault(source.path, source)
            here.repeat()
    skipped.repeat()
    if not found:
        raise DataError(f"there are no pictures in {', '.join(map(str, given))[:200]}; name others")
    sources = with_paths(list(found.values()), paths) if paths is not None else list(found.values())
    sources = with_table(sources, meta) if meta is not None else sources
    return Listing([replace(source, zone=zone) for source in sources], given, shards, skipped)


def of_path(path: Path, shards: set[str]) -> Iterator[Source]:
    """The pictures of a path; a file that is given by name is taken for one, whatever it is called."""
    for file in walk_images(path, SHARDS, readable_kinds()) if path.is_dir() else [path]:
        if file.suffix.lower() in SHARDS and not file.is_file():
            raise DataError(f"cannot open '{file}' (no regular file), expected a shard; name a file")
        match file.suffix.lower():
            case ".tar":
                shards.add(where(file))
                yield from of_tar(file)
            case ".parquet":
                shards.add(where(file))
                yield from of_parquet(file)
            case _:
                yield Source(where(file), partial(read_bytes, file), of_name(file.name))


def where(path: Path) -> str:
    """A path as a gallery keeps it."""
    return plain_text(path.absolute().as_posix())


def of_tar(path: Path) -> Iterator[Source]:
    """The pictures of a tar shard; ``key.json`` says what is known of ``key.jpg``."""
    facts: dict[str, Any] = {}
    pictures: list[tarfile.TarInfo] = []
    kinds = readable_kinds()
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                ending = PurePosixPath(member.name).suffix.lower()
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    note("link or special file", f"{path}!{member.name}")
                elif member.size > MAX_BYTES:
                    note("oversized file", f"{path}!{member.name}")
                elif ending == ".json":
                    file = shard.extractfile(member)
                    facts[member.name[: -len(ending)]] = parse_json(file.read()) if file else {}
                elif ending in IMAGE_ENDINGS or is_picture(head_of(shard, member), f"{path}!{member.name}", kinds):
                    pictures.append(member)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DataError(f"cannot list {path} ({error}), wanted an uncompressed tar shard; restore it") from error
    for member in pictures:
        name = PurePosixPath(member.name)
        known = of_name(name.name) | scalars(facts.get(member.name.removesuffix(name.suffix)))
        yield Source(
            f"{where(path)}!{plain_text(member.name)}",
            partial(read_slice, path, member.offset_data, member.size),
            known,
        )


def head_of(shard: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The first bytes of a member."""
    file = shard.extractfile(member)
    return file.read(32) if file else b""


def of_parquet(path: Path) -> Iterator[Source]:
    """The pictures of a table with a column ``image`` (bytes, or a struct with ``bytes``), or ``path`` beside it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path)
        names = table.schema_arrow.names
        if len(names) > MAX_COLUMNS:
            raise DataError(f"{path} has {len(names):,} columns, wanted {MAX_COLUMNS:,} at most; leave some out")
        if not {"image", "path"} & set(names):
            raise DataError(f"{path} has columns {', '.join(names)}; wanted image (bytes) or path")
        others = [name for name in names if name not in ("image", "vector", "thumbnail")]
        rows = table.read(columns=others).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot read {path} as Parquet ({error}); restore it") from error
    sizes = [table.metadata.row_group(group).num_rows for group in range(table.metadata.num_row_groups)]
    for number, cell in enumerate((group, row) for group, size in enumerate(sizes) for row in range(size)):
        row = rows[number] if rows else {}
        facts = of_name(PurePosixPath(str(row.get("path") or "")).name) | scalars(row)
        if "image" in names:
            yield Source(f"{where(path)}#{number}", partial(read_cell, path, *cell), facts)
        else:
            file = path.parent / str(facts.pop("path", ""))
            yield Source(where(file), partial(read_bytes, file), facts)


def read_table(path: Path) -> dict[str, dict[str, Any]]:
    """What a table knows of pictures, by its column ``path``.

    Args:
        path: CSV with a header, JSON lines, or Parquet.

    Raises:
        DataError: it cannot be read, has no column ``path`` or no rows, or speaks of a picture twice.
    """
    found: dict[str, dict[str, Any]] = {}
    places: dict[str, str] = {}
    for place, row in read_rows(path, ("path",)):
        name = str(row["path"])
        if not name:
            raise DataError(f"{place} of '{path}': path is empty, expected a picture; fill it in")
        if name in places:
            raise DataError(f"{place} of '{path}' repeats {name!r} of {places[name]}; remove one of them")
        places[name] = place
        found[name] = {key: value for key, value in scalars(row).items() if key != "path" and value not in ("", None)}
    if not found:
        raise DataError(f"'{path}' has no rows, expected one for each picture; fill it, or leave it out")
    return found


def with_paths(sources: list[Source], paths: PathReader) -> list[Source]:
    """The sources with what their paths say of them.

    Raises:
        DataError: none says anything.
    """
    told = [replace(source, told=paths(source.path)) for source in sources]
    if not paths.fits:
        raise DataError(
            f"--camera-from {paths.rule!r} fits none of {len(sources):,} paths, such as {sources[0].path!r}; correct it"
        )
    return told


def with_table(sources: list[Source], meta: Mapping[str, Mapping[str, Any]]) -> list[Source]:
    """The sources with what a table knows of them, looked up by the path or by the end of it.

    Rows that speak of none or of several are noted.

    Raises:
        DataError: no row speaks of any.
    """
    told: list[Source] = []
    used: dict[str, int] = {}
    for source in sources:
        parts = source.path.replace("!", "/").split("/")
        tails = ("/".join(parts[start:]) for start in range(len(parts)))
        row = next((name for name in (source.path, *tails) if name in meta), None)
        if row is not None:
            used[row] = used.get(row, 0) + 1
        told.append(replace(source, told={**source.told, **meta.get(row or "", {})}))
    if not used:
        raise DataError(
            f"none of the {len(meta):,} rows given with --meta speaks of any of the {len(sources):,} pictures: "
            f"{next(iter(meta))!r} is neither the path nor the end of one, such as {sources[0].path!r}; correct them"
        )
    for name in meta:
        if used.get(name, 0) != 1:
            note("ambiguous --meta row" if name in used else "unmatched --meta row", name)
    return told


def of_name(name: str) -> dict[str, Any]:
    """What a file name in Market-1501's form says; empty for any other."""
    try:
        sample = NAMING.read(Path(name))
    except DataError:
        return {}
    facts = {"person": str(sample.pid), "camera": str(sample.camid), "sequence": sample.sequence, "frame": sample.frame}
    return {key: value for key, value in facts.items() if value is not None}


def scalars(row: Any) -> dict[str, Any]:
    """The plain values of a row; lists and structs are left out, ``attributes`` as JSON is unpacked."""
    if not isinstance(row, Mapping):
        return {}
    plain = {key: value for key, value in row.items() if isinstance(value, str | int | float | bool) or key == "time"}
    attributes = row.get("attributes")
    if isinstance(attributes, str) and attributes.startswith("{"):
        plain |= parse_json(attributes)
        plain.pop("attributes")
    return {str(key): value for key, value in plain.items() if key not in ("id", "__index_level_0__")}


def tidy(name: str) -> str:
    """A name every engine can filter by."""
    plain = "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in str(name))
    return plain.lstrip("-")[:64] or "_"


def read_slice(path: Path, start: int, size: int) -> bytes:
    """The bytes of a member of a tar shard."""
    try:
        with open_regular(path) as file:
            file.seek(start)
            return file.read(size)
    except OSError as error:
        raise DataError(f"cannot open {path} ({error.strerror}); check the path and its permissions") from None


def read_cell(path: Path, group: int, row: int) -> bytes:
    """The bytes of a picture in a row group of a Parquet table."""
    import pyarrow as pa

    try:
        status = path.stat()
        value = image_column(path, group, (status.st_ino, status.st_size, status.st_mtime_ns))[row].as_py()
    except (pa.ArrowException, OSError, LookupError):
        raise DataError(f"{path} has no such row any more; it changed while it was read") from None
    value = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(value, bytes):
        raise DataError(f"row {row} of {path}'s group {group} has no picture in its column image")
    return value


@lru_cache(maxsize=2)
def image_column(path: Path, group: int, state: tuple[int, ...]) -> Any:
    """The column of pictures of one row group, kept while its rows are read one after the other, and the file stays."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as table:
        return table.read_row_group(group, columns=["image"])["image"]
