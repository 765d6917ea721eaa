"""From a completion to the text of its answer, in the shape that the sample asks for (`meta["shape"]`), and then to a molecule."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from factory.contracts import Sample, Verdict
from factory.domains.chemistry.molecules import MoleculeFault, read_molecule
from factory.packs.by_sample import InShapeOfSample
from factory.rewards.formats import parse, shape_named
from factory.rewards.reader import AnswerReader, unparsable

JSON_KEYS = (
    "output", "count", "Final Target Molecule", "Output Scaffold", "answer", "Answer", "result", "major_product", "Major Product",
    "smiles", "SMILES", "products", "reactants",
)  # fmt: skip
"""Where benchmarks that answer in JSON put their answer, the most usual first; `meta["json_key"]` names another."""


def field_of(text: str, key: str | None = None) -> str:
    """The answer inside a JSON object. Raises ValueError when the object holds none of the keys, or no text or number there."""
    found = json.loads(text)
    keys = (key,) if key else JSON_KEYS
    for name in keys:
        if isinstance(found, Mapping) and name in found:
            value = found[name]
            if isinstance(value, list) and len(value) == 1:
                value = value[0]
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise ValueError(f"the field {name!r} holds {type(value).__name__}, want text or a number")
            return str(value)
    raise ValueError(f"no field {' or '.join(map(repr, keys[:4]))} in the JSON answer")


def extract(completion: str, shape: str, *, json_key: str | None = None, is_lenient: bool = False) -> str:
    """The answer of a completion in a shape. Raises ValueError, with the reason, when there is none."""
    parsed = parse(completion, shape, lenient=is_lenient)
    if parsed.answer is None:
        raise ValueError(parsed.reason if not parsed.well_formed else "no answer")
    if shape != "json":
        return parsed.answer
    try:
        return field_of(parsed.answer, json_key)
    except RecursionError as err:
        raise ValueError("the JSON answer is nested too deep") from err


@dataclass(frozen=True)
class InShape(InShapeOfSample):
    """Let a reader of one shape judge samples of another: the answer is taken out first and handed on bare."""

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """The inner verdict. Raises ConfigError for an unknown shape, and what the inner verifier raises."""
        shape = str(sample.meta.get("shape", self.inner.shape))
        if shape == self.inner.shape:
            return self.inner(completion, sample)
        shape_named(shape)
        try:
            text = extract(completion, shape, json_key=sample.meta.get("json_key"), is_lenient=self.inner.is_lenient)
        except ValueError as err:
            return unparsable(str(err)[:160], "an answer in its form")
        return replace(self.inner, shape="whole", mode="strict")(text, sample)


@dataclass(frozen=True)
class MoleculeReader(AnswerReader):
    """Base of the verifiers whose answer is one molecule."""

    version: str = "1"

    def molecule(self, completion: str, want: str, *, max_fragments: int | None = None) -> Any:
        """The answered molecule, or the `unparsable` Verdict that says why there is none."""
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        try:
            return read_molecule(answer.replace(";", "."), max_fragments=max_fragments)
        except MoleculeFault as err:
            return unparsable(str(err), want)


def truth(text: Any, sample: Sample) -> Any:
    """The molecule of a reference. Raises ValueError when it is none: the sample is faulty."""
    try:
        return read_molecule(str(text))
    except MoleculeFault as err:
        raise ValueError(f"sample {sample.id}: the reference is no molecule: {err}") from err


def mapping(sample: Sample, *needed: str) -> Mapping[str, Any]:
    """The reference as a mapping with these keys. Raises ValueError: the sample is faulty."""
    if not isinstance(sample.reference, Mapping) or any(key not in sample.reference for key in needed):
        raise ValueError(
            f"sample {sample.id}: the reference must be a mapping with {', '.join(needed)}, got {sample.reference!r:.100}"
        )
    return sample.reference
