"""The nightly purge of the privacy page, as cron runs it, beside a service that is searched all the while."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from regard.gallery import Filter, Gallery


@pytest.mark.slow
def test_cron_purges_beside_a_service_under_load(service, tmp_path):
    folder = tmp_path / "people"
    old = time.time() - 40 * 86_400
    with Gallery.open(folder) as gallery:
        gallery.update(Filter(), {"time": time.time()})
        gallery.update(Filter(cameras=("1",)), {"time": old})
        expired = {record.id for record in gallery.records(Filter(cameras=("1",)))}
    queries, done, answers, wrong = [service.ask(n) for n in range(3)], threading.Event(), [], []

    def search() -> None:
        while not done.is_set():
            status, told = service.call("/api/search", {"query": queries[len(answers) % 3], "k": 48})
            answers.append(status)
            found = {match["record"]["id"] for match in told["matches"]} if status == 200 else set()
            if status != 200 or len(found & expired) not in (0, len(expired)):  # before the purge, or after it
                wrong.append((status, told))

    clients = [threading.Thread(target=search) for _ in range(4)]
    for client in clients:
        client.start()
    command = [sys.executable, "-m", "regard", "gallery", "purge", str(folder), "--older-than", "30d"]
    purged = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    seen = len(answers)
    _, told = service.call("/api/search", {"query": queries[0], "k": 48})
    done.set()
    for client in clients:
        client.join()
    assert (purged.returncode, purged.stdout) == (0, f"{len(expired)} pictures removed\n"), purged.stderr
    assert wrong == []
    assert seen >= 4
    assert not expired & {match["record"]["id"] for match in told["matches"]}
    assert not any(id.encode() in path.read_bytes() for id in expired for path in folder.glob("gallery.sqlite*"))
