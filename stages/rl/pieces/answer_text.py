"""What a completion answers, so that two answers can be compared; and which of its tokens hold the answer."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

from factory.contracts import Sample
from factory.errors import ConfigError
from factory.rewards.answers import normalise, options_of, read_choice_anywhere, read_yes_no
from factory.rewards.formats import parse, shape_named
from factory.stages.rl.rollouts import Rollout

Decode = Callable[[Sequence[int]], str]

_CUT = "�"
"""What a decoder writes for the first bytes of a character whose other bytes are in later tokens."""


def check_shape(shape: str) -> None:
    """Raises ValueError for a shape that `factory.rewards.formats` does not know."""
    try:
        shape_named(shape)
    except ConfigError as err:
        raise ValueError(f"shape: {err}") from err


def canonical_answer(rollout: Rollout, sample: Sample, shape: str, *, is_marked: bool = False) -> str | None:
    """The answer in a form that is equal for equal answers; None when there is none.

    The answer is the format's field `answer`, else what stands where `shape` marks it; unless it has to be marked
    (`is_marked`), text without the mark is read leniently, as `factory.rewards.formats.parse` says. With options in
    `sample.meta` it is the option's letter; else a number is its value, a sentence that says yes or no first is that word,
    and other text is normalised. The reference is never looked at.
    """
    answer = rollout.fields.get("answer") or parse(rollout.text, shape, lenient=not is_marked).answer
    if answer is None:
        return None
    if sample.meta.get("options"):
        return read_choice_anywhere(answer, options_of(sample.meta["options"])).letter
    text = normalise(answer)
    word = read_yes_no(answer)
    if word is not None and text.split()[0].strip(".,;:!") == word:
        return word
    try:
        return repr(float(text.replace(",", "")))
    except ValueError:
        return text or None


def answer_span(text: str, opens: str, closes: str) -> tuple[int, int] | None:
    """Characters of what stands between the last `opens` and the `closes` after it (or the end), white space trimmed.

    Empty marks stand for the beginning and the end. None when the opening mark is missing or nothing stands between.
    """
    at = text.rfind(opens) if opens else 0
    if at < 0:
        return None
    start = at + len(opens)
    end = text.find(closes, start) if closes else -1
    inside = text[start : end if end >= 0 else len(text)]
    if not inside.strip():
        return None
    start += len(inside) - len(inside.lstrip())
    return start, start + len(inside.strip())


def tokens_over(decode: Decode, ids: Sequence[int], start: int, end: int) -> range:
    """The tokens that write any of the characters `start` to `end` (exclusive) of `decode(ids)`.

    Found by decoding longer and longer beginnings (bisection), because a token's text depends on what stands before it and
    a character may take several tokens. A token that writes the end of a mark and the beginning of the answer belongs to it.
    """

    def whole(num_tokens: int) -> int:
        return len(decode(ids[:num_tokens]).rstrip(_CUT))

    def begun(num_tokens: int) -> int:
        text = decode(ids[:num_tokens])
        return len(text.rstrip(_CUT)) + text.endswith(_CUT)

    counts = range(len(ids) + 1)
    first = bisect_right(counts, start, key=begun) - 1
    return range(max(first, 0), min(bisect_left(counts, end, key=whole), len(ids)))


def last_turn(rollout: Rollout) -> int:
    """Place of the first token after the last answer of an environment; 0 in a completion of one turn."""
    return max((span.end for span in rollout.spans if span.role == "tool"), default=0)


def tokens_before(decode: Decode, ids: Sequence[int], end: int) -> int:
    """Number of leading tokens that write the first `end` characters of `decode(ids)`."""
    return tokens_over(decode, ids, 0, end).stop if end > 0 else 0
