"""Published scoring rules, each right, and with the fault under which it was released where it had one.

Sources: MedEvalKit (guides/domains.md 2.2), HuatuoGPT-o1 (2.4), Lingshu (2.1), MMedAgent-RL (2.3), Med-R1 (2.5).
A faulty variant is kept by name so that old figures can be explained; nothing in the pack uses one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from factory.rewards.formats import parse
from factory.rewards.sets import token_f1

_MARKER = re.compile(r"\banswer\s+is\b\s*:?|\banswer\s*:", re.IGNORECASE)
_ONE_LETTER = re.compile(r"\(?([A-Za-z])[).:]?")


# --- MedEvalKit -----------------------------------------------------------------------------------------------------------


def medevalkit_answer(text: str) -> str:
    """What MedEvalKit reads as the answer: boxed or `<answer>` content, else what follows "answer is", else the first line."""
    for shape in ("boxed", "answer"):
        answer = parse(text, shape).answer
        if answer:
            return answer
    marks = list(_MARKER.finditer(text))
    if marks:
        return text[marks[-1].end() :].strip().partition("\n")[0].strip(" .*")
    return text.strip().partition("\n")[0].strip()


def medevalkit_choice(text: str, options: Mapping[str, str], gold: str, *, nearest: bool = False) -> bool:
    """A letter, else an option's text.

    Args:
        nearest: the released rule's last step: the most similar option by difflib's ratio, however unlike ("I do not know"
            then names some option, and is right as often as chance has it). Ours says wrong instead.
    """
    answer = medevalkit_answer(text)
    letter = _ONE_LETTER.fullmatch(answer)
    if letter:
        return letter.group(1).upper() == gold
    equal = [key for key, value in options.items() if value.strip().lower() == answer.lower().strip(" .")]
    if equal:
        return equal == [gold]
    if not nearest:
        return False
    return max(options, key=lambda key: difflib.SequenceMatcher(None, answer.lower(), options[key].lower()).ratio()) == gold


def medevalkit_judgement(text: str, gold: str) -> bool:
    """Right only when exactly one of yes and no occurs and it is the key."""
    found = set(re.findall(r"\b(yes|no)\b", medevalkit_answer(text).lower()))
    return found == {gold.strip().lower()}


def medevalkit_closed(text: str, gold: str) -> bool:
    """Equal after lower-case and strip."""
    return medevalkit_answer(text).strip().lower() == gold.strip().lower()


def medevalkit_f1(text: str, gold: str) -> tuple[float, float, float]:
    """(f1, precision, recall) over sets of lower-case words split at white space; zeros when either side is empty."""
    return token_f1(text.lower().split(), gold.lower().split()) if text.strip() and gold.strip() else (0.0, 0.0, 0.0)


def medevalkit_f1_swapped(text: str, gold: str) -> dict[str, float]:
    """The released caller: it unpacks (f1, precision, recall) as (precision, recall, f1), so every figure has another's name."""
    precision, recall, f1 = medevalkit_f1(text, gold)
    return {"precision": precision, "recall": recall, "f1": f1}


def medevalkit_judge(reply: str, *, inverted: bool = False) -> bool | None:
    """The judge writes `<judge>0</judge>` for RIGHT and 1 for wrong; None when there is not exactly one verdict.

    Args:
        inverted: the misreading that 1 means right.
    """
    verdicts = re.findall(r"<judge>\s*([01])\s*</judge>", reply)
    if len(verdicts) != 1:
        return None
    return (verdicts[0] == "0") != inverted


@dataclass
class Tally:
    """Numerator and denominator per answer type, and what could not be scored, so that every total can be rebuilt (issue #21)."""

    right: dict[str, float] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)
    unscored: dict[str, int] = field(default_factory=dict)

    def add(self, answer_type: str, score: float | None) -> None:
        """Count one question; None was not scored and enters neither side."""
        self.right.setdefault(answer_type, 0.0)
        self.total.setdefault(answer_type, 0)
        if score is None:
            self.unscored[answer_type] = self.unscored.get(answer_type, 0) + 1
            return
        self.right[answer_type] += score
        self.total[answer_type] += 1

    def overall(self) -> float:
        """Sum of numerators over sum of denominators. Raises ZeroDivisionError when nothing was scored."""
        return sum(self.right.values()) / sum(self.total.values())

    def rows(self) -> list[tuple[str, float, int, int]]:
        """(answer type, numerator, denominator, unscored), sorted."""
        return [(name, self.right[name], self.total[name], self.unscored.get(name, 0)) for name in sorted(self.total)]


