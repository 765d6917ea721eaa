"""Rewards for what is said of the image before the answer: can one answer from it alone, and does it fit what is known."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from factory.contracts import IMAGE, Message, Sample
from factory.rewards.regions import Box, check_box, read_box
from factory.stages.rl.context import Pairs, StepContext
from factory.stages.rl.pieces.formats import FORM, KEPT, ThinkAnswer, instructed
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Rollout, copied, seed_of

VERDICT = "caption_verdict"
"""Field that says whether the text-only answer was `right` or `wrong`."""


def without_images(sample: Sample, caption: str) -> tuple[Message, ...]:
    """The question with the caption where the first image was, asking for reasoning and answer; no image is left in it."""
    bare = instructed(sample, "")
    told, messages = f"(Instead of the image, its description: {caption.replace(IMAGE, ' ')})", []
    for message in bare.messages:
        first, *rest = message.content.split(IMAGE)
        if rest:
            first, told = first + told, ""
        messages.append(replace(message, content=first + "".join(rest)))
    return ThinkAnswer().render(replace(bare, messages=tuple(messages), media=())).messages


@piece(
    "reward", "caption", formula="weight * [the policy answers right from the caption alone, without the image]",
    source="Visionary-R1, arXiv 2505.14677 (released code)", needs={"more_generation", "more_verification"},
    caveat="how the text-only answer is sampled is not stated; it is greedy here",
)  # fmt: skip
@dataclass(frozen=True)
class CaptionReward:
    """Pays for a caption that holds what the question needs. Rows without images and broken forms get nothing."""

    weight: float = 0.1
    block: str = "info"
    """Field of the format that holds the caption: `info`, `caption`, `observe` or `context`."""

    def extra_tokens(self, max_new_tokens: int) -> int:
        """Most tokens generated beyond a rollout's own, for the plan."""
        return max_new_tokens

    def prepare(self, ctx: StepContext, pairs: Pairs) -> None:
        """Ask and verify for all of this process's rollouts at once; sets the field `caption_verdict`."""
        assert ctx.services is not None, "a run has services"
        asked = [(sample, one) for sample, one in pairs if sample.media and one.fields.get(self.block) and not one.is_masked]
        if not asked:
            return
        seed = seed_of(ctx.seed, "caption", ctx.step, *(f"{sample.id}-{one.index}" for sample, one in asked))
        texts = ctx.services.ask(
            [(without_images(sample, one.fields[self.block]), ()) for sample, one in asked],
            max_new_tokens=ctx.max_new_tokens, temperature=0.0, seed=seed,
        )  # fmt: skip
        answers = [(sample, copied(one)) for sample, one in asked]
        for (_, answer), text in zip(answers, texts, strict=True):
            answer.text, answer.outcome = text, None
        ctx.services.verify(answers)
        for (_, rollout), (_, answer) in zip(asked, answers, strict=True):
            if answer.is_masked and rollout.reward is not None:
                # A verifier that failed says nothing about the caption, so the rollout does not count.
                rollout.reward = replace(rollout.reward, value=0.0, masked=True)
            else:
                rollout.fields[VERDICT] = "right" if answer.right else "wrong"

    def score(self, ctx: StepContext, sample: Sample, rollout: Rollout) -> float:
        """0 or `weight`."""
        return self.weight * (rollout.fields.get(VERDICT) == "right")


_WORD = re.compile(r"\w+")


def bleu4(text: str, reference: str) -> float:
    """Sentence BLEU of up to 4-grams with the brevity penalty, in [0, 1].

    Counts above 1-grams are smoothed by adding one (Lin and Och, 2004), so that short texts do not all score 0.
    """
    words, wanted = _WORD.findall(text.lower()), _WORD.findall(reference.lower())
    if not words or not wanted:
        return 0.0
    logs = []
    for n in range(1, 5):
        own, gold = _grams(words, n), _grams(wanted, n)
        hits, total, plus = sum((own & gold).values()), sum(own.values()), int(n > 1)
        if hits + plus == 0:
            return 0.0
        logs.append(math.log((hits + plus) / (total + plus)))
    return min(1.0, math.exp(min(0.0, 1.0 - len(wanted) / len(words))) * math.exp(sum(logs) / 4))


def _grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def rouge_l(text: str, reference: str) -> float:
    """F1 of the longest common subsequence of words, in [0, 1] (Lin, 2004)."""
    words, wanted = _WORD.findall(text.lower()), _WORD.findall(reference.lower())
    row = [0] * (len(wanted) + 1)
    for word in words:
        before = 0
        for j, other in enumerate(wanted, start=1):
            before, row[j] = row[j], before + 1 if word == other else max(row[j], row[j - 1])
    return 2.0 * row[-1] / (len(words) + len(wanted)) if row[-1] else 0.0


def union_iou(boxes: Sequence[Box], others: Sequence[Box]) -> float:
    """Area covered by both sets of boxes over the area covered by either, in [0, 1]; exact, by cutting at every edge."""
    xs = sorted({x for box in (*boxes, *others) for x in (box[0], box[2])})
    ys = sorted({y for box in (*boxes, *others) for y in (box[1], box[3])})
    both, either = [], []
    for x1, x2 in itertools.pairwise(xs):
        for y1, y2 in itertools.pairwise(ys):
            held = [any(b[0] <= x1 and x2 <= b[2] and b[1] <= y1 and y2 <= b[3] for b in some) for some in (boxes, others)]
            area = (x2 - x1) * (y2 - y1)
            both += [area] if all(held) else []
            either += [area] if any(held) else []
    return math.fsum(both) / math.fsum(either) if both else 0.0


MAX_BOXES = 32
"""More written boxes than this are no answer, and would make the union slow."""
_BOX = re.compile(r"\[[^\[\]]*\]|\([^()]*\)")


def boxes_in(text: str) -> list[Box]:
    """All boxes written in a text, `[x1, y1, x2, y2]` each; none when one of them is invalid or there are too many."""
    found = _BOX.findall(text)
    try:
        return [read_box(one) for one in found] if len(found) <= MAX_BOXES else []
    except ValueError:
        return []


@piece(
    "reward", "satori", formula="form + (BLEU-4 + ROUGE-L) / 2 of the caption + IoU of the united boxes",
    source="SATORI-R1, arXiv 2505.19094 (released code)", caveat="how BLEU is smoothed is not stated; add-one here",
)  # fmt: skip
@dataclass(frozen=True)
class SatoriReward:
    """Each step of `format.satori` checked against what the sample knows; the answer itself is the mixture's."""

    form: float = 1.0
    caption: float = 1.0
    """Weight; the gold caption is `sample.meta["caption"]`, without one the term is 0."""
    boxes: float = 1.0
    """Weight; the gold boxes are `sample.meta["boxes"]`, without them the term is 0."""

    def score(self, ctx: StepContext, sample: Sample, rollout: Rollout) -> float:
        """In [0, form + caption + boxes]; 0 when the form is broken."""
        if rollout.fields.get(FORM) != KEPT:
            return 0.0
        total, gold = self.form, sample.meta.get("caption")
        if isinstance(gold, str):
            said = rollout.fields.get("caption", "")
            total += self.caption * (bleu4(said, gold) + rouge_l(said, gold)) / 2
        if sample.meta.get("boxes"):
            total += self.boxes * union_iou(
                boxes_in(rollout.fields.get("bbox", "")), [check_box(b) for b in sample.meta["boxes"]]
            )
        return total
