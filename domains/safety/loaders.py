"""The user's own safety sets: which shapes there are, and the loader over them. See loaders_shapes.py for what becomes of a row.

Benchmarks declare the split `test`, so that nobody trains on them by accident; `pack.respect_splits=false` divides them anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from factory.domains.safety.generator import PACK, prompt_named
from factory.domains.safety.loaders_shapes import OWN
from factory.domains.safety.loaders_specbench import SHAPES as SPECBENCH
from factory.domains.safety.loaders_specbench import SPECBENCH_PROMPTS, SPECBENCH_SCENARIO, SPECBENCH_SPECS
from factory.domains.safety.options import Options
from factory.packs.common_shapes import COMMON
from factory.packs.loading import Loader
from factory.packs.records import Record
from factory.packs.settings import one_of, read_settings
from factory.packs.sources import LoadSettings

PROMPTS = ("adversarial", "plain")


@dataclass(frozen=True)
class SafetyLoadSettings(LoadSettings):
    """The loader's settings: keys of `pack.*`."""

    specbench_prompt: str = "adversarial"
    """Which of SpecBench's two wordings is asked: `adversarial` (where there is one) or `plain`."""

    def __post_init__(self) -> None:
        LoadSettings.__post_init__(self)
        one_of("pack.specbench_prompt", self.specbench_prompt, PROMPTS)


def task_of(record: Record) -> str:
    """The task of a row of a common shape: it has a short answer that is known or not."""
    return "obey" if "constraints" in record.meta else "know"


def _system(options: Mapping[str, Any]) -> str:
    own = read_settings(Options, options, pack=PACK, also=[item.name for item in fields(SafetyLoadSettings)])
    return "" if own.system == "none" else prompt_named(own.system, own.thinking)


LOADER = Loader(
    PACK, (*SPECBENCH, *OWN, *COMMON), task_of=task_of, settings=SafetyLoadSettings,
    generator_keys=[item.name for item in fields(Options)], system=_system,
    formats=(SPECBENCH_PROMPTS, SPECBENCH_SPECS, SPECBENCH_SCENARIO),
)  # fmt: skip
"""Reads everything that the pack knows."""
