"""What searches and looks after a gallery loads no more than that takes: no network, no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOADED = """
import sys
import numpy as np
from regard.cli.main import main
from regard.gallery import Gallery, Item, Record
from regard.gallery.record import record_id

folder, heavy = sys.argv[1], {"torch", "timm", "scipy", "pyarrow", "matplotlib", "pydantic", "PIL"}
with Gallery.create(folder, 8, {"name": "made-up"}) as gallery:
    rows = np.random.default_rng(0).normal(size=(1200, 8)).astype(np.float32)
    names = [f"{number}.jpg" for number in range(len(rows))]
    gallery.add([Item(Record(record_id(name), name, time=1e9), row) for name, row in zip(names, rows)])

def run(*words, brings=frozenset()):
    assert not main([*words]), words
    loaded = {name.partition(".")[0] for name in sys.modules} & heavy
    assert loaded <= set(brings), (words, loaded)

run("search", "--gallery", folder, "--id", record_id("3.jpg"))
run("gallery", "list", folder, "--id", record_id("3.jpg"))
run("gallery", "delete", folder, "--id", record_id("4.jpg"))
run("gallery", "purge", folder, "--older-than", "30000d")
run("gallery", "audit", folder)
run("gallery", "check", folder)
find = "search", "--gallery", folder, "--id", record_id("3.jpg")
export = "gallery", "export", folder, folder + ".parquet"
sys.modules["pyarrow"] = sys.modules["regard.metrics"] = None  # as where they are not installed
assert main([*export]) == main([*find, "--rerank"]) == 2
del sys.modules["pyarrow"], sys.modules["regard.metrics"]
from regard.gallery import int8_scan
int8_scan.MANY, int8_scan.PAYS = 8 * 1100, 16 * 1100  # what torch costs has been lost after the second search
run(*find)
run(*export, brings={"pyarrow"})
run(*find, brings={"pyarrow", "torch"})
assert "torch" in sys.modules
"""


@pytest.mark.slow
def test_nothing_heavy_is_loaded_for_what_needs_no_network(tmp_path):
    command = [sys.executable, "-W", "error", "-c", LOADED, str(tmp_path / "people")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "regard: this needs pyarrow, which is not installed here; install regard with all" in done.stderr
    assert "regard: re-ranking wants regard.metrics, which is not installed here; search without it" in done.stderr
