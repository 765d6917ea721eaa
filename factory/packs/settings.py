"""A pack's own options (`pack.*` in a build's config), read into a dataclass and checked."""

from __future__ import annotations

import math
import types
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from factory.errors import ConfigError, near_miss

T = TypeVar("T")


def read_settings(cls: type[T], raw: Mapping[str, Any], *, pack: str, also: Iterable[str] = ()) -> T:
    """The options that `cls` knows, out of `pack.*`.

    Args:
        cls: a dataclass whose fields all have defaults, of the types str, bool, int, float, tuple[X, ...], dict or Mapping
            (perhaps `| None`).
        also: options that another reader of the same pack knows; they are allowed and passed over.

    Raises:
        ConfigError: an unknown key (with a near miss), or a value of another type.
    """
    names = [item.name for item in fields(cls)]  # type: ignore[arg-type]
    known = sorted({*names, *also})
    for key in raw:
        if key not in known:
            hint = near_miss(str(key), known)
            raise ConfigError(f"pack.{key} is no option of the {pack} pack.{hint} Options: {', '.join(known)}.")
    hints = _hints(cls)
    return cls(**{name: _typed(f"pack.{name}", raw[name], hints[name]) for name in names if name in raw})


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _typed(what: str, value: Any, hint: Any) -> Any:
    """The value as the annotation wants it (lists become tuples, whole numbers floats), or ConfigError."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        for option in get_args(hint):
            try:
                return _typed(what, value, option)
            except ConfigError:
                continue
        raise _mistyped(what, value, hint)
    if hint is types.NoneType:
        if value is None:
            return None
    elif origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(_typed(f"an item of {what}", item, get_args(hint)[0]) for item in value)
    elif origin in (dict, Mapping) or getattr(origin, "__name__", "") == "Mapping":
        if isinstance(value, Mapping):
            return {str(key): _typed(f"{what}.{key}", item, get_args(hint)[1]) for key, item in value.items()}
    elif hint is Any:
        return value
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise _mistyped(what, value, hint)


def _mistyped(what: str, value: Any, hint: Any) -> ConfigError:
    wanted = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}.get(hint)
    if wanted is None:
        wanted = "a list such as [a, b]" if get_origin(hint) is tuple else "a mapping such as {a: 1}"
        if get_origin(hint) in (Union, types.UnionType):
            wanted = str(hint).replace("NoneType", "null").replace("None", "null").replace(" | ", " or ")
    return ConfigError(f"{what} is {value!r}; want {wanted}.")


def one_of(what: str, value: Any, allowed: Collection[str]) -> None:
    """Raise ConfigError, with a near miss, unless the value is one of those allowed."""
    if value not in allowed:
        raise ConfigError(f"{what} is {value!r}; want one of {', '.join(allowed)}.{near_miss(str(value), allowed)}")


def within(what: str, value: Any, low: float, high: float) -> None:
    """Raise ConfigError unless the value is a finite number from `low` to `high` (which may be infinite)."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (math.isfinite(value) and low <= value <= high):
        raise ConfigError(f"{what} is {value!r}; want a finite number from {low:g}{'' if math.isinf(high) else f' to {high:g}'}.")


def check_shares(shares: Mapping[str, Any], tasks: Collection[str]) -> None:
    """Check `pack.shares`: task -> share of the questions, on any positive scale.

    Raises:
        ConfigError: an unknown task, a share below 0, or none above 0.
    """
    for task, share in shares.items():
        one_of("a key of pack.shares", task, tasks)
        within(f"pack.shares.{task}", share, 0.0, math.inf)
    if not sum(shares.values()) > 0:
        raise ConfigError(f"pack.shares gives no task a share above 0. Set one, for example pack.shares.{next(iter(tasks))}=1.")
