"""Named sets of pieces, one row of presets.yaml each, and how a config becomes the pieces of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from factory.errors import ConfigError, near_miss
from factory.quick_yaml import read_yaml
from factory.stages.rl.config import RlConfig
from factory.stages.rl.pieces.catalogue import find, make
from factory.stages.rl.pieces.needs import NEEDS
from factory.stages.rl.pieces.piece import SLOTS, Piece

FILE = Path(__file__).with_name("presets.yaml")

DEFAULTS: Mapping[str, str] = {
    "sampler": "shuffled", "supply": "fixed", "format": "pack", "mixer": "weighted", "advantage": "group_std", "loss": "clip",
    "aggregator": "seq_mean_token_mean", "kl_schedule": "constant", "reference": "start",
}  # fmt: skip
"""What stands in a slot that holds exactly one piece, when neither preset nor config names one."""

Named = dict[str, dict[str, dict[str, Any]]]
"""slot -> piece name -> settings."""


@dataclass(frozen=True)
class Preset:
    """One row of presets.yaml with what it extends already merged in."""

    name: str
    title: str
    source: str
    note: str
    pieces: Named


@cache
def presets() -> Mapping[str, Preset]:
    """All presets by name. Raises ConfigError when the file extends in a circle or names an unknown piece."""
    rows = read_yaml(FILE.read_text(encoding="utf-8"))

    def whole(name: str, seen: tuple[str, ...] = ()) -> Named:
        if name in seen or name not in rows:
            raise ConfigError(
                f"{FILE.name}: '{name}' extends itself or is not there ({' -> '.join([*seen, name])}). Correct `extends`."
            )
        parent = rows[name].get("extends")
        return changed_by(whole(parent, (*seen, name)) if parent else {}, rows[name].get("pieces") or {})

    return {
        name: Preset(name, row["title"], row["source"], " ".join((row.get("note") or "").split()), whole(name))
        for name, row in rows.items()
    }


def changed_by(pieces: Named, changes: Mapping[str, Any]) -> Named:
    """Lay changes over a set of pieces: in a slot for one, another name replaces; in a slot for many, it joins.

    Raises:
        ConfigError: unknown slot or piece, or a form that is neither a name nor a mapping.
    """
    result = {slot: {name: dict(settings) for name, settings in own.items()} for slot, own in pieces.items()}
    for slot, wanted in changes.items():
        if slot not in SLOTS:
            find(slot, "")
        own = result.setdefault(slot, {})
        if wanted is None:
            own.clear()
            continue
        for name, settings in _by_name(slot, wanted).items():
            find(slot, name)
            if settings is None:
                own.pop(name, None)
                continue
            if not isinstance(settings, Mapping):
                raise ConfigError(f"rl: pieces.{slot}.{name} must map settings to values, got {settings!r}. Write {{}} for none.")
            if not SLOTS[slot].is_many and name not in own:
                own.clear()
            own[name] = {**own.get(name, {}), **settings}
    return result


def _by_name(slot: str, wanted: Any) -> Mapping[str, Any]:
    if isinstance(wanted, str):
        return {wanted: {}}
    if not isinstance(wanted, Mapping):
        raise ConfigError(f"rl: pieces.{slot} must be a piece's name or a mapping of pieces, got {wanted!r}.")
    added = [name for name, settings in wanted.items() if settings is not None]
    if not SLOTS[slot].is_many and len(added) > 1:
        raise ConfigError(f"rl: pieces.{slot} holds one piece, got {' and '.join(map(str, added))}. Name one.")
    return wanted


@dataclass(frozen=True)
class Chosen:
    """The pieces of one run, made and checked."""

    preset: str
    changed: tuple[str, ...]
    """What the config changed in the preset, as `slot.piece.setting=value`."""
    made: Mapping[str, Any]
    """`slot.name` -> instance, in catalogue order."""
    records: Mapping[str, Piece]

    def one(self, slot: str) -> Any:
        """The piece of a slot that holds one; None when it is empty."""
        return next(iter(self.many(slot)), None)

    def many(self, slot: str) -> tuple[Any, ...]:
        """The pieces of a slot, in catalogue order."""
        return tuple(instance for key, instance in self.made.items() if self.records[key].slot == slot)

    def has(self, key: str) -> bool:
        """True when the piece `slot.name` is in use."""
        return key in self.made

    def needs(self) -> frozenset[str]:
        """Union of what the pieces need; keys of `NEEDS`. The reference slot counts only when something needs a reference."""
        return frozenset[str]().union(*(record.needs for record in self.records.values()))

    def extra_forwards(self) -> float:
        """Forwards per trained token beside the one of the update."""
        return sum(NEEDS[need].extra_forwards for need in self.needs())

    def copies_of_weights(self) -> float:
        """Copies of the policy's weights beside the policy."""
        # A moving average stands in the place of the frozen copy.
        needs = self.needs() - ({"ref_logprobs"} if "ema_reference" in self.needs() else set())
        return sum(NEEDS[need].copies_of_weights for need in needs)

    def stateful(self) -> dict[str, Any]:
        """Pieces with a state, by key: what a checkpoint has to hold."""
        return {key: instance for key, instance in self.made.items() if hasattr(instance, "state_dict")}


