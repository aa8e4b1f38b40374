"""What is wrong with a configuration, in our words; the options of registered things, checked against signatures."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from regard.errors import ConfigError, nearest
from regard.registry import Registry

__all__ = ["check_options", "fault_in"]


def check_options(registry: Registry, name: str, options: dict[str, Any], given: tuple[str, ...]) -> None:
    """Check options against the signature of the entry ``name``; raises ConfigError naming every fault.

    Args:
        registry, name: where the entry is found.
        options: as the recipe has them.
        given: what the engine fills in, so that no recipe can.
    """
    schema = _option_schema(registry, name, given)
    try:
        schema.model_validate(options)
    except ValidationError as error:
        raise ConfigError("; ".join(fault_in(fault, schema) for fault in error.errors())) from None


@lru_cache
def _option_schema(registry: Registry, name: str, given: tuple[str, ...]) -> type[BaseModel]:
    entry = registry.get(name)
    hints = get_type_hints(entry.__init__ if inspect.isclass(entry) else entry)
    fields: dict[str, Any] = {}
    for key, parameter in registry.options(name).items():
        if key not in given:
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[key] = (hints.get(key, Any), default)
    return create_model(f"{name} options", __config__=ConfigDict(extra="forbid", protected_namespaces=()), **fields)


def fault_in(fault: Any, schema: type[BaseModel], inside: str = "") -> str:
    """One fault of pydantic's list in our words.

    Args:
        fault: an entry of ``ValidationError.errors()``.
        schema: what was validated.
        inside: the dotted place of it.
    """
    where = ".".join(filter(None, (inside, *map(str, fault["loc"]))))
    dot, told = (f"{where}.", f"{where}: ") if where else ("", "")
    error = fault.get("ctx", {}).get("error")
    if isinstance(error, ConfigError):
        return f"{told}{error}"
    if fault["type"] == "missing":
        return f"{where}: missing"
    unknown = fault["type"] == "extra_forbidden"
    known = _keys_at(schema, fault["loc"][: -1 if unknown else None])
    keys = f" (keys: {', '.join(known)})" if known else ""
    if unknown:
        return f"{where}: no such key{nearest(str(fault['loc'][-1]), known)}{keys}"
    if fault["type"] in ("dict_type", "model_type"):
        wanted = f"a section, such as {dot}{known[0] if known else 'KEY'}=VALUE"
        if where.startswith("data.options"):
            wanted = "options by data set, such as data.options.cuhk03.boxes=labeled"
        return f"{told}got {fault['input']!r}, wanted {wanted}{keys}"
    if fault["type"] in ("tuple_type", "list_type"):
        return f"{where}: got {fault['input']!r}, wanted a list, such as {where}=[{fault['input']}]"
    return f"{where}: got {fault['input']!r}; {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _keys_at(schema: type[BaseModel], path: Sequence[Any]) -> list[str]:
    """The keys the schema knows at a dotted place."""
    section: Any = schema
    for part in path:
        field = getattr(section, "model_fields", {}).get(part)
        if field is None:
            return []
        section = field.annotation
    return [field.alias or name for name, field in getattr(section, "model_fields", {}).items()]
