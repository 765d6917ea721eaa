"""Progress as plain lines: throttled, with the time that is left."""

from __future__ import annotations

import io

from rich.console import Console

from factory.cli.live import LiveView, Pace, progress_text
from factory.pipeline.events import Event


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_time_left_counts_from_the_first_progress():
    clock = Clock()
    pace = Pace(clock)
    assert pace.left_s(10, 100) is None
    clock.now_s += 20
    # 10 steps took 20 s, so the 80 that are left take 160 s
    assert pace.left_s(20, 100) == 160.0


def test_time_left_starts_again_when_a_phase_begins():
    clock = Clock()
    pace = Pace(clock)
    pace.left_s(50, 50)
    clock.now_s += 5
    assert pace.left_s(1, 50) is None


def test_progress_line_holds_what_the_row_has():
    row = {"step": 40, "total": 200, "loss": 2.345678, "reward": 0.5, "tokens_per_s": 12345.0}
    assert progress_text(row, 63.0) == "40/200  loss 2.3457  reward 0.500  12.3 k tok/s  1 min 03 s left"
    assert progress_text({"phase": "validation", "step": 8, "total": 8, "loss": None}, None) == "validation  8/8"
    assert progress_text({"phase": "probe x", "step": 0}, None) == "probe x  0"


def test_plain_lines_are_throttled_and_the_last_step_is_always_shown():
    clock, text = Clock(), io.StringIO()
    with LiveView(out=Console(file=text, force_terminal=False, width=200), clock=clock) as view:
        view(Event("step-start", "02-cpt", 2, 4, {"why": "resumes"}))
        for step in range(1, 51):
            clock.now_s += 1
            view(Event("progress", "02-cpt", 2, 4, {"step": step, "total": 50, "loss": 1.0}))
        view(Event("step-end", "02-cpt", 2, 4, {"seconds": 50.0, "metrics": {"num_steps": 50, "last": {"loss": 1.0}}}))
        view(Event("step-skip", "03-cpt-eval", 3, 4, {}))
    lines = text.getvalue().splitlines()
    assert lines[0] == "[3/4] 02-cpt  started (resumes)"
    # steps 1, 11, 21, 31, 41 are ten seconds apart, and 50 is the last
    assert [line.split()[2] for line in lines[1:-2]] == ["1/50", "11/50", "21/50", "31/50", "41/50", "50/50"]
    assert lines[2].endswith("39 s left")
    assert lines[-2:] == ["[3/4] 02-cpt  done in 50 s  num_steps 50", "[4/4] 03-cpt-eval  finished before, kept"]


def test_terminal_shows_one_live_line():
    text = io.StringIO()
    with LiveView(out=Console(file=text, force_terminal=True, width=120), clock=Clock()) as view:
        view(Event("step-start", "02-cpt", 2, 4, {}))
        view(Event("progress", "02-cpt", 2, 4, {"step": 1, "total": 50, "loss": 1.0}))
        assert view.live is not None
    assert "1/50" in text.getvalue()


def test_an_eval_ends_with_its_figure_by_name():
    out = io.StringIO()
    view = LiveView(out=Console(file=out, width=200, force_terminal=False))
    view(Event("step-end", "03-cpt-eval", 3, 4, {"seconds": 6.0, "metrics": {"name": "accuracy", "value": 0.75, "n": 16}}))
    assert out.getvalue().splitlines() == ["[4/4] 03-cpt-eval  done in 6 s  accuracy 0.75  n 16"]
