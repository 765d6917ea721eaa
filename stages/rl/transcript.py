"""The text of a rollout: what the policy wrote, and between its turns what an environment answered."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from factory.stages.models.codec import Codec
    from factory.stages.rl.rollouts import Rollout

TOOL = ("<tool>", "</tool>")
"""Marks around an environment's answer in a transcript. The policy cannot write them: in its turns they are spaced out."""

_WRITTEN_MARK = re.compile(r"<(/?)tool>", re.IGNORECASE)
_ANSWER = re.compile(r"\n<tool>.*?</tool>\n", re.DOTALL)


def transcript(rollout: Rollout, codec: Codec) -> str:
    """Text of the completion up to its end; with tool turns, all turns in order, the tool's inside `TOOL` marks."""
    if not any(span.role == "tool" for span in rollout.spans):
        return codec.completion(rollout.ids)
    parts = []
    for is_tool, group in itertools.groupby(rollout.spans, key=lambda span: span.role == "tool"):
        spans = list(group)
        ids = rollout.ids[spans[0].start : spans[-1].end]
        if is_tool:
            parts.append(f"\n{TOOL[0]}{codec.tokenizer.decode(ids, skip_special_tokens=True).strip()}{TOOL[1]}\n")
        else:
            parts.append(_WRITTEN_MARK.sub(r"< \1tool>", codec.completion(ids)))
    return "".join(parts)


def turns(text: str) -> list[str]:
    """The policy's turns of a transcript, in order; one for a text without tool answers."""
    return _ANSWER.split(text)
