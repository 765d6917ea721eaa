"""Which models are kin: those built from a model, and those that share its base, its data or finished steps.

Each model is known by keys of a few kinds, which the index holds, so that the kin of one are found without reading the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Protocol

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


class KeyTable(Protocol):
    """Where the keys of all models can be looked up."""

    def holders(self, kind: str, keys: Collection[str]) -> Iterable[tuple[str, str]]:
        """(model id, key) of every model that has one of these keys of that kind, sorted."""

    def of(self, model: str, kind: str) -> Collection[str]:
        """The keys of that kind that a model has."""


def kin_keys(record: ModelRecord) -> frozenset[tuple[str, str]]:
    """(kind, key) of a model: what it `starts` from, what it `is` to others, its `base`, trained `step`s, data `file`s and `pack`."""
    base = record.base.get("hash")
    pack = record.data.get("pack")
    found = {
        "starts": [base, PurePath(record.base.get("path") or "").name, record.base.get("ref")],
        "is": [*weights_of(record), record.id],
        "base": [base],
        "step": [step.fingerprint for step in record.lineage if step.kind not in ("base", "eval")],
        "file": list(data_files(record.data).values()),
        "pack": [pack.get("hash")] if isinstance(pack, dict) else [],
    }
    return frozenset((kind, key) for kind, keys in found.items() for key in keys if key and isinstance(key, str))


class Keys:
    """A KeyTable of a few records in memory."""

    def __init__(self, records: Iterable[ModelRecord]) -> None:
        self._keys = {record.id: kin_keys(record) for record in records}

    def holders(self, kind: str, keys: Collection[str]) -> list[tuple[str, str]]:
        """As KeyTable."""
        return sorted((model, key) for model, own in self._keys.items() for key in keys if (kind, key) in own)

    def of(self, model: str, kind: str) -> list[str]:
        """As KeyTable."""
        return sorted(key for found, key in self._keys[model] if found == kind)


def relatives_of(record: ModelRecord, table: KeyTable) -> Relatives:
    """All kin of `record` among the models of the table (the record itself is passed over)."""
    own: dict[str, list[str]] = defaultdict(list)
    for kind, key in sorted(kin_keys(record)):
        own[kind].append(key)

    def sharing(kind: str) -> dict[str, set[str]]:
        return _by_model(table.holders(kind, own[kind]), record.id)

    made = [step for step in record.lineage if step.kind not in ("base", "eval")]
    return Relatives(
        dict.fromkeys(_by_model(table.holders("is", own["starts"]), record.id), "its weights are the base"),
        _descendants(record.id, own["is"], table),
        dict.fromkeys(sharing("base"), f"base {record.base.get('ref')}"),
        {other: ", ".join(step.name for step in made if step.fingerprint in shared) for other, shared in sharing("step").items()},
        _same_data(record, sharing("file"), sharing("pack")),
    )


def weights_of(record: ModelRecord) -> set[str]:
    """Hashes under which this model's trained weights are known; empty when what was kept is the base itself."""
    kept = [step.output_hash for step in record.lineage if step.name.split("-", 1)[-1] == record.stage]
    found = {record.artifacts.get("model", ""), *kept} - {""}
    return set() if record.base.get("hash") in found else found


def data_files(data: Mapping[str, Any]) -> dict[str, str]:
    """Path -> hash of the user's files that a record names."""
    files = data.get("files")
    return {str(path): str(digest) for path, digest in files.items()} if isinstance(files, dict) else {}


def _by_model(found: Iterable[tuple[str, str]], without: str) -> dict[str, set[str]]:
    shared: dict[str, set[str]] = {}
    for model, key in found:
        if model != without:
            shared.setdefault(model, set()).add(key)
    return shared


def _descendants(ancestor: str, weights: Collection[str], table: KeyTable) -> dict[str, str]:
    found: dict[str, str] = {}
    line = [(ancestor, weights)]
    while line:
        parent, is_known_as = line.pop(0)
        for child in _by_model(table.holders("starts", is_known_as), ancestor):
            if child not in found:
                found[child] = f"built from {parent}"
                line.append((child, table.of(child, "is")))
    return found


def _same_data(record: ModelRecord, files: Mapping[str, set[str]], packs: Mapping[str, set[str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for other in sorted({*files, *packs}):
        count = len(files.get(other, ()))
        parts = [f"{count} equal data file{'s' if count > 1 else ''}"] if count else []
        if other in packs:
            parts.append(f"pack {record.data['pack'].get('name')} {record.data['pack'].get('version')}")
        found[other] = ", ".join(parts)
    return found
