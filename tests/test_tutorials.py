"""The tutorials, done from the first line to the last: every command and every program, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from warm import python

TUTORIALS = sorted((Path(__file__).parents[1] / "docs" / "tutorials").glob("*.md"))
PAGES = [page for page in TUTORIALS if page.stem != "index"]
STEP = re.compile(r"(?:[Ss]ave this as `(\w+\.py)`:\n\n)?^```(sh|python)\n(.*?)^```", re.S | re.M)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_the_tutorial_can_be_done(page, tmp_path):
    """Its Python is one program; commands are done where they stand, what has a file's name is saved."""
    regard = tmp_path / "bin" / "regard"
    regard.parent.mkdir()
    regard.write_text(f'#!/bin/sh\nexec "{python()}" -m regard "$@"\n')
    regard.chmod(0o755)
    steps = ["import pathlib, subprocess"]
    for file, language, code in STEP.findall(page.read_text(encoding="utf-8")):
        if file:
            steps.append(f"pathlib.Path({file!r}).write_text({code!r})")
        else:
            steps.append(code if language == "python" else f"subprocess.run(['bash', '-euc', {code!r}], check=True)")
    assert len(steps) > 5
    folder = tmp_path / "work"
    folder.mkdir()
    environment = os.environ | {"PATH": f"{regard.parent}{os.pathsep}{os.environ['PATH']}"}
    program = [python(), "-c", "\n".join(steps)]
    done = subprocess.run(program, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
