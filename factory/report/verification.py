"""What the report says of verification during training: verdicts by status, judges beside rules, and the watch's flags."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.contracts import Status
from factory.report.plots import curve
from factory.report.read import Trained, read_jsonl
from factory.report.svg import areas, lines

JUDGE_FIGURES = ("agreement", "over", "failed", "score")
BINS = 40
"""Neighbouring steps of recorded rollouts are put together to at most about so many."""


@dataclass(frozen=True)
class VerdictRow:
    """One verifier in one stage: verdicts by status."""

    stage: str
    verifier: str
    counts: Mapping[str, int]

    @property
    def total(self) -> int:
        """All verdicts."""
        return sum(self.counts.values())

    @property
    def masked(self) -> int:
        """Failures of the verifier: these are in neither reward nor loss."""
        return sum(count for status, count in self.counts.items() if Status(status).is_masked)


@dataclass(frozen=True)
class WatchNote:
    """What the watch said of one stage."""

    stage: str
    flagged: int
    messages: Sequence[str]


def verdict_rows(trainings: Iterable[Trained]) -> list[VerdictRow]:
    """Verdicts counted by each finished training stage, most masked first within a stage."""
    found = []
    for trained in trainings:
        own = [VerdictRow(trained.name, name, counts) for name, counts in (trained.outcome.get("verdicts") or {}).items()]
        found += sorted((row for row in own if row.total), key=lambda row: (-row.masked, row.verifier))
    return found


def watch_notes(trainings: Iterable[Trained]) -> list[WatchNote]:
    """Stages in which the watch flagged a verifier."""
    notes = []
    for trained in trainings:
        flagged = int(max((row.get("watch/flagged", 0) for row in trained.metrics), default=0))
        messages = list(trained.outcome.get("watch") or ())
        if flagged or messages:
            notes.append(WatchNote(trained.name, max(flagged, len(messages)), messages))
    return notes


def verification_charts(trained: Trained) -> list[str]:
    """A chart for each judge and each watched verifier, and one of the pass rates of many tasks. Empty for a run without."""
    rows, charts = trained.metrics, []
    for judge in names_under(rows, "judge/"):
        keys = [f"judge/{judge}/{figure}" for figure in JUDGE_FIGURES]
        charts.append(curve(rows, keys, f"{trained.name}: judge {judge} beside the rule"))
    for verifier in names_under(rows, "watch/"):
        keys = [f"watch/{verifier}/{figure}" for figure in ("reward", "accuracy_fresh", "accuracy_held")]
        charts.append(curve(rows, keys, f"{trained.name}: watch over {verifier}"))
    charts.append(
        curve(rows, ("tasks/pass_p10", "tasks/pass_p50", "tasks/pass_p90"), f"{trained.name}: pass rates of a step's tasks")
    )
    return [chart for chart in charts if chart]


def health_charts(trained: Trained, main_of: Callable[[str], str | None]) -> list[str]:
    """From the recorded rollouts: verdicts by status over time, and what each part gave to right and to wrong answers.

    A part that gives as much to wrong answers as to right ones does not tell them apart; one that begins to is being gamed.

    Args:
        main_of: task -> the verifier whose status says whether an answer is right; None for a task that has none.
    """
    rows = [row for row in read_jsonl(trained.folder / "rollouts.jsonl") if "step" in row]
    if not rows:
        return []
    statuses: dict[float, Counter[str]] = defaultdict(Counter)
    given: dict[bool, dict[str, dict[float, list[float]]]] = {True: defaultdict(dict), False: defaultdict(dict)}
    steps = sorted({row["step"] for row in rows})
    bin_of = {step: steps[index - index % max(1, -(-len(steps) // BINS))] for index, step in enumerate(steps)}
    for row in rows:
        step = float(bin_of[row["step"]])
        statuses[step].update(row.get("statuses", {}).values())
        verdict = row.get("statuses", {}).get(main_of(str(row.get("task", ""))))
        if row.get("masked") or verdict is None:
            continue
        for part, value in row.get("parts", {}).items():
            if "/" not in part and isinstance(value, (int, float)):
                given[verdict == Status.ok.value][part].setdefault(step, []).append(float(value))
    names = [status.value for status in Status if any(status.value in counts for counts in statuses.values())]
    shares = {
        name: [(step, counts[name] / max(1, counts.total())) for step, counts in sorted(statuses.items())] for name in names
    }
    charts = [areas(shares, f"{trained.name}: verdicts on recorded rollouts by status", xlabel="optimiser step")]
    for is_right, word in ((True, "right"), (False, "wrong")):
        series = {
            part: [(step, sum(v) / len(v)) for step, v in sorted(found.items())]
            for part, found in sorted(given[is_right].items())
        }
        charts.append(lines(series, f"{trained.name}: what the parts gave to {word} answers", xlabel="optimiser step"))
    return [chart for chart in charts if chart]


def names_under(rows: Iterable[Mapping[str, Any]], prefix: str) -> list[str]:
    """`b` of every metric named `<prefix>b/...`, sorted; `watch/flagged` has none."""
    keys = {key for row in rows for key in row if key.startswith(prefix) and key.count("/") >= 2}
    return sorted({key.removeprefix(prefix).rpartition("/")[0] for key in keys})