def tally_with_closed_zeroed(rows: Iterable[tuple[str, float]]) -> float:
    """The released PathVQA and VQA-RAD total with a judge: closed hits are set to zero before the judge and never restored."""
    tally = Tally()
    for answer_type, score in rows:
        tally.add(answer_type, 0.0 if answer_type == "CLOSED" else score)
    return tally.overall()


# --- rewards --------------------------------------------------------------------------------------------------------------


def huatuo_reward(is_well_formed: bool, p_true: float, threshold: float = 0.4) -> float:
    """HuatuoGPT-o1: 1.0 if P(true) > 0.4, 0.1 if wrong, 0 unless each heading stands there exactly once."""
    if not is_well_formed:
        return 0.0
    return 1.0 if p_true > threshold else 0.1


def huatuo_scorer(text: str, options: Mapping[str, str], gold: str, *, optimistic: bool = False) -> bool:
    """HuatuoGPT-o1's option scorer by "answer is X".

    Args:
        optimistic: as released, the better of the first and the last match counts; ours reads the last alone.
    """
    letters = [hit.upper() for hit in re.findall(r"\banswer\s+is\s*:?\s*\(?([A-J])\b", text, re.IGNORECASE)]
    if not letters:
        return medevalkit_choice(text, options, gold)
    return gold in (letters[0], letters[-1]) if optimistic else letters[-1] == gold


def lingshu_reward(has_form: bool, is_right: bool) -> float:
    """Lingshu: 0.5 for the form and 1 for the answer."""
    return 0.5 * has_form + 1.0 * is_right


triage_reward = lingshu_reward
"""MMedAgent-RL's triage reward has the same parts: format {0, 0.5} + accuracy {0, 1}."""


def med_r1_reward(text: str, solution: str) -> float:
    """Med-R1: 1 for equal `<answer>` contents, 1 for the whole think-and-answer form."""
    parsed = parse(text, "think_answer")
    wanted = parse(solution, "answer").answer or solution
    return float(parsed.answer is not None and parsed.answer.strip() == wanted.strip()) + float(parsed.well_formed)


@dataclass(frozen=True)
class Rule:
    """One published rule: the right function, and the released fault by name."""

    source: str
    right: Callable[..., Any]
    faults: Mapping[str, Callable[..., Any]] = field(default_factory=dict)


RULES: Mapping[str, Rule] = {
    "medevalkit_choice": Rule("MedEvalKit", medevalkit_choice, {"nearest option": lambda *a: medevalkit_choice(*a, nearest=True)}),
    "medevalkit_judgement": Rule("MedEvalKit", medevalkit_judgement),
    "medevalkit_closed": Rule("MedEvalKit", medevalkit_closed),
    "medevalkit_f1": Rule(
        "MedEvalKit", lambda text, gold: dict(zip(("f1", "precision", "recall"), medevalkit_f1(text, gold), strict=True)),
        {"swapped tuple": medevalkit_f1_swapped},
    ),
    "medevalkit_judge": Rule("MedEvalKit", medevalkit_judge, {"inverted": lambda reply: medevalkit_judge(reply, inverted=True)}),
    "medevalkit_total": Rule("MedEvalKit issue #21", lambda rows: _total(rows), {"closed count zeroed": tally_with_closed_zeroed}),
    "huatuo_reward": Rule("HuatuoGPT-o1", huatuo_reward),
    "huatuo_scorer": Rule("HuatuoGPT-o1", huatuo_scorer, {"better of first and last": lambda *a: huatuo_scorer(*a, optimistic=True)}),
    "lingshu_reward": Rule("Lingshu", lingshu_reward),
    "triage_reward": Rule("MMedAgent-RL", triage_reward),
    "med_r1_reward": Rule("Med-R1", med_r1_reward),
}  # fmt: skip
"""Every published rule by name."""


def _total(rows: Sequence[tuple[str, float]]) -> float:
    tally = Tally()
    for answer_type, score in rows:
        tally.add(answer_type, score)
    return tally.overall()
