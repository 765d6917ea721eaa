"""Self-made visual tasks: jigsaws (Jigsaw-R1, VideoSSR), counting (VideoSSR), changes between two scenes (STAR-R1).

Formulas: `guides/techniques.md` B8.6, B8.13, B8.14.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.contracts import Sample, Verdict
from factory.errors import ConfigError
from factory.rewards.reader import AnswerReader, graded, one_of, share, unparsable

MAX_NUMBERS = 400
_NUMBERS = re.compile(r"[\[(]?\s*[-+]?\d{1,9}(?:\s*[,;\s]\s*[-+]?\d{1,9})*\s*[\])]?\.?", re.ASCII)


def read_integers(text: str) -> list[int]:
    """`[3, 1, 2]`, `3, 1, 2` or `3 1 2`. Raises ValueError for anything else or more than 400 numbers."""
    text = text.strip()
    if len(text) > 12 * MAX_NUMBERS or not _NUMBERS.fullmatch(text):
        raise ValueError(f"want whole numbers such as [3, 1, 2], got {text[:60]!r}")
    found = [int(number) for number in re.findall(r"[-+]?\d+", text, re.ASCII)]
    if len(found) > MAX_NUMBERS:
        raise ValueError(f"{len(found)} numbers, more than {MAX_NUMBERS}")
    return found


def counting_score(got: Sequence[int], want: Sequence[int]) -> float:
    """Mean over the items of max(0, 1 - |error| / gold); 0 when the number of items differs. A gold of 0 must be met exactly."""
    if len(got) != len(want):
        return 0.0
    return sum(max(0.0, 1.0 - abs(a - b) / b) if b else float(a == b) for a, b in zip(got, want, strict=True)) / len(want)


def order_score(got: Sequence[int], want: Sequence[int]) -> float:
    """VideoSSR's jigsaw: 1 - sum |position difference| / floor(n^2 / 2); 0 when `got` is no permutation of `want`."""
    n = len(want)
    if sorted(got) != sorted(want):
        return 0.0
    place = {item: index for index, item in enumerate(want)}
    moved = sum(abs(index - place[item]) for index, item in enumerate(got))
    return 1.0 - moved / (n * n // 2) if n > 1 else 1.0


def patch_score(got: Sequence[int], want: Sequence[int]) -> float:
    """Jigsaw-R1: share of patches at their place; 0 when `got` is no permutation of `want`."""
    if sorted(got) != sorted(want):
        return 0.0
    return sum(a == b for a, b in zip(got, want, strict=True)) / len(want)


def adjacency_score(got: Sequence[int], want: Sequence[int], rows: int, columns: int) -> float:
    """Jigsaw-R1: share of right neighbour pairs (left-right and up-down) over 2mn - m - n; 0 when no permutation."""
    if sorted(got) != sorted(want) or len(want) != rows * columns:
        return 0.0
    pairs = 2 * rows * columns - rows - columns
    return len(_neighbours(got, rows, columns) & _neighbours(want, rows, columns)) / pairs if pairs else 1.0


def _neighbours(patches: Sequence[int], rows: int, columns: int) -> set[tuple[int, int, str]]:
    found = set()
    for index, patch in enumerate(patches):
        if index % columns < columns - 1:
            found.add((patch, patches[index + 1], "right"))
        if index // columns < rows - 1:
            found.add((patch, patches[index + columns], "below"))
    return found


@dataclass(frozen=True)
class Integers(AnswerReader):
    """Score of a list of whole numbers.

    `rule`: `counting` and `order` (VideoSSR), `patches` and `adjacency` (Jigsaw-R1; the latter reads `sample.meta["grid"]`,
    `[rows, columns]`).
    """

    rule: str = "order"
    threshold: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "rule", self.rule, ("counting", "order", "patches", "adjacency"))
        share(self.name, "threshold", self.threshold)

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is no list of whole numbers (distinct ones for jigsaws), or the grid is wrong."""
        gold = sample.reference
        if not isinstance(gold, Sequence) or isinstance(gold, str) or not gold or not all(type(x) is int for x in gold):
            raise ValueError(f"sample {sample.id}: reference {gold!r} is no list of whole numbers")
        if self.rule != "counting" and len(set(gold)) < len(gold):
            raise ValueError(f"sample {sample.id}: a jigsaw's reference must not repeat a number, got {gold!r}")
        if self.rule == "counting" and min(gold) < 0:
            raise ValueError(f"sample {sample.id}: counts must be 0 or more, got {gold!r}")
        want = str(list(gold))
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        try:
            got = read_integers(answer)
        except ValueError as err:
            return unparsable(str(err), want)
        score = self._score(got, gold, sample)
        return graded(score, self.threshold, f"got {got}, want {want}"[:200])

    def _score(self, got: list[int], gold: Sequence[int], sample: Sample) -> float:
        if self.rule == "adjacency":
            grid = sample.meta.get("grid")
            if not isinstance(grid, Sequence) or len(grid) != 2 or grid[0] * grid[1] != len(gold):
                raise ValueError(f"sample {sample.id}: meta['grid'] is {grid!r}; want [rows, columns] of {len(gold)} patches")
            return adjacency_score(got, gold, int(grid[0]), int(grid[1]))
        return {"counting": counting_score, "order": order_score, "patches": patch_score}[self.rule](got, gold)


Change = tuple[str, str, str]
"""(index of the object, attribute, new value)."""


def star_points(got: Sequence[Change], gold: Sequence[Change]) -> float:
    """STAR-R1's points: exact triple 5, index and attribute 1.5, index only 0.5, else -1; minus the number of missing triples.

    Each gold triple is used once, the best match first, so that repeating a right triple does not pay.
    """
    left, rest = list(gold), []
    points = 0.0
    for change in got:
        if change in left:
            left.remove(change)
            points += 5.0
        else:
            rest.append(change)
    for size, value in ((2, 1.5), (1, 0.5)):
        unmatched = []
        for change in rest:
            hit = next((other for other in left if other[:size] == change[:size]), None)
            if hit is None:
                unmatched.append(change)
            else:
                left.remove(hit)
                points += value
        rest = unmatched
    return points - len(rest) - max(0, len(gold) - len(got))


@dataclass(frozen=True)
class SceneChanges(AnswerReader):
    """STAR-R1: which object changed in which attribute to what. The score is the points over 5 per gold triple, not below 0.

    Answer and reference: a JSON list of `[index, attribute, value]` or of `{"index", "attribute", "value"}`.
    """

    threshold: float = 1.0
    max_changes: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        share(self.name, "threshold", self.threshold)
        if self.max_changes < 1:
            raise ConfigError(f"verifier '{self.name}': max_changes is {self.max_changes}; want 1 or more.")

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is no list of changes."""
        gold = check_changes(sample.reference)
        if not gold:
            raise ValueError(f"sample {sample.id}: the reference holds no change")
        want = json.dumps(gold)
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        try:
            got = check_changes(json.loads(answer))
        except (ValueError, RecursionError) as err:
            return unparsable(f"no list of changes: {err}"[:120], want)
        if len(got) > self.max_changes:
            return unparsable(f"{len(got)} changes, more than {self.max_changes}", want)
        points = star_points(got, gold)
        return graded(points / (5.0 * len(gold)), self.threshold, f"got {points:g} of {5 * len(gold)} points", {"points": points})


def check_changes(value: Any) -> list[Change]:
    """Raises ValueError when the value is no list of changes."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"want a list of [index, attribute, value], got {type(value).__name__}")
    found = []
    for item in value:
        triple = [item.get(key) for key in ("index", "attribute", "value")] if isinstance(item, Mapping) else item
        if not isinstance(triple, Sequence) or isinstance(triple, str) or len(triple) != 3:
            raise ValueError(f"want [index, attribute, value], got {item!r:.60}")
        if any(isinstance(part, bool) or not isinstance(part, str | int) for part in triple):
            raise ValueError(f"want texts and whole numbers, got {item!r:.60}")
        found.append(tuple(" ".join(str(part).casefold().split()) for part in triple))
    return found  # type: ignore[return-value]
