"""Where pictures come from: files, folders, tar shards (WebDataset), Parquet tables; and what is known of them.

Sources are listed in one order (folders sorted, archives in theirs), so that every process of a group lists the same.

A picture's camera, time, track, person and attributes come from, the later the stronger:

* its file name, where it is in Market-1501's form (``0002_c1s1_000451_03.jpg``);
* the JSON of the same name in a tar shard, or the other columns of its row in a Parquet table;
* a table given with ``--meta`` (CSV, JSON lines or Parquet) with a column ``path``.
"""

from __future__ import annotations

import csv
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

from regard.data.datasets.layout import IMAGE_ENDINGS
from regard.data.datasets.market1501 import parse_name
from regard.errors import DataError
from regard.parsing import parse_json
from regard.search.record import Record, record_id

__all__ = ["Source", "list_sources", "read_table"]

KNOWN = ("camera", "time", "track", "person")
MAX_BYTES = 64 * 2**20
"""Larger files are no person crops and are not read."""


@dataclass(frozen=True, slots=True)
class Source:
    """A picture that can be read.

    Attributes:
        path: where it comes from, as the gallery will say.
        read: gives its bytes; raises DataError where it cannot.
        facts: what is known of it.
    """

    path: str
    read: Callable[[], bytes] = field(compare=False)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> Record:
        """The record of the picture.

        Raises:
            DataError: what is known of it is not in order.
        """
        facts = {key: value for key, value in self.facts.items() if value is not None and value != ""}
        known = {key: facts.pop(key) for key in KNOWN if key in facts}
        attributes = {tidy(key): value for key, value in facts.items()}
        return Record.from_dict({"id": record_id(self.path), "path": self.path, **known, "attributes": attributes})


def list_sources(inputs: Iterable[Path | str], meta: Mapping[str, Mapping[str, Any]] | None = None) -> list[Source]:
    """Every picture of the inputs, each once.

    Args:
        inputs: files, folders (searched whole), ``.tar`` shards, ``.parquet`` tables.
        meta: what is known besides, by path or by file name; see :func:`read_table`.

    Raises:
        DataError: an input is missing or cannot be listed.
    """
    found: dict[str, Source] = {}
    for given in inputs:
        path = Path(given)
        if not path.exists():
            raise DataError(f"there is no {path}; give pictures, folders, .tar shards or .parquet tables")
        for source in of_path(path, inside=False):
            found.setdefault(source.path, source)
    return [with_meta(source, meta) for source in found.values()] if meta else list(found.values())


def of_path(path: Path, inside: bool = True) -> Iterator[Source]:
    """The pictures of a path; ``inside`` a folder, files that are none of ours are passed over."""
    if path.is_dir():
        for folder, folders, files in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(name for name in files if not name.startswith(".")):
                yield from of_path(Path(folder) / name)
        return
    match path.suffix.lower():
        case ".tar":
            yield from of_tar(path)
        case ".parquet":
            yield from of_parquet(path)
        case ending if not inside or ending in IMAGE_ENDINGS:
            where = path.absolute().as_posix()
            yield Source(where, partial(read_file, path), of_name(path.name))


def of_tar(path: Path) -> Iterator[Source]:
    """The pictures of a tar shard; ``key.json`` says what is known of ``key.jpg``."""
    facts: dict[str, Any] = {}
    pictures: list[tarfile.TarInfo] = []
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                ending = PurePosixPath(member.name).suffix.lower()
                if not member.isfile() or member.size > MAX_BYTES:
                    continue
                if ending in IMAGE_ENDINGS:
                    pictures.append(member)
                elif ending == ".json":
                    file = shard.extractfile(member)
                    facts[member.name[: -len(ending)]] = parse_json(file.read()) if file else {}
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DataError(f"cannot list {path} ({error}), wanted an uncompressed tar shard; restore it") from error
    where = path.absolute().as_posix()
    for member in pictures:
        key = member.name[: -len(PurePosixPath(member.name).suffix)]
        known = of_name(PurePosixPath(member.name).name) | scalars(facts.get(key))
        yield Source(f"{where}!{member.name}", partial(read_slice, path, member.offset_data, member.size), known)


