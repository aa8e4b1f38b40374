"""Python without the seconds that importing torch takes: processes forked from one that has imported it already.

:func:`python` names a program that is called as Python is: with ``-m``, ``-c`` or a file, and arguments. It has the
directory, the environment and the streams of whoever calls it, takes signals, and ends as what it runs ends. Nothing of
regard is imported before, nothing has been computed. What is about the process itself, its group, its memory or what it
imports, takes ``sys.executable``.
"""

from __future__ import annotations

import array
import atexit
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
from functools import cache
from pathlib import Path

IMPORTED = (
    "torch", "torch._dynamo", "torch.distributed", "torch.utils.tensorboard.writer", "timm", "lightning_fabric",
    "matplotlib.figure", "numpy", "PIL.Image", "pydantic", "safetensors.torch", "scipy.stats", "yaml",
)  # fmt: skip
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@cache
def python() -> str:
    """The program; the process that it has its processes from ends with this one."""
    place = tempfile.TemporaryDirectory(prefix="warm")
    program = Path(place.name) / "python"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{__file__}" "{place.name}/socket" "$@"\n')
    program.chmod(0o755)
    command = [sys.executable, __file__, str(program)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert server.stdin
    assert server.stdout
    assert server.stdout.readline() == b"ready\n"

    def end() -> None:
        server.communicate()
        place.cleanup()

    atexit.register(end)
    return str(program)


def call(path: str, arguments: list[str]) -> None:
    """Have a program run, pass signals on to it, and end as it does."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        asked = json.dumps([arguments, str(Path.cwd()), dict(os.environ)]).encode()
        streams = array.array("i", (0, 1, 2))
        server.sendmsg([struct.pack("I", len(asked))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
        server.sendall(asked)
        for number in PASSED_ON:
            signal.signal(number, lambda got, _: server.sendall(bytes([got])))
        (status,) = struct.unpack("i", server.recv(4, socket.MSG_WAITALL))
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    os._exit(status)


def serve(program: str) -> None:
    """Fork a process for each that calls; returns in these, to run what was asked for."""
    for name in IMPORTED:
        __import__(name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(Path(program).with_name("socket")))
        listener.listen(64)
        print("ready", flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while 0 not in select.select([listener, 0], [], [])[0]:
            caller, _ = listener.accept()
            if not os.fork():
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return attend(caller, program)
            caller.close()
    os._exit(0)


def attend(caller: socket.socket, program: str) -> None:
    """Fork what was asked for, and tell its end; returns in that process."""
    head, streams, *_ = socket.recv_fds(caller, 4, 3)
    asked = json.loads(caller.recv(struct.unpack("I", head)[0], socket.MSG_WAITALL))
    process = os.fork()
    if not process:
        caller.close()
        return become(*asked, streams, program)
    for stream in (*streams, 0, 1, 2):
        os.close(stream)
    ended = os.pidfd_open(process)
    while ended not in select.select([ended, caller], [], [])[0]:
        told = caller.recv(64)
        for number in told or [signal.SIGKILL]:
            signal.pidfd_send_signal(ended, number)
        if not told:
            break  # whoever called was killed
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    try:
        caller.sendall(struct.pack("i", status))
    finally:
        os._exit(0)


def become(arguments: list[str], folder: str, environment: dict[str, str], streams: list[int], program: str) -> None:
    """Take over directory, environment, streams and arguments."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the suite may have been started in the background
    sys.executable = program
    if arguments[0] == "-u" or environment.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(write_through=True)
    sys.argv[:] = arguments[arguments[0] == "-u" :]
    more = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [entry for entry in more if entry and entry not in sys.path]
    if threads := environment.get("OMP_NUM_THREADS"):
        sys.modules["torch"].set_num_threads(int(threads))
    sys.modules["numpy"].random.seed()


def run(kind: str, *arguments: str) -> None:
    """Run what the arguments of Python name, and end without taking apart, page by page, what was shared."""
    status = 1
    try:
        execute(kind, *arguments)
        status = 0
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            status = leaving.code or 0
        else:
            print(leaving.code, file=sys.stderr)
    except KeyboardInterrupt:
        traceback.print_exc()
        status = -signal.SIGINT
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # waits for threads  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status & 255)


def execute(kind: str, *arguments: str) -> None:
    """Run a module, a text or a file."""
    if kind == "-m":
        sys.argv[:] = arguments
        sys.path[0] = str(Path.cwd())
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv[:] = ["-c", *arguments[1:]]
        sys.path[0] = ""
        exec(compile(arguments[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.path[0] = str(Path(kind).resolve().parent)
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    if sys.flags.isolated:
        call(sys.argv[1], sys.argv[2:])
    serve(sys.argv[1])
    run(*sys.argv)
