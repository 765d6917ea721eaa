"""General text mixed into the domain's documents, against forgetting. No torch here."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from factory.contracts import DataRequest, Document
from factory.data.report import RowFault, RowReport
from factory.data.rows import list_files, read_rows
from factory.errors import DataError
from factory.stages.cpt.config import CptConfig


def count_general(config: CptConfig) -> int:
    """General documents of one epoch: the share of `documents`, or 0 when no paths are given."""
    return round(config.documents * config.general_share) if config.general_paths else 0


def read_general(config: CptConfig, request: DataRequest, seed: int) -> list[Document]:
    """`count_general` documents drawn from the tables with the seed, or all of them when there are fewer.

    One pass with a reservoir, so a file larger than memory is fine (algorithm R, Vitter 1985).

    Raises:
        DataError: a path is missing, no file is a table, no row has text, or too many rows are bad.
    """
    wanted = count_general(config)
    if wanted == 0:
        return []
    files = [file for file in list_files(config.general_paths) if file.kind is not None]
    if not files:
        raise DataError(
            f"general_paths {', '.join(config.general_paths)}: no table among the files. "
            "Give jsonl, csv or parquet with a `text` field."
        )
    rng = random.Random(f"general-{seed}")
    report = RowReport.for_request(request, "cpt-general")
    kept: list[Document] = []
    num_seen = 0
    for file in files:
        for ref, row in read_rows(file, report):
            with report.row(ref):
                document = Document(id=f"general-{ref}", text=_text(row), source=file.name)
                report.accept()
                num_seen += 1
                if len(kept) < wanted:
                    kept.append(document)
                elif (place := rng.randrange(num_seen)) < wanted:
                    kept[place] = document
    report.finish()
    if not kept:
        raise DataError(f"general_paths {', '.join(config.general_paths)}: no row has text. Each row needs a `text` field.")
    return kept


def _text(row: Mapping[str, Any]) -> str:
    text = row.get("text")
    if not isinstance(text, str) or not text.strip():
        raise RowFault("text", f"needs a text, got {type(text).__name__}. Put the document into a field called `text`")
    # A general text may speak of `<image>`; here it has none.
    return text.replace("<image>", "image")
