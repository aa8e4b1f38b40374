"""Plug-ins: files, modules and packages of others, which register what they bring when they are imported.

They are named by ``--plugin`` after any command and in the variable ``REGARD_PLUGINS``, each a ``FILE.py``, a module
that Python finds, or the name of an entry point. Entry points of the group ``regard.plugins``, which installed packages
have, need not be named: they are imported when a name is asked for that nobody has registered, and when all are listed.

A run keeps the plug-ins in its settings and a model in its ``config.json``, so that whatever opens them later finds
them again: a file by its place, a module as ``MODULE@FILE``, with the file that it was in, an entry point as
``NAME@PACKAGE==VERSION``.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from hashlib import blake2b
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING

from regard.errors import PluginError, RegardError, RegardWarning

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "GROUP", "VARIABLE", "being_loaded", "called", "child_environment", "load_function", "load_installed",
    "load_plugins", "only_given", "plugin_in", "undo_on_failure", "was_named",
]  # fmt: skip

SECRET = ("REGARD_TOKEN", "REGARD_AUDIT_KEYS")
"""What no process that is started is told of the environment."""

VARIABLE = "REGARD_PLUGINS"
"""Environment variable with plug-ins, separated as the folders of PATH are."""

GROUP = "regard.plugins"
"""Group of the entry points that packages have for regard."""

MODULE_AT = re.compile(r"\w+(\.\w+)*@.+")
"""A module with the file that it was in."""

INSTALLED = re.compile(r"(?P<name>.+)@(?P<package>[\w.-]+)==(?P<version>[\w.!+-]+)")
"""An entry point with the package that it is of."""

_loaded: dict[str, str] = {}
"""File, module, or entry point as it is kept -> the text it is kept as."""

_given: dict[str, str] = {}
"""What it is called -> the text, of those that were given by hand."""

_named: set[str] = set()
"""Texts of those that were given by hand, or wanted by a run or a model."""

_loading: list[tuple[str, list[Callable[[], object]]]] = []
"""Those whose import is under way, each with what undoes it."""

_failed: set[str] = set()
"""Entry points that nobody has named and that cannot be loaded, which has been told."""

_only_given: ContextVar[bool] = ContextVar("only_given", default=False)


def load_plugins(named: Sequence[str] = (), wanted_by: str = "") -> tuple[str, ...]:
    """Import plug-ins, each once, those of the environment first.

    Args:
        named: ``FILE.py``, ``MODULE``, ``MODULE@FILE``, ``NAME`` of an entry point or ``NAME@PACKAGE==VERSION``.
        wanted_by: the run or model that was made with them; empty: they are given by hand. One of the same file name
            that was given by hand is taken instead of one that is wanted: it may have moved.

    Returns:
        These and all that were given by hand, as they are to be kept.

    Raises:
        PluginError: one is not there, or fails.
    """
    for text in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        _give(text)
    found = [_load(text, wanted_by) if wanted_by else _give(text) for text in named]
    return tuple(dict.fromkeys([*_given.values(), *found]))


def load_installed() -> None:
    """Import what installed packages bring, each once. What fails is told, and is as if it were not installed."""
    under_way = [text for text, _ in _loading]
    for entry in _installed():
        text = _kept(entry)
        if text in _loaded or text in _failed or text in under_way:
            continue
        try:
            _import_once(text, text, f"plug-in {_told(entry)}", entry=entry)
        except PluginError as error:
            _failed.add(text)
            warnings.warn(RegardWarning(f"{error}; nothing of it is known until it is mended"), stacklevel=2)


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


def being_loaded() -> str | None:
    """The plug-in whose import is under way, as it is to be kept."""
    return _loading[-1][0] if _loading else None


def undo_on_failure(undo: Callable[[], object]) -> None:
    """Have something undone where the plug-in whose import is under way fails later on."""
    if _loading:
        _loading[-1][1].append(undo)


def was_named(plugin: str) -> bool:
    """Whether somebody, a run or a model has asked for a plug-in by its name."""
    return plugin in _named


def plugin_in(module: str) -> str | None:
    """The plug-in that a module is or is a part of, as it is to be kept; None where it is of none."""
    file = getattr(sys.modules.get(module), "__file__", None)
    known = _loaded.get(str(Path(file).resolve()) if file else module, _loaded.get(module))
    if known or module.split(".")[0] in ("regard", "timm"):
        return known
    homes = {_kept(one): one.module.rpartition(".")[0] or one.module for one in _installed()}
    exact = [_kept(one) for one in _installed() if one.module == module]
    return next(iter([*exact, *(text for text, home in homes.items() if f"{module}.".startswith(f"{home}."))]), None)


@cache
def _installed() -> tuple[EntryPoint, ...]:
    """The entry points of installed packages, in the order of their names."""
    from importlib.metadata import entry_points

    return tuple(sorted((one for one in entry_points(group=GROUP) if one.dist), key=_kept))


def _kept(entry: EntryPoint) -> str:
    return f"{entry.name}@{entry.dist.name}=={entry.dist.version}" if entry.dist else entry.name


def _told(entry: EntryPoint) -> str:
    return f"{entry.name} of the package {entry.dist.name} {entry.dist.version}" if entry.dist else entry.name


def _give(text: str) -> str:
    """Import one that is given by hand, which all runs made later on are to have; the text it is kept as."""
    kept = _load(text, "")
    _given[called(kept)] = kept
    return kept


def _load(text: str, wanted_by: str) -> str:
    """Import one, unless that has been done; the text it is kept as."""
    if not text:
        raise PluginError("a plug-in without a name, wanted FILE.py, or a module that Python finds")
    if wanted_by and (moved := _given.get(called(text))):
        return moved
    if wanted_by and _only_given.get():
        return _imported_already(called(text), wanted_by)
    entry = _entry_point(text, wanted_by)
    name = _kept(entry) if entry else text.partition("@")[0] if MODULE_AT.fullmatch(text) else text
    path = Path(name).expanduser().absolute() if name.endswith(".py") and not entry else None
    told = _told(entry) if entry else str(path or text)
    which = f"{wanted_by} needs the plug-in {told}, which" if wanted_by else f"plug-in {told}"
    again = "" if entry or not wanted_by else f"; say where {called(text)} is now: --plugin FILE.py, or {VARIABLE}"
    if path and not path.is_file() and str(path.resolve()) not in _loaded:
        raise PluginError(f"{which} is not there{again or '; wanted FILE.py, or a module that Python finds'}")
    key = str(path.resolve()) if path else name
    kept = _import_once(key, str(path) if path else name if entry else text, which, again, path=path, entry=entry)
    _named.add(kept)
    return kept


def _imported_already(wanted: str, wanted_by: str) -> str:
    """The name of a plug-in that the program itself has imported.

    Raises:
        PluginError: it has not.
    """
    load_installed()  # whoever installed them gave them
    if wanted in map(called, _loaded.values()):
        return wanted
    if any(Path(getattr(module, "__file__", None) or "").name == wanted for module in list(sys.modules.values())):
        return wanted
    raise PluginError(
        f"{wanted_by} needs the plug-in {wanted!r}, which is not imported at a stranger's word; if you have it and "
        f"trust it, name it: --plugin FILE.py, or {VARIABLE}"
    )


def _entry_point(text: str, wanted_by: str) -> EntryPoint | None:
    """The entry point that a text means; None where it means a file or a module."""
    said = INSTALLED.fullmatch(text)
    if not said and (text.endswith(".py") or MODULE_AT.fullmatch(text)):
        return None
    found = [one for one in _installed() if one.name == (said["name"] if said else text)]
    if said:
        found = [one for one in found if one.dist and _plain(one.dist.name) == _plain(said["package"])]
        if not found:
            which = f"{wanted_by} needs the plug-in" if wanted_by else "plug-in"
            raise PluginError(
                f"{which} {said['name']} of the package {said['package']} {said['version']}, which is not installed; "
                f"pip install '{said['package']}=={said['version']}'"
            )
    if len(found) > 1:
        ways = " or ".join(f"--plugin {_kept(one)!r}" for one in found)
        raise PluginError(f"plug-in {text} is in several packages; say which: {ways}")
    if said and found and text != _kept(found[0]) and _kept(found[0]) not in _loaded:
        told = f"{wanted_by or 'what was asked for'} was made with {said['package']} {said['version']}"
        warnings.warn(RegardWarning(f"{told}; going on with the one installed, {_told(found[0])}"), stacklevel=2)
    return found[0] if found else None


def _plain(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def called(text: str) -> str:
    """What a plug-in is known by wherever it lies: its file's name, or a package's, or an entry point's."""
    if said := INSTALLED.fullmatch(text):
        return said["name"]
    name, file = text.split("@", 1) if MODULE_AT.fullmatch(text) else (text, "")
    last = Path(file or name).name
    return name if last == "__init__.py" else last


