"""The verifier pool and the judges as one: rules first, then only those judges whose score can still count.

It has the interface of `VerifierPool` that the stages use (`submit`, `results`, `score`, `counts`, `versions`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from factory.contracts import Sample, Verdict
from factory.errors import ConfigError
from factory.rewards.judges.agreement import Agreement
from factory.rewards.judges.calibrate import admitted, cached, read_labelled
from factory.rewards.judges.judge import Judge
from factory.rewards.judges.kinds import open_backend
from factory.rewards.judges.panel import JudgePanel
from factory.rewards.judges.settings import JudgeSettings, read_judges
from factory.rewards.mixture import NOT_COUNTED, Mixture
from factory.rewards.pool import VerifierPool


class JudgedPool:
    """Scores with rules and judges.

    Args:
        asks_all: ask judges also where the rules gave 0, to measure them on both kinds of answers. No reward changes by it.
    """

    def __init__(self, rules: VerifierPool, panel: JudgePanel, mixture: Mixture, *, asks_all: bool = False) -> None:
        self._rules, self._panel, self._mixture, self._asks_all = rules, panel, mixture, asks_all
        self._waiting: dict[Hashable, tuple[str, Sample, tuple[str, ...]]] = {}
        self.agreement = Agreement()
        """How far judges and rules say the same since its last `clear`."""

    @property
    def judges(self) -> dict[str, Judge]:
        """The judges in use, by name."""
        return dict(self._panel.judges)

    @property
    def versions(self) -> dict[str, str]:
        """verifier or judge -> version."""
        return {**self._rules.versions, **{name: judge.version for name, judge in self._panel.judges.items()}}

    def submit(self, key: Hashable, completion: str, sample: Sample, verifiers: Sequence[str]) -> None:
        """See `VerifierPool.submit`. Raises also ConfigError: a judge is asked for without its task's rules."""
        judges = tuple(name for name in verifiers if name in self._panel.judges)
        if judges:
            gate = self._mixture.of(sample.task).judge_gate
            if gate not in verifiers:
                raise ConfigError(
                    f"task '{sample.task}': the judge {judges[0]} needs the verdict of '{gate}' first. Submit both."
                )
            self._waiting[key] = (completion, sample, judges)
        self._rules.submit(key, completion, sample, [name for name in verifiers if name not in judges])

    def results(self) -> Iterator[tuple[Any, dict[str, Verdict]]]:
        """See `VerifierPool.results`. What needs no judge comes first. Raises RewardError also for a judge that fails too often."""
        yield from self._with_judges(self._rules.results(), self._waiting)

    def score(self, items: Sequence[tuple[str, Sample, Sequence[str]]]) -> list[dict[str, Verdict]]:
        """See `VerifierPool.score`."""
        waiting: dict[Hashable, tuple[str, Sample, tuple[str, ...]]] = {}
        rules: list[tuple[str, Sample, Sequence[str]]] = []
        for place, (completion, sample, verifiers) in enumerate(items):
            judges = tuple(name for name in verifiers if name in self._panel.judges)
            if judges:
                waiting[place] = (completion, sample, judges)
            rules.append((completion, sample, [name for name in verifiers if name not in judges]))
        found = dict(self._with_judges(enumerate(self._rules.score(rules)), waiting))
        return [found[place] for place in range(len(items))]

    def counts(self) -> dict[str, dict[str, int]]:
        """See `VerifierPool.counts`; judges too."""
        return {**self._rules.counts(), **self._panel.counts()}

    def figures(self) -> dict[str, float]:
        """`judge/<name>/...` for metrics.jsonl."""
        return self.agreement.figures()

    def close(self) -> None:
        """Close both."""
        self._panel.close()
        self._rules.close()

    def __getattr__(self, name: str) -> Any:
        # What else the pool of rules offers (worker_pids, network, ...).
        return getattr(self._rules, name)

    def _to_ask(self, task: str, verdicts: Mapping[str, Verdict]) -> tuple[str, ...]:
        mix = self._mixture.of(task)
        return tuple(sorted(mix.judges)) if self._asks_all else self._mixture.judges_to_ask(task, verdicts)

    def _with_judges(
        self, ruled: Iterator[tuple[Any, dict[str, Verdict]]], waiting: dict[Hashable, tuple[str, Sample, tuple[str, ...]]]
    ) -> Iterator[tuple[Any, dict[str, Verdict]]]:
        asked: dict[Hashable, tuple[Sample, dict[str, Verdict], set[str]]] = {}
        for key, verdicts in ruled:
            completion, sample, judges = waiting.pop(key, ("", None, ()))
            if sample is None:
                yield key, verdicts
                continue
            chosen = [name for name in self._to_ask(sample.task, verdicts) if name in judges]
            verdicts = verdicts | {name: NOT_COUNTED for name in judges if name not in chosen}
            if not chosen:
                yield key, verdicts
                continue
            asked[key] = (sample, verdicts, set(chosen))
            for name in chosen:
                self._panel.submit(key, completion, sample, name)
        for key, name, verdict in self._panel.results():
            sample, verdicts, open_judges = asked[key]
            verdicts[name] = verdict
            self.agreement.add(name, verdict, verdicts[self._mixture.main_verifier(sample.task)])
            open_judges.discard(name)
            if not open_judges:
                yield key, verdicts


def open_judge(name: str, settings: JudgeSettings) -> Judge:
    """A judge without its curve. Raises ConfigError or DataError when its source cannot be used, PluginError of an installed kind."""
    return Judge(name, settings, open_backend(name, settings))


def calibrated(judge: Judge, *, counts: bool, folder: Path | None) -> Judge:
    """The judge, admitted by its labelled set. One that is only measured (weight 0 everywhere) may go without.

    Raises ConfigError: a judge that counts has no labelled set. RewardError: it is refused.
    """
    settings = judge.settings
    if settings.calibration:
        return admitted(judge, cached(judge, read_labelled(settings.calibration), folder))
    if counts:
        raise ConfigError(
            f"judges.{judge.name} has a weight and no calibration. Give it a JSONL of labelled completions "
            f"(judges.{judge.name}.calibration=PATH), or set its weights to 0 to measure it only."
        )
    return judge


@contextmanager
def scoring_pool(
    pack: str, build: Mapping[str, Any], mixture: Mixture, *, workdir: Path | None = None, asks_all: bool = False
) -> Iterator[Any]:
    """The pool for a run: plain when no task uses a judge, else with judges that have been calibrated.

    Args:
        workdir: calibrations are kept in its folder `judges`, so that a resumed run does not measure again.
        asks_all: see `JudgedPool`.
    """
    declared = read_judges(build)
    weights: dict[str, float] = {}
    for mix in mixture.tasks.values():
        for name in mix.judges:
            weights[name] = max(weights.get(name, 0.0), mix.weights[name])
    with ExitStack() as stack:
        judges = {}
        for name in weights:
            judge = open_judge(name, declared[name])
            stack.callback(judge.backend.close)
            judges[name] = calibrated(judge, counts=weights[name] > 0, folder=workdir / "judges" if workdir else None)
        rules = stack.enter_context(VerifierPool(pack, **build["pool"]))
        if not judges:
            yield rules
            return
        cache_dir = build["pool"].get("cache_dir")
        panel = stack.enter_context(JudgePanel(judges, Path(cache_dir) / "judges" if cache_dir else None))
        yield JudgedPool(rules, panel, mixture, asks_all=asks_all)
