"""Measure a model by its answers alone, wherever it runs: ask the pack's held-out test questions one or more times, verify, summarise.

The folder holds answers.jsonl (kept as they come), eval.json and samples.jsonl as a build's eval step has them, and `lm_eval/`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from factory.contracts import DataRequest, DomainPack, Eval, Sample
from factory.errors import ConfigError
from factory.evaluation.answers import AnswerFile, ask_endpoint, ask_local
from factory.evaluation.endpoint import Answer, Asking, Endpoint
from factory.evaluation.lm_eval_shape import write_lm_eval
from factory.pipeline.compare import paired_difference, read_scores
from factory.plugins import load_pack
from factory.registry.files import sha256_json, write_atomic, write_json
from factory.rewards.pool import VerifierPool
from factory.stages.eval.estimators import attempt_figures
from factory.stages.eval.summary import Row, summarise

OnAnswer = Callable[[int, int], None]
PER_POOL_CALL = 256


@dataclass(frozen=True)
class Wanted:
    """What is to be measured."""

    domain: str
    plain: Mapping[str, Any]
    """The resolved config: `eval`, `pack`, `data`, `pool`."""
    attempts: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    concurrency: int = 8

    @property
    def asking(self) -> Asking:
        """How answers are sampled."""
        return Asking(self.plain["eval"]["max_new_tokens"], self.temperature, self.top_p)

    def check(self) -> None:
        """Raises ConfigError for several greedy attempts, which would all be the same."""
        if self.attempts > 1 and self.temperature <= 0:
            raise ConfigError(
                f"--attempts {self.attempts} at temperature 0 asks the same thing again. Add --temperature 0.7 or so."
            )


def questions(wanted: Wanted, pack: DomainPack) -> list[Sample]:
    """The test samples that a build with these settings is measured on."""
    plain = wanted.plain
    request = DataRequest(
        paths=tuple(plain["data"]["paths"]), on_bad_row=plain["data"]["on_bad_row"], max_bad_fraction=plain["data"]["max_bad_fraction"],
        options=json.loads(json.dumps(plain["pack"], sort_keys=True)), online=plain["online"],
    )  # fmt: skip
    return list(pack.samples("test", plain["eval"]["seed"], replace(request, limit=plain["eval"]["samples"])))


def primary_of(pack: DomainPack) -> Eval:
    """The eval that decides. Raises ConfigError when the pack has none."""
    found = next((one for one in pack.evals().values() if one.primary and one.kind == "qa"), None)
    if found is None:
        raise ConfigError(f"pack '{pack.manifest.name}' marks no `qa` eval as primary. Set primary=True on one of them.")
    return found


def measure(
    model: Endpoint | Path, name: str, wanted: Wanted, root: Path, on_answer: OnAnswer = lambda done, total: None
) -> dict[str, Any]:
    """Ask, verify and write; the content of eval.json with `folder`.

    Args:
        model: where it answers, or its folder.
        name: how it is called in the results.
        root: a folder of this model's is made in it, by name, domain and settings: the same command goes on in the same folder.
    """
    wanted.check()
    pack = load_pack(wanted.domain)
    samples, evaluation = questions(wanted, pack), primary_of(pack)
    settings = _settings(name, wanted, samples)
    folder = root / f"{_slug(name)}-{_slug(wanted.domain)}-{sha256_json(settings)[:8]}"
    file = AnswerFile(folder / "answers.jsonl", settings)
    seed = wanted.plain["eval"]["seed"]
    if file.missing(samples, wanted.attempts):
        if isinstance(model, Endpoint):
            ask_endpoint(
                model,
                samples,
                wanted.attempts,
                wanted.asking,
                file,
                seed=seed,
                concurrency=wanted.concurrency,
                on_answer=on_answer,
            )
        else:
            from factory.stages.models.load import load

            loaded = load(model, precision=wanted.plain["precision"])
            batch = wanted.plain["eval"]["batch_size"]
            ask_local(loaded, samples, wanted.attempts, wanted.asking, file, seed=seed, batch_size=batch, on_answer=on_answer)
    rows, counts = verified(samples, file.found, wanted, evaluation)
    return {**_write(folder, name, wanted, pack, evaluation, rows, counts), "folder": str(folder)}


def _settings(name: str, wanted: Wanted, samples: Sequence[Sample]) -> dict[str, Any]:
    """What answers depend on, beside the model's weights."""
    asked = wanted.asking
    return {
        "model": name, "domain": wanted.domain, "attempts": wanted.attempts, "max_new_tokens": asked.max_new_tokens,
        "temperature": asked.temperature, "top_p": asked.top_p, "seed": wanted.plain["eval"]["seed"],
        "questions": sha256_json([[sample.id, sample.text(), [media.sha256() for media in sample.media]] for sample in samples]),
    }  # fmt: skip


