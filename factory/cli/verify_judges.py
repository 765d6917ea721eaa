"""The judges of `factory verify`: opened as a build declares them, calibrated before they are asked, and reported with what they said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from factory.cli.output import say, table
from factory.errors import ConfigError

if TYPE_CHECKING:
    from factory.config.schema import BuildConfig
    from factory.rewards.mixture import Mixture
    from factory.testing.subject import Subject

POOL_KEYS = ("workers", "timeout_s", "memory_mib", "max_error_rate")
"""Settings of the pool that count here; nothing is cached."""


@contextmanager
def judged_pool(subject: Subject, config: BuildConfig, *, asks_all: bool) -> Iterator[tuple[Any, Mixture]]:
    """The pool of the build's rules and judges, and its mixture.

    Raises:
        ConfigError: a judge lies in a stage of a build, is in no task's mixture, or has a weight and no labels; `asks_all`
            without judges. RewardError: a judge is refused by its labelled set.
    """
    from factory.rewards.judges.pool import scoring_pool
    from factory.rewards.judges.settings import build_mixture

    _check(config, asks_all)
    pool = {key: getattr(config.pool, key) for key in POOL_KEYS}
    build = {"judges": config.judges, "mixture": config.mixture, "online": config.online, "pool": pool}
    mixture = build_mixture(subject.manifest.tasks, build, subject.pack.verifiers())
    used = {name for mix in mixture.tasks.values() for name in mix.judges}
    for name in sorted(set(config.judges) - used):
        raise ConfigError(
            f"judges.{name} is in no task's mixture, so it would never be asked. Add it: --set mixture.TASK.{name}=0 only measures it."
        )
    with scoring_pool(str(config.domain), build, mixture, asks_all=asks_all) as opened:
        yield opened, mixture


def _check(config: BuildConfig, asks_all: bool) -> None:
    from factory.rewards.judges.settings import STAGE_PATH

    if asks_all and not config.judges:
        raise ConfigError(
            "--ask-all is about judges, and this pack and recipe declare none. Leave it out, or set judges.NAME.kind."
        )
    for name, row in config.judges.items():
        for key in ("path", "calibration"):
            if str(row.get(key) or "").startswith(STAGE_PATH):
                raise ConfigError(
                    f"judges.{name}.{key} is '{row[key]}', a file that a build makes in that stage. Name the finished one: "
                    f"--set judges.{name}.{key}=RUN/stages/NN-STAGE/..."
                )


def judge_figures(pool: Any) -> dict[str, dict[str, Any]]:
    """judge -> kind, calibration (None without labels), and what it said of the completions; empty without judges."""
    from factory.rewards.judges.pool import JudgedPool

    if not isinstance(pool, JudgedPool):
        return {}
    said = pool.figures()
    keys = ("asked", "failed", "score", "agreement", "over")
    return {
        name: {
            "kind": judge.settings.kind,
            "calibration": asdict(judge.calibration) if judge.calibration is not None else None,
            **{key: said.get(f"judge/{name}/{key}") for key in keys},
        }
        for name, judge in pool.judges.items()
    }


def print_judges(judges: dict[str, dict[str, Any]]) -> None:
    """Two tables: what the labelled sets say of the judges, and what the judges said of the completions."""
    if not judges:
        return
    measured = {name: row["calibration"] for name, row in judges.items() if row["calibration"] is not None}
    if measured:
        head = ("judge", "labelled", "failed", "agreement", "accuracy", "F1", "kappa", "right from", "talked over")
        rows = [
            (name, one["rows"], one["failed"], *(f"{one[key]:.3f}" for key in ("agreement", "accuracy", "f1", "kappa", "threshold")),
             "not tried" if judges[name]["kind"] == "recorded" else f"{one['flip_rate']:.0%}")
            for name, one in measured.items()
        ]  # fmt: skip
        say(table(head, rows, right=head[1:], title="Calibration of the judges (agreement is balanced, on halves not fitted to)"))
    head = ("judge", "kind", "asked", "failed", "mean score", "agrees with the rule", "right only for the judge")
    rows = [
        (name, row["kind"], int(row["asked"] or 0), _share(row["failed"]), _number(row["score"]), _share(row["agreement"]), _share(row["over"]))
        for name, row in judges.items()
    ]  # fmt: skip
    say(table(head, rows, right=head[2:], title="What the judges said"))


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
