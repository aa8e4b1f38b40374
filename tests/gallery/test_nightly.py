"""What the privacy page gives to cron works as it stands there: by cron's shell and environment, beside a service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from gallery_items import DIM

from regard.gallery import Gallery, Item, Record
from regard.gallery.marks import Pair
from regard.gallery.record import record_id
from regard.gallery.use import Actor

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "privacy.md"


def test_the_nightly_lines_run_beside_a_gallery_that_is_open(tmp_path):
    lines = re.findall(r"^\d+ \d+ \* \* \*  (.+)$", PAGE.read_text(), re.M)
    assert len(lines) == 2
    folder, now = tmp_path / "people", time.time()
    ages = {"old": now - 40 * 86_400, "young": now - 86_400, "undated": None}
    records = [Record(record_id(name), f"{name}.jpg", time=taken) for name, taken in ages.items()]
    vectors = np.random.default_rng(0).normal(size=(3, DIM)).astype(np.float32)
    with Gallery.create(folder, DIM, {"name": "made up"}) as gallery:
        gallery.add([Item(record, vector, b"\xff\xd8") for record, vector in zip(records, vectors)])
        marks = gallery.marks
        for record in records:
            marks.set(Pair("sha256:aa", record.id, "people"), right=True, photo=b"\xff\xd8")
        with gallery.use(Actor("anna")) as use:
            gallery.search(vectors[0], use=use)
            program = f"{sys.executable} -m regard"
            environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LOGNAME": "nobody"}
            known = {name: os.environ[name] for name in ("REGARD_AUDIT_KEYS", "PYTHONPATH") if name in os.environ}
            for line in lines:
                command = line.replace("/opt/regard/.venv/bin/regard", program).replace("/srv/people", str(folder))
                done = subprocess.run(
                    ["/bin/sh", "-c", command], env=environment | known, capture_output=True, text=True, cwd="/"
                )
                assert done.returncode == 0, done.stderr
            assert len(gallery.search(vectors[1], use=use).matches) == 1
        assert [record.path for record in gallery.records()] == ["young.jpg"]
        assert [pair.match for pair in marks.all()] == [record_id("young")]
        assert gallery.audit.verify() is None
