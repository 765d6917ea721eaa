"""What the completion should look like: blocks in a fixed order, the answer last.

A format does three things. `render` puts its instruction at the end of the system message (or, without one, of the last user
message); the pack's own words stay, the instruction says that it stands in place of any other form, and rendering twice
changes nothing. `read` takes a completion apart with the one parser of `factory/rewards/formats.py`. `judged` is what the
pack's verifiers get: a completion that keeps the form is written anew in the form that they read (`pack_shape`), everything
before the answer as its reasoning; of one that breaks it they get the bare answer, if it has one, so that no other form
earns the pack's own format reward.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from factory.contracts import Sample
from factory.rewards.formats import AnswerForm, Shape, parse, shape_named
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Rollout

HEADING = "Form of the reply, in place of any form asked for before:"
"""First line of every instruction; the last paragraph of a prompt that begins with it is ours."""

FORM = "form"
"""Field that says `kept`, or what is wrong."""
KEPT = "kept"

_INSTRUCTION = re.compile(rf"(?:\n\n|\A){re.escape(HEADING)}\n.*\Z", re.DOTALL)
PACK_MARK = re.compile(r"</?(?:think|answer)>", re.IGNORECASE)
"""A mark that stands for reasoning or answer; it must not occur inside a block."""


def instructed(sample: Sample, instruction: str) -> Sample:
    """The sample with the instruction in the right message, in place of an earlier one; without any when it is empty.

    Media placeholders and everything the pack wrote stay as they are.
    """
    bare = [replace(m, content=_INSTRUCTION.sub("", m.content)) for m in sample.messages]
    if instruction:
        places = [place for place, m in enumerate(bare) if m.role == "user"]
        place = 0 if bare and bare[0].role == "system" else (places[-1] if places else len(bare) - 1)
        text = bare[place].content
        bare[place] = replace(bare[place], content=f"{text}{chr(10) * 2 if text else ''}{HEADING}\n{instruction}")
    return replace(sample, messages=tuple(bare))


def blocks_shape(names: Sequence[str], *, is_whole: bool = True) -> Shape:
    """Blocks `<name>...</name>` in this order, each once and nothing outside, as a shape of the parser (two or more names)."""
    first, second, *rest = ((f"<{name}>", f"</{name}>") for name in names)
    return Shape("+".join(names), AnswerForm.tags, thinking=first, answers=(second,), extras=tuple(rest), is_whole=is_whole)


def read_blocks(text: str, names: Sequence[str]) -> dict[str, str]:
    """Contents by block name when all blocks are there, none empty, and `form`: `kept` or what is wrong."""
    parsed = parse(text, blocks_shape(names))
    found = {names[0]: parsed.thinking or "", names[1]: parsed.answer or ""}
    found |= {name: parsed.extras.get(f"<{name}>", "") for name in names[2:]}
    fault = "" if parsed.well_formed else parsed.reason
    empty = [name for name in names if not found[name].strip()]
    if not fault and empty:
        fault = f"<{empty[0]}> is empty"
    if not fault and any(PACK_MARK.search(content) for content in found.values()):
        fault = "a mark of reasoning or answer inside a block"
    return {FORM: fault} if fault else {**{name: content.strip() for name, content in found.items()}, FORM: KEPT}


def written(shape: Shape, thinking: str, answer: str) -> str:
    """Reasoning and answer in the form that verifiers of this shape read; the inverse of `parse`."""
    if shape.form is AnswerForm.tags:
        answer = f"{shape.answers[0][0]}{answer}{shape.answers[0][1]}"
    elif shape.form is AnswerForm.boxed and "\\boxed" not in answer:
        answer = f"\\boxed{{{answer}}}"
    elif shape.form is AnswerForm.line and not answer.startswith("Answer:"):
        answer = f"Answer: {answer}"
    if not thinking or shape.thinking is None:
        return answer
    opening, closing = shape.thinking
    gap = "\n" if shape.is_heading else ""
    return f"{opening}{gap}{thinking}{gap}{closing}\n{answer}"


@dataclass(frozen=True)
class Format(ABC):
    """What all formats here share; one that leaves something out cannot be made."""

    pack_shape: str = "think_answer"
    """Form that the pack's verifiers read, a name of `factory.rewards.formats.SHAPES`."""

    def __post_init__(self) -> None:
        shape_named(self.pack_shape)

    @abstractmethod
    def instruction(self) -> str:
        """What the policy is told, without the heading."""

    def render(self, sample: Sample) -> Sample:
        """The sample with this form's instruction; see `instructed`."""
        return instructed(sample, self.instruction())

    @abstractmethod
    def read(self, text: str) -> Mapping[str, str]:
        """Blocks by name, and `form`."""

    def reasoning(self, fields: Mapping[str, str]) -> str:
        """All that stands before the answer, as the pack's verifiers shall see it."""
        return "\n".join(content for name, content in fields.items() if name not in (FORM, "answer"))

    def answering(self, text: str) -> str:
        """The part of the completion in which the answer stands."""
        return text

    def judged(self, text: str) -> str:
        """What the pack's verifiers are handed."""
        fields, shape = self.read(text), shape_named(self.pack_shape)
        if fields[FORM] == KEPT:
            return written(shape, self.reasoning(fields), fields["answer"])
        part = self.answering(text)
        answer = parse(part, "think_answer").answer
        return part if answer is None else written(shape, "", answer)


