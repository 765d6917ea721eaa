"""Obvious identifiers of persons in text: found by fixed patterns, refused or masked. This is no anonymiser.

Precision comes first: a pattern needs a label (`MRN:`, `DOB`) or a shape that hardly means anything else, so that lab values,
doses and literature references pass. What has neither (a name in running text, a town, a date of admission) is not found; a
dedicated tool and a person de-identify. A report names where and what kind; it never repeats what was found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from factory.data.report import RowFault

MODES = ("refuse", "redact", "allow")
REMEDY = "De-identify the row, set pack.identifiers=redact to mask it, or pack.identifiers=allow to read it as it is (both are recorded)."

_MONTH = r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:t(?:ember)?)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)"
_DATE = (
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})(?!\d)"
    rf"|\d{{1,2}}(?:st|nd|rd|th)?\.?\s+{_MONTH}\.?,?\s+\d{{4}}|{_MONTH}\.?\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{4}})"
)
_NUMBER = r"(?P<value>(?=[\w./-]*\d[\w./-]*\d[\w./-]*\d[\w./-]*\d)[A-Za-z0-9][A-Za-z0-9./-]{2,23}[A-Za-z0-9])"
"""A number of a person's file: at least four digits, perhaps with letters between."""
_TITLE = r"(?:(?:Mr|Mrs|Ms|Miss|Dr|Prof|Herr|Frau|Mme|M)\.?\s+)"
_WORD = r"(?:[A-ZÀ-ÖØ-Þ][a-zß-öø-ÿ]+(?:['’-][A-ZÀ-ÖØ-Þ]?[a-zß-öø-ÿ]+)*|[A-ZÀ-ÖØ-Þ]{2,})"
_PERSON = (
    r"(?:patient(?:'s)?\s+name|name\s+of\s+(?:the\s+)?patient|pt\.?\s+name|(?:referring|attending)\s+physician|next\s+of\s+kin)"
)

_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("e-mail address", re.compile(r"(?<![\w.+-])(?P<value>[A-Za-z0-9][\w.+-]*@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,24})\b")),
    ("date of birth", re.compile(
        rf"(?:\bD\.?O\.?B\.?|\bdate\s+of\s+birth|\bbirth\s?date|\bgeburtsdatum|\bgeb\.|\bdate\s+de\s+naissance)\s*(?:[:=]|is)?\s*(?P<value>{_DATE})",
        re.IGNORECASE)),
    ("record number", re.compile(
        rf"\b(?:MRN|UMRN)\b\s*(?:[:#=]|no\.?|number|is)?\s*[:#=]?\s*{_NUMBER}", re.IGNORECASE)),
    ("record number", re.compile(
        rf"\b(?:medical\s+record|hospital|patient|chart|health\s+record)\s+(?:no\.?|number|ID|identifier)\s*(?:[:#=]|\bis\b)\s*{_NUMBER}",
        re.IGNORECASE)),
    ("social security number", re.compile(r"(?<![\w.-])(?P<value>(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4})(?![\w-])")),
    ("social security number", re.compile(
        r"\b(?:SSN|social\s+security(?:\s+(?:no\.?|number))?)\s*[:#=]?\s*(?P<value>\d{3}[- ]?\d{2}[- ]?\d{4})\b", re.IGNORECASE)),
    ("insurance number", re.compile(
        r"\b(?:(?:health\s+)?insurance|policy|member|medicare|medicaid|NHS|subscriber|versicherten?)(?:[\s-]?(?:ID|no\.?|number|nummer))\s*[:#=]?\s*"
        r"(?P<value>[A-Z]{0,4}\d[A-Z0-9]*(?:[ -][A-Z]{0,3}\d[A-Z0-9]*)*)", re.IGNORECASE)),
    ("phone number", re.compile(
        r"\b(?:phone|telephone|tel|mobile|cell|fax|handy)\b\.?\s*(?:no\.?|number)?\s*[:=]?\s*(?P<value>\+?\(?\d[\d ()./-]{5,18}\d)", re.IGNORECASE)),
    ("phone number", re.compile(r"(?<![\w.+-])(?P<value>(?:\+1[ .-])?(?:\(\d{3}\) ?|\d{3}-)\d{3}-\d{4})(?![\w-])")),
    ("phone number", re.compile(r"(?<![\w.+-])(?P<value>\+\d{1,3}[ -]\(?\d{1,4}\)?(?:[ -]\d{2,5}){2,4})(?![\w-])")),
    ("name", re.compile(rf"(?i:\b{_PERSON})\s*[:=]\s*{_TITLE}?(?P<value>{_WORD}(?:(?:,\s*|\^|\s+){_WORD}\.?){{0,3}})")),
    ("name", re.compile(rf"\b(?:Patient|PATIENT|Pt)\s*[:=]\s*{_TITLE}(?P<value>{_WORD}(?:\s+{_WORD})?)")),
    ("name", re.compile(rf"\b(?:Patient|PATIENT|Pt)\s*[:=]\s*(?P<value>{_WORD}(?:,\s*|\^|\s+){_WORD})(?=\s*(?:[,;.(\n]|$))")),
)  # fmt: skip
"""Kind and pattern; the group `value` is what identifies."""
_NO_NAME = frozenset(
    ["a", "abdominal", "acute", "adult", "afraid", "alert", "all", "am", "an", "and", "anonymous", "any", "are", "asian", "baby", "black", "boy", "brother", "can", "caucasian", "chest", "child", "chronic", "confidential", "consent", "daughter", "dear", "deceased", "deidentified", "did", "do", "doctor", "does", "elderly", "father", "female", "fever", "gender", "girl", "good", "has", "have", "he", "hello", "her", "hi", "his", "history", "how", "i", "identical", "idk", "in", "infant", "is", "it", "left", "male", "man", "me", "middle", "mother", "my", "n", "na", "name", "negative", "neonate", "new", "newborn", "nil", "no", "none", "normal", "not", "of", "oh", "okay", "old", "one", "pain", "parent", "patient", "please", "position", "positive", "presents", "redacted", "removed", "right", "severe", "she", "sir", "sister", "so", "son", "sorry", "stable", "status", "supine", "thank", "thanks", "that", "the", "they", "this", "unknown", "unnamed", "was", "we", "well", "what", "when", "where", "which", "white", "who", "why", "woman", "xxx", "yes", "you", "young", "mr", "mrs", "ms", "miss", "dr", "prof", "herr", "frau", "mme"]
)  # fmt: skip
"""Words that stand after a label of a name and are none."""
_MIN_PHONE_DIGITS, _MIN_INSURANCE_DIGITS = 7, 6


