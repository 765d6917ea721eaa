"""The licence roll-up of a model: everything that went into it, and the most restrictive of their terms.

It reads what was declared; it is no legal advice, and an undeclared licence is never taken for a permissive one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.registry.licence_classes import CLASSES, PERMISSIVE, classify

__all__ = ["CLASSES", "Part", "RollUp", "classify", "roll_up"]

_KNOWN = PERMISSIVE | {
    "cc-by-4.0", "cc-by-3.0", "cc-by-sa-4.0", "cc-by-sa-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "odc-by",
    "gpl-3.0", "agpl-3.0", "lgpl-3.0", "openrail", "gemma", "llama3", "llama3.1", "llama3.2", "llama3.3",
}  # fmt: skip
"""Identifiers that a model card may carry as they are; any other text becomes `other` with a name."""


@dataclass(frozen=True)
class Part:
    """One thing that went into the model."""

    what: str
    """`base model`, `data` or `domain pack`."""
    name: str
    licence: str
    """As it was declared."""
    kind: str
    """One of CLASSES."""


@dataclass(frozen=True)
class RollUp:
    """The terms that are left when all parts' terms hold."""

    parts: tuple[Part, ...]
    kind: str
    tag: str
    """For a model card's `license`."""
    name: str
    """For `license_name` when the tag is `other`; else empty."""


def roll_up(base: Mapping[str, Any], pack: Mapping[str, Any], sources: Sequence[Mapping[str, Any]], num_files: int,
            data_licence: str = "") -> RollUp:  # fmt: skip
    """The roll-up of one model.

    Args:
        base: `ref`, `hub_id`, `licence` of the base model.
        pack: `name`, `license`.
        sources: the manifest's data table. Without files of the user only the bundled rows were used.
        num_files: files of the user's own data; the factory cannot know their terms, nor which published set they are.
        data_licence: what the user says of those files (`data.licence`).
    """
    found = [_part("base model", base.get("hub_id") or base.get("ref") or "unnamed", base.get("licence"))]
    found.append(_part("domain pack", pack.get("name") or "unnamed", pack.get("license")))
    found += [_part("data", row.get("id") or "unnamed", row.get("license")) for row in sources if row.get("bundled")]
    if num_files:
        found.append(_part("data", f"{num_files} files of the user", data_licence))
    return _rolled(tuple(found))


def _part(what: str, name: Any, licence: Any) -> Part:
    said = str(licence or "not stated")
    return Part(what, str(name), said, classify(said))


def _rolled(parts: tuple[Part, ...]) -> RollUp:
    worst = max((part.kind for part in parts), key=CLASSES.index)
    held = {part.licence.strip().lower() for part in parts if part.kind == worst}
    if worst == "permissive":
        # Several permissive licences are kept together: the weights carry the base model's.
        first = next(part for part in parts if part.what == "base model")
        return RollUp(parts, worst, first.licence.strip().lower(), "")
    if worst == "unknown":
        return RollUp(parts, worst, "unknown", "")
    if len(held) == 1 and next(iter(held)) in _KNOWN:
        return RollUp(parts, worst, next(iter(held)), "")
    return RollUp(parts, worst, "other", f"{worst}-see-card")
