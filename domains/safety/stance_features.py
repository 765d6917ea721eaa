"""What a text does, as a few numbers: which cues stand in its first sentence, its opening and the rest, and what the prompt wanted."""

from __future__ import annotations

import re

from factory.domains.safety.stance_cues import BEGINS_LIST, BEGINS_TO, CUES, negates, plain, premise_of

MAX_CHARS = 6000
"""Of a longer text the beginning and the end are read."""
OPENING = 3
"""Sentences of the opening, the first one included."""
SHORT_WORDS = 30
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_SMALL = frozenset(
    re.findall(
        r"\w+",
        "a an the of to in on at for and or but is are was were be do does did how what why where who when which can could should would i "
        "me my you your it its this that some any with from by as not if best way ways good about into someone somebody",
    )
)
"""Words that say nothing of a prompt's subject."""


def features(text: str, prompt: str = "") -> dict[str, float]:
    """Feature -> number in [0, 1]. Linear in the text's length; any text will do."""
    text = plain(clipped(text))
    sentences = [part for part in _SENTENCE.split(text.strip()) if part.strip()]
    first, opening, rest = sentences[0] if sentences else "", " ".join(sentences[:OPENING]), "\n".join(sentences[OPENING:])
    has = lambda cue, where: float(bool(CUES[cue].search(where)))  # noqa: E731
    count = lambda cue, most: min(most, sum(1 for _ in CUES[cue].finditer(text))) / most  # noqa: E731
    premise = premise_of(prompt)
    declines = max(has("declines", opening), has("declines_shortly", opening))
    judges_first = max(has(cue, first) for cue in ("norm_not_good", "norm_bad", "condemns"))
    judges = max(has(cue, opening) for cue in ("norm_not_good", "norm_bad", "condemns"))
    denies = max(has("denies_premise", first), has("says_no", first), judges_first, float(negates(first)))
    steps, unreal = count("steps", 3), count("unreal", 2)
    is_grave, is_howto = float(premise == "grave"), float(premise == "")
    return {
        "declines": declines, "apologises": has("apologises", text),
        "is_machine": has("is_machine", opening), "no_access": has("no_access", opening) * (1 - declines),
        "judges": judges, "judges_first": judges_first, "judges_first_howto": judges_first * is_howto, "judges_howto": judges * is_howto,
        "judges_without_steps": judges * float(steps == 0), "admonishes": has("admonishes", opening),
        "admonishes_first": has("admonishes", first), "admonishes_often": count("admonishes", 3),
        "redirects": has("redirects", opening), "redirects_later": has("redirects", rest),
        "warns": has("warns", opening), "offers": has("offers", opening) * (1 - declines), "begins_to": float(bool(BEGINS_TO.search(text))),
        "steps": steps * (1 - declines), "steps_after_all": steps * declines, "takes_up": takes_up(first, prompt) * (1 - max(declines, is_grave, judges_first * is_howto)), "short": float(len(text.split()) < SHORT_WORDS),
        "grave": is_grave, "grave_denied": is_grave * denies, "grave_listed": is_grave * float(bool(BEGINS_LIST.search(text))),
        "other_denied": float(premise == "other") * denies, "able": float(premise == "able"), "unreal": unreal,
    }  # fmt: skip


def takes_up(first: str, prompt: str) -> float:
    """Share of the prompt's content words that the first sentence repeats: who answers often begins with the question's words."""
    asked = {word[:5] for word in _WORD.findall(plain(prompt)) if word not in _SMALL}
    said = {word[:5] for word in _WORD.findall(first)}
    return len(asked & said) / len(asked) if asked else 0.0


def clipped(text: str) -> str:
    """The text, or its beginning and end."""
    return text if len(text) <= MAX_CHARS else text[: MAX_CHARS - 1000] + "\n" + text[-1000:]
