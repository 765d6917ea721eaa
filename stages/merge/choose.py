"""Keep one of several models: by the entropy at its critical words, or by its validation score. No test sample is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from factory.contracts import Outputs, RunContext, Sample
from factory.errors import ConfigError
from factory.rewards.pool import VerifierPool
from factory.stages.merge.config import By, MergeConfig
from factory.stages.merge.critical import critical_entropy
from factory.stages.merge.sources import Source, copy_beside, full_weights, sources_of, weight_files
from factory.stages.models.codec import Encoded
from factory.stages.models.generate import generate
from factory.stages.models.load import load
from factory.stages.models.loaded import LoadedModel


def choose_stage(config: MergeConfig, ctx: RunContext) -> Outputs:
    """Measure every source on the same validation samples and write the best as `model`, the figures as `merge.json`.

    Raises:
        ConfigError: no completion of any model holds a critical word, or (by validation) no verdict counts.
        ModelError: a source that cannot be loaded.
    """
    sources = sources_of(config, ctx)
    samples = list(ctx.pack.samples("validation", config.seed, replace(ctx.request, limit=config.samples)))
    measured = {}
    for index, source in enumerate(sources):
        measured[source.name] = measure(config, ctx, source, samples)
        ctx.log(step=index + 1, total=len(sources), source=source.name, **measured[source.name])
    chosen = best_of(measured, config, ctx.stage)
    _write_model(next(source for source in sources if source.name == chosen), ctx.workdir)
    report = {"how": "choose", "by": config.by.value, "chosen": chosen, "measured": measured}
    (ctx.workdir / "merge.json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return Outputs(model="model", metrics=report, files=("model", "merge.json"))


def best_of(measured: Mapping[str, Mapping[str, Any]], config: MergeConfig, stage: str) -> str:
    """The name with the highest `value`, the first named on a tie; models without a value cannot win.

    Raises ConfigError when none has one.
    """
    able = [name for name, figures in measured.items() if figures["value"] is not None]
    if able:
        return max(able, key=lambda name: measured[name]["value"])
    if config.by is By.validation:
        raise ConfigError(
            f"stages.{stage}: no validation verdict counts, so no model can be chosen. Mend the verifier, or average."
        )
    where = "at the start of a sentence in" if config.sentence_start else "in"
    raise ConfigError(
        f"stages.{stage}: none of the words {', '.join(config.words)} stands {where} any of {config.samples} completions of "
        f"{', '.join(measured)}, so there is no entropy to compare. Set stages.{stage}.words to openers that these models write, "
        f"stages.{stage}.sentence_start=false, a larger max_new_tokens, or stages.{stage}.by=validation."
    )


def measure(config: MergeConfig, ctx: RunContext, source: Source, samples: Sequence[Sample]) -> dict[str, Any]:
    """`value` (what is compared, None when there is none) and what it was made of, for one model."""
    loaded = load(source.folder, precision=ctx.build["precision"])
    loaded.model.eval()
    prompts = [loaded.codec.prompt(sample.messages, sample.media) for sample in samples]
    completions = complete(loaded, prompts, config, ctx.seed)
    if config.by is By.validation:
        return _validation(loaded, ctx, samples, completions)
    found = critical_entropy(
        loaded, prompts, completions, config.words, sentence_start=config.sentence_start, batch_size=config.batch_size
    )
    return {"value": found.mean, "count": found.count, "completions": found.completions}


def complete(loaded: LoadedModel, prompts: Sequence[Encoded], config: MergeConfig, seed: int) -> list[list[int]]:
    """One completion per prompt, in order; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    done = generate(
        loaded, prompts, max_new_tokens=config.max_new_tokens, temperature=config.temperature, generator=generator,
        max_rows=config.batch_size,
    )  # fmt: skip
    return [generation.ids for generation in sorted(done, key=lambda generation: generation.prompt_index)]


def _validation(
    loaded: LoadedModel, ctx: RunContext, samples: Sequence[Sample], completions: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Mean score of the pack's primary eval; verdicts whose verifier failed are left out."""
    primary = [e for e in ctx.pack.evals().values() if e.primary and e.kind == "qa"]
    if len(primary) != 1:
        raise ConfigError(
            f"pack '{ctx.domain}' marks {len(primary)} evals as primary; a choice by validation needs exactly one `qa` eval. "
            "Set primary=True on one of them."
        )
    name = primary[0].verifier
    with VerifierPool(ctx.domain, **ctx.build["pool"]) as pool:
        texts = [loaded.codec.completion(ids) for ids in completions]
        verdicts = [row[name] for row in pool.score([(t, s, [name]) for t, s in zip(texts, samples, strict=True)])]
        pool.check_end()
    counted = [verdict.score for verdict in verdicts if not verdict.status.is_masked]
    return {"value": sum(counted) / len(counted) if counted else None, "count": len(counted)}


def _write_model(source: Source, workdir: Path) -> None:
    """The chosen model as full weights: copied byte for byte, or its adapters merged."""
    out_dir = workdir / "model"
    if source.is_adapter:
        full_weights(source, workdir / "scratch").folder.rename(out_dir)
        shutil.rmtree(workdir / "scratch")
        return
    copy_beside(source, out_dir)
    for name in (*weight_files(source.folder), "model.safetensors.index.json"):
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, out_dir / name)
