"""Where preference pairs come from: the pack, the `pairs.jsonl` of an earlier stage, or a file of the user. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from factory.contracts import DomainPack, Pair, RunContext
from factory.data.files import kind_of
from factory.data.report import RowReport
from factory.data.rows import read_rows
from factory.errors import ConfigError, DataError
from factory.stages.pair_rows import fault_of, pair_from_row, unread_columns

FILE_NAME = "pairs.jsonl"
"""What a stage that makes pairs leaves in its folder: one `Pair.to_json()` a line."""


def is_file(pairs_from: str) -> bool:
    """True when `pairs_from` names a file: a stage's name has neither a slash nor the suffix of a table."""
    return "/" in pairs_from or kind_of(Path(pairs_from)) is not None


def check_source(where: str, pairs_from: str, pack: DomainPack) -> None:
    """Refuse a source that cannot be read, before any work.

    Args:
        where: the stage's key in the recipe, `stages.dpo`.
        pairs_from: empty for the pack, the name of a stage, or a file.

    Raises:
        ConfigError: the pack has no pairs, or there is no such file. Whether the stage exists is checked with the order of steps.
    """
    if not pairs_from:
        if "pairs" not in pack.manifest.provides:
            raise ConfigError(
                f"{where}: pack '{pack.manifest.name}' provides no pairs. Set {where}.pairs_from to a file of pairs, "
                "or to a stage of kind `select` that makes them."
            )
    elif is_file(pairs_from) and not Path(pairs_from).expanduser().is_file():
        raise ConfigError(f"{where}.pairs_from is '{pairs_from}': no such file. Check the path.")


def read_pairs(pairs_from: str, ctx: RunContext, *, limit: int) -> list[Pair]:
    """At most `limit` pairs of the training split, in the order of the source.

    Raises:
        DataError: no pair at all, more bad rows than `data.max_bad_fraction`, or the pack gives a pair that teaches nothing.
        ConfigError: see `check_source`.
    """
    check_source(f"stages.{ctx.stage}", pairs_from, ctx.pack)
    if not pairs_from:
        pairs = _from_pack(ctx, limit)
        origin = f"pack '{ctx.pack.manifest.name}'"
    else:
        path = Path(pairs_from).expanduser() if is_file(pairs_from) else ctx.inputs[pairs_from] / FILE_NAME
        if not path.is_file():
            raise DataError(f"{path}: the stage '{pairs_from}' left no pairs. Set stages.{pairs_from}.pairs, e.g. right_wrong.")
        report = RowReport.for_request(ctx.request, f"{ctx.stage}-pairs")
        pairs = list(read_pair_file(path, report, limit=limit))
        origin = str(path)
    if not pairs:
        raise DataError(f"{origin}: holds no preference pair, so stage '{ctx.stage}' has nothing to learn from. Give pairs_from.")
    return pairs


def _from_pack(ctx: RunContext, limit: int) -> list[Pair]:
    name, pairs = ctx.pack.manifest.name, []
    for pair in ctx.pack.pairs("train", ctx.seed, replace(ctx.request, limit=limit)):
        fault = fault_of(pair)
        if fault is not None:
            raise DataError(f"pack '{name}', pair of sample {pair.sample.id}: {fault} Mend the pack's `pairs`.")
        pairs.append(pair)
        if len(pairs) == limit:
            break
    return pairs


def read_pair_file(path: Path, report: RowReport, *, limit: int | None = None) -> Iterator[Pair]:
    """Pairs of a table: in our own form (`Pair.to_json`), or with columns `prompt`, `chosen` and `rejected` as TRL has them.

    Reading stops after `limit` pairs; the rows behind them are not judged.

    Raises:
        DataError: no table by its name, or the limits of `report` are exceeded. Bad rows within the limits are counted,
            set aside with file, row, field and reason, and left out.
    """
    num_pairs = 0
    for ref, row in read_rows(path, report):
        pair = None
        with report.row(ref):
            pair = pair_from_row(row, path.parent, fallback_id=str(ref))
        if pair is None:
            continue
        report.accept()
        num_pairs += 1
        unread = unread_columns(row)
        if unread:
            report.note(f"{path.name}: columns that are not read: {', '.join(unread)}")
        yield pair
        if num_pairs == limit:
            break
    report.finish()
