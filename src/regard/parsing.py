"""Text that somebody wrote, read the same way everywhere: YAML by the core rules of version 1.2, and JSON.

One parser serves recipes, the settings of a run, overrides and options on the command line. Plain scalars follow the
core schema of YAML 1.2.2 (yaml.org/spec/1.2.2, section 10.3.2): ``1e-4`` is a number, ``010`` is ten, ``1:30``, ``no``
and ``2024-01-01`` are words. What is too large to be meant is refused before it costs anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, ClassVar

import yaml

from regard.errors import ConfigError

__all__ = ["OPTIONS", "dump_yaml", "parse_json", "parse_yaml"]

OPTIONS = re.compile(r"(?:,\w+=[^,]*)+$")
"""Options of a data set behind its name or folder."""

MAX_TEXT = 1 << 18
"""Characters of a YAML text; the longest recipe has a thousand."""

MAX_NODES = 50_000
"""Values of a YAML text, those that aliases repeat counted every time."""

MAX_DEPTH = 50
"""Collections in one another."""

_CORE: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "null": (r"~|null|Null|NULL|", "~nN\0", lambda text: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF", lambda text: text.lower() == "true"),
    "int": (
        r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
        "-+0123456789",
        lambda text: int(text, {"o": 8, "x": 16}.get(text[1:2], 10)),
    ),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
        lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
    ),
}
"""The core schema: what a plain scalar of a type looks like, the characters it may begin with, and what it means."""


class _Loader(yaml.SafeLoader):
    """Reads YAML 1.2's core schema and no other type; a key given twice is an error."""

    yaml_constructors: ClassVar[dict[Any, Any]] = {
        key: function
        for key, function in yaml.SafeLoader.yaml_constructors.items()
        if key is None or key.removeprefix("tag:yaml.org,2002:") in ("str", "seq", "map")
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(None, None, f"expected a mapping, found {node.id}", node.start_mark)
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, list | dict):
                raise yaml.constructor.ConstructorError(None, None, "a key is a collection", key_node.start_mark)
            if key in mapping:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
            mapping[key] = self.construct_object(value_node, deep=True)
        return mapping


class _Dumper(yaml.SafeDumper):
    """Writes what :class:`_Loader` reads back: text that looks like a number to it is quoted."""


def _constructor(kind: str, rule: str, meaning: Callable[[str], Any]) -> Callable[[_Loader, Any], Any]:
    """Return what reads a scalar of a kind, also one that only its tag says to be of it, such as ``!!int a``."""

    def construct(loader: _Loader, node: Any) -> Any:
        text = loader.construct_scalar(node)
        if not re.fullmatch(rule, text):
            raise yaml.constructor.ConstructorError(None, None, f"{text!r} is no {kind}", node.start_mark)
        return meaning(text)

    return construct


_Loader.yaml_implicit_resolvers, _Dumper.yaml_implicit_resolvers = {}, {}
for _kind, (_rule, _first, _meaning) in _CORE.items():
    _tag = f"tag:yaml.org,2002:{_kind}"
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(_tag, re.compile(rf"(?:{_rule})\Z"), ["" if c == "\0" else c for c in _first])
    _Loader.add_constructor(_tag, _constructor(_kind, _rule, _meaning))


_BYTES = {code: code + 0x102280 for code in range(0xDC80, 0xDD00)}
"""What stands for the bytes of a file's name that is no text -> characters that YAML takes, of private use."""


def _construct_text(loader: _Loader, node: Any) -> str:
    return loader.construct_scalar(node).translate({new: old for old, new in _BYTES.items()})


_Loader.add_constructor("tag:yaml.org,2002:str", _construct_text)


def parse_yaml(text: str, source: str) -> Any:
    """The value of a YAML text: a whole recipe, or what stands behind ``KEY=``.

    Args:
        text: at most :data:`MAX_TEXT` characters.
        source: what to call it in an error, such as "override 'seed=1'".

    Raises:
        ConfigError: it is not YAML, gives a key twice, or is larger than anybody means it to be.
    """
    if len(text) > MAX_TEXT:
        raise ConfigError(f"{source} has {len(text):,} characters, more than {MAX_TEXT:,}; shorten it")
    loader = None
    try:
        loader = _Loader(text.translate(_BYTES))
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {}, 1)
        return loader.construct_document(node)
    except yaml.reader.ReaderError as error:
        raise ConfigError(
            f"{source} holds the character {error.character:#x}, which YAML has not; leave it out"
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{source}{place}: not YAML: {reason}") from None
    except (RecursionError, OverflowError, ValueError) as error:
        reason = "collections in one another without end" if isinstance(error, RecursionError) else error
        raise ConfigError(f"{source}: not YAML: {reason}; write it plainly") from None
    finally:
        if loader:
            loader.dispose()


def _measure(node: Any, sizes: dict[int, int], depth: int) -> int:
    """Values below a node, those that an alias repeats counted again, though looked at once.

    Raises:
        ValueError: there are too many of them, or they lie too deep or in themselves.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} collections in one another")
    if id(node) in sizes:
        return sizes[id(node)]
    size = 1
    if isinstance(node, yaml.CollectionNode):
        for child in node.value:
            size += sum(_measure(part, sizes, depth + 1) for part in (child if isinstance(child, tuple) else (child,)))
            if size > MAX_NODES:
                raise ValueError(f"more than {MAX_NODES:,} values")
    sizes[id(node)] = size
    return size


def dump_yaml(value: Any) -> str:
    """Plain values as YAML that :func:`parse_yaml` reads back to the same values."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=120)


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, or has more than :data:`MAX_DEPTH` collections in one another, which whoever walks
            through it would stumble over.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply to be read") from None
    many = text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")
    if many > MAX_DEPTH and _depth_exceeds(value, MAX_DEPTH):
        raise ValueError("nested too deeply to be read")
    return value


def _depth_exceeds(value: Any, limit: int) -> bool:
    """Whether more than ``limit`` collections lie in one another; goes through level by level, without recursion."""
    level = [value]
    for _ in range(limit):
        inner = (part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list))
        level = [child for parts in inner for child in parts if isinstance(child, dict | list)]
        if not level:
            return False
    return True