def _import_once(
    key: str, text: str, which: str, again: str = "", *, path: Path | None = None, entry: EntryPoint | None = None
) -> str:
    """Import one, unless that has been done; the text it is kept as. What it had done is undone where it fails."""
    if key in _loaded:
        return _loaded[key]
    undo: list[Callable[[], object]] = []
    _loaded[key] = text
    _loading.append((text, undo))
    try:
        _loaded[key] = _import(text, path, entry)
    except (Exception, SystemExit) as error:  # a plug-in raises whatever is wrong with it
        del _loaded[key]
        for step in reversed(undo):
            step()
        raise PluginError(f"{which} cannot be loaded: {_reason(error, path)}{again}") from error
    finally:
        _loading.pop()
    return _loaded[key]


def _import(text: str, path: Path | None, entry: EntryPoint | None) -> str:
    """Import a file, an entry point or a module; the text it is kept as."""
    if path:
        _import_file(path)
        return text
    if entry:
        found = entry.load()
        if isinstance(found, FunctionType):
            found()
        return text
    name = text.partition("@")[0]
    file = importlib.import_module(name).__file__
    return f"{name}@{file}" if file else name


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


def _reason(error: BaseException, path: Path | None) -> str:
    """What went wrong, and in which line of the plug-in."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines = [error.lineno]
    where = f"line {lines[-1]}: " if lines else ""
    kind = "" if isinstance(error, RegardError) else f"{type(error).__name__}: "
    return f"{where}{kind}{' '.join(str(error).split())}"


def child_environment() -> dict[str, str]:
    """The environment of a process of our own, started with ``python -m``: without secrets, and importing from where
    this process does.

    The folder one stands in is among those places only where it is for this process: by itself ``-m`` puts it first,
    and a ``torch.py`` that lies among somebody's pictures would be run.
    """
    kept = {name: value for name, value in os.environ.items() if name not in SECRET}
    places = [str(Path(place).absolute()) for place in sys.path]
    return kept | {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(dict.fromkeys(places))}


def load_function(text: str) -> Callable[..., object]:
    """Import a function that somebody names; no run or model that is made later on needs its module for that.

    Args:
        text: ``MODULE:FUNCTION`` of a module that Python finds, or ``FILE.py:FUNCTION``.

    Raises:
        PluginError: the module cannot be imported, or has no such function.
    """
    place, _, name = text.rpartition(":")
    load_plugins()
    _load(place, "")
    file = str(Path(place).expanduser().absolute())
    module = sys.modules.get(place) or next(
        (one for one in list(sys.modules.values()) if getattr(one, "__file__", None) == file), None
    )
    function = getattr(module, name, None)
    if not callable(function):
        raise PluginError(f"{text!r} names no function; {place} has none called {name!r}, wanted MODULE:FUNCTION")
    return function
