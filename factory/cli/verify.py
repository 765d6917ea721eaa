"""`factory verify`: score completions with a pack's verifiers, explain one, or audit the verifiers themselves."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.cli import options
from factory.cli.output import emit_json, say, table
from factory.cli.verify_rows import STDIN, SampleFinder, Scored, files_of, read_completions, score_rows, write_lines
from factory.contracts import Sample, Status
from factory.errors import ConfigError, DataError, near_miss

if TYPE_CHECKING:
    from factory.config.compose import Composed
    from factory.config.schema import BuildConfig
    from factory.rewards.mixture import Mixture
    from factory.rewards.pool import VerifierPool
    from factory.testing.audit import AuditReport
    from factory.testing.subject import Subject

REASONS = 12
"""Commonest reasons that the table shows."""
Paths = Annotated[list[str] | None, typer.Argument(help="JSON lines, JSON, CSV or parquet of completions; `-` is stdin.")]


@dataclass
class Totals:
    """Running sums over all scored rows."""

    statuses: dict[str, Counter[str]] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    """verifier, or verifier/part -> sum over verdicts that are not masked."""
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    num_rows: int = 0
    num_masked: int = 0
    num_gated: int = 0
    reward_sum: float = 0.0
    explained: list[Scored] = field(default_factory=list)

    def add(self, scored: Scored, explain: str | None) -> None:
        """Count one row, and keep it when it is to be explained."""
        self.num_rows += 1
        for name, verdict in scored.verdicts.items():
            self.statuses.setdefault(name, Counter())[verdict.status.value] += 1
            if verdict.status is not Status.ok:
                self.reasons[(name, verdict.status.value, verdict.reason[:160])] += 1
                if len(self.reasons) > 20_000:  # reasons may name every answer: keep the commonest
                    self.reasons = Counter(dict(self.reasons.most_common(5_000)))
            if not verdict.status.is_masked:
                for key, value in ((name, verdict.score), *((f"{name}/{part}", value) for part, value in verdict.parts.items())):
                    self.sums[key] = self.sums.get(key, 0.0) + value
                    self.counts[key] += 1
        if scored.reward is not None:
            self.num_masked += scored.reward.masked
            self.num_gated += scored.reward.gated
            self.reward_sum += 0.0 if scored.reward.masked else scored.reward.value
        if explain is not None and explain in (scored.row.id, scored.row.sample.id, scored.row.place):
            self.explained.append(scored)

    def mean(self, key: str) -> float | None:
        """Mean of a verifier's or part's score over verdicts that are not masked."""
        return self.sums[key] / self.counts[key] if self.counts[key] else None

    def parts_of(self, name: str) -> dict[str, float]:
        """Mean of each part of a verifier, the first eight."""
        named = [key for key in self.sums if key.startswith(f"{name}/")][:8]
        return {key.partition("/")[2]: self.sums[key] / self.counts[key] for key in named}

    @property
    def reward(self) -> float | None:
        """Mean reward of the rows that are not masked."""
        scored = self.num_rows - self.num_masked
        return self.reward_sum / scored if scored else None

    def to_json(self) -> dict[str, Any]:
        """The `--json` document without the bad rows."""
        verifiers = {
            name: {"statuses": {s.value: counter[s.value] for s in Status}, "mean": self.mean(name), "parts": self.parts_of(name)}
            for name, counter in self.statuses.items()
        }
        reasons = [{"verifier": v, "status": s, "reason": r, "count": n} for (v, s, r), n in self.reasons.most_common(REASONS)]
        return {"rows": self.num_rows, "masked": self.num_masked, "gated": self.num_gated, "reward": self.reward,
                "verifiers": verifiers, "reasons": reasons}  # fmt: skip


def verify(
    paths: Paths = None,
    domain: options.Domain = None, recipe: options.Recipe = None, data: options.DataPaths = None,
    verifier: Annotated[list[str] | None, typer.Option("--verifier", help="Run only this verifier. Repeat for more.")] = None,
    explain: Annotated[str | None, typer.Option("--explain", metavar="ID", help="Show one row whole: its id or file:row.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the verdicts as JSON lines.")] = None,
    search: Annotated[int, typer.Option("--search", min=1, help="Samples per split looked through for ids.")] = 2000,
    audit: Annotated[bool, typer.Option("--audit", help="Try to cheat the verifiers; exit 1 when a wrong answer pays.")] = False,
    gate: Annotated[float, typer.Option("--gate", min=0.01, max=1.0, help="--audit: reward from which a wrong answer pays.")] = 0.5,
    ask_all: Annotated[bool, typer.Option("--ask-all", help="Ask judges also where the rules gave 0; rewards stay as they are.")] = False,
    overrides: options.Set = None, seed: options.Seed = None, online: options.Online = False, as_json: options.Json = False,
) -> None:  # fmt: skip
    """Score completions with a pack's verifiers and judges, or audit the verifiers.

    Rows are {"sample": {...}, "completion": "..."} or {"id": "...", "completion": "..."}. Exit codes: 0 all rows were scored,
    1 the audit found faults, 3 some rows are bad (they are listed; the others are scored), 6 verifiers failed too often.
    """
    from factory.testing.subject import Subject

    composed = options.composed_from(domain, recipe, None, data, overrides, seed, online, None)
    config = composed.config
    if not config.domain:
        raise ConfigError("which pack's verifiers? Add --domain NAME (`factory domains list` shows them).")
    subject = Subject.named(config.domain)
    if audit:
        if paths or out or explain or verifier or ask_all:
            raise ConfigError("--audit makes its own completions: give it no files, --out, --explain, --verifier or --ask-all.")
        _audit(subject, config, gate, as_json)
        return
    named = list(paths or ([] if sys.stdin.isatty() else [STDIN]))
    for path in named:
        if path != STDIN and not Path(path).expanduser().exists():
            raise DataError(f"{path}: no such file of completions. Check the path; `-` reads JSON lines from stdin.")
    if not named:
        raise ConfigError("what should be scored? Name a file of completions, or send JSON lines on stdin.")
    _score(subject, composed, named, tuple(verifier or ()), explain, out, search, ask_all, as_json)


def _pool(config: BuildConfig, max_error_rate: float | None = None) -> VerifierPool:
    from factory.rewards.pool import VerifierPool

    settings = config.pool
    return VerifierPool(
        str(config.domain), workers=settings.workers, timeout_s=settings.timeout_s, memory_mib=settings.memory_mib,
        max_error_rate=settings.max_error_rate if max_error_rate is None else max_error_rate,
    )  # fmt: skip


def _score(
    subject: Subject, composed: Composed, paths: Sequence[str], only: tuple[str, ...], explain: str | None, out: Path | None,
    search: int, ask_all: bool, as_json: bool,
) -> None:  # fmt: skip
    from factory.cli.data import bad_rows, request_of
    from factory.cli.verify_judges import judge_figures, judged_pool, print_judges
    from factory.config.validate import require_data
    from factory.data.report import RowReport

    config = composed.config
    require_data(config, composed.provenance)
    totals = Totals()
    with (
        tempfile.TemporaryDirectory(prefix="factory-bad-rows-") as aside,
        files_of(paths) as files,
        judged_pool(subject, config, asks_all=ask_all) as (pool, mixture),
    ):
        for name in only:
            if name not in pool.versions:
                raise ConfigError(
                    f"'{subject}' has no verifier '{name}'.{near_miss(name, pool.versions)} It has: {', '.join(pool.versions)}."
                )
        # Every row is read whatever the share of bad ones: this command is there to show them all.
        report = RowReport(max_bad_fraction=1.0, quarantine_file=Path(aside) / "rows.jsonl")
        finder = SampleFinder(subject.pack, _cases(subject), request_of(config), config.seed, search)
        scored: Iterable[Scored] = score_rows(read_completions(files, finder, mixture, report), pool, mixture, only)
        for row in write_lines(out, scored) if out else scored:
            totals.add(row, explain)
        report.close()
        bad = bad_rows(Path(aside))
        judges = judge_figures(pool)
    if explain is not None and not totals.explained:
        raise DataError(f"--explain {explain}: no scored row has this id or place (of {totals.num_rows}). --out FILE lists them.")
    if as_json:
        shown = {"explained": [_explained_json(row) for row in totals.explained]} if explain is not None else {}
        emit_json(
            {
                "domain": str(subject),
                **totals.to_json(),
                "bad_rows": bad,
                "judges": judges,
                "out": str(out) if out else None,
                **shown,
            }
        )
    else:
        print_judges(judges)
        _print(totals, bad, out, mixture)
    if bad:
        raise typer.Exit(DataError.exit_code)


def _cases(subject: Subject) -> dict[str, Sample]:
    """The pack's fixture cases; none when it ships none or they are faulty (the conformance kit reports that)."""
    from factory.testing.subject import CheckFailed

    try:
        return subject.cases()
    except CheckFailed:
        return {}


