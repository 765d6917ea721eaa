"""What the pack measures: accuracy by task, difficulty and mode; rules kept in written music; and choices by likelihood."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from factory.contracts import DataRequest, Eval, ModelView, Sample
from factory.domains.music.generator import samples
from factory.domains.music.options import COMPOSITION, Options
from factory.domains.music.verifiers import Accuracy

LIKELIHOOD_QUESTIONS = 64


def evals() -> dict[str, Eval]:
    """The pack's evals by name. `accuracy` decides which stage is kept; the report also splits it by task."""
    found = (
        Eval("accuracy", "qa", verifier="accuracy", primary=True),
        Eval("details", "probe", probe=details, needs_vision=False),
        Eval("likelihood", "probe", probe=likelihood, needs_vision=False),
    )
    return {evaluation.name: evaluation for evaluation in found}


def details(view: ModelView, split: str, seed: int) -> dict[str, float]:
    """More figures of the answers given in `accuracy`.

    Returns:
        `easy`, `medium`, `hard`, `text`, `visual`: accuracy of those questions; `composition/right`: share of the music that
        keeps every rule; `composition/rules`: mean share of rules kept, music that cannot be read counted as 0. Absent ones are
        left out.
    """
    accuracy = Accuracy()
    groups: dict[str, list[float]] = {}
    for sample in _asked(view.request, split, seed):
        if sample.id not in view.answers:
            continue
        verdict = accuracy(view.answers[sample.id], sample)
        for name in (str(sample.meta.get("difficulty", "unrated")), str(sample.meta.get("mode", "text"))):
            groups.setdefault(name, []).append(verdict.score)
        if sample.task in COMPOSITION:
            shares = list(verdict.parts.values())
            groups.setdefault("composition/right", []).append(verdict.score)
            groups.setdefault("composition/rules", []).append(
                float(np.mean([share >= 1.0 for share in shares])) if shares else 0.0
            )
    return {name: float(np.mean(values)) for name, values in sorted(groups.items())}


def _asked(request: DataRequest, split: str, seed: int) -> Iterable[Sample]:
    """The samples that the build measures."""
    if not request.paths:
        return samples(split, seed, request)
    from factory.domains.music.loaders import LOADER

    return LOADER.samples(request, split, seed)


def likelihood(view: ModelView, split: str, seed: int) -> dict[str, float]:
    """Choose among four options by their likelihood, as MusicTheoryBench's own harness does (there by perplexity).

    Generated questions with options, of the build's mode; each option's text follows the question without any form.

    Returns:
        `accuracy` (chance .25) with the summed log-probability, `accuracy/per_character` with it divided by the length.
    """
    kept = {key: value for key, value in view.request.options.items() if key in Options.__dataclass_fields__}
    request = replace(view.request, limit=LIKELIHOOD_QUESTIONS, paths=(), options={**kept, "choice": 1.0})
    prompts, texts, gold = [], [], []
    for sample in samples(split, seed, request):
        options = sample.meta.get("options")
        if not options or len(options) != 4 or len(sample.media) > 1:
            continue
        stem = sample.messages[-1].content.split("\nA", 1)[0]
        prompts += [(f"{stem}\n", sample.media)] * 4
        texts += list(options.values())
        gold.append(list(options).index(str(sample.reference)))
    if not gold:
        return {}
    scores = np.asarray(view.continuation_logprobs(prompts, texts), dtype=np.float64).reshape(len(gold), 4)
    lengths = np.array([len(text) for text in texts], dtype=np.float64).reshape(scores.shape)
    return {
        "accuracy": float((scores.argmax(axis=1) == gold).mean()),
        "accuracy/per_character": float(((scores / lengths).argmax(axis=1) == gold).mean()),
    }
