"""Answers that are JSON: valid by a schema, and equal to the reference field by field."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from factory.contracts import Sample, Status, Verdict
from factory.errors import ConfigError, PluginError
from factory.rewards.answers import normalise
from factory.rewards.reader import AnswerReader, one_of, share, unparsable


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    """A validator that fetches nothing: a `$ref` to another document is an error. Raises PluginError without jsonschema."""
    try:
        import jsonschema
        from referencing import Registry
    except ImportError as err:
        raise PluginError("JSON answers need 'jsonschema', which is not installed. pip install jsonschema") from err
    loaded = json.loads(schema)
    kind = jsonschema.validators.validator_for(loaded, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(loaded)
    except jsonschema.SchemaError as err:
        raise ConfigError(f"the JSON schema is faulty: {err.message}"[:300]) from err
    return kind(loaded, registry=Registry())


def schema_fault(value: Any, schema: Mapping[str, Any]) -> str:
    """What of `value` breaks the schema, with its place; empty when it is valid.

    Raises ConfigError for a faulty schema, PluginError without jsonschema, ValueError for a reference that leads elsewhere.
    """
    from referencing.exceptions import Unresolvable

    try:
        first = min(
            _validator(json.dumps(schema, sort_keys=True)).iter_errors(value), key=lambda e: list(map(str, e.path)), default=None
        )
    except Unresolvable as err:
        raise ValueError(f"the schema refers to another document, which is never fetched: {err}"[:200]) from err
    if first is None:
        return ""
    place = "/".join(map(str, first.absolute_path)) or "the whole"
    return f"{place}: {first.message}"[:200]


def equal_fields(got: Any, want: Any, rel_tol: float = 0.0) -> tuple[int, int]:
    """(equal, all) leaves of the two values together; texts compare normalised, numbers within `rel_tol`, lists by place.

    A leaf that only one of them has counts as unequal, so that extra fields cost.
    """
    if isinstance(got, Mapping) and isinstance(want, Mapping) and (got or want):
        pairs = [(got.get(key, _ABSENT), want.get(key, _ABSENT)) for key in {*got, *want}]
    elif isinstance(got, list) and isinstance(want, list) and (got or want):
        longest = max(len(got), len(want))
        pairs = [(got[i] if i < len(got) else _ABSENT, want[i] if i < len(want) else _ABSENT) for i in range(longest)]
    else:
        return int(_is_equal(got, want, rel_tol)), 1
    counts = [equal_fields(a, b, rel_tol) for a, b in pairs]
    return sum(equal for equal, _ in counts), sum(total for _, total in counts)


_ABSENT = object()


def _is_equal(got: Any, want: Any, rel_tol: float) -> bool:
    if isinstance(got, bool) or isinstance(want, bool):
        return got is want
    if isinstance(got, int | float) and isinstance(want, int | float):
        return got == want or math.isclose(got, want, rel_tol=rel_tol)
    if isinstance(got, str) and isinstance(want, str):
        return normalise(got) == normalise(want)
    return type(got) is type(want) and got == want


@dataclass(frozen=True)
class JsonAnswer(AnswerReader):
    """A JSON object that keeps a schema (`schema`, else `sample.meta["schema"]`; none is fine) and agrees with the reference.

    `rule`: `valid` (schema only), `equal` (1 when every field equals the reference's), `fields` (share of equal fields).
    An object that breaks its schema is `unparsable`.
    """

    shape: str = "json"
    schema: Mapping[str, Any] = field(default_factory=dict)
    rule: str = "equal"
    rel_tol: float = 0.0
    """For numbers."""
    threshold: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "rule", self.rule, ("valid", "equal", "fields"))
        share(self.name, "threshold", self.threshold)
        if not (math.isfinite(self.rel_tol) and self.rel_tol >= 0):
            raise ConfigError(f"verifier '{self.name}': rel_tol is {self.rel_tol}; want a finite number, 0 or more.")
        if self.schema:
            _validator(json.dumps(self.schema, sort_keys=True))

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the sample's schema or reference is faulty."""
        schema = self.schema or sample.meta.get("schema") or {}
        if not isinstance(schema, Mapping) or (self.rule == "valid" and not schema):
            raise ValueError(f"sample {sample.id}: meta['schema'] is {schema!r:.80}; want a JSON schema")
        if self.rule != "valid" and not isinstance(sample.reference, Mapping | list):
            raise ValueError(f"sample {sample.id}: the reference must be an object or a list, got {sample.reference!r:.80}")
        want = json.dumps(sample.reference, ensure_ascii=False) if self.rule != "valid" else "an object that keeps the schema"
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        try:
            value = json.loads(answer, parse_constant=_no_constant)
            fault = schema_fault(value, schema) if schema else ""
            equal, total = (1, 1) if self.rule == "valid" else equal_fields(value, sample.reference, self.rel_tol)
        except (json.JSONDecodeError, RecursionError, _NotJson) as err:
            return unparsable(f"not JSON: {err}"[:120], want)
        if fault:
            return unparsable(fault, want)
        score = equal / total if self.rule == "fields" else float(equal == total)
        status = Status.ok if score >= self.threshold else Status.wrong
        return Verdict(
            score, status, f"{equal} of {total} fields equal; got {answer[:80]!r}, want {want[:80]!r}", {"fields": float(total)}
        )


class _NotJson(ValueError):
    pass


def _no_constant(name: str) -> Any:
    raise _NotJson(f"{name} is not JSON")