def _print(totals: Totals, bad: list[dict[str, Any]], out: Path | None, mixture: Mixture) -> None:
    for row in totals.explained:
        say(*_explained(row, mixture), "")
    statuses = [status.value for status in Status]
    rows = [
        (name, *(counter[status] or "" for status in statuses), _figure(totals.mean(name)),
         ", ".join(f"{part} {value:.3f}" for part, value in totals.parts_of(name).items()))
        for name, counter in totals.statuses.items()
    ]  # fmt: skip
    say(table(("verifier", *statuses, "mean", "parts (means)"), rows, right=(*statuses, "mean"), title="Verdicts"))
    if totals.reasons:
        reasons = [(number, name, status, reason) for (name, status, reason), number in totals.reasons.most_common(REASONS)]
        say(table(("times", "verifier", "status", "reason"), reasons, right=("times",), title="Commonest reasons"))
    if bad:
        cells = [(row["file"], row["row"] or "whole file", row["field"], row["reason"]) for row in bad[:50]]
        say(table(("file", "row", "field", "reason"), cells, right=("row",), title="Bad rows"))
    reward = f"mean reward {_figure(totals.reward)}, " if totals.reward is not None else ""
    say(
        f"{totals.num_rows} completions scored, {reward}{totals.num_masked} masked, {totals.num_gated} gated; {len(bad)} bad rows"
        + (f"; verdicts in {out}" if out else "")
    )


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _explained(scored: Scored, mixture: Mixture) -> list[Any]:
    """One row whole: what was asked and answered, every verdict, and how the reward came about."""
    from factory.cli.data import render

    row = scored.row
    mix = mixture.of(row.sample.task)
    verdicts = [
        (name, "" if v.status.is_masked else f"{v.score:.4f}", v.status.value, f"{mix.weights.get(name, 0):g}" + (" gate" if mix.gate == name else ""),
         v.reason, ", ".join(f"{part} {value:.4g}" for part, value in v.parts.items()))
        for name, v in scored.verdicts.items()
    ]  # fmt: skip
    parts: list[Any] = [row.place, render(row.sample), f"  completion {row.completion!r}"]
    parts.append(table(("verifier", "score", "status", "weight", "reason", "parts"), verdicts, right=("score", "weight")))
    reward = scored.reward
    if reward is not None:
        total = sum(mix.weights.values())
        summed = " + ".join(f"{w:g} x {scored.verdicts[n].score:.4f}" for n, w in mix.weights.items() if w > 0)
        told = (
            "masked: a verifier failed, so there is no reward"
            if reward.masked
            else "0: the gate is closed"
            if reward.gated
            else ""
        )
        parts.append(f"reward = {told or f'({summed}) / {total:g} = {reward.value:.4f}'}")
    return parts


