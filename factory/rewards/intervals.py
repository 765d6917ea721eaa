"""Time intervals: read one from text, and its overlap with another (Temporal-R1, VideoSSR)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.contracts import Sample, Status, Verdict
from factory.errors import ConfigError
from factory.rewards.reader import AnswerReader, share, unparsable

Interval = tuple[float, float]
"""(start, end) in seconds, start < end."""

_CLOCK = r"(?:(?:(\d{1,2}):)?(\d{1,3}):)?(\d{1,6}(?:\.\d{1,6})?)"
_SPAN = re.compile(
    rf"[\[(<]?\s*(?:from\s)?{_CLOCK}\s?s?(?:ec(?:onds)?)?\s*(?:,|-|–|to|until)\s*{_CLOCK}\s?s?(?:ec(?:onds)?)?\s*[\])>]?\.?",
    re.I | re.ASCII,
)
_MAX_CHARS = 200


def check_interval(value: Any) -> Interval:
    """`[start, end]` or `{"start": ..., "end": ...}` in seconds. Raises ValueError unless 0 <= start < end, both finite."""
    if isinstance(value, Mapping):
        value = [value.get("start", value.get("start_time")), value.get("end", value.get("end_time"))]
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ValueError(f"an interval is [start, end], got {value!r:.80}")
    if any(isinstance(item, bool) or not isinstance(item, int | float) or not math.isfinite(item) for item in value):
        raise ValueError(f"an interval needs two finite numbers, got {list(value)}")
    start, end = float(value[0]), float(value[1])
    if not 0.0 <= start < end:
        raise ValueError(f"an interval needs 0 <= start < end, got {start:g} to {end:g}")
    return start, end


def read_interval(text: str) -> Interval:
    """`{"start": 3, "end": 5}`, `[3, 5]`, `3.0 to 5.0`, `00:03 - 00:05`. Raises ValueError for none, several or an invalid one."""
    text = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    if len(text) > _MAX_CHARS:
        raise ValueError(f"want one interval, got {len(text)} characters")
    if text.startswith(("{", "[")):
        try:
            return check_interval(json.loads(text))
        except (json.JSONDecodeError, RecursionError):
            pass
    hit = _SPAN.fullmatch(text)
    if hit is None:
        raise ValueError(f"want one interval [start, end], got {text[:60]!r}")
    numbers = [float(group or 0) for group in hit.groups()]
    return check_interval([3600 * numbers[0] + 60 * numbers[1] + numbers[2], 3600 * numbers[3] + 60 * numbers[4] + numbers[5]])


def interval_iou(a: Interval, b: Interval) -> float:
    """Length of the intersection over length of the union, in [0, 1]."""
    common = min(a[1], b[1]) - max(a[0], b[0])
    if common <= 0:
        return 0.0
    return min(1.0, common / (max(a[1], b[1]) - min(a[0], b[0])))


@dataclass(frozen=True)
class IntervalIoU(AnswerReader):
    """Overlap of the answered interval with the reference's.

    Temporal-R1's reward `0.5 * tIoU + 0.5 * format` is `format_share=0.5`; VideoSSR's is `format_share=0`.
    """

    threshold: float = 0.5
    """IoU from which the status is `ok`."""
    format_share: float = 0.0
    """Part of the score that a readable interval inside the clip earns by itself."""
    clip_key: str = "duration"
    """`sample.meta` key of the clip's length in seconds; an answer beyond it is unparsable. Absent: not checked."""

    def __post_init__(self) -> None:
        super().__post_init__()
        share(self.name, "threshold", self.threshold)
        if not 0.0 <= self.format_share < 1.0:
            raise ConfigError(f"verifier '{self.name}': format_share is {self.format_share}; want a number in [0, 1).")

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is no interval, or the clip's length no positive number."""
        gold = check_interval(sample.reference)
        want = f"{gold[0]:g} to {gold[1]:g} s"
        length = sample.meta.get(self.clip_key)
        if length is not None and (isinstance(length, bool) or not isinstance(length, int | float) or not length > 0):
            raise ValueError(f"sample {sample.id}: meta[{self.clip_key!r}] is {length!r}; want seconds above 0")
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        try:
            got = read_interval(answer)
        except ValueError as err:
            return unparsable(str(err), want)
        if length is not None and got[1] > float(length) * 1.001:
            return unparsable(f"{got[1]:g} s lies beyond the clip's {float(length):g} s", want)
        overlap = interval_iou(got, gold)
        score = self.format_share + (1.0 - self.format_share) * overlap
        status = Status.ok if overlap >= self.threshold else Status.wrong
        return Verdict(score, status, f"got {got[0]:g} to {got[1]:g} s, want {want}: IoU {overlap:.3f}", {"iou": overlap})
