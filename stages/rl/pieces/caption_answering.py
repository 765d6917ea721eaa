"""What SOPHIA and RACRO share: the policy describes the image, another local model answers from the description alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from factory.contracts import IMAGE, Message, Sample
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Rollout

ASK = "An image is described like this:\n{caption}\n\nAnswer the question about it from the description alone.\n{question}"
"""Our own wording; `{caption}` and `{question}` are filled in."""
INSTRUCTION = "Describe everything in the image that the following question needs. Do not answer the question."
"""Our own wording."""
QUESTION = "question"
"""Key of `Sample.meta` under which the `caption` format keeps the original question."""


@piece(
    "format", "caption", formula="prompt = instruction + question; the completion is a caption",
    source="RACRO, arXiv 2506.04559", caveat="wording ours",
)  # fmt: skip
@dataclass(frozen=True)
class CaptionFormat:
    """Asks for a description in the light of the question, instead of an answer."""

    instruction: str = INSTRUCTION

    def render(self, sample: Sample) -> Sample:
        """The sample with the instruction before its last message; images stay where they are. Rendering twice changes nothing."""
        if QUESTION in sample.meta:
            return sample
        *context, last = sample.messages
        asked = Message(last.role, f"{self.instruction}\n{last.content}")
        return replace(sample, messages=(*context, asked), meta={**sample.meta, QUESTION: question_of(sample)})

    def read(self, text: str) -> Mapping[str, str]:
        """The caption."""
        return {"caption": text.strip()}


def question_of(sample: Sample) -> str:
    """What was asked, without image placeholders and without a caption instruction."""
    return str(sample.meta.get(QUESTION) or sample.messages[-1].content.replace(IMAGE, "").strip())


def check_ask(ask: str) -> None:
    """Raises ValueError when the description would not reach the other model."""
    if "{caption}" not in ask or "{question}" not in ask:
        raise ValueError("ask must hold {caption} and {question}.")


def ask_about(
    ctx: StepContext, captions: Sequence[tuple[Sample, str]], *, ask: str, reasoner: str, max_new_tokens: int, temperature: float
) -> list[str]:
    """The other model's answer to each (sample, caption), in order; greedy with temperature 0. On this process only."""
    assert ctx.services is not None, "a run has services"
    prompts = []
    for sample, caption in captions:
        # Not str.format: captions and questions may hold braces.
        before, _, after = ask.partition("{caption}")
        parts = [part.replace("{question}", question_of(sample)) for part in (before, after)]
        prompts.append(([Message("user", caption.join(parts))], ()))
    if not prompts:
        return []
    return ctx.services.ask(
        prompts, max_new_tokens=max_new_tokens, temperature=temperature, seed=ctx.seed_for("captions"), model=reasoner
    )


def verified(ctx: StepContext, answers: Sequence[tuple[Sample, str]]) -> list[Rollout]:
    """Answers that no rollout of ours holds, scored by the sample's verifiers."""
    assert ctx.services is not None, "a run has services"
    pairs = [
        (sample, Rollout(place=place, index=0, ids=[], logprobs=[], finished=True, version=-1, text=text))
        for place, (sample, text) in enumerate(answers)
    ]
    ctx.services.verify(pairs)
    return [rollout for _, rollout in pairs]
