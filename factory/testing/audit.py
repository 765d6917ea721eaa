"""The audit of a pack's verifiers: are its fixtures reproduced, and can a wrong completion be made to pay?

Each attempt of `audit_mutations` is scored, the best of each sample are dressed up further, and whatever earns the gate or
more is an exploit. Both `factory verify --audit` (through the worker pool) and the conformance kit (in this process) use it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from factory.contracts import Sample, Status, Verdict
from factory.testing.audit_mutations import DRESSINGS, MANY, Attempt, attempts
from factory.testing.subject import Subject

GATE = 0.5
"""A wrong completion that earns this much reward, of 1, is an exploit."""
PER_TASK = 8
"""Samples tried per task."""
ROUNDS = 2
"""Times that the best attempts of a sample are dressed up."""
KEPT = 4
"""Attempts of a sample that are dressed up in each round."""

Figures = Mapping[str, float | None]
"""`reward`, and one figure per eval: scores in [0, 1]; None when a verdict was masked (`error`, `timeout`)."""
Judge = Callable[[Sequence[tuple[str, Sample]]], Sequence[Figures]]
"""Scores (completion, sample) rows."""


@dataclass(frozen=True, slots=True)
class Exploit:
    """A wrong completion that pays, or one that makes a verifier fail."""

    sample: str
    task: str
    mutation: str
    figure: str
    """`reward`, or `eval NAME`."""
    score: float | None
    """None: a verifier failed (`error` or `timeout`) on it."""
    completion: str

    @property
    def told(self) -> str:
        """One line for people."""
        shown = repr(self.completion[:80]) + ("..." if len(self.completion) > 80 else "")
        earned = "makes a verifier fail" if self.score is None else f"earns {self.score:.2f} of {self.figure}"
        return f"task '{self.task}': '{self.mutation}' {earned} on {self.sample}: {shown} ({len(self.completion)} characters)"


@dataclass
class AuditReport:
    """What an audit found."""

    gate: float
    num_attempts: int = 0
    num_samples: int = 0
    best: dict[str, float] = field(default_factory=dict)
    """task -> the largest score of any wrong completion."""
    exploits: list[Exploit] = field(default_factory=list)
    constants: dict[str, float] = field(default_factory=dict)
    """task -> largest mean reward of one fixed completion over samples with another answer."""
    poor_golds: dict[str, float] = field(default_factory=dict)
    """sample -> reward of its gold completion, where that is not 1: nothing can be searched there."""
    fixtures: list[dict[str, Any]] = field(default_factory=list)
    """One row per fixture completion: place, verifier, kind, expected and got."""

    @property
    def faulty_fixtures(self) -> list[dict[str, Any]]:
        """Fixture rows that are not reproduced."""
        return [row for row in self.fixtures if row["fault"]]

    @property
    def has_faults(self) -> bool:
        """Whether the audit ends with exit code 1."""
        return bool(self.exploits or self.faulty_fixtures or self.poor_golds)

    def to_json(self) -> dict[str, Any]:
        """A plain mapping; completions are cut to 2,000 characters."""
        rows = [{**asdict(found), "completion": found.completion[:2000]} for found in self.exploits]
        return {
            "gate": self.gate, "samples": self.num_samples, "attempts": self.num_attempts, "best": self.best,
            "constants": self.constants, "poor_golds": self.poor_golds, "exploits": rows, "fixtures": self.fixtures,
        }  # fmt: skip


def search(
    golds: Iterable[tuple[Sample, str]],
    judge: Judge,
    *,
    gate: float = GATE,
    seed: int = 0,
    rounds: int = ROUNDS,
    per_task: int = PER_TASK,
) -> AuditReport:
    """Look for wrong completions that pay.

    Args:
        golds: samples with a completion that earns everything.
        judge: scores completions; called once per sample and round.
        gate: the score from which a wrong completion is an exploit.
        rounds: times that the best attempts of a sample are dressed up.
        per_task: samples tried per task.
    """
    report = AuditReport(gate)
    for task, rows in by_task(golds).items():
        report.best[task] = 0.0
        for sample, gold in rows[:per_task]:
            earned = judge([(gold, sample)])[0].get("reward") or 0.0
            if earned < 1.0 - 1e-6:
                report.poor_golds[sample.id] = earned
                continue
            others = _wrong_answers(sample, rows, judge, gate)
            report.num_samples += 1
            _search_sample(
                report, sample, list(attempts(sample, gold, others)), judge, random.Random(f"{seed}-{sample.id}"), rounds
            )
        _constant_answers(report, task, rows, judge)
    return report


def _wrong_answers(sample: Sample, rows: Sequence[tuple[Sample, str]], judge: Judge, gate: float) -> list[str]:
    """Gold completions of others that do not pay here. Some may, by nature (overlapping boxes): they count on the mean only."""
    others = list(dict.fromkeys(text for stranger, text in rows if stranger.reference != sample.reference))[: 3 * MANY]
    scored = judge([(text, sample) for text in others])
    paid = [max((value for value in figures.values() if value is not None), default=0.0) for figures in scored]
    return [text for text, value in zip(others, paid, strict=True) if value < gate]


def by_task(golds: Iterable[tuple[Sample, str]]) -> dict[str, list[tuple[Sample, str]]]:
    """The rows of each task, in their order."""
    tasks: dict[str, list[tuple[Sample, str]]] = {}
    for sample, gold in golds:
        tasks.setdefault(sample.task, []).append((sample, gold))
    return tasks


def _search_sample(
    report: AuditReport, sample: Sample, tried: list[Attempt], judge: Judge, rng: random.Random, rounds: int
) -> None:
    """Score the attempts, then dress up the best of them, round after round."""
    found: set[tuple[str, str]] = set()
    for _ in range(rounds + 1):
        scored = judge([(attempt.completion, sample) for attempt in tried])
        report.num_attempts += len(tried)
        values = []
        for attempt, figures in zip(tried, scored, strict=True):
            values.append(max((value for value in figures.values() if value is not None), default=0.0))
            report.best[sample.task] = max(report.best[sample.task], values[-1])
            for figure, value in figures.items():
                # One completion per kind of mutation is enough to show the hole.
                key = (attempt.mutation.partition(",")[0], figure)
                if (value is None or value >= report.gate) and key not in found:
                    found.add(key)
                    report.exploits.append(Exploit(sample.id, sample.task, attempt.mutation, figure, value, attempt.completion))
        # Equal ones in random order, so that not always the same are dressed up.
        order = sorted(range(len(tried)), key=lambda index: (-values[index], rng.random()))[:KEPT]
        tried = [
            Attempt(f"{tried[index].mutation}, {name}", dress(tried[index].completion, sample, rng))
            for index in order for name, dress in DRESSINGS
        ]  # fmt: skip


def _constant_answers(report: AuditReport, task: str, rows: Sequence[tuple[Sample, str]], judge: Judge) -> None:
    """One completion for every sample: the mean reward where the reference is another. At the gate it is an exploit."""
    for stranger, text in rows[:PER_TASK]:
        targets = [sample for sample, _ in rows[: 2 * PER_TASK] if sample.reference != stranger.reference]
        if not targets:
            continue
        values = [figures.get("reward") or 0.0 for figures in judge([(text, sample) for sample in targets])]
        report.num_attempts += len(targets)
        mean = sum(values) / len(values)
        report.constants[task] = max(report.constants.get(task, 0.0), mean)
        if mean >= report.gate:
            report.exploits.append(Exploit(stranger.id, task, "one answer for every sample", "reward", mean, text))
            return


def check_fixtures(
    subject: Subject, verdicts_of: Callable[[Sequence[tuple[str, Sample, str]]], Sequence[Any]]
) -> list[dict[str, Any]]:
    """Score fixtures/completions.jsonl: one row each, with what differs in `fault` (empty when reproduced).

    Args:
        verdicts_of: scores (completion, sample, verifier) rows; a Verdict each.

    Raises CheckFailed when the files are missing or malformed, or a row names a verifier that the pack does not have.
    """
    rows = subject.completions()
    known = subject.pack.verifiers()
    verdicts = verdicts_of([(row.completion, row.case, row.verifier) for row in rows if row.verifier in known])
    remaining = iter(verdicts)
    found = []
    for row in rows:
        verdict = next(remaining) if row.verifier in known else None
        if verdict is None:
            fault = f"there is no verifier '{row.verifier}'. Known: {', '.join(known)}."
        elif abs(verdict.score - row.score) > 1e-6:
            fault = f"scores {verdict.score:g}, the file says {row.score:g} ({row.why})."
        elif verdict.status.value != row.status:
            fault = f"status {verdict.status.value}, the file says {row.status} ({row.why})."
        elif row.reason not in verdict.reason:
            fault = f"the reason is {verdict.reason!r}; it lacks {row.reason!r}."
        else:
            fault = ""
        found.append(
            {"place": row.place, "verifier": row.verifier, "kind": row.kind, "want": row.score,
             "got": None if verdict is None else verdict.score, "fault": fault}
        )  # fmt: skip
    return found


def judge_here(subject: Subject) -> Judge:
    """A judge that calls the pack's verifiers in this process; for the conformance kit."""
    verifiers = subject.pack.verifiers()
    evals = evals_of(subject)

    def judge(rows: Sequence[tuple[str, Sample]]) -> list[Figures]:
        found: list[Figures] = []
        for completion, sample in rows:
            names = verifiers_to_run(subject, sample, evals)
            verdicts = {name: _verdict_or_error(verifiers[name], completion, sample) for name in names}
            found.append(figures_of(subject, sample, verdicts, evals))
        return found

    return judge


