"""Sets of boxes: read them from JSON, match them by the Hungarian algorithm, score as Griffon, Curr-ReFT and others do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.contracts import Sample, Status, Verdict
from factory.errors import ConfigError, PluginError
from factory.rewards.reader import AnswerReader, graded, one_of, share, unparsable
from factory.rewards.regions import Box, check_box, iou, read_box

MAX_BOXES = 200
_BOX_KEYS = ("bbox_2d", "bbox", "box", "box_2d")
_LABEL_KEYS = ("label", "class", "category", "name")


@dataclass(frozen=True, slots=True)
class Detection:
    """One box and its label (empty when classes do not matter)."""

    box: Box
    label: str = ""


def check_detections(value: Any) -> list[Detection]:
    """Boxes from `[[x1, y1, x2, y2], ...]`, `[{"bbox_2d": [...], "label": ...}, ...]`, one of either, or `{"boxes": [...]}`.

    Raises ValueError for anything else, an invalid box, or more than 200.
    """
    if isinstance(value, Mapping) and isinstance(value.get("boxes", value.get("objects")), list):
        value = value.get("boxes", value.get("objects"))
    if isinstance(value, Mapping) or (isinstance(value, Sequence) and len(value) == 4 and not isinstance(value[0], list | dict)):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"want a list of boxes, got {type(value).__name__}")
    if len(value) > MAX_BOXES:
        raise ValueError(f"{len(value)} boxes, more than {MAX_BOXES}")
    return [_detection(item) for item in value]


def _detection(item: Any) -> Detection:
    if not isinstance(item, Mapping):
        return Detection(check_box(item))
    box = next((item[key] for key in _BOX_KEYS if key in item), None)
    label = next((item[key] for key in _LABEL_KEYS if key in item), "")
    return Detection(check_box(box), str(label).strip().casefold())


def read_detections(text: str) -> list[Detection]:
    """The boxes of an answer. Raises ValueError when it is no JSON list of boxes and no single box."""
    text = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as err:
        try:
            return [Detection(read_box(text))]
        except ValueError:
            raise ValueError(f"want JSON boxes, got {text[:60]!r}: {err}"[:200]) from err
    return check_detections(value)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def matched_ious(got: Sequence[Detection], want: Sequence[Detection]) -> list[float]:
    """IoU of each pair of the best one-to-one match (largest sum of IoUs); only boxes of equal label are paired.

    At most min(len(got), len(want)) values, largest first, pairs without overlap included.
    Raises PluginError when scipy is missing.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as err:
        raise PluginError("matching boxes needs 'scipy', which is not installed. pip install scipy") from err
    found: list[float] = []
    for label in sorted({item.label for item in want}):
        left = [item.box for item in got if item.label == label]
        right = [item.box for item in want if item.label == label]
        if left and right:
            table = [[iou(a, b) for b in right] for a in left]
            rows, columns = linear_sum_assignment(table, maximize=True)
            found += [table[row][column] for row, column in zip(rows, columns, strict=True)]
    return sorted(found, reverse=True)


def griffon_recall(ious: Sequence[float], num_gold: int, *, is_late: bool = False) -> float:
    """Share of gold boxes met with IoU >= 0.5 (late: 0.75); then below 0.5 becomes 0 and above 0.75 becomes 1 (B8.4a)."""
    found = sum(value >= (0.75 if is_late else 0.5) for value in ious) / num_gold
    return 0.0 if found < 0.5 else 1.0 if found > 0.75 else found


def griffon_precision(ious: Sequence[float], num_pairs: int, *, is_late: bool = False) -> float:
    """Mean IoU after below 0.5 becomes 0 and above 0.75 becomes 1 (late: 0.75 and 0.9), over `num_pairs` (B8.4a)."""
    low, high = (0.75, 0.9) if is_late else (0.5, 0.75)
    return sum(0.0 if value < low else 1.0 if value > high else value for value in ious) / num_pairs if num_pairs else 0.0


@dataclass(frozen=True)
class BoxSet(AnswerReader):
    """Score of the answered boxes against the reference's, matched by label and IoU.

    `rule`:
    - `f1`, `recall_precision`: at `iou_from`; the second is `weight` * precision + (1 - weight) * recall (nearest to DIP-R1);
    - `mean_iou`: sum of matched IoUs over the larger number of boxes;
    - `griffon`: mean of Griffon's recall and precision, both in `parts`.

    With no gold box, an empty list scores 1 and any box 0 (Griffon).
    """

    rule: str = "f1"
    iou_from: float = 0.5
    weight: float = 0.5
    is_late: bool = False
    """Griffon's thresholds from step 1,500 on."""
    precision_over: str = "answered"
    """Griffon's precision over the `answered` boxes, or over the `matched` ones as published, where extra boxes cost nothing."""
    has_labels: bool = True
    """Only boxes of the same label match."""
    threshold: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "rule", self.rule, ("f1", "recall_precision", "mean_iou", "griffon"))
        one_of(self.name, "precision_over", self.precision_over, ("answered", "matched"))
        share(self.name, "iou_from", self.iou_from)
        share(self.name, "threshold", self.threshold)
        if not 0.0 <= self.weight <= 1.0:
            raise ConfigError(f"verifier '{self.name}': weight is {self.weight}; want a number in [0, 1].")

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is no list of boxes."""
        gold = self._labelled(check_detections(sample.reference))
        want = f"{len(gold)} boxes"
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        try:
            got = self._labelled(read_detections(answer))
        except ValueError as err:
            return unparsable(str(err), want)
        if not gold or not got:
            is_right = not gold and not got
            return Verdict(float(is_right), Status.ok if is_right else Status.wrong, f"got {len(got)} boxes, want {len(gold)}")
        ious = matched_ious(got, gold)
        score, parts = self._score(ious, len(got), len(gold))
        shown = ", ".join(f"{value:.2f}" for value in ious[:8])
        return graded(score, self.threshold, f"got {len(got)} boxes, want {len(gold)}; matched IoU {shown or 'none'}", parts)

    def _labelled(self, found: list[Detection]) -> list[Detection]:
        return found if self.has_labels else [Detection(item.box) for item in found]

    def _score(self, ious: list[float], num_got: int, num_gold: int) -> tuple[float, dict[str, float]]:
        if self.rule == "mean_iou":
            return sum(ious) / max(num_got, num_gold), {}
        if self.rule == "griffon":
            recall = griffon_recall(ious, num_gold, is_late=self.is_late)
            pairs = num_got if self.precision_over == "answered" else len(ious)
            precision = griffon_precision(ious, pairs, is_late=self.is_late)
            return (recall + precision) / 2, {"recall": recall, "precision": precision}
        hits = sum(value >= self.iou_from for value in ious)
        precision, recall = hits / num_got, hits / num_gold
        score = 2 * hits / (num_got + num_gold) if self.rule == "f1" else self.weight * precision + (1 - self.weight) * recall
        return score, {"precision": precision, "recall": recall}