def _explained_json(scored: Scored) -> dict[str, Any]:
    from factory.cli.data import to_plain

    return {**scored.to_json(), "sample": to_plain(scored.row.sample), "completion": scored.row.completion}


# --- audit --------------------------------------------------------------------------------------------------------------


def _audit(subject: Subject, config: BuildConfig, gate: float, as_json: bool) -> None:
    """Run the fixtures and the search through the pool; exit 1 when anything is wrong."""
    from factory.errors import PluginError
    from factory.testing.audit import check_fixtures, search
    from factory.testing.subject import CheckFailed

    # An attack may make a verifier fail as often as it likes: that is a finding, not the end of the audit.
    with _pool(config, max_error_rate=1.0) as pool:
        try:
            fixtures = check_fixtures(subject, lambda calls: [
                verdicts[name] for verdicts, (_, _, name)
                in zip(pool.score([(text, sample, (name,)) for text, sample, name in calls]), calls, strict=True)
            ])  # fmt: skip
            report = search(subject.golds(), _pool_judge(subject, pool), gate=gate)
        except CheckFailed as err:
            raise PluginError(f"{subject}: {err}") from err
        network = pool.network
    report.fixtures = fixtures
    if not report.num_samples and not report.poor_golds:
        raise PluginError(
            f"{subject}: there is nothing to audit: the pack has no lessons, and no method gold(sample). Add one of them to the pack."
        )
    if as_json:
        emit_json({"domain": str(subject), "network": network, **report.to_json()})
    else:
        _print_audit(subject, report)
    if report.has_faults:
        raise typer.Exit(1)


def _pool_judge(subject: Subject, pool: VerifierPool) -> Callable[[Sequence[tuple[str, Sample]]], list[Any]]:
    from factory.testing.audit import evals_of, figures_of, verifiers_to_run

    evals = evals_of(subject)

    def judge(rows: Sequence[tuple[str, Sample]]) -> list[Any]:
        found = pool.score([(text, sample, verifiers_to_run(subject, sample, evals)) for text, sample in rows])
        return [figures_of(subject, sample, verdicts, evals) for (_, sample), verdicts in zip(rows, found, strict=True)]

    return judge


def _print_audit(subject: Subject, report: AuditReport) -> None:
    kinds = Counter(row["kind"] for row in report.fixtures)
    say(f"{len(report.fixtures)} fixtures: {', '.join(f'{number} {kind}' for kind, number in kinds.items())}; "
        f"{len(report.faulty_fixtures)} not reproduced")  # fmt: skip
    if report.faulty_fixtures:
        rows = [(row["place"], row["verifier"], row["kind"], row["fault"]) for row in report.faulty_fixtures]
        say(table(("fixture", "verifier", "kind", "fault"), rows))
    best = [(task, f"{value:.4f}", _figure(report.constants.get(task))) for task, value in report.best.items()]
    say(table(("task", "best wrong completion", "best fixed completion"), best, right=("best wrong completion", "best fixed completion"),
              title=f"What wrong completions earn (gate {report.gate:g})"))  # fmt: skip
    for name, value in list(report.poor_golds.items())[:10]:
        say(f"the gold completion of {name} earns {value:.4f}, not 1: nothing could be searched there")
    if report.exploits:
        rows = [
            (e.sample, e.task, e.mutation, "fails" if e.score is None else f"{e.score:.4f}", e.figure, repr(e.completion[:100]))
            for e in report.exploits
        ]
        say(table(("sample", "task", "mutation", "score", "of", "completion"), rows, right=("score",), title="Exploits"))
    say(
        f"{subject}: {report.num_attempts} wrong completions tried on {report.num_samples} samples, {len(report.exploits)} exploits"
    )
