"""Plug-ins: files and modules of others, which register networks, losses and data sets when they are imported.

They are named by ``--plugin`` after any command and in the variable ``REGARD_PLUGINS``, each a ``FILE.py`` or a module
that Python finds. A run keeps the names in its settings and a model in its ``config.json``, so that whatever opens them
later finds the plug-ins again. A module is kept as ``MODULE@FILE``, with the file that it was in.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from pathlib import Path

from regard.errors import PluginError, RegardError

__all__ = ["VARIABLE", "being_loaded", "called", "load_plugins", "only_given", "plugin_in"]

VARIABLE = "REGARD_PLUGINS"
"""Environment variable with plug-ins, separated as the folders of PATH are."""

MODULE_AT = re.compile(r"\w+(\.\w+)*@.+")
"""A module with the file that it was in."""

_loaded: dict[str, str] = {}
"""File, or module -> the text it is kept as."""

_given: dict[str, str] = {}
"""What it is called -> the text, of those that were given by hand."""

_loading: list[str] = []

_only_given: ContextVar[bool] = ContextVar("only_given", default=False)


def load_plugins(named: Sequence[str] = (), wanted_by: str = "") -> tuple[str, ...]:
    """Import plug-ins, each once, those of the environment first.

    Args:
        named: ``FILE.py``, ``MODULE`` or ``MODULE@FILE``.
        wanted_by: the run or model that was made with them; empty: they are given by hand. One of the same file name
            that was given by hand is taken instead of one that is wanted: it may have moved.

    Returns:
        These and all that were given by hand, as they are to be kept.

    Raises:
        PluginError: one is not there, or fails.
    """
    for text in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        _load(text, "")
    found = [_load(text, wanted_by) for text in named]
    return tuple(dict.fromkeys([*_given.values(), *found]))


@contextmanager
def only_given() -> Iterator[None]:
    """Context of a reader of what a stranger wrote: a plug-in that is wanted there is imported from nowhere.

    One of the same file name that was given by hand, or that the program has imported, is taken; else it is refused.
    """
    token = _only_given.set(True)
    try:
        yield
    finally:
        _only_given.reset(token)


def called(text: str) -> str:
    """What a plug-in that is kept as ``text`` is known by wherever it lies: its file's name, or a package's."""
    return _called(*(text.split("@", 1) if MODULE_AT.fullmatch(text) else (text, "")))


def being_loaded() -> str | None:
    """The plug-in whose import is under way, as it is to be kept."""
    return _loading[-1] if _loading else None


def plugin_in(module: str) -> str | None:
    """The plug-in that a module is, as it is to be kept; None where it is none."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return _loaded.get(str(Path(file).resolve()) if file else module, _loaded.get(module))


def _load(text: str, wanted_by: str) -> str:
    """Import one, unless that has been done; the text it is kept as."""
    if not text:
        raise PluginError("a plug-in without a name, wanted FILE.py, or a module that Python finds")
    name, file = text.split("@", 1) if MODULE_AT.fullmatch(text) else (text, "")
    if wanted_by and (moved := _given.get(_called(name, file))):
        return moved
    if wanted_by and _only_given.get():
        return _imported_already(_called(name, file), wanted_by)
    path = Path(name).expanduser().absolute() if name.endswith(".py") else None
    key = str(path.resolve()) if path else name
    if key not in _loaded:
        which = f"{wanted_by} needs the plug-in {path or text}, which" if wanted_by else f"plug-in {path or text}"
        again = f"; say where {_called(name, file)} is now: --plugin FILE.py, or {VARIABLE}" if wanted_by else ""
        if path and not path.is_file():
            raise PluginError(f"{which} is not there{again or '; wanted FILE.py, or a module that Python finds'}")
        _loaded[key] = str(path or text)
        try:
            _loaded[key] = _import(name, path, _loaded[key])
        except Exception as error:  # a plug-in raises whatever is wrong with it
            del _loaded[key]
            raise PluginError(f"{which} cannot be loaded: {_reason(error, path)}{again}") from error
    if not wanted_by:
        _given[_called(name, _loaded[key].partition("@")[2])] = _loaded[key]
    return _loaded[key]


def _imported_already(wanted: str, wanted_by: str) -> str:
    """The name of a plug-in that the program itself has imported.

    Raises:
        PluginError: it has not.
    """
    if any(Path(getattr(module, "__file__", None) or "").name == wanted for module in list(sys.modules.values())):
        return wanted
    raise PluginError(
        f"{wanted_by} needs the plug-in {wanted!r}, which is not imported at a stranger's word; if you have it and "
        f"trust it, name it: --plugin FILE.py, or {VARIABLE}"
    )


def _called(name: str, file: str) -> str:
    """What a plug-in is known by wherever it lies: its file's name, or a package's."""
    last = Path(file or name).name
    return name if last == "__init__.py" else last


def _import(name: str, path: Path | None, text: str) -> str:
    """Import a file or a module; the text it is kept as."""
    _loading.append(text)
    try:
        if path:
            _import_file(path)
            return text
        file = importlib.import_module(name).__file__
        return f"{name}@{file}" if file else name
    finally:
        _loading.pop()


def _import_file(path: Path) -> None:
    """Import a file under a name of its own, unless a program has done so; what lies beside it can be imported too."""
    if any(getattr(module, "__file__", None) == str(path) for module in list(sys.modules.values())):
        return
    name = f"{path.stem}_{blake2b(str(path.resolve()).encode(), digest_size=4).hexdigest()}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _reason(error: Exception, path: Path | None) -> str:
    """What went wrong, and in which line of the plug-in."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines = [error.lineno]
    where = f"line {lines[-1]}: " if lines else ""
    kind = "" if isinstance(error, RegardError) else f"{type(error).__name__}: "
    return f"{where}{kind}{' '.join(str(error).split())}"
