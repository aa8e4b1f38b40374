"""Attacks on the store of a gallery: processes that end anywhere, disks that are full, bytes that change.

    python tests/gallery/attacks.py rounds 500      # two who write and four who search, killed at random
    python tests/gallery/attacks.py points          # killed before, and in the middle of, every write there is
    python tests/gallery/attacks.py full            # no space left, from every write on
    python tests/gallery/attacks.py flips 500       # one bit after the other, in every file

Each prints what it did and what it found, and ends with 1 where anything that was acknowledged is lost, anything is
half there, or anything that was deleted is in any file of the folder. ``make attacks`` runs them all;
tests/gallery/test_attacks.py a short form of each.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from faults import FORK, attack, points

from regard.errors import RegardError
from regard.gallery import Filter, Gallery, Item, Record
from regard.gallery.marks import MissingPictureError, Pair
from regard.gallery.record import record_id

DIM = 16
MODEL = {"name": "made up", "fingerprint": "f"}


def picture(name: str, version: int = 0) -> Item:
    """A picture whose every byte follows from its name and version, and is nowhere else."""
    seed = int.from_bytes(hashlib.sha256(f"{name} {version}".encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    record = Record(
        record_id(name), name, camera=f"c{seed % 3}", time=float(seed % 10_000), person=f"v{version} of {name} person"
    )
    return Item(record, vector / np.linalg.norm(vector), f"jpeg of {name} v{version} ".encode() * 20)


def version_of(record: Record) -> int:
    """The version that a record is of."""
    return int(str(record.person).split()[0][1:])


def traces(item: Item) -> list[bytes]:
    """What must be in no file once the picture is deleted."""
    texts = [item.thumbnail[:40], str(item.record.person).encode(), item.record.id.encode(), item.vector.tobytes()]
    return [*texts, bytes.fromhex(item.record.id.replace("-", ""))]


def photo_of(query: str) -> bytes:
    """Photograph of a query, whose every byte follows from its name."""
    return b"\xff\xd8" + f"photo of {query} ".encode() * 20


def left_in(folder: Path, gone: list[Item], kept: set[str], unsaid: list[str]) -> list[str]:
    """Traces of deleted pictures, of those by another version what that one shares with it left out; and of queries."""
    data = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    wanted = [(item.record.path, traces(item)[: 2 if item.record.path in kept else None]) for item in gone]
    wanted += [(query, [query.encode()]) for query in unsaid]
    return [
        f"{name} {trace[:40]!r} in {path.relative_to(folder)}"
        for name, some in wanted
        for trace in some
        for path, content in data.items()
        if trace in content
    ]


class Ledger:
    """What a process was promised, in a file that outlives it."""

    def __init__(self, path: Path):
        self.path = path

    def note(self, *what: Any) -> None:
        with self.path.open("a") as file:
            line = json.dumps([*what, time.monotonic_ns()])
            file.write(f"\n{line}\n")  # what a kill has cut is a line of its own

    def _lines(self) -> list[Any]:
        lines = []
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            with suppress(ValueError):  # empty or cut: then it was not yet begun, or not yet acknowledged
                lines.append(json.loads(line))
        return lines

    def read(self) -> tuple[dict[str, set[int | None]], list[tuple[str, int]]]:
        """Name -> the versions it may have, None for not being there; and what was deleted or replaced for sure."""
        may: dict[str, set[int | None]] = {}
        gone: list[tuple[str, int]] = []
        for phase, names, version, _ in self._lines():
            for name in names if phase in ("began", "done") else ():
                before = may.get(name, {None})
                if phase == "began":
                    may[name] = before | {version}
                else:
                    gone += [(name, old) for old in before if old is not None and old != version]
                    may[name] = {version}
        return may, gone

    def marks(self) -> dict[str, tuple[str, bool, int]]:
        """Query -> the picture that was marked as its match, whether that was acknowledged, and when it was begun."""
        found: dict[str, tuple[str, bool, int]] = {}
        for phase, names, said, now in self._lines():
            if phase[:4] == "mark":
                found[said] = (names[0], phase == "marked", found[said][2] if said in found else now)
        return found

    def last_deletions(self) -> dict[str, float]:
        """Name -> until when a deletion of it may have come to pass: its end, or what began after it was cut off."""
        begun, until = set[str](), dict[str, float]()
        for phase, names, version, now in self._lines():
            for name in names if phase in ("began", "done") else ():
                if version is None and phase == "began":
                    begun.add(name)
                    until[name] = math.inf
                elif name in begun:
                    begun.discard(name)
                    until[name] = now
        return until


def mark(gallery: Gallery, ledger: Ledger, name: str, query: str) -> None:
    """Mark a picture, which may be gone meanwhile; noted before and after."""
    ledger.note("marking", [name], query)
    pair = Pair(query, record_id(name), "people")
    assert gallery.marks is not None
    with suppress(MissingPictureError):
        gallery.marks.set(pair, right=True, photo=photo_of(query), by="anna", needs=[pair.match])
        ledger.note("marked", [name], query)


def write_for_ever(folder: Path, ledger: Ledger, who: str, seed: int, most: int = 10**9) -> None:
    """Add, replace, mark and delete at random, each noted before and after."""
    chance, gallery, steps = random.Random(seed), Gallery.open(folder), 0
    names: dict[str, int] = {name: v for name, vs in ledger.read()[0].items() for v in vs if v is not None}
    while steps < most:
        steps += 1
        kind = chance.random()
        if kind < 0.5 or not names:
            some, version = [f"{who}-{seed}-{steps}-{n}" for n in range(chance.randint(1, 6))], 0
        else:
            some = chance.sample(sorted(names), min(len(names), chance.randint(1, 4)))
            version = None if kind > 0.75 else max(names[name] for name in some) + 1
        ledger.note("began", some, version)
        if version is None:
            gallery.delete(Filter(ids=tuple(record_id(name) for name in some)))
            names = {name: v for name, v in names.items() if name not in some}
        else:
            gallery.add([picture(name, version) for name in some])
            names |= dict.fromkeys(some, version)
        ledger.note("done", some, version)
        if chance.random() < 0.4 and (page := gallery.page(None, 50)):  # also what the other one writes, and deletes
            mark(gallery, ledger, chance.choice(page).path, f"sha256:{seed:04x}{steps:06x}{who}")
        if chance.random() < 0.02:
            gallery.build_index(k=3, samples=3)
    gallery.close()


def search_for_ever(folder: Path, faults: Path, seed: int) -> None:
    """Search, and note every answer that no moment of the gallery can have given."""
    random_, gallery = np.random.default_rng(seed), Gallery.open(folder)
    while True:
        query = random_.standard_normal(DIM).astype(np.float32)
        for match in gallery.search(query, k=20).matches:
            name, version = match.record.path, version_of(match.record)
            wanted = picture(name, version)
            score = float(wanted.vector @ (query / np.linalg.norm(query)))
            if match.record != wanted.record or abs(score - match.score) > 1e-4:
                with faults.open("a") as file:
                    file.write(f"{name}: {match.record} {match.score} {score}\n")


def check(folder: Path, ledgers: list[Ledger]) -> list[str]:
    """What is wrong with a gallery, after what was promised about it."""
    wrong: list[str] = []
    with Gallery.open(folder) as gallery:
        there = {record.path: record for record in gallery.records()}
        if gallery.damaged:
            wrong.append(f"{gallery.damaged} damaged")
        promised: set[str] = set()
        gone: list[Item] = []
        for ledger in ledgers:
            may, lost = ledger.read()
            promised |= may.keys()
            gone += [picture(name, version) for name, version in lost]
            for name, versions in may.items():
                record = there.get(name)
                version = None if record is None else version_of(record)
                if version not in versions:
                    wrong.append(f"{name} is {version}, wanted one of {versions}")
                if version is None:
                    continue
                wanted = picture(name, version)
                (item,) = gallery.get([wanted.record.id])
                if item.record != wanted.record or not np.allclose(item.vector, wanted.vector, atol=1e-6):
                    wrong.append(f"{name} is mixed up: {item.record}")
                if gallery.thumbnail(wanted.record.id) != wanted.thumbnail:
                    wrong.append(f"{name} has another thumbnail")
        wrong += [f"{name} was never added" for name in there.keys() - promised]
        said = {query: told for ledger in ledgers for query, told in ledger.marks().items()}
        assert gallery.marks is not None
        stands = {pair.query: pair for pair in gallery.marks.words()}
        deleted = {name: until for ledger in ledgers for name, until in ledger.last_deletions().items()}
        for query, (name, acknowledged, begun) in said.items():
            if query in stands and (name not in there or gallery.marks.photo(query) != photo_of(query)):
                wrong.append(f"the mark {query} on {name} has no picture, or no photograph")
            if query not in stands and name in there and acknowledged and deleted.get(name, 0) < begun:
                wrong.append(f"the mark {query} on {name} is lost")
        wrong += [f"{number} marks are damaged" for number in (len(gallery.marks.damaged()),) if number]
        unsaid = [query for query in said if query not in stands]
        count = len(there)
        query = picture("query").vector
        found = gallery.search(query, k=min(1000, max(count, 1))).matches
        if len(found) != min(count, 1000):
            wrong.append(f"{len(found)} of {count} are found")
    return wrong + left_in(folder, gone, set(there), unsaid)


def rounds(many: int, seed: int = 0) -> list[str]:
    """Two who write and four who search, all killed at a random moment; then everything is looked at."""
    chance, wrong = random.Random(seed), list[str]()
    with tempfile.TemporaryDirectory() as scratch:
        folder, faults = Path(scratch) / "people", Path(scratch) / "faults"
        for number in range(many):
            if number % 25 == 0:
                shutil.rmtree(folder, ignore_errors=True)
                ledgers = [Ledger(Path(scratch) / f"{number}-{who}") for who in "ab"]
                Gallery.create(folder, DIM, MODEL).close()
            jobs = [(write_for_ever, (folder, ledger, who, number)) for ledger, who in zip(ledgers, "ab")]
            jobs += [(search_for_ever, (folder, faults, 10 * number + n)) for n in range(4)]
            processes = [FORK.Process(target=work, args=arguments) for work, arguments in jobs]
            for process in processes:
                process.start()
            time.sleep(chance.uniform(0.05, 1.2))
            chance.shuffle(processes)
            for process in processes:
                if not process.is_alive():
                    wrong.append(f"round {number}: a process ended by itself with {process.exitcode}")
                process.kill()
                time.sleep(chance.choice((0, 0, 0.01)))
            for process in processes:
                process.join()
            wrong += [f"round {number}: {fault}" for fault in check(folder, ledgers)]
        wrong += faults.read_text().splitlines() if faults.exists() else []
    return wrong


def script(folder: Path, ledger: Ledger) -> None:
    """Everything that is written by a gallery: additions, a replacement, marks, deletions, an index."""
    gallery = Gallery.open(folder)

    def said(names: list[str], version: int | None) -> None:
        ledger.note("began", names, version)
        if version is None:
            gallery.delete(Filter(ids=tuple(map(record_id, names))))
        else:
            gallery.add([picture(name, version) for name in names])
        ledger.note("done", names, version)

    said([f"x{n}" for n in range(4)], 0)
    gallery.build_index(k=2, samples=2)
    said(["x1", "old3"], 1)
    for name in ("x0", "old3", "old5"):
        mark(gallery, ledger, name, f"sha256:aa{len(name)}{name[-1]}")
    said(["x0", "old5"], None)
    said([f"y{n}" for n in range(30)], 0)
    said(["x1", "y3", "old1"], None)
    gallery.close()


def prepared(folder: Path, ledger: Ledger) -> None:
    """A gallery to begin with."""
    with Gallery.create(folder, DIM, MODEL) as gallery:
        names = [f"old{n}" for n in range(12)]
        ledger.note("began", names, 0)
        gallery.add([picture(name) for name in names])
        ledger.note("done", names, 0)


def begun(scratch: Path) -> tuple[Path, tuple[Path, list[Ledger]]]:
    """A gallery to begin with, and what was promised about it."""
    folder, ledger = scratch / "people", Ledger(scratch / "ledger")
    prepared(folder, ledger)
    return folder, (folder, [ledger])


def scripted(folder: Path, ledgers: list[Ledger]) -> None:
    """The script, as :func:`faults.points` runs it."""
    script(folder, ledgers[0])


def flips(many: int, seed: int = 0) -> list[str]:
    """One bit changed at a time; the rest has to be searched, or the file named in one line."""
    chance, wrong, refused, aside = random.Random(seed), list[str](), 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        base, ledger = Path(scratch) / "base", Ledger(Path(scratch) / "ledger")
        prepared(base, ledger)
        script(base, ledger)
        (may, _), marked = ledger.read(), ledger.marks()
        files = sorted(path for path in base.rglob("*") if path.is_file() and path.stat().st_size)
        files += [base / "gallery.sqlite"] * len(files)
        for number in range(many):
            path = files[number % len(files)]
            folder = Path(scratch) / "flipped"
            shutil.copytree(base, folder)
            hit = folder / path.relative_to(base)
            data = bytearray(hit.read_bytes())
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            hit.write_bytes(data)
            try:
                with Gallery.open(folder) as gallery:
                    for record in gallery.records():
                        version = version_of(record)
                        if version not in may.get(record.path, ()) or record != picture(record.path, version).record:
                            wrong.append(f"{hit.name}: {record} was believed")
                    for match in gallery.search(picture("query").vector, k=100).matches:
                        wanted = picture(match.record.path, version_of(match.record))
                        if abs(float(wanted.vector @ picture("query").vector) - match.score) > 1e-4:
                            wrong.append(f"{hit.name}: {match.record.path} has a wrong score")
                        if gallery.thumbnail(match.record.id) not in (wanted.thumbnail, b""):
                            wrong.append(f"{hit.name}: {match.record.path} has a wrong thumbnail")
                    assert gallery.marks is not None
                    for pair in gallery.marks.words():
                        if pair.query not in marked or pair.match != record_id(marked[pair.query][0]):
                            wrong.append(f"{hit.name}: {pair} was believed")
                        if gallery.marks.photo(pair.query) not in (photo_of(pair.query), b""):
                            wrong.append(f"{hit.name}: {pair} has a wrong photograph")
                    there = sum(versions != {None} for versions in may.values())
                    aside += gallery.damaged
                    if len(gallery) + gallery.damaged != there:
                        wrong.append(f"{hit.name}: {len(gallery)} + {gallery.damaged} of {there}")
            except RegardError as error:
                refused += 1
                if "\n" in str(error) or "gallery.sqlite" not in str(error):
                    wrong.append(f"{hit.name}: {error}")
            except Exception as error:
                wrong.append(f"{hit.name}: {type(error).__name__} {error}")
            shutil.rmtree(folder)
    print(f"{many} bits: {refused} galleries named as damaged, {aside} pictures set aside", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(
        attack(
            __doc__,
            {
                "rounds": lambda many: rounds(many or 500),
                "points": lambda many: points(begun, scripted, check, many or 1, (1, 2)),
                "full": lambda many: points(begun, scripted, check, many or 1, (3,)),
                "flips": lambda many: flips(many or 500),
            },
        )
    )
