"""Short forms of the attacks on a gallery's store; ``make attacks`` runs the long ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("attacks.py")
LOG = Path(__file__).with_name("attacks_log.py")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")]


@pytest.mark.parametrize("attack", [("rounds", "4"), ("points", "29"), ("full", "23"), ("flips", "56")])
def test_nothing_is_lost_half_there_or_comes_back(attack):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, PROGRAM, *attack], capture_output=True, text=True, env=environment)
    if "wants Linux and a C compiler" in done.stderr:
        pytest.skip("no C compiler")
    assert f"{attack[0]}: 0 faults" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("attack", [("rounds", "6"), ("points", "5"), ("full", "7")])
def test_no_line_of_the_log_is_lost_and_none_is_suspected(attack):
    done = subprocess.run([sys.executable, LOG, *attack], capture_output=True, text=True)
    if "wants Linux and a C compiler" in done.stderr:
        pytest.skip("no C compiler")
    assert f"{attack[0]}: 0 faults" in done.stdout, done.stdout + done.stderr


def test_the_attacks_see_what_is_left_behind(tmp_path, monkeypatch):
    """They find what they are for: a store that does not blank what it deletes."""
    import attacks

    from regard.gallery import Gallery
    from regard.gallery.column import Column

    ledger = attacks.Ledger(tmp_path / "ledger")
    attacks.prepared(tmp_path / "people", ledger)
    monkeypatch.setattr(Column, "blank", lambda *what: None)
    attacks.script(tmp_path / "people", ledger)
    assert any("old5" in fault and "index-" in fault for fault in attacks.check(tmp_path / "people", [ledger]))
    monkeypatch.undo()
    with Gallery.open(tmp_path / "people") as gallery:
        gallery.add([attacks.picture("nobody")])
    assert "nobody was never added" in attacks.check(tmp_path / "people", [ledger])