def resolve(config: RlConfig) -> Chosen:
    """The preset's row with the config's changes on top, each piece made new.

    Raises:
        ConfigError: unknown preset, slot, piece or setting; a missing required setting; a value that a piece refuses.
    """
    known = presets()
    if config.preset not in known:
        raise ConfigError(
            f"rl: preset={config.preset!r} is not known.{near_miss(config.preset, known)} Choose one of: {', '.join(known)}."
        )
    start = known[config.preset].pieces
    named = changed_by(start, config.pieces)
    for slot, default in DEFAULTS.items():
        if not named.get(slot):
            named[slot] = {default: {}}
    # Rollouts of a step ago keep the sampler's log-probs where the loss has one ratio per rollout, which weights would contradict.
    is_behind = config.one_step_off and not {"gspo", "mirror_descent"} & set(named["loss"])
    if (config.engine == "vllm" or is_behind) and not _is_taken_out(config.pieces, "token_weight", "tis"):
        named.setdefault("token_weight", {}).setdefault("tis", {})
    keys = {f"{slot}.{name}": (slot, name) for slot in SLOTS for name in named.get(slot, {})}
    records = {key: find(*place) for key, place in keys.items()}
    order = _catalogue_order(keys)
    made = {key: make(*keys[key], named[keys[key][0]][keys[key][1]]) for key in order}
    return Chosen(config.preset, _changes(start, named), made, {key: records[key] for key in order})


def _is_taken_out(changes: Mapping[str, Any], slot: str, name: str) -> bool:
    wanted = changes.get(slot, {})
    return wanted is None or (isinstance(wanted, Mapping) and name in wanted and wanted[name] is None)


def _catalogue_order(keys: Mapping[str, Any]) -> list[str]:
    from factory.stages.rl.pieces.catalogue import pieces

    return [key for key in pieces() if key in keys]


def _changes(start: Named, named: Named) -> tuple[str, ...]:
    """What differs from the preset, one line each."""
    lines: list[str] = []
    for slot in SLOTS:
        before, after = start.get(slot, {}), named.get(slot, {})
        if not before and list(after) == [DEFAULTS.get(slot)] and not any(after.values()):
            continue
        lines += [f"without {slot}.{name}" for name in before if name not in after and SLOTS[slot].is_many]
        for name, settings in after.items():
            if name not in before:
                lines.append(f"{slot}={name}")
            old = before.get(name, {})
            lines += [f"{slot}.{name}.{key} at its default" for key in old if key not in settings]
            lines += [f"{slot}.{name}.{key}={_text(value)}" for key, value in settings.items() if old.get(key, _ABSENT) != value]
    return tuple(lines)


_ABSENT = object()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