@dataclass(frozen=True)
class Blocks(Format):
    """A format that is one list of blocks."""

    @property
    @abstractmethod
    def blocks(self) -> Mapping[str, str]:
        """Block name -> what the policy is told to write in it, in order; `answer` last."""

    def instruction(self) -> str:
        """One line for each block."""
        return "\n".join(f"<{name}>{told}</{name}>" for name, told in self.blocks.items()) + "\nand nothing else."

    def read(self, text: str) -> Mapping[str, str]:
        """See `read_blocks`."""
        return read_blocks(text, list(self.blocks))


_THINK = {"think": "your reasoning, step by step"}
_ANSWER = {"answer": "the final answer only"}


@piece("format", "think_answer", formula="<think>..</think><answer>..</answer>", source="DeepSeek-R1, arXiv 2501.12948")
@dataclass(frozen=True)
class ThinkAnswer(Blocks):
    """Reasoning, then the answer. A prompt that already names both tags is left as it is."""

    @property
    def blocks(self) -> Mapping[str, str]:
        """See `Blocks`."""
        return _THINK | _ANSWER

    def render(self, sample: Sample) -> Sample:
        """The instruction only where the pack does not ask for this form itself."""
        bare = instructed(sample, "")
        asks = all(f"<{name}>" in bare.text() for name in self.blocks)
        return bare if asks else super().render(sample)

    def judged(self, text: str) -> str:
        """The text itself where the verifiers read this very form."""
        return text if self.pack_shape == "think_answer" else super().judged(text)


@piece(
    "format", "caption_reason_answer", formula="<info>caption</info><think>..</think><answer>..</answer>",
    source="Visionary-R1, arXiv 2505.14677",
)  # fmt: skip
@dataclass(frozen=True)
class CaptionReasonAnswer(Blocks):
    """Say what the image shows before reasoning about it, so that no answer is guessed from the question alone."""

    @property
    def blocks(self) -> Mapping[str, str]:
        """See `Blocks`."""
        told = "a description of the image with every detail that the question may need"
        return {"info": told} | _THINK | _ANSWER


@piece(
    "format", "satori", formula="<caption>..</caption><bbox>..</bbox><answer>..</answer>", source="SATORI-R1, arXiv 2505.19094"
)
@dataclass(frozen=True)
class Satori(Blocks):
    """Describe, point, answer: three steps that can each be verified."""

    @property
    def blocks(self) -> Mapping[str, str]:
        """See `Blocks`."""
        told = "a description of the image"
        return {"caption": told, "bbox": "[x1, y1, x2, y2] of each region that matters, in pixels"} | _ANSWER


@piece(
    "format",
    "observe",
    formula="<observe>..</observe><think>..</think><answer>..</answer>",
    source="Observe-R1, arXiv 2505.12432",
)
@dataclass(frozen=True)
class Observe(Blocks):
    """Look first."""

    @property
    def blocks(self) -> Mapping[str, str]:
        """See `Blocks`."""
        return {"observe": "what you see that matters for the question"} | _THINK | _ANSWER


@piece(
    "format",
    "context",
    formula="<context>..</context><think>..</think><answer>..</answer>",
    source="HumanOmniV2, arXiv 2506.21277",
)
@dataclass(frozen=True)
class Context(Blocks):
    """Sum up all of the context before reasoning."""

    @property
    def blocks(self) -> Mapping[str, str]:
        """See `Blocks`."""
        return {"context": "a summary of everything that is given"} | _THINK | _ANSWER


@piece("format", "no_thinking", formula="the answer alone, without any mark", source="CLS-RL / No-Thinking-RL, arXiv 2503.16188")
@dataclass(frozen=True)
class NoThinking(Format):
    """The whole completion is the answer."""

    def instruction(self) -> str:
        """One sentence."""
        return "Write the answer alone: no reasoning, no tags, no other word."

    def read(self, text: str) -> Mapping[str, str]:
        """`answer`, the whole text, when it has no tag in it."""
        fault = "nothing was answered" if not text.strip() else "a tag in a bare answer" if PACK_MARK.search(text) else ""
        return {FORM: fault} if fault else {"answer": text.strip(), FORM: KEPT}


@piece(
    "reward", "format", formula="weight * (kept or broken)", source="DeepSeek-R1, arXiv 2501.12948; weight 1 in Visionary-R1 and SATORI-R1",
    caveat="beside the pack's own format verifier in the mixture, the form counts twice; set that one's weight to 0",
)  # fmt: skip
@dataclass(frozen=True)
class FormatReward:
    """Whether the completion keeps the chosen format, by the format's own check."""

    weight: float = 1.0
    kept: float = 1.0
    broken: float = 0.0
    """-1 in DeepEyes and BusterX."""

    def score(self, ctx: StepContext, sample: Sample, rollout: Rollout) -> float:
        """Reward units."""
        return self.weight * (self.kept if rollout.fields.get(FORM) == KEPT else self.broken)
