"""Measure one model: generate greedily on held-out samples, verify in the isolated pool, ask the probes, write the figures.

The test split is reported and chooses nothing; the validation split chooses the best stage (docs/decisions/0003).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from factory.contracts import Eval, Media, Outputs, RunContext, Sample
from factory.errors import ConfigError
from factory.rewards.pool import VerifierPool
from factory.stages.eval.summary import WITHHELD, Row, summarise
from factory.stages.eval.view import TorchModelView
from factory.stages.models.dna.words import without_dna
from factory.stages.models.generate import generate
from factory.stages.models.load import LoadedModel, load

KEPT_IMAGES = 24
"""Images of so many test samples are copied beside `samples.jsonl` for the report."""


def measure(ctx: RunContext) -> Outputs:
    """Evaluate `ctx.model_dir` and write `eval.json`, `samples.jsonl` and `images/` under `ctx.workdir`."""
    settings = ctx.build["eval"]
    loaded = load(ctx.model_dir, precision=ctx.build["precision"])
    loaded.model.eval()
    primary = _primary(ctx)
    report: dict[str, Any] = {
        "stage": ctx.stage,
        "model": ctx.model_dir.parent.name,
        "eval": primary.name,
        "seed": settings["seed"],
    }
    pool = VerifierPool(ctx.domain, **ctx.build["pool"])
    with pool:
        test = held_out(ctx, "test", settings["samples"])
        rows = score(loaded, pool, primary, test, ctx, "test")
        validation = held_out(ctx, "validation", settings["validation_samples"])
        validation_rows = score(loaded, pool, primary, validation, ctx, "validation")
        report["splits"] = {"test": summarise(primary.name, rows), "validation": summarise(primary.name, validation_rows)}
        if settings["blind"] and loaded.modality in ("vl", "dna"):
            report["blind"] = summarise(primary.name, score(loaded, pool, primary, [blinded(s) for s in test], ctx, "blind"))
        report["extra"] = {
            e.name: summarise(e.name, score(loaded, pool, e, _of_tasks(test, e), ctx, e.name))
            for e in ctx.pack.evals().values() if e.kind == "qa" and e.name != primary.name
        }  # fmt: skip
        if settings.get("deliberate"):
            from factory.stages.eval.deliberate.run import Judged, deliberate

            splits = [Judged("test", test, rows), Judged("validation", validation, validation_rows)]
            report["deliberated"] = deliberate(ctx, loaded, pool, primary, splits)
        pool.check_end()
        report["verdicts"] = pool.counts()
    report["probes"] = probes(loaded, ctx, {row.id: row.completion for row in rows}) if settings["probes"] else {}
    _write(ctx.workdir, report, rows, test)
    more = ("deliberated.jsonl",) if "deliberated" in report else ()
    return Outputs(metrics=report["splits"]["test"]["primary"], files=("eval.json", "samples.jsonl", *more))


def held_out(ctx: RunContext, split: str, limit: int) -> list[Sample]:
    """The same samples for every stage of a build and for every build with the same `eval.seed`."""
    return list(ctx.pack.samples(split, ctx.build["eval"]["seed"], replace(ctx.request, limit=limit)))


def score(
    loaded: LoadedModel, pool: VerifierPool, evaluation: Eval, samples: Sequence[Sample], ctx: RunContext, label: str
) -> list[Row]:
    """Greedy completions of `samples`, verified by the eval's verifier; rows in the order of `samples`."""
    settings, codec = ctx.build["eval"], loaded.codec
    rows: list[Row] = []
    for start in range(0, len(samples), settings["batch_size"]):
        chunk = samples[start : start + settings["batch_size"]]
        prompts = [codec.prompt(sample.messages, sample.media) for sample in chunk]
        done = sorted(
            generate(loaded, prompts, max_new_tokens=settings["max_new_tokens"], temperature=0.0, generator=torch.Generator()),
            key=lambda generation: generation.prompt_index,
        )
        texts = [codec.completion(generation.ids) for generation in done]
        verdicts = pool.score([(text, sample, [evaluation.verifier]) for text, sample in zip(texts, chunk, strict=True)])
        for sample, generation, text, verdict in zip(chunk, done, texts, verdicts, strict=True):
            v = verdict[evaluation.verifier]
            rows.append(
                Row(sample.id, sample.task, shown_prompt(sample), text, v.score, v.status.value, v.reason, sample.reference,
                    len(generation.ids), generation.finished)
            )  # fmt: skip
        ctx.log(step=start + len(chunk), total=len(samples), phase=label)
    return rows


