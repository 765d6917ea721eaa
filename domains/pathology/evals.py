"""What the pack measures: held-out accuracy, and three probes of the vision side that need no answer format.

The probes follow the evaluation of Patho-CLIP (zero-shot, retrieval, few-shot) with likelihoods in place of cosines,
and always use synthetic tiles, so that they can be compared across builds and data.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from factory.contracts import IMAGE, Eval, Media, ModelView
from factory.domains.pathology.fields import draw_field
from factory.domains.pathology.findings import CORE, VALUES, Field
from factory.domains.pathology.probes import balanced_accuracy, fit_logistic, recall_at, weighted_f1
from factory.domains.pathology.reasoning import caption_of
from factory.domains.pathology.render import tile

ZERO_SHOT_TILES = 48
RETRIEVAL_TILES = 24
RECALLS = (1, 5, 10)
TEMPLATES = (f"{IMAGE}\n{{finding}}",)
"""Prompts of the zero-shot probe, one likelihood each, averaged. They begin like a caption of the corpus."""
SHOTS = (2, 8, 16)
FEW_SHOT_SUBSETS = 10
FEW_SHOT_TEST = 64
"""Held-out tiles on which each few-shot classifier is judged."""


def evals() -> dict[str, Eval]:
    """The pack's evals by name. `accuracy` decides which stage is kept; the report also splits it by task."""
    found = (
        Eval("accuracy", "qa", verifier="accuracy", primary=True),
        Eval("zero_shot", "probe", probe=zero_shot),
        Eval("retrieval", "probe", probe=retrieval),
        Eval("few_shot", "probe", probe=few_shot),
    )
    return {evaluation.name: evaluation for evaluation in found}


def probe_fields(name: str, split: str, seed: int, count: int) -> list[Field]:
    """Fields of one probe. Their tiles are shared with no corpus, lesson or sample."""
    return [draw_field(random.Random(f"pathology-probe-{name}-{split}-{seed}-{index}")) for index in range(count)]


def zero_shot(view: ModelView, split: str, seed: int) -> dict[str, float]:
    """Name each finding by the most likely value after "<image> finding".

    Returns:
        `<finding>/balanced_accuracy` and `<finding>/weighted_f1` per finding, and their means. Chance is 1 / number of values.
    """
    fields = probe_fields("zero-shot", split, seed, ZERO_SHOT_TILES)
    media = [Media(data=tile(field)) for field in fields]
    figures: dict[str, float] = {}
    for name in CORE:
        rows = [i for i, field in enumerate(fields) if name in field.findings()]
        truth = np.array([VALUES[name].index(fields[i].findings()[name]) for i in rows])
        guesses = _likeliest(view, name, [media[i] for i in rows])
        figures[f"{name}/balanced_accuracy"] = balanced_accuracy(truth, guesses)
        figures[f"{name}/weighted_f1"] = weighted_f1(truth, guesses)
    for measure in ("balanced_accuracy", "weighted_f1"):
        figures[measure] = float(np.mean([figures[f"{name}/{measure}"] for name in CORE]))
    return figures


def _likeliest(view: ModelView, finding: str, media: Sequence[Media]) -> np.ndarray:
    """[N] int: index of the value with the highest mean log-probability over the templates."""
    values = VALUES[finding]
    total = np.zeros((len(media), len(values)))
    for template in TEMPLATES:
        prompts = [(template.format(finding=finding), (image,)) for image in media for _ in values]
        total += np.asarray(view.continuation_logprobs(prompts, [f" {value}" for _ in media for value in values])).reshape(
            total.shape
        )
    return total.argmax(axis=1)


def distinct_fields(split: str, seed: int, count: int) -> list[Field]:
    """The first `count` fields whose captions differ from each other's. There are 40 captions in all (8 H&E, 32 IHC)."""
    chosen: dict[str, Field] = {}
    for index in range(100 * count):
        field = draw_field(random.Random(f"pathology-probe-retrieval-{split}-{seed}-{index}"))
        chosen.setdefault(caption_of(field.findings(), "terse"), field)
        if len(chosen) == count:
            return list(chosen.values())
    raise AssertionError(f"only {len(chosen)} distinct captions in {100 * count} fields")


def retrieval(view: ModelView, split: str, seed: int) -> dict[str, float]:
    """Match tiles with captions by likelihood. Both directions, by name.

    A caption's mean over all tiles is subtracted first: it holds how likely the words are without looking (length, rarity).

    Returns:
        `image_to_text/recall@k` and `text_to_image/recall@k` for k of RECALLS. Chance is k / 24.
    """
    fields = distinct_fields(split, seed, RETRIEVAL_TILES)
    captions = [caption_of(field.findings(), "terse") for field in fields]
    prompts = [(f"{IMAGE}\n", (Media(data=tile(field)),)) for field in fields]
    pairs = [(prompt, caption) for prompt in prompts for caption in captions]
    flat = view.continuation_logprobs([prompt for prompt, _ in pairs], [caption for _, caption in pairs])
    scores = np.asarray(flat, dtype=np.float64).reshape(len(fields), len(fields))
    scores -= scores.mean(axis=0, keepdims=True)
    return {
        **{f"image_to_text/recall@{k}": recall_at(scores, k) for k in RECALLS},
        **{f"text_to_image/recall@{k}": recall_at(scores.T, k) for k in RECALLS},
    }


def few_shot(view: ModelView, split: str, seed: int) -> dict[str, float]:
    """Logistic regression on frozen image features from a few tiles per class.

    Returns:
        `<finding>/<shots>_shot` and `.../std`: mean and standard deviation of accuracy over 10 random subsets (seeds 42 + i,
        C = 1), for H&E against IHC, size, density and gland.
    """
    names = ("stain", "size", "density", "gland")
    pool = probe_fields("few-shot-train", split, seed, 4 * max(SHOTS))
    held_out = probe_fields("few-shot-test", split, seed, FEW_SHOT_TEST)
    features = np.asarray(view.image_features([Media(data=tile(field)) for field in (*pool, *held_out)]), dtype=np.float64)
    centre, spread = features[: len(pool)].mean(axis=0), features[: len(pool)].std(axis=0) + 1e-6
    features = (features - centre) / spread
    figures: dict[str, float] = {}
    for name in names:
        labels = np.array([VALUES[name].index(field.findings()[name]) for field in (*pool, *held_out)])
        for shots in SHOTS:
            hits = [_one_subset(features, labels, len(pool), shots, 42 + i) for i in range(FEW_SHOT_SUBSETS)]
            figures[f"{name}/{shots}_shot"], figures[f"{name}/{shots}_shot/std"] = float(np.mean(hits)), float(np.std(hits))
    return figures


def _one_subset(features: np.ndarray, labels: np.ndarray, num_pool: int, shots: int, seed: int) -> float:
    """Accuracy on the held-out rows of a classifier trained on `shots` random pool rows of each class (fewer when the pool has fewer)."""
    rng = random.Random(seed)
    rows: list[int] = []
    for value in (0, 1):
        members = [int(i) for i in np.flatnonzero(labels[:num_pool] == value)]
        rows += rng.sample(members, min(shots, len(members)))
    weights, bias = fit_logistic(features[rows], labels[rows])
    guesses = (features[num_pool:] @ weights + bias > 0).astype(int)
    return float((guesses == labels[num_pool:]).mean())
