"""Run a command with a real Milvus server beside it.

    python tests/search/milvus_server.py python -m pytest tests/search/test_engines.py

Installs the server's wheel into a virtual environment of its own under ``runs/milvus`` (once), starts it on a free port
with an empty data folder, waits until it answers, sets ``REGARD_MILVUS``, runs the command, and stops the server.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

HOME = Path(__file__).resolve().parents[2] / "runs" / "milvus"
WHEEL = "milvus==2.3.5"


def installed() -> Path:
    """The server's program, installed where it is missing."""
    program = HOME / "bin" / "milvus-server"
    if not program.exists():
        venv.create(HOME, with_pip=True)
        subprocess.run([HOME / "bin" / "python", "-m", "pip", "install", "-q", WHEEL], check=True)
    return program


def free_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def answers(port: int) -> bool:
    """Whether somebody listens."""
    with socket.socket() as asking:
        asking.settimeout(1)
        return asking.connect_ex(("127.0.0.1", port)) == 0


def main(command: list[str]) -> int:
    """Start, run, stop; the command's exit code."""
    port = free_port()
    with tempfile.TemporaryDirectory() as data:
        arguments = [installed(), "--data", data, "--proxy-port", str(port)]
        server = subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            for _ in range(120):
                if answers(port) or server.poll() is not None:
                    break
                time.sleep(1)
            time.sleep(5)  # it listens a little before it is ready
            environment = {**os.environ, "REGARD_MILVUS": f"http://127.0.0.1:{port}"}
            return subprocess.run(command, env=environment).returncode
        finally:
            os.killpg(server.pid, signal.SIGTERM)  # the program starts the server as a child
            server.wait(60)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
