"""``regard serve`` in a process of its own, whose first gallery changes at a word on the standard input.

    add FIRST COUNT       the items of that number and the next ones
    delete FIRST COUNT

Each is answered by a line ``done`` once the gallery has acknowledged it; :func:`made_up` says what the items are.
"""

from __future__ import annotations

import sys
import threading

import numpy as np

CAMERAS = ("1", "2", "3", "4")


def made_up(first: int, count: int, dim: int):
    """Items that any process makes alike; they show 50 people, seen by four cameras in the order of time."""
    from regard.gallery import Item, Record
    from regard.gallery.record import record_id

    centers = np.random.default_rng(0).normal(size=(50, dim))
    items = []
    for number in range(first, first + count):
        vector = centers[number % 50] + 0.9 * np.random.default_rng(number).normal(size=dim)
        vector = (vector / np.linalg.norm(vector)).astype(np.float32)
        record = Record(
            record_id(f"{number}"),
            f"{number}.jpg",
            CAMERAS[number % 4],
            float(number),
            attributes={"n": f"{number % 3}"},
        )
        items.append(Item(record, vector))
    return items


def listen(gallery) -> None:
    """Do as the standard input says."""
    from regard.gallery import Filter
    from regard.gallery.record import record_id

    for line in sys.stdin:
        word, first, count = line.split()
        if word == "add":
            gallery.add(made_up(int(first), int(count), gallery.dim))
        else:
            numbers = range(int(first), int(first) + int(count))
            gallery.delete(Filter(ids=tuple(record_id(f"{number}") for number in numbers)))
        print("done", flush=True)


def main() -> int:
    """Serve as the arguments say."""
    from regard.cli import main as command_line
    from regard.cli import serve_verb

    open_searchers = serve_verb.open_searchers

    def open_and_listen(*arguments):
        searchers = open_searchers(*arguments)
        gallery = next(iter(searchers.values())).gallery
        threading.Thread(target=listen, args=(gallery,), daemon=True).start()
        return searchers

    serve_verb.open_searchers = open_and_listen
    return command_line.main(["serve", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
