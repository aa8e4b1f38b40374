"""People in a descriptor space: items for galleries, and a slow twin of the search."""

from __future__ import annotations

import numpy as np

from regard.gallery.record import Filter, Item, Record, record_id

DIM = 24


def make_items(count: int, seed: int = 0, people: int = 12, start: int = 0) -> list[Item]:
    """Items of people seen by four cameras; every seventh without time, every fifth without track."""
    random = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(people, DIM))
    items = []
    for number in range(start, start + count):
        person = int(random.integers(people))
        camera = int(random.integers(1, 5))
        vector = centers[person] + 0.6 * random.normal(size=DIM)
        record = Record(
            record_id(f"p/{number:05d}.jpg"),
            f"p/{number:05d}.jpg",
            camera=str(camera) if number % 11 else None,
            time=float(1000 + 10 * number) if number % 7 else None,
            track=f"t{person}-{number // 10}" if number % 5 else None,
            person=str(person),
            attributes={"color": "red" if person % 2 else "blue", "batch": str(number % 3)},
            digest=f"{number:032x}" if number % 4 else None,
            said={"own": {"camera": f"said:{number:032x}", "person": None}} if number % 3 == 0 else {},
        )
        items.append(Item(record, (vector / np.linalg.norm(vector)).astype(np.float32), b"jpeg %d" % number))
    return items


def slow_search(items: list[Item], vector: np.ndarray, k: int, filter: Filter) -> list[tuple[str, float]]:
    """Compare with everything, in plain Python."""
    seen = [item for item in items if filter.accepts(item.record)]
    scored = [(item.record.id, float(np.dot(item.vector.astype(float), vector.astype(float)))) for item in seen]
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:k]


FILTERS = {
    "nothing asked": Filter(),
    "cameras": Filter(cameras=("1", "3")),
    "not the own camera": Filter(not_cameras=("2",)),
    "times": Filter(since=1500.0, until=2500.0),
    "since": Filter(since=2000.0),
    "a person": Filter(persons=("3", "4")),
    "a track": Filter(tracks=("t1-2", "t3-4", "t5-1")),
    "attributes": Filter(attributes={"color": ("red",), "batch": ("0", "2")}),
    "all at once": Filter(
        cameras=("1", "2", "3"), not_cameras=("2",), since=1100.0, until=2900.0, attributes={"color": ("blue",)}
    ),
    "no camera at all": Filter(cameras=()),
    "unknown values": Filter(cameras=("nine",)),
    "only some": Filter(ids=tuple(record_id(f"p/{n:05d}.jpg") for n in range(0, 200, 3))),
    "all but some": Filter(not_ids=tuple(record_id(f"p/{n:05d}.jpg") for n in range(0, 200, 2))),
}
