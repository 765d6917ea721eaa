"""One generated question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, the reference that verifiers compare with, and a worked response."""

    task: str
    text: str
    reference: Any
    steps: str
    """Reasoning in the words of the corpus."""
    answer: str
    """A right answer."""
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def response(self) -> str:
        """The worked response with reasoning."""
        return f"<think>{self.steps}</think><answer>{self.answer}</answer>"
