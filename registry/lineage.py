"""Where a model came from: the chain of steps from its base, and the record as an indented tree of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from factory.errors import RegistryError
from factory.registry.records import LineageStep, ModelRecord


def ancestors(steps: Sequence[LineageStep], name: str) -> list[LineageStep]:
    """The steps from the base to `name`, following each step's `start`.

    Raises:
        RegistryError: a step is missing, or the record runs in a circle.
    """
    by_name = {step.name: step for step in steps}
    chain: list[LineageStep] = []
    wanted: str | None = name
    while wanted is not None:
        step = by_name.get(wanted)
        if step is None:
            raise RegistryError(
                f"the lineage has no step '{wanted}', which {chain[-1].name if chain else 'the model'} starts from. "
                "Restore the manifest from a backup."
            )
        if step in chain:
            raise RegistryError(f"the lineage runs in a circle at '{wanted}'. Restore the manifest from a backup.")
        chain.append(step)
        wanted = step.start
    return chain[::-1]


def lineage_text(record: ModelRecord) -> str:
    """Base, data and each ancestor of the kept stage, one line each."""
    kept = next((step.name for step in record.lineage if step.name.split("-", 1)[-1] == record.stage), None)
    chain = ancestors(record.lineage, kept) if kept is not None else list(record.lineage)
    lines = [f"{record.id}  ({record.domain}, kept stage: {record.stage})"]
    for depth, step in enumerate(chain):
        value = _value(record.evals.get(step.name.split("-", 1)[-1], {}))
        lines.append(f"{'  ' * (depth + 1)}{step.name}  {step.kind}  {step.fingerprint[:12]}{value}")
    pack = record.data.get("pack") or {}
    lines.append(
        f"  data: pack {pack.get('name')} {pack.get('version')} {str(pack.get('hash', ''))[:12]}, "
        f"{len(record.data.get('files') or {})} user files"
    )
    lines.append(
        f"  base: {record.base.get('ref')} {str(record.base.get('hash', ''))[:12]}, "
        f"licence {record.base.get('licence', 'unknown')}"
    )
    return "\n".join(lines)


def _value(figures: Mapping[str, Any]) -> str:
    test = figures.get("test") or {}
    return f"  {test.get('name')} {test['value']:.3f} (n={test.get('n')})" if test.get("value") is not None else ""
