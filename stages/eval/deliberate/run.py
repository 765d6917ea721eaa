"""Measure one way of deliberating beside the plain greedy answer, on the same samples, with the same verifier."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from factory.contracts import Eval, RunContext, Sample
from factory.rewards.pool import VerifierPool
from factory.stages.eval.deliberate.align3 import Align3
from factory.stages.eval.deliberate.answers import AnswerReader
from factory.stages.eval.deliberate.best_of import BestOf
from factory.stages.eval.deliberate.critic import Critic
from factory.stages.eval.deliberate.engine import ModelEngine
from factory.stages.eval.deliberate.force_answer import ForceAnswer
from factory.stages.eval.deliberate.grammar import Deliberation, check_against, read_deliberation, read_text
from factory.stages.eval.deliberate.judges import find_judge
from factory.stages.eval.deliberate.majority import Majority
from factory.stages.eval.deliberate.protocol import Deliberated, Deliberator, Engine
from factory.stages.eval.summary import Row, summarise
from factory.stages.models.load import LoadedModel, load


@dataclass(frozen=True)
class Judged:
    """The plain rows of one split, to be compared with."""

    split: str
    samples: Sequence[Sample]
    plain: Sequence[Row]


def deliberate(
    ctx: RunContext, loaded: LoadedModel, pool: VerifierPool, evaluation: Eval, splits: Sequence[Judged]
) -> dict[str, Any]:
    """Answer every split again as `eval.deliberate` says; writes `deliberated.jsonl`.

    Returns:
        The `deliberated` section of `eval.json`: `method`, `label`, `notes`, and per split the figures of `summarise` with
        `cost` (mean tokens of both answers and their ratio) and `changed` (samples gained and lost).
    """
    wanted = read_deliberation(ctx.build["eval"]["deliberate"])
    check_against(wanted, list(ctx.pack.verifiers()))
    maker = _Maker(ctx, wanted, pool, evaluation, [sample for judged in splits for sample in judged.samples])
    report: dict[str, Any] = {"method": str(wanted), "label": maker.label, "notes": list(maker.notes), "splits": {}}
    with (ctx.workdir / "deliberated.jsonl").open("w", encoding="utf-8") as out:
        for judged in splits:
            engine = maker.engine(loaded, judged.split)
            answers = _answers(maker.deliberator(judged.split), engine, judged, ctx)
            rows = _verified(pool, evaluation, judged.samples, answers)
            report["splits"][judged.split] = {
                **summarise(evaluation.name, rows), "cost": cost(judged.plain, rows), "changed": changed(judged.plain, rows),
            }  # fmt: skip
            for before, row, answer in zip(judged.plain, rows, answers, strict=True):
                out.write(_line(judged.split, before, row, answer) + "\n")
    return report


def _answers(deliberator: Deliberator, engine: Engine, judged: Judged, ctx: RunContext) -> list[Deliberated]:
    found: list[Deliberated] = []
    size = ctx.build["eval"]["batch_size"]
    for start in range(0, len(judged.samples), size):
        found += deliberator.answer(engine, judged.samples[start : start + size])
        ctx.log(step=len(found), total=len(judged.samples), phase=f"deliberate {judged.split}")
    return found


def _verified(pool: VerifierPool, evaluation: Eval, samples: Sequence[Sample], answers: Sequence[Deliberated]) -> list[Row]:
    pairs = list(zip(samples, answers, strict=True))
    verdicts = pool.score([(answer.text, sample, [evaluation.verifier]) for sample, answer in pairs])
    return [
        Row(sample.id, sample.task, sample.text(), answer.text, v.score, v.status.value, v.reason, sample.reference, answer.tokens,
            answer.finished)
        for (sample, answer), v in zip(pairs, (row[evaluation.verifier] for row in verdicts), strict=True)
    ]  # fmt: skip


def cost(plain: Sequence[Row], rows: Sequence[Row]) -> dict[str, float | None]:
    """Mean generated tokens per sample of the plain and the deliberated answer, and their ratio (None when nothing was written)."""
    before, after = math.fsum(row.tokens for row in plain), math.fsum(row.tokens for row in rows)
    n = max(1, len(rows))
    return {"plain_tokens": before / n, "tokens": after / n, "ratio": after / before if before else None}


def changed(plain: Sequence[Row], rows: Sequence[Row]) -> dict[str, int]:
    """Samples that score higher (`gained`) and lower (`lost`) than the plain answer, where both verdicts count."""
    pairs = [(a.score, b.score) for a, b in zip(plain, rows, strict=True) if a.is_counted and b.is_counted]
    return {"gained": sum(b > a for a, b in pairs), "lost": sum(b < a for a, b in pairs)}


def _line(split: str, plain: Row, row: Row, answer: Deliberated) -> str:
    before = {"score": plain.score, "status": plain.status, "tokens": plain.tokens, "completion": plain.completion}
    more = {"split": split, "plain": before, "votes": dict(answer.votes), "scores": answer.scores, "trace": answer.trace}
    return json.dumps(asdict(row) | more, ensure_ascii=False, sort_keys=True)


class _Maker:
    """Builds the deliberator; models that a judge or critic needs are loaded once."""

    def __init__(
        self, ctx: RunContext, wanted: Deliberation, pool: VerifierPool, evaluation: Eval, samples: Sequence[Sample]
    ) -> None:
        self.ctx, self.wanted, self.pool = ctx, wanted, pool
        self.settings: Mapping[str, Any] = ctx.build["eval"]
        self.reader = AnswerReader.of(ctx.pack)
        self.label, self.notes = str(wanted).split(",")[0], ()
        self._judge = None
        if wanted.method == "best_of":
            chair = find_judge(wanted, ctx, pool, evaluation, self.reader.verifiers, samples)
            self.label, self.notes, self._judge = chair.label, chair.notes, chair.judge
        folder = wanted.options.get("critic")
        self._critic = load(folder, precision=ctx.build["precision"]) if folder else None

    def engine(self, loaded: LoadedModel, split: str) -> ModelEngine:
        """The engine of one split, with streams of random draws of its own."""
        given = self.wanted.options["seed"]
        seed = self.settings["seed"] if given is None else given
        return ModelEngine(loaded, seed=seed, label=split, batch_size=self.settings["batch_size"])

    def deliberator(self, split: str) -> Deliberator:
        """The way that was asked for."""
        wanted, options, tokens = self.wanted, self.wanted.options, self.settings["max_new_tokens"]
        heat = options["temperature"]
        if wanted.method == "majority":
            return Majority(wanted.count, tokens, self.reader.key, heat)
        if wanted.method == "best_of":
            assert self._judge is not None
            return BestOf(wanted.count, tokens, self._judge, heat)
        if wanted.method == "force_answer":
            return ForceAnswer(wanted.count, options["answer"] or tokens, self.reader.shape_of, heat)
        if wanted.method == "align3":
            behaviour, safety = (read_text(key, options[key]) for key in ("behaviour", "safety"))
            return Align3(behaviour, safety, options["thinking"] or tokens, tokens, self.reader.shape_of, heat)
        critic = self.engine(self._critic, f"{split} critic") if self._critic is not None else None
        return Critic(wanted.count, tokens, options["critique"] or tokens, self.reader.key, critic, heat)
