"""HGVS descriptions compared after normalisation.

Plain descriptions (one substitution, deletion, duplication, insertion, indel, inversion or silent change; one protein change)
are read here. All others go to mutalyzer-hgvs-parser. Which of the two reads is decided by the *reference*, so that a verdict
never depends on what is installed; the tests hold both readers against each other on some 13,000 ClinVar strings.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from factory.domains.biology.codes import ONE, THREE
from factory.errors import PluginError

MAX_CHARS = 500
"""A longer text is no description of one variant."""
_PLACE = r"[*-]?[0-9]{1,9}(?:[+-][0-9]{1,7})?"
_DNA = re.compile(
    rf"(?P<first>{_PLACE})(?:_(?P<last>{_PLACE}))?"
    r"(?:(?P<old>[ACGTURYSWKMBDHVN])>(?P<new>[ACGTURYSWKMBDHVN])|(?P<kind>delins|del|dup|inv|ins|=)(?P<bases>[ACGTURYSWKMBDHVN]*))"
)
_RESIDUE = r"(?:[A-Z][a-z]{2}|[A-Z]|\*)"
_PROTEIN = re.compile(
    rf"(?P<a>{_RESIDUE})(?P<first>[0-9]{{1,6}})(?:_(?P<b>{_RESIDUE})(?P<last>[0-9]{{1,6}}))?"
    rf"(?:(?P<kind>delins|ins|del|dup|=|\?)(?P<added>{_RESIDUE}*)"
    rf"|(?P<shifted>{_RESIDUE})?fs(?P<stop>(?:Ter|\*)(?:[0-9]{{1,6}}|\?))?"
    rf"|(?P<ext>{_RESIDUE})ext(?P<far>(?:Ter|\*)(?:[0-9]{{1,6}}|\?))|(?P<new>{_RESIDUE}))"
)
_HEAD = re.compile(r"(?:(?P<ref>[A-Za-z0-9_.()-]{1,60}):)?(?P<type>[cgmnrp])\.(?P<body>.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Description:
    """A plain description, taken apart."""

    reference: str
    """Accession, or empty."""
    kind: str
    """`c`, `g`, `m`, `n`, `r` or `p`."""
    name: str
    """The change in one normal form; equal changes have equal names."""
    stated: str = ""
    """Bases that a deletion, duplication or inversion repeats though its place says them (`delAG`)."""
    tail: str = ""
    """What a frameshift says beyond its place: new residue and distance of the stop."""


def read_plain(text: str) -> Description | None:
    """A plain description, or None. Parentheses of a predicted protein change do not count; `*`, `X` and `Ter` are one."""
    text = text.strip()
    head = _HEAD.fullmatch(text) if len(text) <= MAX_CHARS else None
    if head is None:
        return None
    reference, kind, body = head["ref"] or "", head["type"], head["body"]
    if kind != "p":
        return _read_dna(reference, kind, body)
    if body.startswith("(") and body.endswith(")"):
        body = body[1:-1]
    if body in ("=", "?"):
        return Description(reference, kind, body)
    return _read_protein(reference, body)


def _read_dna(reference: str, kind: str, body: str) -> Description | None:
    if body == "=":
        return Description(reference, kind, body)
    hit = _DNA.fullmatch(body.upper() if kind == "r" else body)
    if hit is None:
        return None
    span = hit["first"] if hit["last"] in (None, hit["first"]) else f"{hit['first']}_{hit['last']}"
    if hit["old"]:
        is_one = hit["last"] is None and hit["old"] != hit["new"]
        return Description(reference, kind, f"{span}{hit['old']}>{hit['new']}") if is_one else None
    what, bases = hit["kind"], hit["bases"]
    if what == "=":
        return None if bases else Description(reference, kind, f"{span}=")
    if what in ("ins", "delins"):
        is_sound = bool(bases) and (what == "delins" or hit["last"] is not None)
        return Description(reference, kind, f"{span}{what}{bases}") if is_sound else None
    return Description(reference, kind, f"{span}{what}", stated=bases)


def _residue(text: str) -> str | None:
    """Three letters of a residue written in one or three; None when it is none."""
    if text in ("*", "X", "Ter"):
        return "Ter"
    return text if text in ONE else THREE.get(text)


def _residues(text: str) -> str | None:
    found = [_residue(part) for part in re.findall(_RESIDUE, text)]
    return None if None in found else "".join(part for part in found if part)


def _read_protein(reference: str, body: str) -> Description | None:
    hit = _PROTEIN.fullmatch(body)
    if hit is None:
        return None
    a, b = _residue(hit["a"]), _residue(hit["b"]) if hit["b"] else None
    if a is None or (hit["b"] and b is None):
        return None
    span = f"{a}{hit['first']}" + (f"_{b}{hit['last']}" if b and hit["last"] != hit["first"] else "")
    added = _residues(hit["added"] or hit["new"] or hit["ext"] or hit["shifted"] or "")
    if added is None:
        return None
    if hit["new"]:
        return Description(reference, "p", f"{span}=" if added == a else f"{span}{added}") if not b else None
    if hit["ext"]:
        return (
            Description(reference, "p", f"{span}{added}ext", tail=hit["far"].replace("*", "Ter").replace("Ter?", ""))
            if not b
            else None
        )
    what = hit["kind"]
    if what is None:
        stop = (hit["stop"] or "").replace("*", "Ter").replace("Ter?", "")
        return Description(reference, "p", f"{span}fs", tail=f"{added}|{stop}") if not b else None
    if what in ("ins", "delins"):
        return Description(reference, "p", f"{span}{what}{added}") if added and (what == "delins" or b) else None
    if what in ("=", "?"):
        return Description(reference, "p", f"{span}{what}") if not added and not b else None
    return Description(reference, "p", f"{span}{what}", stated=added)


def same_plain(got: Description, want: Description) -> bool:
    """Whether two plain descriptions name the same change. What only one of them states is not compared."""

    def agree(a: str, b: str) -> bool:
        return not a or not b or a == b

    tails = zip(got.tail.split("|"), want.tail.split("|"), strict=False)
    return (
        (got.kind, got.name) == (want.kind, want.name)
        and agree(got.reference, want.reference) and agree(got.stated, want.stated) and all(agree(a, b) for a, b in tails)
    )  # fmt: skip


# --- everything else ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def parse_any(text: str) -> str:
    """Normal form by mutalyzer-hgvs-parser: its model without redundant parts, as JSON.

    Raises:
        ValueError: not a description, or text after it.
        PluginError: the parser is not installed.
    """
    try:
        from mutalyzer_hgvs_parser import to_model
        from mutalyzer_hgvs_parser.exceptions import UnexpectedCharacter, UnexpectedEnd
    except ImportError as err:
        raise PluginError("this HGVS description needs mutalyzer-hgvs-parser. pip install 'domain-factory[biology]'") from err
    text = text.strip()
    if len(text) > MAX_CHARS:
        raise ValueError(f"{len(text)} characters are no description of one variant")
    # The parser knows the distance to the new stop of a frameshift only without its mark.
    named = re.sub(r"fs(?:\*|Ter)(?:[0-9]+|\?)", "fs", text if ":" in text else f"X:{text}")
    try:
        model = to_model(named)
    except (UnexpectedCharacter, UnexpectedEnd) as err:
        raise ValueError(f"not an HGVS description: {str(err).splitlines()[0]}") from err
    return json.dumps(_slim(model), sort_keys=True)


def _slim(model: Any) -> Any:
    """The model without the reference's id, the predicted mark, and bases that a deletion or duplication repeats."""
    if isinstance(model, list):
        return [_slim(item) for item in model]
    if not isinstance(model, dict):
        return model
    kind = model.get("type")
    dropped = {"predicted"} | ({"reference"} if "variants" in model else set())
    if kind in ("deletion", "inversion", "deletion_insertion", "duplication"):
        dropped.add("deleted")
    if kind == "duplication":
        dropped.add("inserted")
    kept = {key: _slim(value) for key, value in model.items() if key not in dropped}
    if "amino_acid" in kept:
        kept["amino_acid"] = _residue(str(kept["amino_acid"])) or kept["amino_acid"]
    return kept


def equal(got: str, want: str) -> tuple[bool, str]:
    """Whether two descriptions name the same change.

    Returns:
        (equal, fault): a fault says why `got` could not be read.

    Raises:
        ValueError: `want` is no description.
        PluginError: `want` needs the parser, which is not installed.
    """
    gold = read_plain(want)
    if gold is not None:
        found = read_plain(got)
        return (False, "not a plain HGVS description") if found is None else (same_plain(found, gold), "")
    normal = parse_any(want)
    try:
        is_same = parse_any(got) == normal
    except ValueError as err:
        return False, str(err)
    ids = {_id(got), _id(want)} - {""}
    return is_same and len(ids) < 2, ""


def _id(text: str) -> str:
    return text.strip().rpartition(":")[0]
