"""Attacks on the log of uses: processes that end anywhere, disks that are full, ends that are cut.

    python tests/gallery/attacks_log.py rounds 200    # four who append and archive, killed at random
    python tests/gallery/attacks_log.py points        # killed before, and in the middle of, every write there is
    python tests/gallery/attacks_log.py full          # no space left, from every write on

Each prints what it did and what it found, and ends with 1 where a line that was acknowledged is lost, a log that nobody
touched is said to be touched, or one that was cut is said to be whole.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from pathlib import Path

from faults import FORK, attack, points

from regard.gallery.audit import AuditLog
from regard.gallery.seal import KEYS


def said(book: Path) -> list[str]:
    """What was acknowledged."""
    return book.read_text().splitlines() if book.exists() else []


def acknowledge(book: Path, text: str) -> None:
    """Note that something was acknowledged, whatever the disk of the log says; one write, so that no kill halves it."""
    descriptor = os.open(book, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def script(folder: Path, book: Path) -> None:
    """Everything that is written by a log."""
    log = AuditLog(folder / "people" / "audit.jsonl")
    for number in range(3):
        log.append(kind="search", query=[f"a{number}"])
        acknowledge(book, f"line a{number}")
    log.archive(folder / "old.jsonl")
    log.append(kind="search", query=["b"])
    acknowledge(book, "line b")
    AuditLog(log.path).append(kind="search", query=["c"])
    acknowledge(book, "line c")


def check(folder: Path, book: Path) -> list[str]:
    """What is wrong after that, and after one more line."""
    log = AuditLog(folder / "people" / "audit.jsonl")
    wrong, acknowledged = [], said(book)
    old = [folder / "old.jsonl"] if continues(log) else []
    for lap in ("before", "after"):
        if fault := log.check(before=old).fault:
            wrong.append(f"{lap} the next line: {fault}")
        log.append(kind="search", query=["next"])
    there = {entry["query"][0] for each in (*map(AuditLog, old), log) for entry in each.entries() if "query" in entry}
    wrong += [f"{line} is lost" for line in acknowledged if line[:4] == "line" and line[5:] not in there]
    last = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(last[:-1]))
    if log.verify() is None:
        wrong.append("a cut end does not show")
    return wrong


def continues(log: AuditLog) -> bool:
    """Whether lines of before lie in another file."""
    return next(log.entries(), {}).get("kind") == "continued" if log.path.exists() else False


def begun(scratch: Path) -> tuple[Path, tuple[Path, Path]]:
    """A folder for a log and its seal, and a book beside it."""
    folder = scratch / "faulty"
    (folder / "people").mkdir(parents=True)
    os.environ[KEYS] = str(folder / "keys")
    return folder, (folder, scratch / "book")


def append_for_ever(folder: Path, book: Path, who: str) -> None:
    """Append lines, and acknowledge each."""
    log, number = AuditLog(folder / "people" / "audit.jsonl"), 0
    while True:
        log.append(kind="search", query=[f"{who}.{number}"])
        acknowledge(book, f"{who}.{number}")
        number += 1


def rounds(many: int, seed: int = 0) -> list[str]:
    """Processes append and are killed, and every fourth round what is there is archived."""
    chance, wrong = random.Random(seed), list[str]()
    with tempfile.TemporaryDirectory() as scratch:
        folder, book = Path(scratch), Path(scratch) / "book"
        (folder / "people").mkdir()
        os.environ[KEYS] = str(folder / "keys")
        log, old = AuditLog(folder / "people" / "audit.jsonl"), list[Path]()
        for lap in range(many):
            jobs = [FORK.Process(target=append_for_ever, args=(folder, book, f"{lap}{who}")) for who in "abcd"]
            for job in jobs:
                job.start()
            time.sleep(chance.uniform(0.02, 0.2))
            if lap % 4 == 3:
                old.append(folder / f"{lap}.jsonl")
                log.archive(old[-1])
            for job in jobs:
                job.kill()
            for job in jobs:
                job.join()
            if fault := log.check().fault:
                wrong.append(f"round {lap}: {fault}")
        if fault := log.check(before=old).fault:
            wrong.append(f"all together: {fault}")
        there = {
            entry["query"][0] for each in (*map(AuditLog, old), log) for entry in each.entries() if "query" in entry
        }
        acknowledged = said(book)
        wrong += [f"{line} is lost" for line in acknowledged if line not in there]
        print(f"{len(acknowledged)} lines acknowledged, {len(there)} there")
    return wrong


if __name__ == "__main__":
    sys.exit(
        attack(
            __doc__,
            {
                "rounds": lambda many: rounds(many or 200),
                "points": lambda many: points(begun, script, check, many or 1, (1, 2)),
                "full": lambda many: points(begun, script, check, many or 1, (3,)),
            },
        )
    )
