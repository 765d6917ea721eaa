"""Two passes with a look back between them, as SRPO asks for. What they are worth: `hook.srpo_accuracy`, `reward.srpo_length`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from factory.rewards.formats import AnswerForm, Shape, parse
from factory.stages.rl.pieces.formats import FORM, KEPT, PACK_MARK, Format, read_blocks
from factory.stages.rl.pieces.piece import piece

_PASS = ("think", "answer")
_REFLECTION = Shape(
    "reflection",
    AnswerForm.tags,
    thinking=None,
    needs_thinking=False,
    answers=(("<reflection>", "</reflection>"),),
    is_whole=False,
)


@piece(
    "format", "two_pass", formula="<think>..</think><answer>..</answer><reflection>..</reflection><think>..</think><answer>..</answer>",
    source="SRPO, arXiv 2506.01713",
)  # fmt: skip
@dataclass(frozen=True)
class TwoPass(Format):
    """Answer, look back on it, answer again. Verifiers read the second answer."""

    def instruction(self) -> str:
        """Both passes, written out."""
        first = "<think>your reasoning, step by step</think>\n<answer>your first answer only</answer>"
        second = "<think>your reasoning once more</think>\n<answer>the final answer only</answer>"
        return f"{first}\n<reflection>what is right and what is wrong above</reflection>\n{second}\nand nothing else."

    def read(self, text: str) -> Mapping[str, str]:
        """`first_think`, `first_answer`, `reflection`, `think`, `answer`."""
        found = parse(text, _REFLECTION)
        if not found.well_formed:
            return {FORM: found.reason}
        before, _, rest = text.partition("<reflection>")
        first, second = read_blocks(before, _PASS), read_blocks(rest.partition("</reflection>")[2], _PASS)
        faults = [f"{name} pass: {one[FORM]}" for name, one in (("first", first), ("second", second)) if one[FORM] != KEPT]
        if faults or PACK_MARK.search(found.answer or ""):
            return {FORM: faults[0] if faults else "a mark of reasoning or answer inside the reflection"}
        return {
            "first_think": first["think"], "first_answer": first["answer"], "reflection": found.answer or "",
            "think": second["think"], "answer": second["answer"], FORM: KEPT,
        }  # fmt: skip
