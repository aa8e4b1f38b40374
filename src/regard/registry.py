"""Names for the things a recipe can ask for.

Registration is a decorator in the file that defines the thing; discovery is its folder, imported the first time a name
is asked for, so that nothing heavy is imported before it is needed::

    @MODELS.register("apnet")
    class APNet(ReIDModel): ...

    MODELS.get("apnet")  # -> APNet
    MODELS.get("apnat")  # -> UnknownNameError: unknown model 'apnat', did you mean 'apnet'?; known: ...

What a plug-in registers (:mod:`regard.plugins`) stands beside it, under names of its own. Those of installed packages
are imported when a name is asked for that nobody has registered yet, and when all names are.
A constructor's signature is its option schema: :meth:`Registry.options` reads it.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from regard.errors import ConfigError, UnknownNameError, nearest
from regard.plugins import (
    being_loaded,
    load_installed,
    load_plugins,
    plugin_in,
    undo_on_failure,
    was_named,
)

__all__ = ["DATASETS", "ENGINES", "LOGGERS", "LOSSES", "MODELS", "Registry", "list_datasets", "list_models"]

T = TypeVar("T", bound=Callable[..., Any])


class Registry:
    """A set of named constructors living in one package.

    Args:
        kind: what the names stand for, as said in error messages ("model").
        package: the package whose modules register them, imported on first use; empty: plug-ins alone do.
    """

    def __init__(self, kind: str, package: str):
        self.kind = kind
        self.package = package
        self._entries: dict[str, Callable[..., Any]] = {}
        self._plugins: dict[str, str] = {}
        self._contested: dict[str, str] = {}
        self._unlisted: set[str] = set()
        self._discovered = False

    def register(self, name: str, *, listed: bool = True) -> Callable[[T], T]:
        """Decorator that files a class or function under ``name``.

        Args:
            name: what it is asked for by.
            listed: whether it is among the names; what is not can be asked for all the same.

        Raises:
            ConfigError: from the decorator: another one has that name.
        """

        def file(entry: T) -> T:
            plugin = None if entry.__module__.startswith("regard.") else being_loaded()
            if plugin:
                self._discover()
            if (other := self._entries.get(name, entry)) is not entry:
                told = f"{self.kind} {name!r} is registered twice, by {other.__module__} and by {entry.__module__}"
                if plugin and name in self._plugins:
                    self._contested[name] = f"{told}; name one: --plugin {self._plugins[name]!r} or --plugin {plugin!r}"
                raise ConfigError(f"{told}; choose another name")
            self._entries[name] = entry
            if not listed:
                self._unlisted.add(name)
            if plugin:
                self._plugins[name] = plugin
                undo_on_failure(lambda: (self._entries.pop(name), self._plugins.pop(name)))
            return entry

        return file

    def plugin_of(self, name: str) -> str | None:
        """The plug-in that has registered ``name``, as it is to be kept; None for what is on board."""
        return self._plugins.get(name) or plugin_in(self.get(name).__module__)

    def name_of(self, entry: Any) -> str | None:
        """The name that ``entry`` is registered under; None where it is not registered."""
        self._discover()
        return next((name for name, known in self._entries.items() if known is entry), None)

    def get(self, name: str) -> Callable[..., Any]:
        """The entry called ``name``.

        Raises:
            UnknownNameError: no such entry; the message holds the nearest name and the list.
            ConfigError: two installed plug-ins, neither of which was named, have one of that name.
        """
        if name not in self:
            raise UnknownNameError(self.kind, name, self._entries)
        if name in self._contested and not was_named(self._plugins[name]):
            raise ConfigError(self._contested[name])
        return self._entries[name]

    def create(self, name: str, /, *args: Any, **options: Any) -> Any:
        """Call the entry called ``name``, checking the spelling of ``options`` first.

        Raises:
            UnknownNameError: no such entry.
            ConfigError: an option the entry's signature does not have, or one is missing that it has no default for.
        """
        known = self.options(name)
        if unknown := next((option for option in options if option not in known), None):
            near = nearest(unknown, known)
            raise ConfigError(f"{self.kind} {name!r} has no option {unknown!r}{near}; its options: {', '.join(known)}")
        entry = self.get(name)
        given = inspect.signature(entry).bind_partial(*args, **options).arguments
        if missing := [key for key, p in known.items() if p.default is p.empty and key not in given]:
            wanted = " and ".join(repr(key) for key in missing)
            raise ConfigError(f"{self.kind} {name!r} wants the option {wanted}, without a default; give it")
        return entry(*args, **options)

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """The keyword options of an entry, in the order of its signature."""
        parameters = inspect.signature(self.get(name)).parameters
        wanted = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return {key: p for key, p in parameters.items() if p.kind in wanted}

    def loaded(self) -> list[str]:
        """The names that are known without importing what installed packages bring."""
        self._discover()
        return sorted(self._entries.keys() - self._unlisted)

    def __iter__(self) -> Iterator[str]:
        self._discover()
        load_installed()
        return iter(sorted(self._entries.keys() - self._unlisted))

    def __contains__(self, name: object) -> bool:
        self._discover()
        if not isinstance(name, str) or os.sep in name:  # a list is no name, nor is a place
            return False
        if name not in self._entries:
            load_installed()
        return name in self._entries

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__ if self.package else ()):
            importlib.import_module(f"{self.package}.{module.name}")
        load_plugins()


MODELS = Registry("model", "regard.models")
LOSSES = Registry("loss", "regard.losses")
DATASETS = Registry("data set", "regard.data.datasets")
LOGGERS = Registry("logger", "regard.engine.loggers")
ENGINES = Registry("gallery engine", "")
"""By the scheme of the URL that a gallery of theirs has."""


def list_models() -> list[str]:
    """Return the names of the systems, in order."""
    return list(MODELS)


def list_datasets() -> list[str]:
    """Return the names of the data sets, in order."""
    return list(DATASETS)
