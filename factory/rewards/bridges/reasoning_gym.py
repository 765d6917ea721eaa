"""reasoning-gym: procedural tasks with exact scorers (`create_dataset`, `score_answer`).

    gym = ReasoningGym.of({"gym/sums": {"dataset": "chain_sum", "config": {"max_terms": 3}}})
    gym = ReasoningGym.ladder(("chain_sum", "leg_counting"), prefix="gym")     # one task per difficulty step

A sample carries (dataset, config, seed, index) and not the entry: metadata does not survive JSON (tuples, sets). The
verifier makes the entry again and checks that it asks the same question.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from factory.contracts import Sample, Status, Verdict
from factory.errors import ConfigError, DataError, PluginError, near_miss
from factory.rewards.bridges.bridge import answer_in, make_sample, origin_of, score_verdict, split_of

log = logging.getLogger(__name__)

UNREPEATABLE = ("codeio", "isomorphic_strings", "ransom_note")
"""Datasets that make other items from the same seed (the last two in every new process: their items hang on the order of a set),
so that nothing can be judged later; a ladder leaves them out."""
SLOW = (
    "arc_agi", "bf", "figlet_font", "game_of_life", "group_anagrams", "intermediate_integration", "jugs", "knight_swap", "n_queens",
    "polynomial_multiplication", "puzzle24", "rearc", "sokoban", "word_ladder", "zebra_puzzles",
)  # fmt: skip
"""Datasets that take a tenth of a second or more for an item at their hardest step (0.1.25, one core); a held-out item takes
ten tries on average. A ladder over the others is drawn in seconds."""
FRAGILE = ("boxnet", "prime_factorization")
"""Datasets whose scorer raises on an answer of another shape (0.1.25), so that such an answer is masked instead of wrong."""
CHUNK = 64
"""Items made with one seed of the library, before the next seed."""
HINT = "\n\nWrite your reasoning between <think> and </think>, then the final answer alone between <answer> and </answer>."


def _library() -> Any:
    try:
        import reasoning_gym
    except ImportError as err:
        raise PluginError(
            f"the reasoning-gym bridge needs the library: {err}. Install it: pip install 'domain-factory[bridges]'."
        ) from err
    return reasoning_gym


@lru_cache(maxsize=256)
def _dataset(name: str, config: str, seed: int) -> Any:
    """The library's dataset; `config` is JSON. Raises ConfigError: unknown name or a setting that the dataset refuses."""
    library = _library()
    names = library.factory.DATASETS
    if name not in names:
        raise ConfigError(f"reasoning-gym has no dataset '{name}'.{near_miss(name, names)} It has {len(names)}.")
    try:
        return library.create_dataset(name, seed=seed, size=CHUNK, **json.loads(config))
    except (TypeError, ValueError, AssertionError) as err:
        raise ConfigError(f"reasoning-gym dataset '{name}' refuses {config}: {err}. Mend the task's config.") from err


def _entry(dataset: Any, index: int) -> Any:
    """An item, or None where the library gives up on making it (countdown does after 100 attempts): the next may be made."""
    try:
        return dataset[index]
    except Exception as err:  # whatever a generator raises: one item of thousands must not end a run
        log.debug("%s item %d cannot be made: %s", type(dataset).__name__, index, err)
        return None


def _question_hash(question: str) -> str:
    return hashlib.sha256(question.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True)
