"""What TimeMaster's `<extension>` is worth: a deterministic rubric in place of its gpt-4o judge, with the published cap.

The published score is a judge's mean of Specificity, Appropriateness, Relevance and Depth, at most 0.4 when a stock phrase
stands in the text. The rubric is the mean of four cheap checks under the same cap (guides/domains.md 5.3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CAP = 0.4
STOCK = re.compile(
    r"further\s+(?:diagnostic\s+)?tests?|clinical\s+history|physical\s+examination|refer(?:ral)?\s+to\s+(?:an?\s+)?specialist"
    r"|confirm\s+the\s+diagnosis",
    re.IGNORECASE,
)
"""Phrases that fit every case and say nothing."""
MIN_CONTENT_WORDS = 12
MAX_CHARS = 4000
"""A longer text is no recommendation: it scores 0."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ACTIONS = _words(
    "add adjust ask avoid begin check charge clean collect compare count cover derive describe estimate filter follow inspect keep "
    "limit listen locate log lower map mark match measure monitor notify pause plan plot predict raise record reduce remove repeat "
    "replace report review sample schedule slow start stop store subtract suggest switch test track train unplug update verify warn "
    "watch"
)
_STOP = _words(
    "the and that this with for from are was were has have had but not its his her their they them there then than when which who "
    "what where while will would can could may might should must shall into onto over under about after before between such each "
    "very more most some any all also only own same too out off again once here how why"
)
_WORD = re.compile(r"[a-z0-9]+(?:[.'-][a-z0-9]+)*")


@dataclass(frozen=True)
class Rubric:
    """The four checks, each true or false, and the cap."""

    names_class: bool
    cites_feature: bool
    has_action: bool
    is_rich: bool
    is_stock: bool

    @property
    def score(self) -> float:
        """Mean of the checks, at most CAP when a stock phrase stands in the text."""
        return capped((self.names_class + self.cites_feature + self.has_action + self.is_rich) / 4.0, self.is_stock)

    def told(self) -> str:
        """What is missing, for a verdict's reason."""
        lacking = [text for is_there, text in ((self.names_class, "the class"), (self.cites_feature, "a feature from the reasoning"),
                   (self.has_action, "an action"), (self.is_rich, f"{MIN_CONTENT_WORDS} distinct words of content"))
                   if not is_there]  # fmt: skip
        return f"lacks {', '.join(lacking)}" if lacking else "class, feature, action and content are there"


def capped(score: float, is_stock: bool) -> float:
    """A judge's or the rubric's score with the published cap."""
    return min(score, CAP) if is_stock else score


def has_stock_phrase(text: str) -> bool:
    """Whether one of the phrases stands in the text."""
    return STOCK.search(text) is not None


def words_of(text: str) -> list[str]:
    """Lower-case words and numbers."""
    return _WORD.findall(text.casefold())


def rubric(extension: str, label: str, thinking: str, features: Mapping[str, str] | Sequence[str] = ()) -> Rubric:
    """Check an extension.

    Args:
        label: the class that the completion gave.
        thinking: its reasoning; a cited feature must stand there too.
        features: the sample's known features (name -> value); without them any word of content of the reasoning counts.
    """
    if len(extension) > MAX_CHARS:
        return Rubric(False, False, False, False, has_stock_phrase(extension[:MAX_CHARS]))
    words, own = words_of(extension), set(words_of(label))
    content = {word for word in words if len(word) >= 3 and word not in _STOP}
    seen = {word for word in words_of(thinking[:MAX_CHARS]) if word not in _STOP and (len(word) >= 3 or word.isdigit())} - own
    if features:
        known = {word for pair in dict(features).items() for text in pair for word in words_of(str(text))}
        seen &= known
    return Rubric(
        names_class=bool(own) and _holds(words, words_of(label)), cites_feature=bool(seen & set(words)),
        has_action=bool(ACTIONS & set(words)), is_rich=len(content) >= MIN_CONTENT_WORDS, is_stock=has_stock_phrase(extension),
    )  # fmt: skip


def _holds(words: list[str], wanted: list[str]) -> bool:
    """Whether `wanted` stands in `words` as a run."""
    return any(words[start : start + len(wanted)] == wanted for start in range(len(words) - len(wanted) + 1))
