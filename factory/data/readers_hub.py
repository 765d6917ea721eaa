"""Rows of a data set on the Hugging Face hub, streamed. Only reached when the network is allowed: see `list_files`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from factory.data.readers_text import Row
from factory.data.report import RowFault


def read_hub(ref: Path) -> Iterator[Row]:
    """All splits of `owner/name` or `owner/name:config`, one after the other. Rows are numbered on through the splits.

    A row without a `split` of its own gets the hub's. Images stay encoded, as `{bytes, path}`, and go through our own checks.
    """
    name, _, config = str(ref).partition(":")
    number = 0
    try:
        for split in _splits(name, config):
            for row in _open(name, config, split):
                number += 1
                yield number, {"split": split, **row}
    except (OSError, ValueError, RuntimeError, LookupError) as err:
        reason = f"the hub refuses '{name}' after row {number}: {type(err).__name__}: {str(err)[:200]}"
        raise RowFault("file", f"{reason}. Check the name, your access and the network.") from err


def _splits(name: str, config: str) -> list[str]:
    from datasets import get_dataset_split_names

    return sorted(map(str, get_dataset_split_names(name, config or None)))


def _open(name: str, config: str, split: str) -> Iterator[dict[str, Any]]:
    from datasets import Image, Sequence, load_dataset

    # Code from the hub is never run: the library dropped it in version 4, the oldest that we allow.
    table = load_dataset(name, config or None, split=split, streaming=True)
    for column, feature in (table.features or {}).items():
        if isinstance(feature, Image):
            table = table.cast_column(column, Image(decode=False))
        elif isinstance(getattr(feature, "feature", None), Image):
            table = table.cast_column(column, Sequence(Image(decode=False)))
    return iter(table)