@dataclass(frozen=True)
class Identifier:
    """Where something stands that identifies a person. What it is, is not kept."""

    kind: str
    start: int
    end: int


def find_identifiers(text: str) -> list[Identifier]:
    """All obvious identifiers of a text, in its order, none inside of another."""
    found: list[Identifier] = []
    for kind, pattern in _PATTERNS:
        for hit in pattern.finditer(text):
            start, end = hit.span("value")
            if _counts(kind, hit["value"]) and not any(one.start < end and start < one.end for one in found):
                found.append(Identifier(kind, start, end))
    return sorted(found, key=lambda one: one.start)


def _counts(kind: str, value: str) -> bool:
    digits = re.sub(r"\D", "", value)
    if kind == "name":
        words = [word.lower().strip(".") for word in re.split(r"[\s,^]+", value) if word]
        return not _NO_NAME & set(words)
    if kind == "phone number" and len(digits) < _MIN_PHONE_DIGITS:
        return False
    if kind == "insurance number" and len(digits) < _MIN_INSURANCE_DIGITS:
        return False
    # 000000 and 111-11-1111 are placeholders.
    return kind == "e-mail address" or len(set(digits)) > 1


def masked(text: str) -> tuple[str, list[str]]:
    """The text with `[kind]` in the place of every identifier, and the kinds, sorted, without repeats."""
    found = find_identifiers(text)
    for one in reversed(found):
        text = f"{text[: one.start]}[{one.kind}]{text[one.end :]}"
    return text, sorted({one.kind for one in found})


def masked_value(value: Any) -> tuple[Any, list[str]]:
    """`masked` of every text inside plain data; keys of mappings stay."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        inside = {key: masked_value(part) for key, part in value.items()}
        return {key: part for key, (part, _) in inside.items()}, _kinds(inside.values())
    if isinstance(value, list | tuple):
        parts = [masked_value(part) for part in value]
        return type(value)(part for part, _ in parts), _kinds(parts)
    return value, []


def _kinds(parts: Iterable[tuple[Any, list[str]]]) -> list[str]:
    return sorted({kind for _, kinds in parts for kind in kinds})


def cleared(record: Any, mode: str) -> tuple[Any, list[str]]:
    """A record (`factory.packs.records.Record`) that may be used, and the kinds that were masked in it.

    Args:
        mode: one of MODES.

    Raises:
        RowFault: `refuse`, and a text of the record holds identifiers. It names the fields and kinds only.
    """
    if mode == "allow":
        return record, []
    texts = {name: getattr(record, name) for name in ("text", "options", "answer", "response", "reference", "meta")}
    texts["turns"] = tuple(turn.content for turn in record.turns)
    made = {name: masked_value(value) for name, value in texts.items()}
    kinds = _kinds(made.values())
    if not kinds:
        return record, []
    if mode == "refuse":
        where = "; ".join(f"{name} holds: {', '.join(found)}" for name, (_, found) in made.items() if found)
        raise RowFault("identifiers", f"may identify a person ({where}). {REMEDY}")
    changed = {name: value for name, (value, found) in made.items() if found and name != "turns"}
    turns = tuple(replace(turn, content=text) for turn, text in zip(record.turns, made["turns"][0], strict=True))
    meta = {**changed.get("meta", record.meta), "identifiers": f"masked: {', '.join(kinds)}"}
    return replace(record, **{**changed, "turns": turns, "meta": meta}), kinds
