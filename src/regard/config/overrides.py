"""Settings laid over others: those of the command line, of Python, and of a recipe over its base."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from regard.config.whole import Config
from regard.errors import ConfigError, nearest
from regard.parsing import parse_yaml

__all__ = ["Overrides", "lay_over", "override", "plugins_of", "without_terms"]

Overrides = Sequence[str] | Mapping[str, Any]
"""Settings that differ: texts of the command line, ``KEY=VALUE``; or values by section or dotted name, from Python."""


def override(tree: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    """A copy of the settings ``tree`` with ``overrides`` in it, unchecked.

    Raises:
        ConfigError: an override has no key or no value, or goes into what is no section; of values, one is given twice.
    """
    if isinstance(overrides, Mapping):
        return lay_over(_copy(tree), _by_section(overrides))
    changed: dict[str, Any] = _copy(tree)
    for text in overrides:
        _apply(changed, text)
    return changed


def lay_over(
    below: Mapping[str, Any], above: Mapping[str, Any], *, once: bool = False, inside: str = ""
) -> dict[str, Any]:
    """Settings with others laid over them: mappings are joined key by key, everything else replaces.

    Raises:
        ConfigError: something would be replaced that may be given ``once``; ``inside`` is the place of the settings.
    """
    joined = dict(below)
    for key, value in above.items():
        under = joined.get(key)
        if isinstance(under, Mapping) and isinstance(value, Mapping):
            value = lay_over(under, value, once=once, inside=f"{inside}{key}.")
        elif once and key in joined:
            raise ConfigError(f"{inside}{key} is given twice; give it once")
        joined[key] = value
    return joined


def _by_section(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by section or dotted name as a tree of sections; below them a dot is a part of a name."""
    tree: dict[str, Any] = {}
    for dotted, value in values.items():
        keys = _keys_of(dotted, f"override {dotted!r:.90}")
        if not all(keys):
            raise ConfigError(f"cannot read override {dotted!r}; it wants a section or a dotted name, such as optim.lr")
        for key in reversed(keys):
            value = {key: value}
        tree = lay_over(tree, _plain(value), once=True)
    return tree


def _plain(value: Any) -> Any:
    """A value of Python as YAML would have it: paths are texts, tuples are lists."""
    if isinstance(value, Mapping):
        return {key: _plain(under) for key, under in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def plugins_of(tree: Mapping[str, Any]) -> list[str] | None:
    """The plug-ins that settings name; None where what stands there is no list of names."""
    named = tree.get("plugins", ())
    named = [named] if isinstance(named, str) else named
    return list(named) if isinstance(named, list | tuple) and all(isinstance(text, str) for text in named) else None


def without_terms(tree: Mapping[str, Any], before: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The settings ``tree`` without the terms of ``losses`` that are null in it.

    Args:
        tree: settings after a change.
        before: settings before it, which have the terms that can be taken out.
        source: what to call them in an error.

    Raises:
        ConfigError: there was no such term.
    """
    losses, had = tree.get("losses"), before.get("losses")
    if not isinstance(losses, Mapping):
        return dict(tree)
    terms = [name for name, term in had.items() if term is not None] if isinstance(had, Mapping) else []
    for name, term in losses.items():
        if term is None and name not in terms:
            raise ConfigError(
                f"{source}: losses.{name} is null, which takes a term out, but there is no such term"
                f"{nearest(str(name), map(str, terms))} (terms: {', '.join(map(str, terms)) or 'none'})"
            )
    return {**tree, "losses": {name: term for name, term in losses.items() if term is not None}}


def _copy(tree: Any) -> Any:
    return {key: _copy(value) for key, value in tree.items()} if isinstance(tree, Mapping) else tree


def _apply(tree: dict[str, Any], override: str) -> None:
    said = f"override {override!r:.90}"
    dotted, sign, text = override.partition("=")
    keys = _keys_of(dotted, said)
    if not sign or not all(keys):
        raise ConfigError(f"cannot read {said}; it wants section.key=value, for example optim.lr=1e-4")
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{said}: {key!r} holds a value, not a section")
    plain = _is_place(keys) and text[:1] not in ("", "'", '"') and text not in ("~", "null", "true", "false")
    tree[keys[-1]] = text if plain else parse_yaml(text, said)


def _keys_of(dotted: str, said: str) -> list[str]:
    """Return the parts of a dotted name; ``said`` tells in an error what was given."""
    keys = dotted.split(".")
    if keys[0] in ("base", "about"):
        raise ConfigError(f"{said}: {keys[0]} is said in a recipe's file, not beside it; leave it out")
    return keys


def _is_place(keys: Sequence[str]) -> bool:
    """Whether a setting is a folder or a file, whose name may look like a number or hold a ``#``."""
    kind: Any = Config
    for key in keys:
        if get_origin(kind) is dict:
            kind = get_args(kind)[-1]
        else:
            field = getattr(kind, "model_fields", {}).get(key)
            kind = field.annotation if field else None
    return "Path" in str(kind) or list(keys) == ["model", "pretrained"]
