"""TRL reward functions, both ways: `fn(completions, **columns) -> list[float | None]` as a verifier, and a verifier as one.

verifier = TrlVerifier("mine:length_reward", low=-1.0, high=1.0)
trainer = GRPOTrainer(..., reward_funcs=as_reward_function(verifier), train_dataset=Dataset.from_list(rows(samples)))
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.contracts import Sample, Status, Verdict, Verifier
from factory.rewards.bridges.bridge import FunctionVerifier


@dataclass(frozen=True)
class TrlVerifier(FunctionVerifier):
    """A TRL reward function, called with one completion.

    `None` (TRL: not applicable) becomes `error`, so that the rollout is masked and counted: route only tasks to it that it
    applies to. A function that compares the completions of a batch cannot be bridged; it sees one.
    """

    name: str = "trl"
    conversational: bool = True
    """Hand over prompts and completions as lists of messages, as TRL does for chat data; else as texts."""

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError for anything but one number or None per completion."""
        found = self.function()(**self._columns(completion, sample))
        if isinstance(found, str) or not isinstance(found, Sequence) or len(found) != 1:
            raise ValueError(f"{self.target} returned {found!r} for one completion, want a list of one number")
        if found[0] is None:
            return Verdict(
                0.0, Status.error, f"not applicable: {self.target} returned None; route the task '{sample.task}' elsewhere"
            )
        return self.verdict(found[0])

    def _columns(self, completion: str, sample: Sample) -> dict[str, list[Any]]:
        """What TRL would pass: one row of every column. Columns of the data set are those in `meta`, and `solution`/`answer`."""
        if self.conversational:
            prompt: Any = [{"role": m.role, "content": m.content} for m in sample.messages]
            said: Any = [{"role": "assistant", "content": completion}]
        else:
            prompt, said = sample.text(), completion
        columns = {"solution": [sample.reference], "answer": [sample.reference], "task": [sample.task]}
        columns |= {key: [value] for key, value in sample.meta.items()}
        return columns | {"prompts": [prompt], "completions": [said]}


def as_reward_function(verifier: Verifier) -> Callable[..., list[float | None]]:
    """A verifier as a TRL reward function over data made by `rows`.

    Masked verdicts and raising verifiers become None, which TRL leaves out of the sum. It runs in the trainer's process,
    without the pool's time and memory limits: for these, train here.
    """

    def reward(completions: Sequence[Any], sample: Sequence[str], **columns: Any) -> list[float | None]:
        texts = [said if isinstance(said, str) else said[-1]["content"] for said in completions]
        return [_scored(verifier, text, Sample.from_json(json.loads(row))) for text, row in zip(texts, sample, strict=True)]

    reward.__name__ = verifier.name
    return reward


def _scored(verifier: Verifier, text: str, sample: Sample) -> float | None:
    try:
        verdict = verifier(text, sample)
    except Exception:  # whatever a verifier raises is its failure, not the answer's: TRL must leave the row out
        return None
    return None if verdict.status.is_masked else verdict.score


def rows(samples: Iterable[Sample]) -> list[Mapping[str, Any]]:
    """Rows for a TRL data set: `prompt` as messages, and `sample` as JSON for the reward function."""
    return [
        {"prompt": [{"role": m.role, "content": m.content} for m in one.messages], "sample": json.dumps(one.to_json())}
        for one in samples
    ]