def of_parquet(path: Path) -> Iterator[Source]:
    """The pictures of a table with a column ``image`` (bytes, or a struct with ``bytes``), or ``path`` beside it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path)
        names = table.schema_arrow.names
        if not {"image", "path"} & set(names):
            raise DataError(f"{path} has columns {', '.join(names)}; wanted image (bytes) or path")
        others = [name for name in names if name not in ("image", "vector", "thumbnail")]
        rows = table.read(columns=others).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot read {path} as Parquet ({error}); restore it") from error
    where = path.absolute().as_posix()
    for number in range(table.metadata.num_rows):
        row = rows[number] if rows else {}
        facts = of_name(PurePosixPath(str(row.get("path") or "")).name) | scalars(row)
        if "image" in names:
            yield Source(f"{where}#{number}", partial(read_cell, path, number), facts)
        else:
            file = path.parent / str(facts.pop("path", ""))
            yield Source(file.absolute().as_posix(), partial(read_file, file), facts)


def read_table(path: Path) -> dict[str, dict[str, Any]]:
    """What a table knows of pictures, by its column ``path``.

    Args:
        path: CSV with a header, JSON lines, or Parquet.

    Raises:
        DataError: it cannot be read, or has no column ``path``.
    """
    try:
        match path.suffix.lower():
            case ".csv":
                with path.open(encoding="utf-8", newline="") as file:
                    rows: list[dict[str, Any]] = list(csv.DictReader(file))
            case ".parquet":
                import pyarrow.parquet as pq

                rows = pq.read_table(path).to_pylist()
            case _:
                rows = [parse_json(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return {str(row["path"]): {k: v for k, v in scalars(row).items() if k != "path"} for row in rows}
    except KeyError:
        raise DataError(f"{path} has no column path; name the picture each row speaks of") from None
    except Exception as error:
        raise DataError(
            f"cannot read {path} ({error}), wanted CSV, JSON lines or Parquet with a column path"
        ) from error


def with_meta(source: Source, meta: Mapping[str, Mapping[str, Any]]) -> Source:
    """The source with what a table knows of it, looked up by its path or by the end of it."""
    parts = source.path.replace("!", "/").split("/")
    tails = ["/".join(parts[start:]) for start in range(len(parts))]
    known = next((meta[name] for name in (source.path, *tails) if name in meta), {})
    return Source(source.path, source.read, {**source.facts, **known})


def of_name(name: str) -> dict[str, Any]:
    """What a file name in Market-1501's form says; empty for any other."""
    try:
        sample = parse_name(Path(name))
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


def read_file(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        DataError: it cannot be read, or is too large.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has more than {MAX_BYTES:,} bytes, wanted a person crop")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot open {path} ({error.strerror}); check the path and its permissions") from None


def read_slice(path: Path, start: int, size: int) -> bytes:
    """The bytes of a member of a tar shard."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(size)
    except OSError as error:
        raise DataError(f"cannot open {path} ({error.strerror}); check the path and its permissions") from None


def read_cell(path: Path, row: int) -> bytes:
    """The bytes of a picture in a Parquet table."""
    for group, rows in enumerate(group_sizes(path)):
        if row < rows:
            value = image_column(path, group)[row].as_py()
            value = value.get("bytes") if isinstance(value, dict) else value
            if not isinstance(value, bytes):
                raise DataError(f"row {row} of {path}'s group {group} has no picture in its column image")
            return value
        row -= rows
    raise DataError(f"{path} has no such row any more; it changed while it was read")


@lru_cache(maxsize=16)
def group_sizes(path: Path) -> tuple[int, ...]:
    """Rows of each row group of a table."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(path)
    return tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))


@lru_cache(maxsize=2)
def image_column(path: Path, group: int) -> Any:
    """The column of pictures of one row group, kept while its rows are read one after the other."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as table:
        return table.read_row_group(group, columns=["image"])["image"]
