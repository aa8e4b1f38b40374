"""Making the export that a model lacks in a process that ends, so that whoever searches or serves loads no torch.

``python -m regard.export.keeping FOLDER HEIGHT WIDTH`` is that process. What it makes is checked against the network
and kept, as ``regard export`` does. A network that cannot be exported is noted beside its exports, and not tried again
by the same version until its weights change.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from regard.errors import CheckpointError, ConfigError, PluginError, RegardError, StorageError
from regard.export.engines import Engine
from regard.export.kept import exports_folder, kept_engine, runtime_name
from regard.fingerprint import bytes_digest
from regard.input_spec import InputSpec
from regard.models.folder import FOREIGN, WEIGHTS, read_description
from regard.parsing import parse_json
from regard.plugins import child_environment
from regard.storage import read_regular, write_atomic
from regard.version import __version__

__all__ = ["engine_for"]

MAKERS = ("torch", "onnx", "onnxscript")
"""Packages that make an export."""

REFUSED = 2
"""What the process ends with where the network itself is why there is no export."""


def engine_for(folder: Path, seen: InputSpec, say: Callable[[str], None]) -> tuple[Engine | None, str]:
    """An engine in fp32 for the export that is kept of a model, which is made where it lacks; or none, and why.

    Args:
        folder: with the model's weights.
        seen: what the network sees.
        say: is told what is done before it is done, for it takes a while.
    """
    if read_description(folder).get("model") == FOREIGN:
        return None, ""  # it is a graph already
    engine, why = kept_engine(folder, seen)
    if engine is not None or runtime_name() is None:
        return engine, why
    if reason := _make(folder, seen, say):
        return None, f"{why}, and none could be made here: {reason}"
    return kept_engine(folder, seen)


def _make(folder: Path, seen: InputSpec, say: Callable[[str], None]) -> str:
    """Make and keep the export; why there is none, empty where there is."""
    if missing := [name for name in MAKERS if find_spec(name) is None]:
        return f"{' and '.join(missing)} is not installed (pip install 'regard[export]')"
    place = exports_folder(folder)
    if not os.access(next(each for each in (place, *place.parents) if each.exists()), os.W_OK):
        return f"{place} cannot be written"
    note = place / f"{seen.height}x{seen.width}.refused"
    if reason := _noted(note, folder):
        return reason
    say(f"making the export of {folder} that searches are computed with, once, into {place}")
    command = [sys.executable, "-m", "regard.export.keeping", str(folder), str(seen.height), str(seen.width)]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=child_environment(),
    )
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    if not done.returncode:
        return ""
    reason = lines[-1].strip() if lines and done.returncode > 0 else f"the process ended with {done.returncode}"
    if done.returncode == REFUSED:
        with contextlib.suppress(StorageError, OSError):
            write_atomic(note, json.dumps({**_state(folder), "why": reason}).encode())
    return reason


def _state(folder: Path) -> dict[str, str]:
    """What a refusal is of."""
    return {"weights": bytes_digest(read_regular(folder / WEIGHTS)), "regard": __version__}


def _noted(note: Path, folder: Path) -> str:
    """Why there was no export when it was last tried; empty where it was not, or of other weights."""
    try:
        content = parse_json(read_regular(note))
        known = content["weights"] == _state(folder)["weights"] and content["regard"] == __version__
        return f"{content['why']} (remove {note} to try again)" if known else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def main(folder: str, height: str, width: str) -> int:
    """Make the export, check and keep it. Returns the exit code."""
    from regard.export.exporting import export_run

    try:
        export_run(folder, "onnx", size=(int(height), int(width)))
    except RegardError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        lasting = isinstance(error, (CheckpointError, ConfigError)) and not isinstance(error, PluginError)
        return REFUSED if lasting else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
