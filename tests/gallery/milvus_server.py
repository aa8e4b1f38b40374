"""A real Milvus server for a while, from the wheel ``milvus`` that the ``test`` extra installs on Linux.

The wheel unpacks its server into an empty data folder and is ready after about seven seconds, with 220 MB of memory
and 450 MB of disk; everything goes when the block ends. It listens on all interfaces and has no setting for that, so
it is given a password that nobody knows before a test speaks to it.

The same by hand, for ``benchmarks/search.py``; it prints the address and stops at Ctrl-C:

    python tests/gallery/milvus_server.py
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("milvus-server")
PATIENCE = 120
"""Seconds a server may take to be ready."""

STORE = """
listen-client-urls: http://127.0.0.1:{0}
advertise-client-urls: http://127.0.0.1:{0}
listen-peer-urls: http://127.0.0.1:{1}
initial-advertise-peer-urls: http://127.0.0.1:{1}
initial-cluster: default=http://127.0.0.1:{1}
"""
"""Settings of the etcd inside the server, so that two of them do not want the same ports."""


@contextmanager
def running() -> Iterator[str]:
    """The address of a server that lives as long as the block, with user and password."""
    port, *inner = free_ports(3)
    secured = ["--extra-config", "common.security.authorizationEnabled=true"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as data:
        store = Path(data) / "etcd.yaml"
        store.write_text(STORE.format(*inner))
        server = subprocess.Popen(
            [PROGRAM, "--data", data, "--proxy-port", str(port), *secured],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "ETCD_CONFIG_PATH": str(store)},
        )
        try:
            password = secrets.token_hex(12)
            secure(f"http://127.0.0.1:{port}", password, server)
            yield f"http://root:{password}@127.0.0.1:{port}"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(
                    server.pid, signal.SIGKILL
                )  # the program starts the server as a child; its data is thrown away
            server.wait()


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on."""
    with ExitStack() as stack:
        listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in listening]


def secure(address: str, password: str, server: subprocess.Popen) -> None:
    """Wait until the server is ready, and replace the password everybody knows."""
    import grpc
    from pymilvus import MilvusClient, MilvusException

    until = time.monotonic() + PATIENCE
    while True:
        try:
            client = MilvusClient(uri=address, token="root:Milvus", timeout=2)
            client.update_password("root", "Milvus", password)
            client.close()
            return
        except (MilvusException, grpc.RpcError) as error:
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the Milvus server did not start: {error}") from error
            time.sleep(0.2)


if __name__ == "__main__":
    with running() as address, suppress(KeyboardInterrupt):
        print(f"REGARD_MILVUS={address}", flush=True)
        signal.pause()
