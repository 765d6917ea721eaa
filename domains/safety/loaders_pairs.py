"""Preference pairs of the user's sets: PKU-SafeRLHF, BeaverTails-V and TRL's `prompt, chosen, rejected`, for reward and cost models.

`pack.preference` says who prefers: `safer` (cost model; each response carries its safety label) or `helpful` (reward model).
Trap (reward-bench #75, safe-rlhf #77): in a cost model negative is safe; here `chosen` is always the better one of that preference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from factory.contracts import DataRequest, Message, Pair, Sample
from factory.data.images import media_from
from factory.data.rows import RowFault, RowReport, read_rows
from factory.data.shapes import cell, optional_cell, text_cell
from factory.data.splits import split_of
from factory.domains.safety.conduct import COMPLY
from factory.domains.safety.generator import PACK
from factory.domains.safety.loaders import LOADER
from factory.domains.safety.loaders_shapes import harmless, index_cell, preference_texts, truth
from factory.domains.safety.options import Options
from factory.errors import DataError
from factory.packs.common_shapes import refuse_half_characters
from factory.packs.settings import read_settings
from factory.packs.sources import Table

PAIRED = ("pku-saferlhf", "beavertails-v", "preference")
HELPFUL, SAFER = "helpful", "safer"


def load_pairs(request: DataRequest, split: str, seed: int) -> Iterator[Pair]:
    """Pairs of the tables that hold some, in the order on disk.

    Raises:
        DataError: no table of pairs, too many bad rows, or no pair in this split.
    """
    settings = LOADER.read(request.options)
    preference = read_settings(Options, request.options, pack=PACK, also=LOADER.keys).preference
    tables = [
        one for one in LOADER.finder.find(request.paths, settings, online=request.online).tables if one.shape.name in PAIRED
    ]
    where = ", ".join(request.paths)
    if not tables:
        raise DataError(f"{where}: holds no preference pairs. Known: {', '.join(PAIRED)}.")
    report = RowReport.for_request(request, f"quarantine-pairs-{split}")
    count = 0
    try:
        for table in tables:
            for ref, row in read_rows(table.file, report):
                pair = None
                with report.row(ref):
                    pair = pair_of(row, table, preference, key=f"{ref}", settings=settings)
                    if pair is not None:
                        refuse_half_characters(pair.sample.text(), pair.chosen, pair.rejected)
                    report.accept()
                if pair is None or split_of(pair.sample.text(), settings.splits or None) != split:
                    continue
                if request.limit is not None and count >= request.limit:
                    return
                count += 1
                yield replace(pair, sample=replace(pair.sample, split=split))
    finally:
        report.close()
    report.finish()
    if not count:
        raise DataError(f"{where}: no pair in split '{split}' that '{preference}' can order. Give more rows, or set pack.splits.")


def pair_of(row: Mapping[str, Any], table: Table, preference: str, *, key: str, settings: Any) -> Pair | None:
    """The pair of one row; None when the preference is not decided by it (an unsafe response called safer than a safe one). Raises RowFault."""
    if table.shape.name == "preference":
        turns, chosen, rejected = preference_texts(row)
        labels = {name: truth(row, name) for name in ("chosen_safe", "rejected_safe") if row.get(name) is not None}
        return Pair(_sample(key, turns, ()), chosen, rejected, labels)
    is_image = table.shape.name == "beavertails-v"
    first = 1 if is_image else 0
    column = {SAFER: "safer_response_id", HELPFUL: "more_helpful_response_id" if is_image else "better_response_id"}[preference]
    best = index_cell(row, column, first)
    other = 2 * first + 1 - best
    safe = {i: harmless(row, i) if is_image else truth(row, f"is_response_{i}_safe") for i in (best, other)}
    if preference == SAFER and safe[other] and not safe[best]:
        raise RowFault(column, f"calls response {best} safer, but {other} is labelled safe and {best} is not.")
    prompt = text_cell(row, "question" if is_image else "prompt")
    media = (
        media_from(cell(row, "image"), table.image_roots(settings), field="image")
        if is_image and optional_cell(row, "image")
        else ()
    )
    turns = (Message("user", f"<image>\n{prompt}" if media else prompt),)
    chosen, rejected = text_cell(row, f"response_{best}"), text_cell(row, f"response_{other}")
    return Pair(_sample(key, turns, media), chosen, rejected, {"chosen_safe": safe[best], "rejected_safe": safe[other]})


def _sample(key: str, turns: tuple[Message, ...], media: tuple[Any, ...]) -> Sample:
    return Sample(key, "answer", turns, COMPLY, media, {}, "train", key)
