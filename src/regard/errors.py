"""Errors a user can act on.

Every one of them is a ``ValueError``, says in one line what it got, what it wanted and the next step, and makes the
command line exit with code 2 and no traceback (``--debug`` shows it)::

    RegardError
    ├── ConfigError        an option, a recipe or an override is wrong
    ├── UnknownNameError   a registered name is not known (answers with the nearest ones)
    ├── PluginError        a plug-in is not there, or cannot be loaded
    ├── DataError          a data set, an image or a label file is not what was promised
    ├── CheckpointError    a checkpoint does not fit, or is not one
    └── StorageError       the disk refused a write; what was there before is intact
"""

from __future__ import annotations

import difflib
import numbers
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any, ClassVar, TypeGuard, get_args

__all__ = [
    "CheckpointError", "ConfigError", "DataError", "PluginError", "RegardError", "RegardWarning", "StorageError",
    "UnknownNameError", "check_choice", "check_kind", "is_whole", "nearest", "require", "shown",
]  # fmt: skip


_SHOWN = 100


class RegardError(ValueError):
    """Anything wrong that the user can put right.

    Attributes:
        exit_code: what the command line exits with.
    """

    exit_code: ClassVar[int] = 2


class RegardWarning(UserWarning):
    """Something the user should know of though the work goes on; the command line prints it as one line."""


class ConfigError(RegardError):
    """An option, a recipe or a command-line override is wrong."""


class UnknownNameError(ConfigError):
    """A name is not in its registry."""

    def __init__(self, kind: str, name: str, known: Iterable[str], systems: Iterable[str] = ()):
        known, systems = sorted(known), sorted(systems)
        told = f"systems: {', '.join(systems)}; {kind}s: " if systems else "known: "
        super().__init__(f"unknown {kind} {name!r}{nearest(name, [*systems, *known])}; {told}{', '.join(known)}")


class PluginError(ConfigError):
    """A plug-in is not there, or cannot be loaded."""


class DataError(RegardError):
    """A data set, an image or a label file is not what was promised."""


class CheckpointError(RegardError):
    """A checkpoint does not fit the network, or is not a checkpoint."""


class StorageError(RegardError):
    """A write failed; what had been written before is intact."""


def require(package: str, what: str, extra: str, instead: str = "") -> ModuleType:
    """Import a package that only some of the work needs, before any of the work is done.

    Args:
        package: name of the module.
        what: what needs it.
        extra: name of the extra of regard that brings it.
        instead: what to do where it is not to be installed.

    Raises:
        ConfigError: it cannot be imported.
    """
    try:
        __import__(package)
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{what} needs {package}, which cannot be imported ({reason}); pip install 'regard[{extra}]'"
            + (f", or {instead}" if instead else "")
        ) from None
    return sys.modules[package]


def check_kind(name: str, value: object, kinds: type | tuple[type, ...], wanted: str) -> None:
    """Refuse an argument of another kind than it has to be; true and false are no numbers.

    Args:
        name: of the argument.
        value: what was given for it.
        kinds: what it may be.
        wanted: the same in words.

    Raises:
        ConfigError: it is none of them.
    """
    allowed = kinds if isinstance(kinds, tuple) else (kinds,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise ConfigError(f"{name} is {shown(value)}, wanted {wanted}")


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number, Python's or NumPy's; true, false and arrays of one number are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def shown(value: object) -> str:
    """A value that was given, for an error: on one line, and only the beginning of a long one."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 4]} ..."


def check_choice(name: str, value: object, literal: Any) -> None:
    """Refuse a value that is not one of a ``Literal`` type's, which whoever reads it would take for another.

    Args:
        name: of the argument.
        value: what was given for it.
        literal: the type.

    Raises:
        ConfigError: it is none of them.
    """
    choices = get_args(literal)
    texts = [choice for choice in choices if isinstance(choice, str)]
    if not any(value is choice for choice in choices) and not (isinstance(value, str) and value in texts):
        known, near = ", ".join(map(str, choices)), nearest(str(value), map(str, choices))
        raise ConfigError(f"{name} is {value!r}, wanted one of: {known}" + near.replace(",", ";", 1))


def nearest(name: str, known: Iterable[str]) -> str:
    """``", did you mean 'apnet'?"`` for the closest known name, or an empty string."""
    match = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f", did you mean {match[0]!r}?" if match else ""
