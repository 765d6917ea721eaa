"""What the pack measures: held-out accuracy, what the model sees without any answer form, and classes beside classical baselines.

`classes` puts macro-F1 and accuracy of the model and of the baselines in one table, on the same test series. It reads the
samples of the build (generated or the user's) and the completions of the primary eval, so it costs no further generation.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from factory.contracts import IMAGE, Eval, Media, ModelView, Sample
from factory.domains.timeseries.baselines import accuracy, guesses_of_all, macro_f1
from factory.domains.timeseries.families import FAMILIES
from factory.domains.timeseries.render import tile
from factory.domains.timeseries.series import from_json
from factory.domains.timeseries.signals import Signal, draw_signal
from factory.rewards.answers import normalise
from factory.rewards.formats import parse

PERCEIVED = 60
"""Signals of the perception probe, ten of each family."""
CLOSED_TASKS = ("classify", "feature", "forecast", "compare")
TRAINING_SERIES = 600
"""Generated series from which the baselines learn: about as many as RL sees with a class, a hundred of each family."""


def evals() -> dict[str, Eval]:
    """The pack's evals by name. `accuracy` decides which stage is kept; the report also splits it by task."""
    found = (
        Eval("accuracy", "qa", verifier="accuracy", primary=True),
        Eval("macro_f1", "probe", probe=macro_f1_by_task, needs_vision=False),
        Eval("perception", "probe", probe=perception),
        Eval("classes", "probe", probe=classes, needs_vision=False),
    )
    return {evaluation.name: evaluation for evaluation in found}


def macro_f1_by_task(view: ModelView, split: str, seed: int) -> dict[str, float]:
    """Macro-F1 of the primary eval's completions over the words that occur as right answers, per task with a few possible words."""
    from factory.domains.timeseries.pack import PACK

    truth: dict[str, list[str]] = defaultdict(list)
    guesses: dict[str, list[str]] = defaultdict(list)
    for sample in PACK.samples(split, seed, view.request):
        if sample.task in CLOSED_TASKS and sample.id in view.answers:
            truth[sample.task].append(normalise(str(sample.reference)))
            guesses[sample.task].append(named_word(view.answers[sample.id], sample))
    return {task: macro_f1(truth[task], guesses[task]) for task in CLOSED_TASKS if truth[task]}


def perception_signals(split: str, seed: int, count: int = PERCEIVED) -> list[Signal]:
    """Easy signals of all families in turn, shared with no corpus, lesson or sample."""
    names = list(FAMILIES)
    return [
        draw_signal(random.Random(f"timeseries-probe-{split}-{seed}-{index}"), FAMILIES[names[index % len(names)]], "easy")
        for index in range(count)
    ]


def perception(view: ModelView, split: str, seed: int) -> dict[str, float]:
    """Name each feature and class by the most likely word after "<image> rhythm", as in a caption.

    Returns:
        `<family>` per family and `mean`: share of features and classes named right. Chance depends on the number of words: .33 to .5
        for features, .14 to .5 for classes.
    """
    signals = perception_signals(split, seed)
    prompts: list[tuple[str, tuple[Media, ...]]] = []
    endings: list[str] = []
    asked: list[tuple[str, int, int]] = []  # family, number of words, place of the right one
    for signal in signals:
        family, image = signal.family, Media(data=tile(signal.series, signal.family.view))
        for name, right, words in (
            *((name, value, family.features[name]) for name, value in signal.features.items()),
            (family.name, signal.label, tuple(family.classes)),
        ):
            prompts += [(f"{IMAGE}\n{name}", (image,))] * len(words)
            endings += [f" {word}" for word in words]
            asked.append((family.name, len(words), words.index(right)))
    scores = np.asarray(view.continuation_logprobs(prompts, endings))
    hits, start = defaultdict(list), 0
    for family_name, num_words, right_place in asked:
        hits[family_name].append(float(int(scores[start : start + num_words].argmax()) == right_place))
        start += num_words
    figures = {name: float(np.mean(values)) for name, values in hits.items()}
    return {**figures, "mean": float(np.mean([hit for values in hits.values() for hit in values]))}


def classes(view: ModelView, split: str, seed: int) -> dict[str, float]:
    """Accuracy and macro-F1 of the model and of classical baselines, per set of classes.

    A set is a family of the generator, or one data set of the user's. The baselines learn from the training samples (all of the
    user's; TRAINING_SERIES generated ones) and are judged on the very series of the primary eval.

    Returns:
        `<set>/<who>/accuracy` and `<set>/<who>/macro_f1`, with who = model, majority, 1nn_ed, 1nn_dtw, rocket; and `mean/...` over sets;
        nothing when no test sample has a class.
    """
    from factory.domains.timeseries.pack import PACK

    test = _by_set(PACK.samples(split, seed, view.request))
    if not test:
        return {}
    if view.request.paths:
        more: dict[str, Any] = {"augment": 0}
    else:
        more = {"shares": {"classify": 1.0}}
    # Written, not drawn: the series are the same, and nothing looks at the pictures here.
    asked = replace(view.request, limit=None if view.request.paths else TRAINING_SERIES,
                    options={**view.request.options, **more, "mode": "text"})  # fmt: skip
    train = _by_set(PACK.samples("train", seed, asked))
    figures: dict[str, float] = {}
    for name, samples in sorted(test.items()):
        figures |= {f"{name}/{key}": value for key, value in _compared(samples, train.get(name, []), view.answers, seed).items()}
    return {**figures, **_means(figures)}


def _by_set(samples: Any) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.task == "classify" and sample.meta.get("series") and not sample.meta.get("copy"):
            found[str(sample.meta.get("family") or sample.meta.get("dataset") or "series")].append(sample)
    return dict(found)


def _compared(test: Sequence[Sample], train: Sequence[Sample], answers: Mapping[str, str], seed: int) -> dict[str, float]:
    truth = [normalise(str(sample.reference)) for sample in test]
    who: dict[str, list[str]] = {}
    if all(sample.id in answers for sample in test):
        who["model"] = [named_word(answers[sample.id], sample) for sample in test]
    if train:
        labels = [normalise(str(sample.reference)) for sample in train]
        who |= guesses_of_all(_values(test), _values(train), labels, seed)
    figures = {}
    for name, guesses in who.items():
        figures[f"{name}/accuracy"] = accuracy(truth, guesses)
        figures[f"{name}/macro_f1"] = macro_f1(truth, guesses)
    return figures


def _values(samples: Sequence[Sample]) -> list[np.ndarray]:
    return [from_json(sample.meta["series"]) for sample in samples]


def named_word(completion: str, sample: Sample) -> str:
    """The class or other word that a completion gives, as the primary eval reads it; empty when it gives none."""
    shape = "timemaster" if sample.meta.get("form") == "timemaster" else "think_answer"
    return normalise(parse(completion, shape, lenient=True).answer or "")


def _means(figures: Mapping[str, float]) -> dict[str, float]:
    """Unweighted means over the sets, for whoever was measured on all of them."""
    sets = {key.partition("/")[0] for key in figures}
    grouped: dict[str, list[float]] = defaultdict(list)
    for key, value in figures.items():
        grouped[key.partition("/")[2]].append(value)
    return {f"mean/{key}": float(np.mean(values)) for key, values in grouped.items() if len(values) == len(sets)}
