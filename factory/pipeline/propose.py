"""Which pack reads a folder, and which recipe and base fit this machine: what `factory init` proposes. Reads rows; writes nothing there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from factory.config.compose import EMBEDDED, compose
from factory.config.layers import leading_folder, read_yaml, recipe_names
from factory.contracts import DataRequest
from factory.errors import FactoryError
from factory.launch.devices import available_memory, num_gpus
from factory.pipeline.overlap import held_sorts
from factory.pipeline.sharding import smallest_gpu
from factory.plugins import load_pack, manifest_of, pack_entries
from factory.registry.base_models import BaseModel, base_models, find_base

ROWS = 200
"""Rows of each sort that a pack is let read: enough to tell what it understands, few enough for eight packs."""
SORTS = ("samples", "lessons", "corpus", "pairs")
READS = {"cpt": "corpus", "sft": "lessons", "rl": "samples", "preference": "pairs", "reward_model": "pairs"}
"""Kind of stage -> the sort of rows that it trains on."""
LORA_BYTES = 2.6
"""Bytes for each parameter with LoRA in bf16: weights 2, adapters with their Adam moments and activations 0.6 (`factory plan` says exactly)."""
FILLED = 0.85
"""Share of a device's memory that may be proposed."""


@dataclass(frozen=True)
class Reading:
    """What one pack made of the files."""

    domain: str
    counts: Mapping[str, int] = field(default_factory=dict)
    """`samples`, `lessons`, `corpus`, `pairs` -> rows understood, at most `ROWS`."""
    tasks: Sequence[str] = ()
    bad: int = 0
    """Rows it could not use."""
    first_fault: str = ""

    @property
    def num_read(self) -> int:
        """Rows understood, of any sort; the measure of fit."""
        return max(self.counts.values(), default=0)

    @property
    def rank(self) -> tuple[int, int, int]:
        """More rows first, then more sorts of them, then fewer bad ones."""
        return self.num_read, sum(1 for count in self.counts.values() if count), -self.bad


def readings(paths: Sequence[str], domains: Sequence[str] = ()) -> list[Reading]:
    """What each pack makes of the files, best first; all installed packs when none is named."""
    names = list(domains) or sorted({entry.name for entry in pack_entries()})
    return sorted((read_with(name, paths) for name in names), key=lambda one: one.rank, reverse=True)


def read_with(domain: str, paths: Sequence[str]) -> Reading:
    """Let one pack's loaders read the first rows. A refusal of all is a reading of none, with its reason."""
    counts: dict[str, int] = {}
    tasks: list[str] = []
    fault = ""
    with tempfile.TemporaryDirectory(prefix="factory-init-") as folder:
        request = DataRequest(
            paths=tuple(paths), limit=ROWS, max_bad_fraction=1.0, quarantine_dir=folder, options=_options(domain)
        )
        try:
            pack = load_pack(domain)
            held = {*held_sorts(pack, request), "pairs"} & set(pack.manifest.provides)
            for sort in SORTS:
                if sort in held:
                    items = list(islice(getattr(pack, sort)("train", 0, request), ROWS))
                    counts[sort] = len(items)
                    if sort == "samples":
                        tasks = sorted({item.task for item in items})
        except FactoryError as err:
            fault = str(err)
        except (ImportError, OSError, ValueError, KeyError, TypeError, AttributeError) as err:
            fault = f"{type(err).__name__}: {err}"
        bad = [
            json.loads(line)
            for file in sorted(Path(folder).glob("*.jsonl"))
            for line in file.read_text(encoding="utf-8").splitlines()
        ]
    if bad and not fault:
        fault = f"{bad[0]['field']}: {bad[0]['reason']}"
    unique = {(row["file"], row["row"]) for row in bad}
    return Reading(domain, counts, tasks, len(unique), fault)


def _options(domain: str) -> dict[str, Any]:
    """The options that the pack's manifest gives a build on real data."""
    defaults = manifest_of(domain).defaults.get("pack", {})
    return dict(defaults) if isinstance(defaults, Mapping) else {}


