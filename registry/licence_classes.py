"""What declared licence terms allow, in six classes, and which of them forbid a commercial use. No legal advice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from factory.errors import ConfigError

CLASSES = ("permissive", "attribution", "share-alike", "non-commercial", "restricted", "unknown")
"""From the freest to the one that must be cleared first."""
PERMISSIVE = frozenset({"apache-2.0", "mit", "bsd-3-clause", "bsd-2-clause", "cc0-1.0", "unlicense", "isc"})
_DOUBT = re.compile(
    r"not checked|check it|check yours|unknown|none stated|states none|not stated|read the|see the hub|per database|badge|mixed"
)
_LIMITED = re.compile(r"research|gated|credential|agreement|terms|llama|gemma|openrail|proprietary")
_NON_COMMERCIAL = re.compile(
    r"(^|\W)nc(\W|$)|non-?\s?commercial|research[- ](use[- ])?only|only for research|academic[- ](use[- ])?only"
)
MIN_REASON = 12
"""Characters of an override that says something."""


def classify(licence: str) -> str:
    """The class of a declared licence. Text that states a doubt, or that is not understood, is `unknown`."""
    said = licence.strip().lower()
    if not said or _DOUBT.search(said) or "the user's" in said:
        return "unknown"
    if re.search(r"(^|\W)nc(\W|$)|non-?commercial", said):
        return "non-commercial"
    if said in PERMISSIVE:
        return "permissive"
    if re.search(r"-sa(\W|$)|share-?alike|(^|\W)[al]?gpl", said):
        return "share-alike"
    if re.fullmatch(r"(cc-by|odc-by)(-[0-9.]+)?", said):
        return "attribution"
    return "restricted" if _LIMITED.search(said) else "unknown"


def forbids_commercial_use(licence: str) -> bool:
    """Whether the declared terms say so themselves, also where they state a doubt (`mixed, partly non-commercial`)."""
    return bool(_NON_COMMERCIAL.search(licence.strip().lower()))


def parts_of_build(
    base: Mapping[str, Any], pack: Mapping[str, Any], sources: Iterable[Mapping[str, Any]], data_licence: str, *, has_data: bool
) -> list[tuple[str, str]]:
    """(what, declared licence) of everything that a build would use.

    Args:
        base: `name` and `licence`. pack: `name` and `license`.
        sources: the manifest's data table; its bundled rows are used when there is no data of the user.
        data_licence: what the user says of `data.paths`.
    """
    parts = [(f"base model {base.get('name')}", str(base.get("licence") or "not stated"))]
    parts.append((f"domain pack {pack.get('name')}", str(pack.get("license") or "not stated")))
    parts += [(f"data {row.get('id')}", str(row.get("license") or "not stated")) for row in sources if row.get("bundled")]
    if has_data:
        parts.append(("data of data.paths", data_licence or "not stated"))
    return parts


def licence_notes(parts: Iterable[tuple[str, str]], intended_use: str, override: str) -> list[str]:
    """What plan, lineage and card say of a build's terms; nothing unless it is marked commercial.

    Raises:
        ConfigError: a part forbids commercial use, the build is marked commercial, and no written reason overrides it.
    """
    if override and len(override.strip()) < MIN_REASON:
        raise ConfigError(f"licence_override is {override!r}; write the reason in a sentence: it goes into the model card.")
    if intended_use != "commercial":
        return []
    parts = list(parts)
    against = [f"{what} ({licence})" for what, licence in parts if forbids_commercial_use(licence)]
    if against and not override:
        raise ConfigError(
            f"intended_use is commercial, and these terms forbid it: {'; '.join(against)}. Use other data or another base, set "
            "intended_use=research, or, when you hold a licence that allows it, say so: licence_override='REASON' (kept in lineage and card)."
        )
    notes = [f"licence conflict overridden in writing: {'; '.join(against)}. Reason given: {override.strip()}"] if against else []
    open_terms = [
        what for what, licence in parts if classify(licence) in ("unknown", "restricted") and not forbids_commercial_use(licence)
    ]
    if open_terms:
        notes.append(f"marked commercial, and these terms are not cleared: {', '.join(open_terms)}")
    return notes
