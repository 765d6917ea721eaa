"""Which models are kin: those built from a model, and those that share its base, its data or finished steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from factory.registry.records import ModelRecord


@dataclass(frozen=True)
class Relatives:
    """Ids of related models, each with how it is related."""

    parents: Mapping[str, str]
    """The models of this registry that this one was built from."""
    descendants: Mapping[str, str]
    """Built from it, or from one that was."""
    same_base: Mapping[str, str]
    same_steps: Mapping[str, str]
    """Share trained steps: equal settings, inputs and code."""
    same_data: Mapping[str, str]


def relatives_of(record: ModelRecord, everyone: Iterable[ModelRecord]) -> Relatives:
    """All kin of `record` among `everyone` (the record itself is passed over)."""
    others = [other for other in everyone if other.id != record.id]
    parents = {other.id: "its weights are the base" for other in others if _is_child(record, other)}
    base = record.base.get("hash")
    return Relatives(
        parents,
        _descendants(record, others),
        {other.id: f"base {other.base.get('ref')}" for other in others if base and other.base.get("hash") == base},
        {other.id: ", ".join(names) for other in others if (names := _shared_steps(record, other))},
        {other.id: how for other in others if (how := _shared_data(record.data, other.data))},
    )


def weights_of(record: ModelRecord) -> set[str]:
    """Hashes under which this model's trained weights are known; empty when what was kept is the base itself."""
    kept = [step.output_hash for step in record.lineage if step.name.split("-", 1)[-1] == record.stage]
    found = {record.artifacts.get("model", ""), *kept} - {""}
    return set() if record.base.get("hash") in found else found


def _is_child(child: ModelRecord, parent: ModelRecord) -> bool:
    named = {child.base.get("hash"), PurePath(child.base.get("path") or "").name, child.base.get("ref")}
    return bool(named & {*weights_of(parent), parent.id})


def _descendants(record: ModelRecord, others: Sequence[ModelRecord]) -> dict[str, str]:
    found: dict[str, str] = {}
    line = [record]
    while line:
        parent = line.pop(0)
        for other in others:
            if other.id not in found and other.id != record.id and _is_child(other, parent):
                found[other.id] = f"built from {parent.id}"
                line.append(other)
    return found


def _shared_steps(record: ModelRecord, other: ModelRecord) -> list[str]:
    own = {step.fingerprint for step in other.lineage if step.kind not in ("base", "eval")}
    return [step.name for step in record.lineage if step.kind not in ("base", "eval") and step.fingerprint in own]


def _shared_data(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    files = set(data_files(first).values()) & set(data_files(second).values())
    parts = [f"{len(files)} equal data file{'s' if len(files) > 1 else ''}"] if files else []
    pack, other = first.get("pack") or {}, second.get("pack") or {}
    if isinstance(pack, dict) and isinstance(other, dict) and pack.get("hash") and pack["hash"] == other.get("hash"):
        parts.append(f"pack {pack.get('name')} {pack.get('version')}")
    return ", ".join(parts)


def data_files(data: Mapping[str, Any]) -> dict[str, str]:
    """Path -> hash of the user's files that a record names."""
    files = data.get("files")
    return {str(path): str(digest) for path, digest in files.items()} if isinstance(files, dict) else {}
