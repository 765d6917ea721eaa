"""An eval that asks the model folder how good it is, and scores each sample by a hash of its id."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from factory.config.schema import StageConfig
from factory.contracts import DomainPack, ModelFacts, Outputs, RunContext, Sample, StagePlan
from factory.registry.files import write_atomic, write_json


@dataclass
class FakeEvalConfig(StageConfig):
    kind: str = "fake-eval"


class FakeEval:
    kind: ClassVar[str] = "fake-eval"
    config_type: ClassVar[type] = FakeEvalConfig
    consumes: ClassVar[frozenset[str]] = frozenset({"model"})
    produces: ClassVar[frozenset[str]] = frozenset({"eval"})

    def plan(self, name: str, config: FakeEvalConfig, facts: ModelFacts, pack: DomainPack, build: Mapping[str, Any]) -> StagePlan:
        return StagePlan(name, self.kind, build["eval"]["samples"], 0, 0, num_generated_tokens=build["eval"]["samples"])

    def run(self, config: FakeEvalConfig, ctx: RunContext) -> Outputs:
        path = ctx.model_dir / "quality.json"
        quality = json.loads(path.read_text()) if path.is_file() else 0.1
        splits, settings = {}, ctx.build["eval"]
        for split, limit in (("test", settings["samples"]), ("validation", settings["validation_samples"])):
            samples = list(ctx.pack.samples(split, settings["seed"], replace(ctx.request, limit=limit)))
            scores = [_score(sample, quality) for sample in samples]
            splits[split] = {
                "primary": {"name": "accuracy", "value": sum(scores) / len(scores), "n": len(scores), "ci": [0.0, 1.0]}
            }
            if split == "test":
                rows = [{"id": s.id, "score": score, "status": "ok"} for s, score in zip(samples, scores, strict=True)]
                write_atomic(ctx.workdir / "samples.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        write_json(ctx.workdir / "eval.json", {"stage": ctx.stage, "splits": splits})
        return Outputs(metrics=splits["test"]["primary"], files=("eval.json", "samples.jsonl"))


def _score(sample: Sample, quality: float) -> float:
    return float(zlib.crc32(sample.id.encode()) % 1000 < 1000 * quality)


STAGE = FakeEval()
