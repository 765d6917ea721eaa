"""`factory models board`: the registered models of each domain side by side, best first, those that answered the same questions together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from factory.cli import options
from factory.cli.output import emit_json, interval, percent, say, table

if TYPE_CHECKING:
    from factory.registry.records import ModelRecord

ASKED = ("samples", "seed")
"""Settings of `eval` that choose the questions."""


def board(domain: options.Domain = None, as_json: options.Json = False) -> None:
    """Rank the built models of each domain by their test figure; only models with the same questions are ranked together."""
    from factory.cli.models import open_registry

    groups = ranked(record for record in open_registry().records() if domain in (None, record.domain))
    if as_json:
        emit_json(groups)
        return
    if not groups:
        say("no measured models yet. Build one: factory build --domain NAME")
    for group in groups:
        cells = [
            (row["rank"], row["id"], row["stage"], row["base"], percent(row["value"]), interval(row["ci"]), row["n"],
             "" if row["gain"] is None else f"{100 * row['gain']:+.1f}", row["licence"])
            for row in group["models"]
        ]  # fmt: skip
        title = f"{group['domain']}: {group['metric']} on test (pack {group['pack']}, question set {group['questions']})"
        columns = ("rank", "id", "stage", "base", "test", "95 % interval", "n", "over base", "licence")
        say(table(columns, cells, title=title, right=("rank", "test", "n", "over base")))
    if groups:
        say("Intervals that overlap settle nothing; `factory models compare A B` tests two models on the same samples.")


def ranked(records: Iterable[ModelRecord]) -> list[dict[str, Any]]:
    """One entry per (domain, metric, question set), with its models from the best down. Models without a measurement are left out.

    Models of one group share the pack's content, its options and data, and the eval settings: they were asked the same.
    """
    from factory.registry.files import sha256_json

    groups: dict[tuple[str, ...], list[ModelRecord]] = {}
    for record in records:
        if record.primary.get("value") is None:
            continue
        settings, pack = record.config.get("eval") or {}, record.data.get("pack") or {}
        asked = [pack.get("hash"), record.config.get("pack"), record.data.get("files"), *(settings.get(key) for key in ASKED)]
        key = (record.domain, str(record.primary.get("name")), str(pack.get("version")), sha256_json(asked)[:8])
        groups.setdefault(key, []).append(record)
    return [
        {"domain": domain, "metric": metric, "pack": pack, "questions": questions, "models": _rows(found)}
        for (domain, metric, pack, questions), found in sorted(groups.items(), key=lambda item: item[0])
    ]


def _rows(records: list[ModelRecord]) -> list[dict[str, Any]]:
    """Equal values share a rank."""
    records = sorted(records, key=lambda record: (-record.primary["value"], record.created, record.id))
    values = [record.primary["value"] for record in records]
    return [
        {
            "rank": 1 + values.index(record.primary["value"]), "id": record.id, "stage": record.stage, "base": record.base.get("ref"),
            "value": record.primary["value"], "ci": record.primary.get("ci"), "n": record.primary.get("n"), "gain": _gain(record),
            "licence": (record.base.get("licence") or "unknown")[:24],
        }
        for record in records
    ]  # fmt: skip


def _gain(record: ModelRecord) -> float | None:
    """Test figure over that of the base in the same build."""
    base = ((record.evals.get("base") or {}).get("test") or {}).get("value")
    return None if base is None else record.primary["value"] - base
