"""A stage that makes no model but leaves a file for others, as a select stage does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from factory.config.schema import StageConfig
from factory.contracts import DomainPack, ModelFacts, Outputs, RunContext, StagePlan
from factory.registry.files import write_atomic


@dataclass
class FakeNotesConfig(StageConfig):
    kind: str = "fake-notes"
    text: str = "hello"
    is_random: bool = False
    """Write another file each time, as a GPU may."""


class FakeNotes:
    kind: ClassVar[str] = "fake-notes"
    config_type: ClassVar[type] = FakeNotesConfig
    consumes: ClassVar[frozenset[str]] = frozenset({"model"})
    produces: ClassVar[frozenset[str]] = frozenset({"notes"})

    def plan(
        self, name: str, config: FakeNotesConfig, facts: ModelFacts, pack: DomainPack, build: Mapping[str, Any]
    ) -> StagePlan:
        return StagePlan(name, self.kind, 1, 0, 0, num_generated_tokens=1)

    def run(self, config: FakeNotesConfig, ctx: RunContext) -> Outputs:
        write_atomic(ctx.workdir / "notes.txt", os.urandom(8).hex() if config.is_random else config.text)
        return Outputs(files=("notes.txt",))


STAGE = FakeNotes()
