"""Every piece there is, by slot and name, and how settings become instances."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from factory.errors import BrokenPlugin, ConfigError, near_miss
from factory.plugins import PIECE_GROUP, load_plugin, plugin_names
from factory.stages.rl import pieces as package
from factory.stages.rl.pieces.piece import SLOTS, Piece, entered


@cache
def _import_own() -> None:
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"{package.__name__}.{module}")


def pieces() -> Mapping[str, Piece]:
    """`slot.name` -> piece, in the order of the slots and, within one, of the modules' names and lines.

    The factory's own, and of the installed ones those that `find` was asked for: no other package is imported.
    """
    _import_own()
    order = {slot: place for place, slot in enumerate(SLOTS)}
    # By module, not by when it was imported: pieces of a slot for many are applied in this order. Within a module: by line.
    return dict(sorted(entered().items(), key=lambda item: (order[item[1].slot], item[1].type.__module__)))


def names(slot: str) -> list[str]:
    """Names of the pieces of one slot, the factory's own first, then installed ones."""
    own = [piece.name for piece in pieces().values() if piece.slot == slot]
    return own + [name for name in installed_names(slot) if name not in own]


def installed_names(slot: str) -> list[str]:
    """Names that installed packages offer for a slot (entry points `slot.name`); nothing is imported."""
    return [key.partition(".")[2] for key in plugin_names(PIECE_GROUP) if key.partition(".")[0] == slot]


def find(slot: str, name: str) -> Piece:
    """The piece of that name in that slot; an installed one is imported now. A package cannot replace a piece of the factory.

    Raises:
        ConfigError: no such slot or piece, with the known names.
        DuplicatePlugin, BrokenPlugin: of an installed piece.
    """
    if slot not in SLOTS:
        raise ConfigError(f"rl: pieces.{slot}: there is no such slot.{near_miss(slot, SLOTS)} Slots: {', '.join(SLOTS)}.")
    found = pieces().get(f"{slot}.{name}")
    if found is None and name in installed_names(slot):
        return _installed(slot, name)
    if found is None:
        known = names(slot)
        raise ConfigError(
            f"rl: pieces.{slot}={name!r} is not known.{near_miss(str(name), known)} Choose one of: {', '.join(known)}."
        )
    return found


def _installed(slot: str, name: str) -> Piece:
    key = f"{slot}.{name}"
    made = load_plugin(PIECE_GROUP, key)
    record = entered().get(key)
    if record is None or record.type is not made:
        raise BrokenPlugin(
            f"the installed piece '{key}' ({made!r}) does not enter itself under that name. "
            f"Decorate the class with @piece({slot!r}, {name!r}, ...) and name the class as the entry point's target."
        )
    return record


def make(slot: str, name: str, settings: Mapping[str, Any]) -> Any:
    """An instance of a piece.

    Raises:
        ConfigError: unknown setting, wrong type, a required setting is missing, or a value the piece itself refuses.
    """
    piece = find(slot, name)
    known = {f.name: f for f in piece.settings()}
    for key in settings:
        if key not in known:
            have = f"It has: {', '.join(known)}." if known else "It has no settings."
            raise ConfigError(f"rl: pieces.{slot}.{name}.{key}: unknown setting.{near_miss(str(key), known)} {have}")
    missing = [
        f.name for f in known.values()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.name not in settings
    ]  # fmt: skip
    if missing:
        raise ConfigError(
            f"rl: pieces.{slot}.{name} needs {', '.join(missing)}: no source gives a value ({piece.source}). "
            f"Set pieces.{slot}.{name}.{missing[0]}=VALUE."
        )
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(piece.type), dict(settings)))
    except ConfigError:
        raise
    except (OmegaConfBaseException, MissingMandatoryValue, ValueError, TypeError) as err:
        reason, setting = str(err).splitlines()[0].rstrip("."), getattr(err, "full_key", None)
        where = f"pieces.{slot}.{name}" + (f".{setting}" if setting else "")
        raise ConfigError(f"rl: {where}: {reason}. See: factory pieces show {piece.key}.") from err


def settings_text(piece: Piece) -> dict[str, Any]:
    """Setting -> default; `<required>` where the source gives none."""
    found: dict[str, Any] = {}
    for setting in piece.settings():
        if setting.default is not dataclasses.MISSING:
            found[setting.name] = setting.default
        elif setting.default_factory is not dataclasses.MISSING:
            found[setting.name] = setting.default_factory()
        else:
            found[setting.name] = "<required>"
    return found