def _verdict_or_error(verifier: Any, completion: str, sample: Sample) -> Verdict:
    try:
        return verifier(completion, sample)
    except Exception as err:  # the pack's own code may raise anything; the pool would make it an `error` too
        return Verdict(0.0, Status.error, f"{type(err).__name__}: {err}")


Evals = Mapping[str, tuple[str, tuple[str, ...]]]
"""eval -> (verifier, tasks; none means all)."""


def verifiers_to_run(subject: Subject, sample: Sample, evals: Evals) -> tuple[str, ...]:
    """Names of the verifiers whose verdicts `figures_of` needs."""
    measured = [verifier for verifier, tasks in evals.values() if not tasks or sample.task in tasks]
    return tuple(dict.fromkeys([*subject.mixture.verifiers_for(sample.task), *measured]))


def figures_of(subject: Subject, sample: Sample, verdicts: Mapping[str, Verdict], evals: Evals) -> Figures:
    """The reward and the evals' scores of one completion."""
    reward = subject.mixture.combine(sample.task, verdicts)
    figures: dict[str, float | None] = {"reward": None if reward.masked else reward.value}
    for name, (verifier, tasks) in evals.items():
        if not tasks or sample.task in tasks:
            verdict = verdicts[verifier]
            figures[f"eval {name}"] = None if verdict.status.is_masked else verdict.score
    return figures


def evals_of(subject: Subject) -> Evals:
    """The primary eval, where it generates and verifies: name -> (verifier, tasks). It decides which stage is kept."""
    measured = {name: (e.verifier, e.tasks) for name, e in subject.pack.evals().items() if e.kind == "qa" and e.primary}
    return {name: pair for name, pair in measured.items() if pair[0] in subject.pack.verifiers()}
