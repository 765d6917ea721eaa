"""Which organisms' sequences are refused: a list as data (`taxa.yaml`), and the written override."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from factory.errors import ConfigError, DataError, near_miss
from factory.quick_yaml import read_yaml

FEWEST_WORDS = 3
"""Words of a written reason."""


@cache
def listed() -> tuple[str, ...]:
    """Names of `taxa.yaml`."""
    raw = read_yaml((Path(__file__).parent / "taxa.yaml").read_text(encoding="utf-8"))
    return tuple(str(name) for name in raw["taxa"])


@cache
def _pattern() -> re.Pattern[str]:
    names = "|".join(re.escape(name) for name in sorted(listed(), key=len, reverse=True))
    return re.compile(rf"(?<![A-Za-z])(?:{names})(?![A-Za-z])", re.IGNORECASE)


def refuse(texts: Iterable[str], allowed: tuple[str, ...], *, where: str) -> None:
    """Raise DataError (exit code 3) when one of the texts names a listed organism that is not allowed.

    Args:
        texts: lineage, organism and description of a sequence.
        allowed: names of the list that `pack.allow_taxa` lets pass.
        where: the sequence's id.
    """
    passed = {name.casefold() for name in allowed}
    for text in texts:
        for hit in _pattern().finditer(text):
            if hit.group().casefold() not in passed:
                raise DataError(
                    f"{where}: is of {hit.group()}, which the biology pack refuses (domains/biology/taxa.yaml). Take it out, or set "
                    f"pack.allow_taxa=[{hit.group()}] and pack.allow_taxa_reason='why'; both are kept with the run."
                )


def check_override(allowed: tuple[str, ...], reason: str) -> None:
    """Raise ConfigError unless every allowed name is of the list and a reason of three words or more is given."""
    known = {name.casefold() for name in listed()}
    for name in allowed:
        if name.casefold() not in known:
            raise ConfigError(
                f"pack.allow_taxa names {name!r}, which is not refused anyway.{near_miss(name, listed())} Remove it, or correct the name."
            )
    if allowed and len(reason.split()) < FEWEST_WORDS:
        raise ConfigError("pack.allow_taxa needs a written pack.allow_taxa_reason, in a sentence. It is kept with the run.")
    if reason and not allowed:
        raise ConfigError(
            "pack.allow_taxa_reason is set, but pack.allow_taxa names nothing. Name the taxa, or remove the reason."
        )
