"""Attacks on the log of uses and on marks: processes that end anywhere, disks that are full, ends that are cut.

    python tests/gallery/attacks_log.py rounds 200    # four who append and archive, killed at random
    python tests/gallery/attacks_log.py points        # killed before, and in the middle of, every write there is
    python tests/gallery/attacks_log.py full          # no space left, from every write on

Each prints what it did and what it found, and ends with 1 where a line that was acknowledged is lost, a log that nobody
touched is said to be touched, or one that was cut is said to be whole.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from attacks import FORK, preloaded

from regard.errors import StorageError
from regard.gallery.audit import AuditLog
from regard.gallery.marks import KeptMarks, Pair
from regard.gallery.seal import KEYS

PHOTO = b"\xff\xd8 a photograph"


def said(book: Path) -> list[str]:
    """What was acknowledged."""
    return book.read_text().splitlines() if book.exists() else []


def acknowledge(book: Path, text: str) -> None:
    """Note that something was acknowledged, whatever the disk of the log says; one write, so that no kill halves it."""
    descriptor = os.open(book, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def script(folder: Path, book: Path) -> None:
    """Everything that is written by log and marks."""
    log, marks = AuditLog(folder / "people" / "audit.jsonl"), KeptMarks(folder / "people" / "marks")
    for number in range(3):
        log.append(kind="search", query=[f"a{number}"])
        acknowledge(book, f"line a{number}")
    for match in ("x", "y"):
        marks.set(Pair("sha256:aa", match, "g"), right=True, photo=PHOTO)
        acknowledge(book, f"mark {match}")
    log.archive(folder / "old.jsonl")
    log.append(kind="search", query=["b"])
    acknowledge(book, "line b")
    acknowledge(book, "began x")
    marks.forget(["x"])
    acknowledge(book, "gone x")
    AuditLog(log.path).append(kind="search", query=["c"])
    acknowledge(book, "line c")


def check(folder: Path, book: Path) -> list[str]:
    """What is wrong after that, and after one more line."""
    log, marks = AuditLog(folder / "people" / "audit.jsonl"), KeptMarks(folder / "people" / "marks")
    wrong, acknowledged = [], said(book)
    old = [folder / "old.jsonl"] if continues(log) else []
    for lap in ("before", "after"):
        if fault := log.check(before=old).fault:
            wrong.append(f"{lap} the next line: {fault}")
        log.append(kind="search", query=["next"])
    there = {entry["query"][0] for each in (*map(AuditLog, old), log) for entry in each.entries() if "query" in entry}
    wrong += [f"{line} is lost" for line in acknowledged if line[:4] == "line" and line[5:] not in there]
    kept = {pair.match for pair in marks.all()}
    wrong += [
        f"{line} is lost"
        for line in acknowledged
        if line[:4] == "mark" and line[5:] not in kept and f"began {line[5:]}" not in acknowledged
    ]
    if "gone x" in acknowledged and b'"x"' in marks._path.read_bytes():
        wrong.append("x is there still")
    last = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(last[:-1]))
    if log.verify() is None:
        wrong.append("a cut end does not show")
    return wrong


def continues(log: AuditLog) -> bool:
    """Whether lines of before lie in another file."""
    return next(log.entries(), {}).get("kind") == "continued" if log.path.exists() else False


def faulty(folder: Path, book: Path, number: int, mode: int, told: FORK.SimpleQueue) -> None:
    """Run the script with a fault at a write; what StorageError says is told."""
    os.environ["REGARD_FAULTS"] = str(folder)
    library = ctypes.CDLL(None)
    library.arm(number, mode)
    try:
        script(folder, book)
        told.put((None, library.count()))
    except StorageError as error:
        library.arm(0, -1)
        told.put((str(error), 0))


def points(step: int, modes: tuple[int, ...]) -> list[str]:
    """The script, ended or refused at every ``step``-th of its writes; needs faults.c before the C library."""
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for mode in modes:
            number, ended = 1, False
            while not ended:
                folder, book = Path(scratch) / "faulty", Path(scratch) / f"book-{mode}-{number}"
                (folder / "people").mkdir(parents=True)
                os.environ[KEYS] = str(folder / "keys")
                told = FORK.SimpleQueue()
                process = FORK.Process(target=faulty, args=(folder, book, number, mode, told))
                process.start()
                process.join()
                ended = process.exitcode == 0 and (answer := told.get())[0] is None
                if process.exitcode not in (0, -signal.SIGKILL):
                    wrong.append(f"mode {mode}, write {number}: ended with {process.exitcode}")
                wrong += [f"mode {mode}, write {number}: {fault}" for fault in check(folder, book)]
                shutil.rmtree(folder)
                number += step
            print(f"mode {mode}: {answer[1]} writes", flush=True)
    return wrong


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


def main() -> int:
    """Run the attack that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attack", choices=("rounds", "points", "full"))
    parser.add_argument("many", type=int, nargs="?", default=None, help="rounds; every how many-th write")
    given = parser.parse_args()
    if given.attack in ("points", "full") and "LD_PRELOAD" not in os.environ:
        with tempfile.TemporaryDirectory() as scratch:
            environment = preloaded(Path(scratch))
            if environment is None:
                parser.error("wants Linux and a C compiler")
            return subprocess.call([sys.executable, __file__, *sys.argv[1:]], env=environment)
    attacks: dict[str, Callable[[], list[str]]] = {
        "rounds": lambda: rounds(given.many or 200),
        "points": lambda: points(given.many or 1, (1, 2)),
        "full": lambda: points(given.many or 1, (3,)),
    }
    started = time.perf_counter()
    wrong = attacks[given.attack]()
    print(f"{given.attack}: {len(wrong)} faults in {time.perf_counter() - started:.0f} s")
    print("\n".join(wrong[:20]))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