@dataclass(frozen=True)
class Choice:
    """A recipe and a base, and why."""

    recipe: str
    base: str
    why: str


def choose_recipe(domain: str, *, base: str | None = None) -> Choice:
    """The pack's recipe for the largest base that fits this machine; the embedded base on a machine without a GPU.

    Args:
        base: the user's own choice: a recipe that names it is preferred.
    """
    modality = manifest_of(domain).modality
    recipes = recipes_with_base(domain)
    if base is not None:
        named = next((name for name, wanted in recipes.items() if _same(wanted, base)), None)
        own = named or (next(iter(recipes), "embedded") if not base.startswith("embedded") else "embedded")
        return Choice(own, base, "your choice of base" + (f", for which the pack has the recipe {own}" if named else ""))
    memory = smallest_gpu() if num_gpus() else None
    if memory is None:
        free = available_memory()
        room = f"{free / 2**30:.0f} GiB of memory" if free else "unknown memory"
        return Choice(
            "embedded",
            EMBEDDED[modality],
            f"no GPU here ({room}): a small model that shows whether your data teaches; give --base on a GPU machine",
        )
    fitting = [record for record in base_models().values() if _fits(record, modality, memory)]
    if not fitting:
        return Choice("embedded", EMBEDDED[modality], f"no known base fits {memory / 2**30:.0f} GiB with LoRA")
    for record in sorted(fitting, key=lambda one: -one.num_params):
        named = next((name for name, wanted in recipes.items() if _same(wanted, record.name)), None)
        if named:
            return Choice(
                named,
                record.name,
                f"the pack's recipe for it; {needed(record) / 2**30:.0f} of {memory / 2**30:.0f} GiB with LoRA",
            )
    largest = max(fitting, key=lambda one: one.num_params)
    return Choice(
        "embedded",
        largest.name,
        f"the largest known base that fits {memory / 2**30:.0f} GiB with LoRA; the pack has no recipe of its own for it",
    )


def needed(record: BaseModel) -> float:
    """Bytes that LoRA on a base takes, roughly."""
    return LORA_BYTES * record.num_params


def _fits(record: BaseModel, modality: str, memory: int) -> bool:
    return record.num_params > 0 and record.modality == modality and needed(record) <= FILLED * memory


def _same(one: str, other: str) -> bool:
    first, second = find_base(one), find_base(other)
    return (
        one == other
        or (first is not None and first is second)
        or (first is not None and second is not None and first.name == second.name)
    )


def stages_without_rows(domain: str, recipe: str, counts: Mapping[str, int]) -> list[str]:
    """Stages of a recipe that train on the pack's own rows of a sort of which the user's files hold none, and those that need them."""
    stages = compose(domain, recipe=recipe).config.stages
    dropped: list[str] = []
    for name, stage in stages.items():
        is_fed = not getattr(stage, "lessons_from", "") and not getattr(stage, "pairs_from", "")
        needs_rows = stage.kind in READS and is_fed and not counts.get(READS[stage.kind])
        if needs_rows or stage.start in dropped:
            dropped.append(name)
    return dropped if len(dropped) < len(stages) else []


def is_untaught(domain: str, choice: Choice, dropped: Sequence[str]) -> bool:
    """True when a recipe for the embedded base keeps an RL stage and loses all its SFT: no answer of that model earns a reward to climb."""
    stages = compose(domain, recipe=choice.recipe).config.stages
    kept = {stage.kind for name, stage in stages.items() if name not in dropped}
    return choice.base.startswith("embedded") and "rl" in kept and "sft" not in kept


def recipes_with_base(domain: str) -> dict[str, str]:
    """Recipe of the pack -> its base, of those that are made for a real one. Raises ConfigError for a recipe that cannot be read."""
    folder = leading_folder(domain)
    found = {}
    for name in recipe_names(folder):
        base = read_yaml(folder / "recipes" / f"{name}.yaml", "recipe").values.get("base")
        if isinstance(base, str) and base and not base.startswith("embedded"):
            found[name] = base
    return found
