"""Where a completion's answer stands: by the sample's form, with a single answer or none."""

from __future__ import annotations

from dataclasses import replace

from factory.contracts import Sample
from factory.rewards.formats import Parsed, parse

FORMS = ("think_answer", "boxed", "answer")


def shape_of(sample: Sample) -> str:
    """`meta["form"]`, else `think_answer`; with `thinking: off` and tags, the answer block alone."""
    form = str(sample.meta.get("form", "think_answer"))
    if form not in FORMS:
        raise ValueError(f"sample {sample.id}: meta['form'] is {form!r}; want one of {', '.join(FORMS)}")
    return "answer" if form == "think_answer" and sample.meta.get("thinking") == "off" else form


def read_answer(completion: str, sample: Sample, *, lenient: bool) -> Parsed:
    """The completion taken apart. Two boxes are no answer, whichever stands last.

    Raises ValueError when the sample names an unknown form: the sample is faulty.
    """
    shape = shape_of(sample)
    parsed = parse(completion, shape, lenient=lenient)
    if completion.count("\\boxed") > 1:
        return replace(
            parsed, answer=None, well_formed=False, reason=f"{completion.count(chr(92) + 'boxed')} boxed answers, want 1"
        )
    return parsed
