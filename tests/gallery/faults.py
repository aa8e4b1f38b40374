"""What the attacks have in common: a process that ends at a write or whose disk is full, and how an attack is begun."""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from regard.errors import StorageError

FORK = multiprocessing.get_context("fork")


def faulty(
    script: Callable[..., None], arguments: Sequence[Any], home: Path, number: int, mode: int, told: Any
) -> None:
    """Run a script with a fault at a write in ``home``; what StorageError says is told."""
    os.environ["REGARD_FAULTS"] = str(home)
    library = ctypes.CDLL(None)
    library.arm(number, mode)
    try:
        script(*arguments)
        told.put((None, library.count()))
    except StorageError as error:
        library.arm(0, -1)
        told.put((str(error), 0))


def points(
    begin: Callable[[Path], tuple[Path, Sequence[Any]]],
    script: Callable[..., None],
    check: Callable[..., list[str]],
    step: int,
    modes: Sequence[int],
) -> list[str]:
    """A script, ended or refused at every ``step``-th of its writes; needs faults.c before the C library.

    Args:
        begin: (an empty folder) -> where in it writes fail, and what script and check are called with.
        script: writes.
        check: says what is wrong afterwards.
        step: of the writes.
        modes: of faults.c.
    """
    wrong: list[str] = []
    for mode in modes:
        number, ended = 1, False
        while not ended:
            with tempfile.TemporaryDirectory() as scratch:
                home, arguments = begin(Path(scratch))
                told = FORK.SimpleQueue()
                process = FORK.Process(target=faulty, args=(script, arguments, home, number, mode, told))
                process.start()
                process.join()
                ended = process.exitcode == 0 and (said := told.get())[0] is None
                if process.exitcode not in (0, -signal.SIGKILL):
                    wrong.append(f"mode {mode}, write {number}: ended with {process.exitcode}")
                wrong += [f"mode {mode}, write {number}: {fault}" for fault in check(*arguments)]
            number += step
        print(f"mode {mode}: {said[1]} writes", flush=True)
    return wrong


def preloaded(scratch: Path) -> dict[str, str] | None:
    """Environment with faults.c before the C library; None where it cannot be compiled."""
    compiler, library = shutil.which("cc"), scratch / "faults.so"
    if compiler is None or sys.platform != "linux":
        return None
    source = Path(__file__).with_name("faults.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return os.environ | {"LD_PRELOAD": str(library)}


def attack(doc: str | None, attacks: dict[str, Callable[[int | None], list[str]]]) -> int:
    """Make the attack that the command line names; 1 where it found anything.

    Args:
        doc: what the program says of itself.
        attacks: by name; each takes how many rounds or bits, or every how many-th write, None for its own number.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attack", choices=attacks)
    parser.add_argument("many", type=int, nargs="?", help="rounds or bits; every how many-th write")
    given = parser.parse_args()
    if given.attack in ("points", "full") and "LD_PRELOAD" not in os.environ:
        with tempfile.TemporaryDirectory() as scratch:
            environment = preloaded(Path(scratch))
            if environment is None:
                parser.error("wants Linux and a C compiler")
            return subprocess.call([sys.executable, *sys.argv], env=environment)
    started = time.perf_counter()
    wrong = attacks[given.attack](given.many)
    print(f"{given.attack}: {len(wrong)} faults in {time.perf_counter() - started:.0f} s")
    print("\n".join(wrong[:20]))
    return bool(wrong)
