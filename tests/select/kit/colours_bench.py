"""Programs on the colour pack: a taught base, one select stage, one build. A test can run them in a process of their own."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import colours

from factory.contracts import DataRequest, Outputs, RunContext

BUILD = {"precision": "fp32", "mixture": {}, "launch": {}, "pool": {"workers": 1, "max_error_rate": 1.0}}


def make_base(folder: Path) -> Path:
    """The embedded text model, taught for 60 steps to answer each question with any of the words, short or long."""
    import torch

    from factory.stages.models.embedded import make_embedded
    from factory.stages.models.forward import token_logprobs
    from factory.stages.models.load import load, save

    lessons = colours.chance_lessons()
    texts = [f"{lesson.sample.text()} {lesson.response} the expert says" for lesson in lessons] * 10
    loaded = load(make_embedded("embedded-text", folder / "raw", seed=0, texts=texts), precision="fp32")
    batch = loaded.codec.collate([loaded.codec.lesson(lesson.sample.messages, lesson.response) for lesson in lessons])
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        (-token_logprobs(loaded.model, batch)[0].sum() / batch["loss_mask"].sum()).backward()
        optimizer.step()
    save(loaded, folder / "taught")
    return folder / "taught"


def context(workdir: Path, model: Path, *, verifier: str = "exact", **changes: Any) -> RunContext:
    """What the pipeline hands to a stage; metrics.jsonl is written in the workdir."""
    from factory.stages.metrics import append_metrics

    workdir.mkdir(parents=True, exist_ok=True)
    tasks = {"sky": {"verifiers": {verifier: 1.0}, "gate": None}}
    pack = colours.ColourPack()
    pack.manifest = replace(pack.manifest, tasks=tasks)
    ctx = RunContext(
        stage="select", workdir=workdir, model_dir=model, pack=pack, domain="colours", seed=7, request=DataRequest(),
        build=BUILD, log=lambda **row: append_metrics(workdir / "metrics.jsonl", row),
    )  # fmt: skip
    return replace(ctx, **changes)


def select(workdir: Path, model: Path, *, ctx: dict[str, Any] | None = None, **settings: Any) -> Outputs:
    """Run a select stage on the six training questions."""
    from factory.plugins import load_stage
    from factory.stages.select.config import SelectConfig

    plain = {"samples": 6, "rollouts": 8, "max_new_tokens": 12, "batch": 2} | settings
    return load_stage("select").run(SelectConfig(**plain), context(workdir, model, **(ctx or {})))


def build(home: Path, base: Path, *overrides: str) -> dict[str, Any]:
    """Build the recipe `round`; measured by the eval of the fake kit, which loads no model."""
    from factory.config.compose import compose
    from factory.pipeline.plan import make_plan
    from factory.pipeline.run import run_build
    from factory.registry.home import Home

    composed = compose("colours", recipe="round", base=str(base), overrides=list(overrides))
    return run_build(make_plan(composed, home=Home(home), run="run", eval_kind="fake-eval"), arguments=["factory", "build"])


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    select(Path(sys.argv[1]), Path(sys.argv[2]), **json.loads(sys.argv[3]))
