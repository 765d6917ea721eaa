"""Show a build while it runs: one live line for each step on a terminal, plain lines elsewhere. Everything goes to stderr."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from factory.cli.output import console, count, span

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from factory.pipeline.events import Event

LINE_EVERY_S = 10.0
"""Seconds between two plain lines of one step; the first and last are always printed."""


class Pace:
    """Time left in one step, from the steps done since the first progress was seen (so that loading does not count)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.first: tuple[float, float] | None = None

    def left_s(self, step: float, total: float) -> float | None:
        """Estimated seconds until `total`; None until two different steps were seen."""
        now = self.clock()
        if self.first is None or step < self.first[1]:
            self.first = (now, step)
        since_s, since_step = self.first
        if step <= since_step:
            return None
        return (total - step) * (now - since_s) / (step - since_step)


def progress_text(row: dict[str, Any], left_s: float | None) -> str:
    """A row of metrics.jsonl as one short line."""
    parts = []
    if row.get("phase"):
        parts.append(str(row["phase"]))
    if row.get("step") is not None:
        parts.append(f"{row['step']:g}/{row['total']:g}" if row.get("total") else f"{row['step']:g}")
    for key, form in (("loss", ".4f"), ("reward", ".3f"), ("kl", ".4f")):
        if isinstance(row.get(key), int | float):
            parts.append(f"{key} {row[key]:{form}}")
    if isinstance(row.get("tokens_per_s"), int | float):
        parts.append(f"{count(row['tokens_per_s'])} tok/s")
    if left_s is not None:
        parts.append(f"{span(left_s)} left")
    return "  ".join(parts)


class LiveView:
    """Renders the events of a build; use as a context manager and pass it as `on_event`."""

    def __init__(self, *, out: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.out = out or console(stderr=True)
        self.clock = clock
        self.live: Live | None = None
        self.pace = Pace(clock)
        self.started_s = clock()
        self.last_line_s = -LINE_EVERY_S
        self.label = ""

    def __enter__(self) -> Self:
        if self.out.is_terminal:
            from rich.live import Live

            self.live = Live("", console=self.out, refresh_per_second=4, transient=True)
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live is not None:
            self.live.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        label = f"[{event.index + 1}/{event.total}] {event.step}" if event.step else ""
        if event.kind == "check":
            self._line(f"checking {event.values.get('what', '')}")
        elif event.kind == "step-skip":
            self._line(f"{label}  finished before, kept")
        elif event.kind == "rollback":
            self._line(f"{event.step}: {event.values['why']}")
        elif event.kind == "step-start":
            self._begin(label, str(event.values.get("why", "")))
        elif event.kind == "progress":
            self._progress(event.values)
        elif event.kind == "step-end":
            seconds = float(event.values.get("seconds", self.clock() - self.started_s))
            self._line(f"{label}  done in {span(seconds)}  {_words(event.values.get('metrics', {}))}")

    def _begin(self, label: str, why: str) -> None:
        self.label, self.pace, self.started_s, self.last_line_s = label, Pace(self.clock), self.clock(), -LINE_EVERY_S
        if self.live is None:
            self._line(f"{label}  started" + (f" ({why})" if why else ""))
        else:
            self._show(f"{label}  starting")

    def _progress(self, row: Any) -> None:
        step, total = row.get("step"), row.get("total")
        left_s = self.pace.left_s(step, total) if step is not None and total else None
        text = f"{self.label}  {progress_text(dict(row), left_s)}"
        if self.live is not None:
            self._show(text)
        elif self.clock() - self.last_line_s >= LINE_EVERY_S or (total and step == total):
            self.last_line_s = self.clock()
            self._line(text)

    def _show(self, text: str) -> None:
        from rich.spinner import Spinner
        from rich.text import Text

        assert self.live is not None
        self.live.update(Spinner("dots", Text(text, overflow="ellipsis", no_wrap=True)))

    def _line(self, text: str) -> None:
        self.out.print(text.rstrip(), markup=False, soft_wrap=True)


def _words(values: Any) -> str:
    """Numbers and short texts of a mapping in one line; nested values are left to the report."""
    parts = []
    if isinstance(values.get("name"), str) and "value" in values:  # an eval's primary figure: `accuracy 0.75`
        values = {values["name"]: values["value"]} | {key: value for key, value in values.items() if key not in ("name", "value")}
    for key, value in values.items():
        if isinstance(value, float):
            parts.append(f"{key} {value:.4g}")
        elif isinstance(value, int | str) and not isinstance(value, bool) and len(str(value)) <= 60:
            parts.append(f"{key} {value}")
    return "  ".join(parts)
