"""Checks of what a pack yields without data paths: determinism, transport, separate splits, clean prompts, sound images."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import pickle
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from factory.contracts import IMAGE, SPLITS, Document, Lesson, Sample
from factory.errors import FactoryError
from factory.rewards.routing import row_of
from factory.testing.subject import DRAW, SEED, Subject, as_json, ensure, identity, sample_of, verdict_of

_DIGEST = """
import sys
from factory.testing.checks_data import digest
from factory.testing.subject import DRAW, SEED, Subject
subject = Subject.named(sys.argv[1])
for role in subject.roles:
    print(role, digest(subject.draw(role, "train", SEED, DRAW)))
"""


def digest(items: Iterable[Any]) -> str:
    """One hash over everything in the items, in order."""
    whole = hashlib.sha256()
    for item in items:
        whole.update(json.dumps(as_json(item), sort_keys=True).encode())
    return whole.hexdigest()


def draws_are_deterministic(subject: Subject) -> None:
    """The same split and seed give the same items, here and in a new process; another seed or split gives others."""
    fresh = dict(line.split() for line in subject.in_new_process(_DIGEST, [subject.entry.name]).splitlines())
    for role in subject.roles:
        first = digest(subject.draw(role))
        again = digest(subject.draw_anew(role, "train", SEED, DRAW))
        ensure(
            first == again,
            f"{role}('train', {SEED}) differs when drawn twice. Pass randomness in: random.Random(f'{{seed}}-{{index}}').",
        )
        ensure(
            first != digest(subject.draw(role, "train", SEED + 1)),
            f"{role} is the same for seeds {SEED} and {SEED + 1}. Use the seed.",
        )
        ensure(first != digest(subject.draw(role, "test")), f"{role} is the same for train and test. Use the split.")
        ensure(
            first == fresh[role],
            f"{role} differs in a new process: it depends on hash order or global state. Sort sets; seed by text.",
        )


def limits_are_kept(subject: Subject) -> None:
    """`limit` items come, with unique ids, the asked split and tasks that the manifest knows; a short draw begins a long one."""
    for role, split in itertools.product(subject.roles, SPLITS):
        items = subject.draw(role, split)
        is_all = 0 < len(items) < DRAW and len(subject.draw_anew(role, split, SEED, 2 * DRAW)) == len(items)
        ensure(
            len(items) == DRAW or is_all,
            f"{role}('{split}') gave {len(items)} items for limit={DRAW}. A generator yields exactly the limit; a fixed set gives "
            "what it has, at least one item for each split.",
        )
        ids = [identity(item) for item in items]
        twice = [i for i in ids if ids.count(i) > 1]
        ensure(not twice, f"{role}('{split}') repeats the id {twice[0] if twice else ''}. Number them.")
        for item in items:
            said = item.sample.split if isinstance(item, Lesson) else item.split
            ensure(said == split, f"{role}('{split}'): {identity(item)} says split={said!r}. Set it.")
            sample = sample_of(item)
            known = sample is None or row_of(subject.manifest.tasks, sample.task) is not None
            ensure(known, f"{role}: {identity(item)} has a task that pack.yaml does not list: {sample.task if sample else ''}.")
        short = subject.draw_anew(role, split, SEED, 3)
        ensure(
            digest(short) == digest(items[:3]),
            f"{role}('{split}'): the first items change with the limit. Draw each by its index.",
        )


_VERDICTS = """
import json, pickle, sys
from factory.testing.subject import Subject
subject = Subject.named(sys.argv[1])
verifiers = subject.pack.verifiers()
with open(sys.argv[2], "rb") as file:
    calls = pickle.load(file)
