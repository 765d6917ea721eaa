"""Lay plain values over an OmegaConf structured config leaf by leaf, so that each refusal names its key, value and line."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from factory.config.layers import Layer
from factory.config.provenance import Origin, Path, Provenance, dotted
from factory.errors import ConfigError, near_miss


def schema_of(node: DictConfig) -> type | None:
    """The dataclass a node is checked against, or None for an open mapping."""
    kind = OmegaConf.get_type(node)
    return kind if isinstance(kind, type) and dataclasses.is_dataclass(kind) else None


def record_defaults(node: DictConfig, path: Path, chain: Provenance) -> None:
    """Note the dataclass that gives each leaf its first value."""
    schema = schema_of(node)
    for key in node:
        here = (*path, str(key))
        if OmegaConf.is_missing(node, key):
            continue
        child = node[key]
        if isinstance(child, DictConfig) and (schema_of(child) or len(child)):
            record_defaults(child, here, chain)
        elif not isinstance(child, DictConfig):
            place = f"{schema.__module__}.{schema.__name__}" if schema else "default"
            chain.record(here, Origin("default", place, plain(child)))


def plain(value: Any) -> Any:
    """A node as plain data: enums by name, lists and mappings unwrapped."""
    if isinstance(value, DictConfig | ListConfig):
        return OmegaConf.to_container(value, resolve=False, enum_to_str=True)
    return value.name if isinstance(value, Enum) else value


def lay(node: DictConfig, values: Mapping[str, Any], path: Path, layer: Layer, chain: Provenance) -> None:
    """Merge a layer's values into a node. Lists are replaced, mappings merged.

    Raises:
        ConfigError: an unknown key (with a near miss) or a value of the wrong type (with the wanted one), each with its place.
    """
    schema = schema_of(node)
    for key, value in values.items():
        here = (*path, key)
        if schema is not None and key not in schema.__dataclass_fields__:
            raise unknown_key(here, list(schema.__dataclass_fields__), layer)
        if isinstance(value, Mapping) and _can_descend(node, key, schema):
            if not isinstance(node.get(key), DictConfig):
                chain.forget(here)
                _assign(node, key, {}, here, layer, schema)
            lay(node[key], value, here, layer, chain)
            continue
        _assign(node, key, value, here, layer, schema)
        if isinstance(value, Mapping) or any(known.startswith(dotted(here) + ".") for known in chain):
            chain.forget(here)
        chain.record(here, Origin(layer.name, layer.where(here), plain(node[key])))


def unknown_key(path: Path, known: list[str], layer: Layer) -> ConfigError:
    """The error for a key that the schema does not have."""
    parent = f" in {dotted(path[:-1])}" if len(path) > 1 else ""
    return ConfigError(
        f"{layer.where(path)}: unknown key '{dotted(path)}'.{near_miss(path[-1], known)} "
        f"Keys{parent}: {', '.join(sorted(known))}."
    )


def _can_descend(node: DictConfig, key: str, schema: type | None) -> bool:
    """True where a mapping merges key by key: below a section, or in an open mapping whose values may be mappings."""
    if key in node and isinstance(node._get_node(key), DictConfig) and not node._get_node(key)._is_none():
        return True
    if schema is not None:
        return False
    return node._metadata.element_type is Any or typing.get_origin(node._metadata.element_type) is dict


def _assign(node: DictConfig, key: str, value: Any, path: Path, layer: Layer, schema: type | None) -> None:
    _refuse_unplain(value, path, layer)
    try:
        node.merge_with({key: value})
    except (OmegaConfBaseException, ValueError, TypeError) as err:
        hint = typing.get_type_hints(schema)[key] if schema is not None else node._metadata.element_type
        raise ConfigError(
            f"{layer.where(path)}: {dotted(path)} is {value!r} ({_yaml_type(value)}), "
            f"wanted {wanted(hint)}.{_enum_hint(hint, value)}"
        ) from err


def _refuse_unplain(value: Any, path: Path, layer: Layer) -> None:
    """Refuse what resolved.yaml and JSON could not give back: numbers that are not finite, and OmegaConf's `${key}` and `???`."""
    if isinstance(value, list | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            _refuse_unplain(item, path, layer)
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{layer.where(path)}: {dotted(path)} is {value}; numbers are finite. Write one.")
    if isinstance(value, str) and ("${" in value or value == "???"):
        raise ConfigError(
            f"{layer.where(path)}: {dotted(path)} is {value!r}; settings cannot refer to others with ${{...}} or ???. "
            "Write the value out."
        )


def wanted(hint: Any) -> str:
    """A type hint in a user's words."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(member.name for member in hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return "a mapping with the keys " + ", ".join(hint.__dataclass_fields__)
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (list, tuple):
        return f"a list, each item {wanted(inside[0])}" if inside and inside[0] is not Any else "a list"
    if origin is dict:
        return f"a mapping of names to values, each {wanted(inside[1])}" if inside[1] is not Any else "a mapping"
    if origin is typing.Literal:
        return "one of " + ", ".join(str(word) for word in inside)
    if inside:
        return " or ".join(wanted(part) for part in inside)
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null", dict: "a mapping"}
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def _yaml_type(value: Any) -> str:
    if isinstance(value, Mapping):
        return "mapping"
    return {"NoneType": "null", "str": "text"}.get(type(value).__name__, type(value).__name__)


def _enum_hint(hint: Any, value: Any) -> str:
    is_enum = isinstance(hint, type) and issubclass(hint, Enum)
    return near_miss(str(value), [member.name for member in hint]) if is_enum else ""
