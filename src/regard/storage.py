"""Writing files so that a crash or a full disk never leaves half of one, and reading none that never ends.

The bytes go to a temporary file beside the target, are flushed to the disk, and only then take the target's name: a
reader sees the old file or the new one, nothing between.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from regard.errors import ConfigError, StorageError, check_kind

__all__ = [
    "append_whole", "as_path", "check_text", "check_writable", "encode_text", "open_regular", "open_to_append",
    "plain_text", "read_regular", "refuse_link", "refuse_shared", "write_atomic", "write_private", "write_together",
]  # fmt: skip


def as_path(name: str, value: object, wanted: str) -> Path:
    """The path that an argument is: a text that is not empty, or whatever stands for a path, as an opened run does.

    Args:
        name: of the argument.
        value: what was given for it.
        wanted: what it has to be, in words.

    Raises:
        ConfigError: it is no path.
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    check_kind(name, text, str, wanted)
    if not str(text).strip():
        raise ConfigError(f"{name} is {text!r}, wanted {wanted}; '.' is the current folder")
    return Path(str(text))


def check_writable(path: Path | str, *, folder: bool = False) -> None:
    """Check, before any work is done for it, that a file can be written there, or that a folder is or can be made.

    Raises:
        StorageError: there is a folder where a file should be, or the reverse, or no permission.
    """
    path = Path(path)
    try:
        if path.exists() and path.is_dir() != folder and (folder or path.is_dir()):
            there, wanted = ("a file", "a folder") if folder else ("a folder", "a file")
            raise StorageError(f"{path} is {there}, wanted {wanted} to write; give another name")
        home = path if folder else path.parent
        while not home.exists():
            home = home.parent
        if not home.is_dir():
            raise StorageError(f"cannot write {path}: {home} is a file, wanted a folder; give another place")
        if not os.access(home, os.W_OK | os.X_OK):
            raise StorageError(f"cannot write {path}: no permission to write in {home}; give another place")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}; give another place") from error


def open_regular(
    path: Path | str, mode: str = "rb", *, private: bool = False, follow: bool = True, **options: Any
) -> Any:
    """Open a file, to read it or to add to it; a pipe, a socket or a device is never waited for.

    Args:
        path: the file.
        mode, options: as for :func:`open`.
        private: a file that is made is its owner's alone.
        follow: a link that has the name is followed; else it is refused, wherever it leads, and so is a file that
            :func:`refuse_shared` refuses.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    opener = partial(_regular, rights=0o600 if private else 0o666, follow=follow)
    return open(path, mode, opener=opener, **options)


def refuse_link(path: Path | str) -> None:
    """Raise OSError where a link has the name of a file or folder that is to be written to."""
    if Path(path).is_symlink():
        raise OSError(errno.ELOOP, "it is a link, which is not followed; remove it", str(path))


def refuse_shared(descriptor: int, path: Path | str) -> None:
    """Raise OSError where an open file has a second name, and somebody else may write to it by that.

    Names of one's own, as a backup of hard links makes them, are no harm.
    """
    found = os.fstat(descriptor)
    if os.name != "nt" and found.st_nlink > 1 and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
        told = "it has a second name, a hard link, by which somebody else may write to it; put a copy in its place"
        raise OSError(errno.EMLINK, told, str(path))


def read_regular(path: Path | str) -> bytes:
    """The bytes of a file; see :func:`open_regular`."""
    with open_regular(path) as file:
        return file.read()


def _regular(path: str, flags: int, rights: int, *, follow: bool) -> int:
    if not follow:
        refuse_link(path)  # in words
        flags |= getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK, rights)
    except OSError as error:
        if error.errno != errno.ENXIO:  # a pipe that nobody reads, or a socket
            raise
        raise OSError(errno.EINVAL, "it is no regular file", path) from None
    kind = os.fstat(descriptor).st_mode
    try:
        if stat.S_ISREG(kind):
            if not follow:
                refuse_shared(descriptor, path)
            return descriptor
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise OSError(errno.EINVAL, "it is no regular file", path)


def encode_text(text: str) -> bytes:
    """Text as the bytes of a file, in UTF-8.

    File names may hold bytes that are no text, which Python keeps as lone surrogates that no encoding has. They are
    written the way the command line prints them: ``\\udce9`` for the byte E9.
    """
    return text.encode(errors="backslashreplace")


def check_text(path: Path | str) -> None:
    """Refuse a name that is no text, for what only libraries read that take none other: weights, TensorBoard.

    Raises:
        StorageError: it holds bytes that are no text.
    """
    if plain_text(str(path)) != str(path):
        raise StorageError(
            f"the name {plain_text(str(path))} is no text in UTF-8, so no network can be kept there; "
            "rename it, or give another place"
        )


def plain_text(text: str) -> str:
    """Text that every file, table, page and digest can hold: as :func:`encode_text` writes it."""
    return encode_text(text).decode()


def write_atomic(path: Path | str, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all; missing parent folders are made.

    A pipe or a device that has the name is written to, and stays one.

    Raises:
        StorageError: the disk refused; the previous file, if any, is intact and no temporary file is left.
    """
    write_together({Path(path): data})


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write several files that belong together: none takes its name before all are safely on the disk.

    Raises:
        StorageError: the disk refused; the previous files, if any, are intact and no temporary file is left.
    """
    temporaries: dict[Path, Path] = {}
    path = Path()
    try:
        for path, data in files.items():
            if _is_device(path):
                _write_into(path, data)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            temporaries[path] = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            _write_through(temporaries[path], data)
        for path, temporary in temporaries.items():
            temporary.replace(path)
            _flush_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"could not write {path}: {reason}; the previous file, if there was one, is intact; "
            f"make room or choose another folder, then save again"
        ) from error
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)


def _is_device(path: Path) -> bool:
    """Whether a pipe or a device is there, such as /dev/null, whose place no file may take."""
    return path.exists() and not (path.is_file() or path.is_dir())


def _write_into(path: Path, data: bytes) -> None:
    """Write to a pipe or a device; a pipe that nobody reads is not waited for."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the new name itself durable, where the system can; the file is whole either way."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def open_to_append(path: Path, *, create: bool = True) -> Iterator[Any]:
    """A file to add to and to read from, no link, which nobody else adds to meanwhile; Windows has no such lock.

    Args:
        path: the file.
        create: make it, its owner's alone, where there is none, also where it goes while another process is waited for.

    Yields:
        the file, unbuffered.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    while True:
        with open_regular(path, "ab+" if create else "rb+", private=True, follow=False, buffering=0) as file:
            if os.name != "nt":
                import fcntl

                fcntl.flock(file.fileno(), fcntl.LOCK_EX)
                if not os.path.lexists(path) or not os.path.samestat(os.fstat(file.fileno()), path.lstat()):
                    continue  # another file took the name while we waited
            yield file
            return


def append_whole(file: Any, data: bytes) -> None:
    """Add bytes to the end of a file of :func:`open_to_append`, on the disk when this returns: all, or none.

    Raises:
        OSError: the disk refused, or took only some; the file is as long as before.
    """
    descriptor = file.fileno()
    size = os.fstat(descriptor).st_size
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def write_private(path: Path, data: bytes) -> None:
    """Write a file that is its owner's alone, whole or not at all; on the disk when this returns.

    Raises:
        OSError: the disk refused; the previous file, if any, is intact and no temporary file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with open_regular(temporary, "xb", private=True) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