def shown_prompt(sample: Sample) -> str:
    """The prompt as reports print it. One that a pack marks `meta["sensitive"]` (a harmful prompt) is withheld: its category is shown."""
    return f"{WITHHELD}: {sample.meta.get('category') or 'sensitive'}]" if sample.meta.get("sensitive") else sample.text()


def blinded(sample: Sample) -> Sample:
    """The same question with every image replaced by a grey one of the same size, and every base of a DNA sequence by N: what is
    left is guessing from the text."""
    messages = tuple(replace(turn, content=without_dna(turn.content)) for turn in sample.messages)
    return replace(sample, messages=messages, media=tuple(_grey(media) for media in sample.media))


def _grey(media: Media) -> Media:
    from PIL import Image

    with Image.open(io.BytesIO(media.read())) as image:
        size = image.size
    buffer = io.BytesIO()
    Image.new("RGB", size, (128, 128, 128)).save(buffer, "PNG")
    return Media(data=buffer.getvalue())


def probes(loaded: LoadedModel, ctx: RunContext, answers: Mapping[str, str]) -> dict[str, Mapping[str, float]]:
    """Figures of every probe the pack supplies, on the test split. A text-only model skips image probes with a note.

    Args:
        answers: test sample id -> the completion of the primary eval.
    """
    request = replace(ctx.request, limit=ctx.build["eval"]["samples"])
    view, found = TorchModelView(loaded, ctx.build["eval"]["batch_size"], request, answers), {}
    for evaluation in ctx.pack.evals().values():
        if evaluation.kind == "probe" and evaluation.probe is not None:
            if evaluation.needs_vision and ctx.pack.manifest.modality == "vl" and loaded.modality != "vl":
                continue
            ctx.log(step=0, phase=f"probe {evaluation.name}")
            found[evaluation.name] = {
                key: float(value) for key, value in evaluation.probe(view, "test", ctx.build["eval"]["seed"]).items()
            }
    return found


def _primary(ctx: RunContext) -> Eval:
    hits = [e for e in ctx.pack.evals().values() if e.primary and e.kind == "qa"]
    if len(hits) != 1:
        raise ConfigError(
            f"pack '{ctx.domain}' marks {len(hits)} evals as primary; exactly one `qa` eval must be, "
            "because it decides which stage is kept. Set primary=True on one of them."
        )
    return hits[0]


def _of_tasks(samples: Sequence[Sample], evaluation: Eval) -> list[Sample]:
    return [sample for sample in samples if not evaluation.tasks or sample.task in evaluation.tasks]


def _write(workdir: Path, report: Mapping[str, Any], rows: Sequence[Row], samples: Sequence[Sample]) -> None:
    images = workdir / "images"
    images.mkdir(parents=True, exist_ok=True)
    with (workdir / "samples.jsonl").open("w", encoding="utf-8") as out:
        for index, (row, sample) in enumerate(zip(rows, samples, strict=True)):
            if index < KEPT_IMAGES and sample.media:
                name = f"{index:04d}.png"
                _save_png(sample.media[0], images / name)
                row = replace(row, image=name)
            out.write(row.to_json() + "\n")
    (workdir / "eval.json").write_text(json.dumps(report, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def _save_png(media: Media, path: Path) -> None:
    from PIL import Image

    with Image.open(io.BytesIO(media.read())) as image:
        image.convert("RGB").save(path, "PNG")
