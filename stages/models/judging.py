"""Models as judges, for the process of `factory.rewards.judges.local`: a generative one that answers, a scalar one that scores.

Both are named as targets (`factory.stages.models.judging:Generative`, `:Scalar`) and take the judge's settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from factory.contracts import Message, Sample


class Generative:
    """Greedy answers of a model folder. Raises ModelError when it cannot be loaded."""

    def __init__(self, settings: Any) -> None:
        from factory.stages.models.load import load

        self._loaded = load(Path(settings.path), precision=settings.precision, device=settings.device)
        self._loaded.model.eval()
        self._max_new_tokens = settings.max_new_tokens

    def complete(self, messages: Sequence[Message]) -> str:
        """The answer's text, up to the end of turn. Raises DataError when prompt and answer exceed the context."""
        import torch

        from factory.stages.models.generate import generate

        encoded = self._loaded.codec.prompt(tuple(messages), ())
        with torch.no_grad():
            found = list(
                generate(
                    self._loaded, [encoded], max_new_tokens=self._max_new_tokens, temperature=0.0, generator=torch.Generator()
                )
            )
        return self._loaded.codec.completion(found[0].ids)


class Scalar:
    """The scorer of a reward_model stage (Bradley-Terry; with `show_reference` it reads prompt, reference and candidate, as POLAR)."""

    def __init__(self, settings: Any) -> None:
        from factory.stages.models.scorer import load_scorer

        self._scorer = load_scorer(Path(settings.path), precision=settings.precision, device=settings.device)

    def score(self, completion: str, sample: Sample) -> float:
        """Higher is better; the score of a cost model is turned round."""
        value = self._scorer.score([(sample, completion)])[0]
        return -value if self._scorer.settings.objective == "cost" else value
