"""The watch over verifiers: one whose reward rises while it is right less often is being gamed, and is named.

Two sources say how often a verifier is right, each optional:

- *fresh*: rollouts of the present policy that an auditor judged too: another verifier of the task, with weight 0 so that
  training cannot reach it (`watch.auditors`). This sees exploits as the policy finds them.
- *held*: labelled completions (the pack's fixtures, and files of `watch.paths`) judged again every `every` steps. A rule on
  fixed texts cannot change; a judge behind an address, or a verifier with hidden state, can.

Held texts also say how often a verifier is fooled from the start, and new rows (recorded exploits) can be added between runs.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from factory.contracts import Sample, Status
from factory.errors import ConfigError, DataError, PluginError, near_miss
from factory.plugins import find_pack, member_names, pack_folder
from factory.rewards.mixture import Mixture, Reward

log = logging.getLogger(__name__)

RIGHT = 0.5
"""From here on a score says `right`."""


@dataclass(frozen=True)
class WatchSettings:
    """`watch:` of a build."""

    every: int = 25
    """RL steps between two looks; 0 switches the watch off."""
    rise: float = 0.05
    """A mean training reward that grew by this much since the best look is rising."""
    fall: float = 0.1
    """Accuracy lost since the best look by which a verifier is flagged."""
    min_rows: int = 16
    """Audited completions below which a look says nothing."""
    held_rows: int = 200
    """At most this many held completions are judged at a look."""
    paths: tuple[str, ...] = ()
    """JSONL of {sample, verifier, completion, label}: recorded completions with the true answer to `is it right`."""
    auditors: Mapping[str, str] = field(default_factory=dict)
    """verifier -> the verifier (weight 0) that audits it."""


@dataclass(frozen=True)
class Held:
    """A completion of which it is known whether it deserves a score of `RIGHT` or more."""

    sample: Sample
    verifier: str
    completion: str
    label: bool


@dataclass
class _History:
    """Looks at one verifier from one source: (step, mean reward, accuracy)."""

    looks: list[tuple[int, float, float]] = field(default_factory=list)
    flagged_at: int | None = None


class VerifierWatch:
    """Sees every scored rollout of the main process. `Stateful`: a resumed run remembers its looks and its window.

    Args:
        settings: when to look and when to speak.
        mixture: tells which verifiers a task pays.
        held: labelled completions.

    Raises:
        ConfigError: an auditor that is paid somewhere, or audits nothing.
    """

    def __init__(self, settings: WatchSettings, mixture: Mixture, held: Sequence[Held] = ()) -> None:
        self.settings, self.held = settings, tuple(held)[: settings.held_rows]
        paid = {name for mix in mixture.tasks.values() for name, weight in mix.weights.items() if weight > 0}
        listed = {name for mix in mixture.tasks.values() for name in mix.verifiers}
        for suspect, auditor in settings.auditors.items():
            for name in (suspect, auditor):
                if name not in listed:
                    raise ConfigError(
                        f"watch.auditors: no task lists the verifier '{name}'.{near_miss(name, listed)} List it, with weight 0."
                    )
            if auditor in paid:
                raise ConfigError(
                    f"watch.auditors.{suspect}: the auditor '{auditor}' has a weight, so training games it too. Set its weights to 0."
                )
        self._rewards: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._agreed: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._histories: dict[str, _History] = defaultdict(_History)
        self._last_look = -1
        self.messages: list[str] = []
        """What was said so far, for the report."""

    def look(self, step: int, rewards: Iterable[Reward], pool: Any) -> dict[str, float]:
        """Take in a round of rewards; at every `every`-th step (0-based: the first look is at step `every` - 1) judge the held
        rows and compare. Returns figures for metrics.jsonl: `watch/<verifier>/accuracy...`, and `watch/flagged`.
        """
        for reward in rewards:
            self._take_in(reward)
        if not self.settings.every or (step + 1) % self.settings.every or step == self._last_look:
            return {}
        self._last_look = step
        figures: dict[str, float] = {}
        for verifier, (right, count) in self._agreed.items():
            if count >= self.settings.min_rows:
                figures |= self._record(step, verifier, "fresh", right / count)
        for verifier, accuracy in self._held_accuracy(pool).items():
            figures |= self._record(step, verifier, "held", accuracy)
        self._rewards.clear()
        self._agreed.clear()
        flagged = {key.partition("\n")[0] for key, history in self._histories.items() if history.flagged_at is not None}
        return figures | ({"watch/flagged": float(len(flagged))} if figures else {})

    def flagged(self) -> list[str]:
        """Verifiers that were flagged, by name."""
        return sorted({key.partition("\n")[0] for key, history in self._histories.items() if history.flagged_at is not None})

    def state_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "rewards": {name: list(pair) for name, pair in self._rewards.items()},
            "agreed": {name: list(pair) for name, pair in self._agreed.items()},
            "histories": {key: [one.looks, one.flagged_at] for key, one in self._histories.items()},
            "last_look": self._last_look, "messages": list(self.messages),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self._rewards.clear()
        self._agreed.clear()
        self._histories.clear()
        self._rewards.update({name: list(pair) for name, pair in state["rewards"].items()})
        self._agreed.update({name: list(pair) for name, pair in state["agreed"].items()})
        for key, (looks, flagged_at) in state["histories"].items():
            self._histories[key] = _History([(int(a), float(b), float(c)) for a, b, c in looks], flagged_at)
        self._last_look, self.messages = int(state["last_look"]), list(state["messages"])

    def _take_in(self, reward: Reward) -> None:
        for name in reward.statuses:
            if name in reward.parts:
                self._rewards[name][0] += reward.parts[name]
                self._rewards[name][1] += 1
        for suspect, auditor in self.settings.auditors.items():
            if suspect in reward.parts and auditor in reward.parts:
                self._agreed[suspect][0] += (reward.parts[suspect] >= RIGHT) == (reward.parts[auditor] >= RIGHT)
                self._agreed[suspect][1] += 1

    def _held_accuracy(self, pool: Any) -> dict[str, float]:
        """Share of held completions that each verifier still gets right. Failed verdicts count for nothing."""
        known = [row for row in self.held if row.verifier in pool.versions and row.verifier in self._rewards]
        hits: dict[str, list[bool]] = defaultdict(list)
        found = pool.score([(row.completion, row.sample, (row.verifier,)) for row in known]) if known else []
        for row, verdicts in zip(known, found, strict=True):
            verdict = verdicts[row.verifier]
            if not verdict.status.is_masked:
                hits[row.verifier].append((verdict.score >= RIGHT and verdict.status is not Status.unparsable) == row.label)
        return {name: sum(own) / len(own) for name, own in hits.items() if len(own) >= self.settings.min_rows}

    def _record(self, step: int, verifier: str, source: str, accuracy: float) -> dict[str, float]:
        total, count = self._rewards[verifier]
        reward = total / count if count else 0.0
        history = self._histories[f"{verifier}\n{source}"]
        # Against the earlier look with the best accuracy: a slow slide adds up.
        best = max(history.looks, key=lambda look: look[2], default=None)
        history.looks.append((step, reward, accuracy))
        if best is not None and reward - best[1] >= self.settings.rise and best[2] - accuracy >= self.settings.fall:
            if history.flagged_at is None:
                self._speak(step, verifier, source, best, reward, accuracy)
            history.flagged_at = step if history.flagged_at is None else history.flagged_at
        return {f"watch/{verifier}/accuracy_{source}": accuracy, f"watch/{verifier}/reward": reward}

    def _speak(
        self, step: int, verifier: str, source: str, best: tuple[int, float, float], reward: float, accuracy: float
    ) -> None:
        against = (
            f"its auditor '{self.settings.auditors.get(verifier)}'" if source == "fresh" else "the labels of the held completions"
        )
        message = (
            f"the verifier '{verifier}' is probably being gamed: from step {best[0] + 1} to {step + 1} the reward it pays rose from "
            f"{best[1]:.2f} to {reward:.2f}, while its agreement with {against} fell from {best[2]:.0%} to {accuracy:.0%}. "
            "Read its best-paid rollouts in rollouts.jsonl, mend or lower the verifier, and go on from the checkpoint before."
        )
        self.messages.append(message)
        log.warning("%s", message)


def make_watch(build: Mapping[str, Any], domain: str, mixture: Mixture) -> VerifierWatch | None:
    """The watch of a build, or None when it is off or has nothing to compare with. Raises ConfigError, DataError."""
    settings = read_settings(build.get("watch") or {})
    if not settings.every:
        return None
    held = [row for path in settings.paths for row in read_held(path)] + fixtures_of(domain)
    held = [row for row in held if row.verifier not in mixture_judges(mixture)]
    if not held and not settings.auditors:
        return None
    return VerifierWatch(settings, mixture, held)


def mixture_judges(mixture: Mixture) -> set[str]:
    """Judges of any task. They are held to their own labelled set (`judges/calibrate`), and asked only behind a rule."""
    return {name for mix in mixture.tasks.values() for name in mix.judges}


def read_settings(row: Mapping[str, Any]) -> WatchSettings:
    """`watch:` checked. Raises ConfigError naming the key."""
    known = {one.name for one in fields(WatchSettings)}
    for key in row:
        if key not in known:
            raise ConfigError(f"watch.{key} is no setting.{near_miss(str(key), known)} Settings: {', '.join(sorted(known))}.")
    made = WatchSettings(**{**row, "paths": tuple(row.get("paths") or ()), "auditors": dict(row.get("auditors") or {})})
    for key in ("every", "min_rows", "held_rows"):
        value = getattr(made, key)
        if isinstance(value, bool) or not isinstance(value, int) or value < (0 if key == "every" else 1):
            raise ConfigError(f"watch.{key} is {value!r}; want a whole number{', 0 for off' if key == 'every' else ' from 1'}.")
    for key in ("rise", "fall"):
        value = getattr(made, key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            raise ConfigError(f"watch.{key} is {value!r}; want a number above 0, up to 1.")
    return made


def read_held(path: str | Path) -> list[Held]:
    """Rows {sample: Sample as JSON, verifier, completion, label: true or false}. Raises DataError naming file and line."""
    rows = []
    for number, line in _lines(Path(path)):
        try:
            row = json.loads(line)
            if not isinstance(row["label"], bool):
                raise ValueError("label must be true or false")
            rows.append(Held(Sample.from_json(row["sample"]), str(row["verifier"]), str(row["completion"]), row["label"]))
        except (ValueError, KeyError, TypeError) as err:
            raise DataError(f"{path}:{number}: {err!r}. Want sample, verifier, completion and label.") from err
    return rows


def fixtures_of(domain: str) -> list[Held]:
    """The pack's own labelled completions (fixtures/cases.jsonl and completions.jsonl); none for packs without them.

    Rows of kind `right` deserve the score that their author wrote, and exploits none.
    """
    try:
        names = member_names(domain)
        folders = {name: pack_folder(find_pack(name)) / "fixtures" for name in names}
    except PluginError:
        return []  # a target `module:attribute`: no folder of fixtures
    if len(names) == 1:
        return _fixtures_in(folders[domain])
    # Of several packs, everything stands under its pack's name: see factory/packs/composed.py.
    return [
        Held(replace(one.sample, task=f"{name}/{one.sample.task}"), f"{name}/{one.verifier}", one.completion, one.label)
        for name, folder in folders.items() for one in _fixtures_in(folder)
    ]  # fmt: skip


def _fixtures_in(folder: Path) -> list[Held]:
    if not (folder / "completions.jsonl").exists() or not (folder / "cases.jsonl").exists():
        return []
    cases = {row["id"]: Sample.from_json(row) for row in map(json.loads, (line for _, line in _lines(folder / "cases.jsonl")))}
    found = []
    for _, line in _lines(folder / "completions.jsonl"):
        row = json.loads(line)
        if row.get("case") in cases:
            found.append(Held(cases[row["case"]], row["verifier"], row["completion"], float(row["score"]) >= RIGHT))
    return found


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as err:
        raise DataError(f"{path}: cannot be read: {err.strerror}. Check the path.") from err
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