def verified(
    samples: Sequence[Sample], answers: Mapping[tuple[str, int], Answer], wanted: Wanted, evaluation: Eval
) -> tuple[list[list[Row]], Mapping[str, Any]]:
    """Rows [question][attempt], judged by the eval's verifier in the isolated pool; and the pool's counts of verdicts."""
    flat = [(sample, answers[sample.id, number]) for sample in samples for number in range(wanted.attempts)]
    rows: list[Row] = []
    with VerifierPool(wanted.domain, **wanted.plain["pool"]) as pool:
        for start in range(0, len(flat), PER_POOL_CALL):
            part = flat[start : start + PER_POOL_CALL]
            verdicts = pool.score([(answer.text, sample, [evaluation.verifier]) for sample, answer in part])
            for (sample, answer), found in zip(part, verdicts, strict=True):
                v = found[evaluation.verifier]
                rows.append(
                    Row(sample.id, sample.task, _shown(sample), answer.text, v.score, v.status.value, v.reason, sample.reference,
                        answer.tokens, answer.finished)
                )  # fmt: skip
        pool.check_end()
        counts = pool.counts()
    return [rows[start : start + wanted.attempts] for start in range(0, len(rows), wanted.attempts)], counts


def _shown(sample: Sample) -> str:
    """As `stages.eval.measure.shown_prompt`, without torch."""
    from factory.stages.eval.summary import WITHHELD

    return f"{WITHHELD}: {sample.meta.get('category') or 'sensitive'}]" if sample.meta.get("sensitive") else sample.text()


def _write(
    folder: Path, name: str, wanted: Wanted, pack: DomainPack, evaluation: Eval, rows: Sequence[Sequence[Row]], counts: Any
) -> dict[str, Any]:
    settings = wanted.plain["eval"]
    first = [attempts[0] for attempts in rows]
    report: dict[str, Any] = {
        "model": name, "domain": wanted.domain, "eval": evaluation.name, "seed": settings["seed"], "attempts": wanted.attempts,
        "temperature": wanted.temperature, "top_p": wanted.top_p, "splits": {"test": summarise(evaluation.name, first)}, "verdicts": counts,
    }  # fmt: skip
    if wanted.attempts > 1:
        scores = [[row.score for row in attempts if row.is_counted] for attempts in rows]
        report["attempts_figures"] = attempt_figures(scores, resamples=settings["bootstrap"], seed=settings["seed"])
    lines = [_line(attempts) for attempts in rows]
    write_atomic(folder / "samples.jsonl", "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in lines))
    write_json(folder / "eval.json", report)
    asked = wanted.asking
    generation = {
        "max_gen_toks": asked.max_new_tokens,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "do_sample": asked.temperature > 0,
    }
    write_lm_eval(
        folder / "lm_eval", wanted.domain, evaluation.name, lines, model=name, settings=generation,
        extra={"pack_version": pack.manifest.version, "eval": report}, date=time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime()),
    )  # fmt: skip
    return report


def _line(attempts: Sequence[Row]) -> dict[str, Any]:
    """One line of samples.jsonl: the first attempt, and with several all of them; `score` is then the mean of the verified ones."""
    row = json.loads(attempts[0].to_json())
    if len(attempts) == 1:
        return row
    counted = [one.score for one in attempts if one.is_counted]
    if counted:
        best = next(one for one in attempts if one.is_counted)
        row |= {"score": sum(counted) / len(counted), "status": best.status}
    kept = ("completion", "score", "status", "reason", "tokens", "finished")
    return row | {"attempts": [{key: getattr(one, key) for key in kept} for one in attempts]}


def against(before: Path, after: Path, *, resamples: int, seed: int) -> dict[str, Any] | None:
    """Paired difference (after minus before) of two folders with samples.jsonl; None when they share no question."""
    found = paired_difference(
        read_scores(before / "samples.jsonl"), read_scores(after / "samples.jsonl"), resamples=resamples, seed=seed
    )
    return None if found is None else {"diff": found.value, "diff_ci": [found.low, found.high], "n": found.n}


def _slug(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in text).strip("-.")[-60:] or "model"
