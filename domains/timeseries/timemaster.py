"""TimeMaster's reward R = 0.9 acc + 0.1 fmt + 0.5 ext (arXiv 2506.13705), mended and as released.

R lies in [0, 1.5]; as a verifier's score it is divided by 1.5, and the parts keep `acc`, `fmt`, `ext` and `reward` = R.

| | mended (`timemaster`) | released (`timemaster_original`) |
| --- | --- | --- |
| which class | the one block outside the reasoning; several blocks are no answer | the first `<class>` anywhere, also inside the reasoning |
| fmt | the whole form is kept and the class is one of the known ones | the class is one of the known ones |
| acc | equal, case and spaces aside | the same |
| ext | rubric, when acc = fmt = 1 | the same; the released judge is a model on the network, and may never end when it answers out of range |
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.contracts import Sample, Status, Verdict
from factory.domains.timeseries.extension import capped, has_stock_phrase, rubric
from factory.rewards.answers import normalise
from factory.rewards.formats import parse

WEIGHTS = {"acc": 0.9, "fmt": 0.1, "ext": 0.5}
MOST = 1.5
_FIRST_CLASS = re.compile(r"<class>(.*?)</class>", re.DOTALL)
_FIRST_EXTENSION = re.compile(r"<extension>(.*?)</extension>", re.DOTALL)


def total(acc: float, fmt: float, ext: float = 0.0, *, extension: str = "") -> float:
    """R in [0, 1.5]. `ext` counts only when acc = fmt = 1 and the text is not empty, and at most 0.4 with a stock phrase in it."""
    earned = capped(ext, has_stock_phrase(extension)) if acc == fmt == 1.0 and extension.strip() else 0.0
    return WEIGHTS["acc"] * acc + WEIGHTS["fmt"] * fmt + WEIGHTS["ext"] * earned


def classes_of(sample: Sample) -> dict[str, str]:
    """Normalised name -> class. Raises ValueError when the sample has no list of classes, or its reference is none of them."""
    listed: Any = sample.meta.get("classes")
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
        raise ValueError(f"sample {sample.id} has no meta['classes'], the names of all classes")
    known = {normalise(str(name)): str(name) for name in listed}
    if normalise(str(sample.reference)) not in known:
        raise ValueError(
            f"sample {sample.id}: the reference {sample.reference!r} is none of its classes {', '.join(known.values())}"
        )
    return known


@dataclass(frozen=True)
class Answered:
    """A completion in TimeMaster's form, taken apart."""

    label: str | None
    """The class as written; None when there is none, or several."""
    thinking: str
    extension: str
    is_kept: bool
    """Whether the whole form is kept."""
    fault: str


def read(completion: str) -> Answered:
    """Read outside the reasoning only."""
    parsed = parse(completion, "timemaster")
    extension = next(iter(parsed.extras.values()), "")
    return Answered(parsed.answer, parsed.thinking or "", extension, parsed.well_formed, parsed.reason)


def read_as_released(completion: str) -> Answered:
    """The first tags anywhere; the form is kept when there is a class at all."""
    label, extension = _FIRST_CLASS.search(completion), _FIRST_EXTENSION.search(completion)
    thinking = completion.partition("<think>")[2].partition("</think>")[0]
    return Answered(
        label.group(1).strip() if label else None, thinking, extension.group(1).strip() if extension else "",
        label is not None, "" if label else "no <class> block",
    )  # fmt: skip


@dataclass(frozen=True)
class TimeMasterReward:
    """R / 1.5. `variant` is `mended` or `released`."""

    name: str = "timemaster"
    variant: str = "mended"
    version: str = "1"

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the sample's classes are faulty."""
        known = classes_of(sample)
        answered = read(completion) if self.variant == "mended" else read_as_released(completion)
        got = normalise(answered.label or "")
        want = str(sample.reference)
        acc = float(got == normalise(want))
        fmt = float(answered.is_kept and got in known)
        score, told = 0.0, ""
        if acc == fmt == 1.0 and answered.extension.strip():
            features = sample.meta.get("features")
            found = rubric(answered.extension, want, answered.thinking, features if isinstance(features, Mapping) else ())
            score, told = found.score, f"; extension {found.told()}"
        reward = total(acc, fmt, score, extension=answered.extension)
        parts = {"acc": acc, "fmt": fmt, "ext": score, "reward": reward}
        reason = f"got {answered.label!r:.60}, want {want!r}{told}" + (f"; {answered.fault}" if not answered.is_kept else "")
        if answered.label is None or got not in known:
            return Verdict(min(1.0, reward / MOST), Status.unparsable, reason, parts)
        return Verdict(min(1.0, reward / MOST), Status.ok if acc else Status.wrong, reason, parts)


@dataclass(frozen=True)
class Extension:
    """The rubric's score of the extension, when class and form are right; else 0."""

    name: str = "extension"
    version: str = "1"

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Samples in another form have no extension, and so no score. Raises ValueError when the sample's classes are faulty."""
        if sample.meta.get("form") != "timemaster":
            return Verdict(0.0, Status.wrong, "this sample's form has no extension")
        verdict = TimeMasterReward()(completion, sample)
        score = float(verdict.parts["ext"])
        if verdict.status is Status.unparsable:
            return Verdict(0.0, Status.unparsable, verdict.reason)
        return Verdict(score, Status.ok if score >= 0.5 else Status.wrong, verdict.reason)