print("VERDICTS " + json.dumps([[v.score, v.status.value, v.reason] for v in (verifiers[name](text, sample) for name, text, sample in calls)]))
"""
TRAVELLERS = 8
"""Gold answers that are scored in another process."""


def items_survive_transport(subject: Subject) -> None:
    """Items survive pickle, and samples survive JSON, unchanged; a worker process gives the same verdicts on them."""
    for role in subject.roles:
        for item in subject.draw(role):
            try:
                copy = pickle.loads(pickle.dumps(item))
            except Exception as err:
                ensure(False, f"{role}: {identity(item)} cannot be pickled: {err}. Keep plain data in meta and reference.")
            ensure(copy == item, f"{role}: {identity(item)} differs after pickle. Keep plain data in it.")
            sample = sample_of(item)
            if sample is None:
                continue
            try:
                back = Sample.from_json(json.loads(json.dumps(sample.to_json(), allow_nan=False)))
            except (TypeError, ValueError) as err:
                ensure(False, f"{role}: {identity(item)} is not JSON: {err}. Keep text, numbers, lists and mappings in it.")
            ensure(back == sample, f"{role}: {identity(item)} differs after JSON. Use lists, not tuples, and text keys.")
    _same_verdicts_elsewhere(subject)


def _same_verdicts_elsewhere(subject: Subject) -> None:
    """Score some gold answers here and in a new process, which gets them by pickle as reward workers do."""
    golds = subject.golds()[:: max(1, len(subject.golds()) // TRAVELLERS)][:TRAVELLERS]
    calls = [(name, text, sample) for sample, text in golds for name in subject.mixture.verifiers_for(sample.task)]
    verifiers = subject.pack.verifiers()
    here = [verdict_of(verifiers[name], text, sample) for name, text, sample in calls]
    with tempfile.TemporaryDirectory(prefix="factory-check-") as folder:
        path = Path(folder) / "calls.pickle"
        path.write_bytes(pickle.dumps(calls))
        told = subject.in_new_process(_VERDICTS, [subject.entry.name, str(path)])
    there = json.loads(next(line for line in told.splitlines() if line.startswith("VERDICTS "))[len("VERDICTS ") :])
    for (name, _, sample), mine, other in zip(calls, here, there, strict=True):
        ensure(
            [mine.score, mine.status.value, mine.reason] == other,
            f"verifier '{name}' says {mine.score:g} ({mine.reason}) on {sample.id} here and {other[0]:g} ({other[2]}) in a worker process. "
            "It depends on hash order, the environment or global state: sort sets, and keep state out.",
        )


def splits_are_disjoint(subject: Subject) -> None:
    """No id, image or (without images) text of a held-out sample occurs in anything that is trained on."""
    held_out = {mark: f"samples('{split}') {item.id}" for split in ("validation", "test") for item in subject.draw("samples", split, limit=96)
                for mark in _marks(item)}  # fmt: skip
    tests = {mark: item.id for item in subject.draw("samples", "test", limit=96) for mark in _marks(item)}
    for item in subject.draw("samples", "validation", limit=96):
        for mark in _marks(item):
            ensure(
                mark not in tests,
                f"samples('validation') {item.id} and samples('test') {tests.get(mark)} share the {mark[0]} {mark[1][:60]!r}. "
                "Draw them from separate streams.",
            )
    for role in subject.roles:
        for item in subject.draw(role, "train", limit=96):
            for mark in _marks(item):
                ensure(
                    mark not in held_out,
                    f"{role}('train') {identity(item)} and {held_out.get(mark)} share the {mark[0]} {mark[1][:60]!r}. Separate them.",
                )


def _marks(item: Sample | Lesson | Document) -> list[tuple[str, str]]:
    """By what an item is recognised: its id; its images; its text when it has no image (questions about images repeat)."""
    media = item.sample.media if isinstance(item, Lesson) else item.media
    sample = sample_of(item)
    text = sample.text() if sample is not None else item.text if isinstance(item, Document) else ""
    marks = [("id", identity(item))]
    if media:
        return marks + [("image", one.sha256()) for one in media]
    return [*marks, ("text", " ".join(text.casefold().split()))]


def prompts_are_clean(subject: Subject) -> None:
    """Templates parse; prompts end with the user, have no stray space or unrendered template, one placeholder per image, and fit."""
    _templates_parse(subject)
    budget, tokens_per_image = _context_budget(subject)
    for role in subject.roles:
        for item in subject.draw(role):
            place = f"{role}: {identity(item)}"
            sample = sample_of(item)
            if sample is None:
                texts, media = [item.text], item.media
            else:
                texts, media = [message.content for message in sample.messages], sample.media
                ensure(bool(texts) and sample.messages[-1].role == "user", f"{place}: the last message must be the user's.")
            for text in texts:
                ensure(bool(text.strip()), f"{place}: a message is empty.")
                ensure(text == text.strip(), f"{place}: a message begins or ends with white space: {text[-20:]!r}. Strip it.")
                ensure(
                    "{{" not in text and "{%" not in text,
                    f"{place}: a template was not rendered: {text[:60]!r}. Fill in its values before yielding it.",
                )
            num = sum(text.count(IMAGE) for text in texts)
            ensure(num == len(media), f"{place}: {num} {IMAGE} placeholders for {len(media)} images. Write one for each.")
            fewest = sum(len(text.split()) for text in texts) + num * tokens_per_image
            ensure(
                sample is None or fewest <= budget,
                f"{place}: the prompt has at least {fewest} tokens, the embedded base has room for {budget} beside the answer. "
                "Shorten it, or lower eval.max_new_tokens in recipes/embedded.yaml.",
            )


def _templates_parse(subject: Subject) -> None:
    """Every prompts/*.jinja is valid, and ends its lines without stray space. (`packs.generated.system_prompt` renders strictly.)"""
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    for path in sorted((subject.folder / "prompts").glob("*.jinja")):
        text = path.read_text(encoding="utf-8")
        try:
            environment.parse(text)
        except jinja2.TemplateSyntaxError as err:
            ensure(False, f"prompts/{path.name}:{err.lineno}: {err.message}. Mend the template.")
        for number, line in enumerate(text.splitlines(), 1):
            ensure(line == line.rstrip(), f"prompts/{path.name}:{number}: ends with white space: {line[-20:]!r}. Strip it.")


def _context_budget(subject: Subject) -> tuple[int, int]:
    """Tokens that a prompt may have in the embedded recipe, and those of one image. Every word counts as one token at least."""
    from factory.config.compose import compose
    from factory.config.layers import recipe_names
    from factory.stages.models.facts import model_facts

    if "embedded" not in recipe_names(subject.folder):
        return sys.maxsize, 0  # a check of its own says so
    try:
        config = compose(subject.entry.name, recipe="embedded").config
    except FactoryError:
        return sys.maxsize, 0  # as does another of a recipe that does not compose
    if not config.base.startswith("embedded-"):
        return sys.maxsize, 0
    facts = model_facts(config.base)
    return facts.context - config.eval.max_new_tokens, facts.tokens_per_image


def media_are_sound(subject: Subject) -> None:
    """Images decode; `width`, `height`, `image_mode` and `mpp` (microns per pixel) in meta are true and positive where given."""
    from PIL import Image

    for role in subject.roles:
        for item in subject.draw(role):
            sample = sample_of(item)
            media = sample.media if sample is not None else item.media
            ensure(
                subject.manifest.modality == "vl" or not media,
                f"{role}: {identity(item)} has an image, but the pack's modality is text.",
            )
            for one in media:
                try:
                    with Image.open(io.BytesIO(one.read())) as image:
                        image.load()
                        size, mode = image.size, image.mode
                except Exception as err:  # Pillow's formats each raise their own for damage
                    ensure(
                        False,
                        f"{role}: an image of {identity(item)} does not decode: {err}. Encode it as PNG or JPEG, or leave the row out.",
                    )
            if sample is None or not media:
                continue
            mpp = sample.meta.get("mpp", 1.0)
            is_positive = isinstance(mpp, int | float) and mpp > 0
            ensure(is_positive, f"{role}: {identity(item)}: meta['mpp'] is {mpp!r}; want microns per pixel above 0.")
            ensure(
                sample.meta.get("image_mode", mode) == mode,
                f"{role}: {identity(item)}: meta says image_mode {sample.meta.get('image_mode')!r}, the image is {mode}. Convert it, or correct meta.",
            )
            said = (sample.meta.get("width", size[0]), sample.meta.get("height", size[1]))
            ensure(
                said == size, f"{role}: {identity(item)}: meta says {said[0]}x{said[1]} px, the image has {size[0]}x{size[1]}."
            )


CHECKS = (
    draws_are_deterministic, limits_are_kept, items_survive_transport, splits_are_disjoint, prompts_are_clean, media_are_sound,
)  # fmt: skip