class GymVerifier:
    """`score_answer` of the dataset that a sample came from."""

    name: str = "reasoning_gym"
    shape: str = "think_answer"
    partial: bool = False

    @property
    def version(self) -> str:
        """Changes with the library too: the same answer may then be scored otherwise."""
        _library()
        return f"1-{version('reasoning-gym')}-{self.shape}-{int(self.partial)}"

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises (so the pool masks): the library fails, or makes another question from the same seed."""
        origin = origin_of(sample, self.name)
        answer, fault = answer_in(completion, self.shape)
        if answer is None:
            return Verdict(0.0, Status.unparsable, fault)
        dataset = _dataset(origin["dataset"], json.dumps(origin["config"], sort_keys=True), int(origin["seed"]))
        entry = dataset[int(origin["index"])]
        if _question_hash(entry["question"]) != origin["question"]:
            raise DataError(
                f"sample {sample.id}: reasoning-gym now makes another question from the same seed. Draw the samples again with "
                "the installed version, or leave this dataset out."
            )
        return score_verdict(dataset.score_answer(answer, entry), partial=self.partial, what=origin["dataset"])


@dataclass(frozen=True)
class ReasoningGym:
    """Tasks from reasoning-gym. Make one with `of` or `ladder`."""

    table: tuple[tuple[str, str, str], ...]
    """(task, dataset, config as JSON)."""
    shape: str = "think_answer"
    partial: bool = False
    hint: str = HINT
    """Written after each question."""
    name: str = "reasoning_gym"

    @classmethod
    def of(cls, tasks: Mapping[str, Mapping[str, Any]], **settings: Any) -> ReasoningGym:
        """From {task: {"dataset": name, "config": {...}}}."""
        rows = ((task, row["dataset"], json.dumps(row.get("config") or {}, sort_keys=True)) for task, row in tasks.items())
        return cls(tuple(rows), **settings)

    @classmethod
    def ladder(
        cls, datasets: Sequence[str] | None = None, *, leave_out: Sequence[str] = (), prefix: str = "gym", **settings: Any
    ) -> ReasoningGym:
        """One task for every dataset with its defaults, and one for every level of every attribute of its curriculum.

        All datasets together give over 1,000 tasks. Settings that a dataset refuses are left out, its own defaults too.
        """
        library = _library()
        names = tuple(datasets) if datasets is not None else tuple(sorted(set(library.factory.DATASETS) - set(UNREPEATABLE)))
        tasks: dict[str, dict[str, Any]] = {}
        for name in (name for name in names if name not in leave_out):
            for step, config in _levels(library, name):
                tasks[f"{prefix}/{name}/{step}"] = {"dataset": name, "config": config}
        return cls.of(tasks, **settings)

    def tasks(self) -> dict[str, str]:
        """See `Bridge`."""
        return {task: f"reasoning-gym {dataset} {config}" for task, dataset, config in self.table}

    def samples(self, task: str, split: str, seed: int) -> Iterator[Sample]:
        """See `Bridge`. Ends when 4 chunks in a row bring no new question of the split (small tasks run out)."""
        dataset, config = next((row[1], row[2]) for row in self.table if row[0] == task)
        seen: set[str] = set()
        barren, chunk = 0, 0
        while barren < 4:
            # The library's seeds are 32 bits; apart for every task, so that no two draw the same items in step.
            of_task = int(hashlib.sha256(f"{task}-{seed}-{chunk}".encode()).hexdigest()[:7], 16)
            made, before, chunk = _dataset(dataset, config, of_task), len(seen), chunk + 1
            for index in range(CHUNK):
                entry = _entry(made, index)
                if entry is None:
                    continue
                question = entry["question"]
                if question in seen or split_of(question) != split:
                    continue
                seen.add(question)
                origin = {
                    "dataset": dataset, "config": json.loads(config), "seed": of_task, "index": index, "question": _question_hash(question),
                }  # fmt: skip
                yield make_sample(
                    task, question + self.hint, entry["answer"], origin, split=split, source=f"reasoning-gym:{dataset}"
                )
            barren = barren + 1 if len(seen) == before else 0

    def verifier(self) -> GymVerifier:
        """See `Bridge`."""
        return GymVerifier(self.name, self.shape, self.partial)

    def gold(self, sample: Sample) -> str | None:
        """The library's own answer; None where it keeps none (its scorer then checks a property)."""
        answer = sample.reference
        if not isinstance(answer, str) or not answer.strip():
            return None
        return {"think_answer": f"<think>worked out</think><answer>{answer}</answer>", "answer": f"<answer>{answer}</answer>",
                "boxed": f"\\boxed{{{answer}}}"}.get(self.shape, answer)  # fmt: skip


def _levels(library: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(step name, settings that differ from the defaults) of one dataset.

    `base`; `<attribute>-<level>` with only this attribute raised; `all-<level>` with every attribute at that level.
    """
    if _is_accepted(library, name, {}):
        yield "base", {}
    if name not in library.factory.CURRICULA:
        return
    attributes = library.factory.create_curriculum(name).attributes
    depths = {attribute: len(attributes[attribute].levels) for attribute in sorted(attributes)}
    steps = [(f"{one}-{level}", {one: level}) for one, depth in depths.items() for level in range(depth)]
    for level in range(max(depths.values(), default=0)):
        steps.append((f"all-{level}", {one: min(level, depth - 1) for one, depth in depths.items()}))
    defaults = asdict(library.factory.DATASETS[name][1]())
    seen = {"{}"}
    for step, levels in steps:
        settings = _settings(library, name, levels, defaults)
        text = json.dumps(settings, sort_keys=True)
        if settings is not None and text not in seen:
            seen.add(text)
            yield step, settings


def _settings(library: Any, name: str, levels: Mapping[str, int], defaults: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a curriculum sets at these levels, or None where the dataset itself refuses it or JSON cannot hold it."""
    curriculum = library.factory.create_curriculum(name)
    for attribute, level in levels.items():
        curriculum.set_attr_level(attribute, level)
    try:
        config = curriculum.generate_configuration({})
        changed = {k: v for k, v in asdict(config).items() if k not in ("seed", "size") and v != defaults[k]}
        plain = json.loads(json.dumps(changed))
    except (TypeError, ValueError, AssertionError, AttributeError, KeyError):
        return None
    return plain if plain == changed and _is_accepted(library, name, plain) else None


def _is_accepted(library: Any, name: str, settings: Mapping[str, Any]) -> bool:
    """Whether the dataset takes these settings (`composite` refuses even its defaults)."""
    try:
        library.factory.DATASETS[name][1](**settings).validate()
    except (TypeError, ValueError, AssertionError, AttributeError, KeyError):
        return False
    return True
