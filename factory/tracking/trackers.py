"""One small interface to W&B, MLflow and trackio, and what a build sends through it.

Off unless asked for (`--track`). Without `--online` nothing leaves the machine: W&B writes its offline files, MLflow a local
database, trackio a local folder. A tracker that fails warns once and is let go; it never ends a build.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from factory.errors import ConfigError, near_miss
from factory.pipeline.events import Event, OnEvent

log = logging.getLogger(__name__)
PROJECT = "factory"
NAMES = ("wandb", "mlflow", "trackio")
LOCAL = ("jsonl", "tensorboard", "none")
"""Accepted and without effect: they are always on (or nothing)."""
_OMITTED = ("step", "total", "time_s")


@dataclass(frozen=True)
class About:
    """The run that is tracked."""

    run: str
    """Its name; a resumed run goes on under it."""
    folder: Path
    """The tracker's own files go to `folder/tracking/`, where it has files of the run."""
    home: Path
    """FACTORY_HOME, for databases that several runs share."""
    config: Mapping[str, Any]
    tags: Mapping[str, str]
    online: bool = False


class Tracker(Protocol):
    """What every tracker can do. Methods may raise anything."""

    def log(self, stage: str, step: int, values: Mapping[str, float]) -> None: ...
    def summary(self, values: Mapping[str, float]) -> None: ...
    def close(self, status: str) -> None: ...


def read_names(texts: Sequence[str]) -> tuple[str, ...]:
    """Trackers named by `--track` (repeated or with commas). Raises ConfigError for an unknown one."""
    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    for name in names:
        if name not in (*NAMES, *LOCAL):
            raise ConfigError(
                f"--track {name}: no such tracker.{near_miss(name, [*NAMES, *LOCAL])} Known: {', '.join((*NAMES, *LOCAL))}."
            )
    return tuple(dict.fromkeys(name for name in names if name in NAMES))


def open_tracker(name: str, about: About) -> Tracker:
    """A started tracker.

    Raises:
        ConfigError: it is not installed, or its address is another machine and the run is not online.
    """
    from factory.tracking import targets

    makers: dict[str, Callable[[About], Tracker]] = {"wandb": targets.Wandb, "mlflow": targets.Mlflow, "trackio": targets.Trackio}
    try:
        return makers[name](about)
    except ImportError as err:
        raise ConfigError(f"--track {name} needs the package {name}: {err}. Install it: pip install {name}") from err


class Tracking:
    """Some trackers at once; each that fails is dropped with one warning."""

    def __init__(self, trackers: Mapping[str, Tracker]) -> None:
        self._trackers = dict(trackers)

    @property
    def alive(self) -> tuple[str, ...]:
        """Names of those that still work."""
        return tuple(self._trackers)

    def log(self, stage: str, row: Mapping[str, Any]) -> None:
        """One row of metrics.jsonl."""
        values = numbers(row)
        if values and "step" in row:
            self._each("log", stage, int(row["step"]), values)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Figures of the whole run."""
        self._each("summary", {key: float(value) for key, value in values.items() if value is not None})

    def close(self, status: str) -> None:
        """`finished`, `failed` or `interrupted`."""
        self._each("close", status)
        self._trackers.clear()

    def _each(self, method: str, *values: Any) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                getattr(tracker, method)(*values)
            except Exception as err:  # whatever a tracker raises: the run is worth more than its copy elsewhere
                del self._trackers[name]
                log.warning("tracker %s failed and is left out from here on: %s: %s", name, type(err).__name__, err)


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a metrics row, without step and clock."""
    return {
        key: float(value)
        for key, value in row.items()
        if key not in _OMITTED and isinstance(value, int | float) and not isinstance(value, bool) and value - value == 0
    }


def summary_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """Held-out figures of result.json under stable names: `eval/STAGE/test`, `.../validation`, `.../difference`."""
    found = {}
    for row in result.get("rows", ()):
        found |= {
            f"eval/{row['stage']}/test": row["value"], f"eval/{row['stage']}/validation": row["validation"],
            f"eval/{row['stage']}/difference": row.get("diff"),
        }  # fmt: skip
    return found


@contextmanager
def tracked(names: Sequence[str], about: About, on_event: OnEvent) -> Iterator[OnEvent]:
    """The event handler of a build that also feeds the trackers; without names it is `on_event` itself.

    Raises:
        ConfigError: before anything runs, when a tracker cannot be opened.
    """
    if not names:
        yield on_event
        return
    tracking = Tracking({name: open_tracker(name, about) for name in names})

    def both(event: Event) -> None:
        on_event(event)
        if event.kind == "progress" and "phase" not in event.values:
            tracking.log(event.step.split("-", 1)[-1], event.values)
        elif event.kind == "result":
            tracking.summary(summary_of(event.values))

    status = "failed"
    try:
        yield both
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        tracking.close(status)


def send_run(folder: Path, names: Sequence[str], about: About) -> tuple[str, ...]:
    """Everything a run left on disk, to trackers: for runs made where there was no network. The names that took all of it."""
    from factory.report.read import read_run

    run = read_run(folder)
    tracking = Tracking({name: open_tracker(name, about) for name in names})
    for trained in run.trainings:
        for row in trained.metrics:
            tracking.log(trained.name, row)
    tracking.summary(summary_of(run.result))
    alive = tracking.alive
    tracking.close("finished" if run.result else "interrupted")
    return alive
