"""BioReason's five rewards (arXiv 2505.23579, repository bowang-lab/BioReason), as published and mended.

The sum of the published ones is at most 3.75; a verifier here scores a share of its own maximum, and a recipe gives the maxima
as weights, so that the mixture's value is the sum over 3.75.

| name | maximum | published | mended |
| --- | --- | --- | --- |
| xml_count | 0.25 | one half for exactly one `<think>\\n`, one for exactly one `\\n</think>\\n` | the same |
| soft_format | 0.5 | `<think>.*?</think>\\s*` at the start, no DOTALL: several lines never match | with DOTALL |
| strict_format | 0.5 | `^<think>\\n.*?\\n</think>\\n.*?\\n$`, no DOTALL, needs a last line break | with DOTALL, last line break optional |
| short_answer | 0.5 | at most 4 words parted by spaces after `</think>`, `Answer:` being one | at most 4 words beside `Answer:` |
| correctness | 2.0 | rollout i is searched for character i of the first sample's gold answer | the label rule of `LabelAnswer` |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from factory.contracts import Sample, Status, Verdict, Verifier
from factory.domains.biology.answers import LabelAnswer
from factory.rewards.answers import accepted

MAXIMA: Mapping[str, float] = {
    "xml_count": 0.25, "soft_format": 0.5, "strict_format": 0.5, "short_answer": 0.5, "correctness": 2.0,
}  # fmt: skip
SHORT_WORDS = 4


def after_thinking(text: str) -> str:
    """What follows the last `</think>`, stripped; the whole text when there is none, as in the published code."""
    return text.rpartition("</think>")[2].strip()


def xml_count(text: str) -> float:
    """0, 0.125 or 0.25."""
    return 0.125 * (text.count("<think>\n") == 1) + 0.125 * (text.count("\n</think>\n") == 1)


def soft_format_published(text: str) -> float:
    """0 or 0.5; reasoning of several lines never matches."""
    return 0.5 * bool(re.match(r"<think>.*?</think>\s*", text))


def soft_format(text: str) -> float:
    """0 or 0.5; something must follow the reasoning's beginning at the start of the text."""
    return 0.5 * bool(re.match(r"<think>.*?</think>\s*", text, re.DOTALL))


def strict_format_published(text: str) -> float:
    """0 or 0.5; reasoning of several lines never matches, and a last line break is needed."""
    return 0.5 * bool(re.match(r"^<think>\n.*?\n</think>\n.*?\n$", text))


def strict_format(text: str) -> float:
    """0 or 0.5: the reasoning on lines of its own, once, then something else."""
    is_once = text.count("<think>") == 1 and text.count("</think>") == 1
    return 0.5 * (is_once and bool(re.fullmatch(r"<think>\n.*?\n</think>\n\s*\S.*", text, re.DOTALL)))


def short_answer_published(text: str) -> float:
    """0 or 0.5; an empty answer counts as short, and `Answer:` as a word."""
    return 0.5 * (len(after_thinking(text).split(" ")) <= SHORT_WORDS)


def short_answer(text: str) -> float:
    """0 or 0.5: one to four words beside `Answer:`, after finished reasoning."""
    words = re.sub(r"^answer\s*:", "", after_thinking(text), flags=re.IGNORECASE).split()
    return 0.5 * ("</think>" in text and 1 <= len(words) <= SHORT_WORDS)


def correctness_published(texts: Sequence[str], golds: Sequence[str]) -> list[float]:
    """2.0 where text i holds character i of the *first* gold answer: the published `zip(responses, answer[0])`.

    Texts beyond the first answer's length get no reward at all, so the list may be shorter than `texts`.
    """
    return [2.0 * (letter.lower() in after_thinking(text).lower()) for text, letter in zip(texts, golds[0], strict=False)]


@dataclass(frozen=True)
class TextReward:
    """A reward of the completion's text alone, as a share of its maximum."""

    name: str
    rule: Callable[[str], float]
    maximum: float
    version: str = "1"

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Never raises. A text without `</think>` is unparsable when it earns nothing."""
        value = self.rule(completion)
        score = value / self.maximum
        status = Status.ok if score == 1.0 else Status.wrong if "</think>" in completion else Status.unparsable
        return Verdict(score, status, f"{self.name}: got {value:g} of {self.maximum:g}")


@dataclass(frozen=True)
class PublishedCorrectness:
    """The published correctness on a batch of one: the first letter of the gold answer must occur. For comparison only."""

    name: str = "correctness_published"
    version: str = "1"

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is empty or no text."""
        gold = accepted(sample.reference)[0]
        value = correctness_published([completion], [gold])[0]
        status = Status.ok if value else Status.wrong if after_thinking(completion) else Status.unparsable
        return Verdict(value / 2.0, status, f"searched for {gold[0]!r}: got {value:g} of 2")


@dataclass(frozen=True)
class Correctness:
    """The mended correctness: `LabelAnswer` on what follows the reasoning, each rollout against its own gold answer."""

    labels: LabelAnswer
    name: str = "correctness"
    version: str = "1"

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is empty or no text."""
        return self.labels(completion, sample)


def bioreason_rewards(aliases: Mapping[str, Sequence[str]]) -> list[Verifier]:
    """The five mended rewards under their names, and the published ones under `..._published` (xml_count is the same in both)."""
    rules = {
        "xml_count": xml_count, "soft_format": soft_format, "soft_format_published": soft_format_published,
        "strict_format": strict_format, "strict_format_published": strict_format_published, "short_answer": short_answer,
        "short_answer_published": short_answer_published,
    }  # fmt: skip
    found: list[Verifier] = [TextReward(name, rule, MAXIMA[name.removesuffix("_published")]) for name, rule in rules.items()]
    labels = replace(LabelAnswer(name="correctness", aliases=aliases), shape="think_line")
    return [*found, Correctness(labels), PublishedCorrectness()]
