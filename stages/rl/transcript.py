"""The text of a rollout: what the policy wrote, and between its turns what an environment answered."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from factory.stages.rl.rollouts import Rollout, Span

if TYPE_CHECKING:
    from factory.stages.models.codec import Codec

TOOL = ("<tool_response>", "</tool_response>")
"""Marks around an environment's answer in a transcript. The policy cannot forge them: in its own turns they are spaced out."""

_WRITTEN_MARK = re.compile(r"<(/?)tool_response>", re.IGNORECASE)
_ANSWER = re.compile(r"\n<tool_response>.*?</tool_response>\n", re.DOTALL)


def transcript(rollout: Rollout, codec: Codec) -> str:
    """Text of the completion up to its end; with tool turns, all turns in order, the tool's inside `TOOL` marks."""
    parts = []
    spans_or_all = rollout.spans or [Span(0, len(rollout.ids), "policy")]
    for is_tool, group in itertools.groupby(spans_or_all, key=lambda span: span.role == "tool"):
        spans = list(group)
        ids = rollout.ids[spans[0].start : spans[-1].end]
        if is_tool:
            parts.append(f"\n{TOOL[0]}{codec.tokenizer.decode(ids, skip_special_tokens=True).strip()}{TOOL[1]}\n")
        else:
            parts.append(_WRITTEN_MARK.sub(r"< \1tool_response>", codec.completion(ids)))
    return "".join(parts)


def turns(text: str) -> list[str]:
    """The policy's turns of a transcript, in order; one for a text without tool answers."""
    return _ANSWER.split(text)
