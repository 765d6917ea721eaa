"""A stage whose weights are a chain of hashes: every step counts, and an exact resume shows in the last byte."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from factory.config.schema import AdapterConfig, StageConfig
from factory.contracts import DomainPack, ModelFacts, Outputs, RunContext, StagePlan
from factory.errors import DataError, Interrupted
from factory.registry.files import write_json
from factory.stages.lesson_files import path_named, stage_named
from factory.stages.metrics import truncate_metrics
from factory.stages.stopping import forget, is_asked_to_stop

CHECKPOINT_EVERY = 3


@dataclass
class FakeTrainConfig(StageConfig):
    kind: str = "fake-train"
    num_steps: int = 4
    quality: float = 0.5
    """Share of held-out samples that the trained model gets right."""
    delay_s: float = 0.0
    fail: str = ""
    """`data`, `bug` or `kill`: how step 1 ends."""
    notes_path: str = ""
    """A file that the fingerprint must follow."""
    notes_from: str = ""
    """A stage whose notes count in the weights, or a file of lessons."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)


class FakeTrain:
    kind: ClassVar[str] = "fake-train"
    config_type: ClassVar[type] = FakeTrainConfig
    consumes: ClassVar[frozenset[str]] = frozenset({"model"})
    produces: ClassVar[frozenset[str]] = frozenset({"model"})

    def reads(self, config: FakeTrainConfig) -> tuple[str, ...]:
        stage = stage_named(config.notes_from)
        return (stage,) if stage else ()

    def training_files(self, config: FakeTrainConfig) -> tuple[str, ...]:
        path = path_named(config.notes_from)
        return (path,) if path else ()

    def plan(
        self, name: str, config: FakeTrainConfig, facts: ModelFacts, pack: DomainPack, build: Mapping[str, Any]
    ) -> StagePlan:
        return StagePlan(name, self.kind, 10 * config.num_steps, config.num_steps, 100 * config.num_steps, peak_memory_bytes=1000)

    def run(self, config: FakeTrainConfig, ctx: RunContext) -> Outputs:
        state, done = self._resume(ctx)
        for step in range(done + 1, config.num_steps + 1):
            _fail(config.fail)
            time.sleep(config.delay_s)
            state = hashlib.sha256(f"{state} {ctx.seed} {step} {config.quality}".encode()).hexdigest()
            ctx.log(step=step, total=config.num_steps, loss=1.0 / step)
            if step % CHECKPOINT_EVERY == 0:
                write_json(ctx.workdir / "checkpoints" / "state.json", {"step": step, "state": state})
            if step < config.num_steps and is_asked_to_stop(ctx.workdir):
                write_json(ctx.workdir / "checkpoints" / "state.json", {"step": step, "state": state})
                forget(ctx.workdir)
                raise Interrupted(f"stopped after step {step}")
        model = ctx.workdir / "model"
        model.mkdir(exist_ok=True)
        for name in ("config.json", "tokenizer_config.json"):
            (model / name).write_bytes((ctx.model_dir / name).read_bytes())
        (model / "model.safetensors").write_text(state * 100)
        write_json(model / "quality.json", config.quality)
        return Outputs(model="model", metrics={"steps": config.num_steps})

    def _resume(self, ctx: RunContext) -> tuple[str, int]:
        path = ctx.workdir / "checkpoints" / "state.json"
        if not path.is_file():
            notes = [f"{stage}: {(folder / 'notes.txt').read_text()}" for stage, folder in sorted(ctx.inputs.items())]
            return " ".join([(ctx.model_dir / "model.safetensors").read_text(), *notes]), 0
        row = json.loads(path.read_text())
        truncate_metrics(ctx.workdir / "metrics.jsonl", row["step"])
        (ctx.workdir.parent / "resumed").touch()
        return row["state"], row["step"]


def _fail(how: str) -> None:
    if how == "data":
        raise DataError("rows.jsonl:3: no answer. Add one.")
    if how == "bug":
        raise ZeroDivisionError("a bug of the stage")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


def make_base(folder: Path) -> Path:
    """A base folder as small as `model_facts` accepts."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "intermediate_size": 16,
    }
    write_json(
        folder / "config.json", {"model_type": "qwen3", "vocab_size": 32, "head_dim": 8, "max_position_embeddings": 64, **sizes}
    )
    write_json(folder / "tokenizer_config.json", {})
    (folder / "model.safetensors").write_text("weights")
    return folder


STAGE = FakeTrain()
