"""The report's part on many tasks: figures by hand, few bytes for 1,500 tasks, and nothing for a run of few tasks."""

import json
import random
import re
import time
from xml.etree import ElementTree

import pytest
import yaml

from factory.errors import DataError
from factory.report import build_report
from factory.report.read import Trained
from factory.report.tasks import bars_of, small_curve, task_parts
from factory.report.verification import names_under, verdict_rows, verification_charts, watch_notes
from factory.rewards.task_stats import TaskCount


def write_tasks(folder, steps):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps({"step": number, "tasks": tasks}) for number, tasks in enumerate(steps)]
    (folder / "tasks.jsonl").write_text("\n".join(rows) + "\n")
    return Trained("rl", "rl", folder)


def count(rollouts, right, masked=0, equal=0):
    """A row of one group; the reward of a right rollout is 1."""
    return [rollouts, masked, right, float(right), 1, equal]


# Nine tasks drawn in two steps of 8 rollouts, and a tenth in one. Gains in quarters of 8: up +6/8, down -4/8, others 0.
EVEN = {f"even-{i}": count(8, 4) for i in range(5)}
STEPS = [
    EVEN | {"up": count(8, 1), "down": count(8, 6), "never": count(8, 0, equal=1), "always": count(8, 8, equal=1), "once": count(8, 8, 0, 1)},
    EVEN | {"up": count(8, 7), "down": count(8, 2), "never": count(8, 0, masked=3, equal=1), "always": count(8, 8, equal=1)},
]  # fmt: skip


def test_figures_of_ten_tasks(tmp_path):
    (part,) = task_parts([write_tasks(tmp_path / "02-rl", STEPS)])
    assert (part.num_tasks, part.num_paired, part.num_rollouts, part.num_masked) == (10, 9, 19 * 8, 3)
    assert part.never == 1 and part.always == 2
    # Equal groups: 2 of never, 2 of always, 1 of once; groups: 19.
    assert part.equal_share == pytest.approx(5 / 19)
    top = part.top[0]
    assert (top.task, top.rollouts, top.first, top.last, top.gain) == ("up", 16, 1 / 8, 7 / 8, 6 / 8)
    assert part.most_masked == [("never", 3, 16)]
    assert len(part.curves) == 10 and part.curves[-1].task == "once" and part.curves[-1].rollouts == 8


def test_the_bottom_list_holds_what_the_top_list_does_not(tmp_path):
    steps = [{f"t{i:02}": count(8, 0) for i in range(30)}, {f"t{i:02}": count(8, i % 9) for i in range(30)}]
    (part,) = task_parts([write_tasks(tmp_path / "rl", steps)])
    assert [row.gain for row in part.top[:3]] == [1.0, 1.0, 1.0] and {row.gain for row in part.bottom[:4]} == {0.0}
    assert not {row.task for row in part.top} & {row.task for row in part.bottom}


def test_bars_are_cut_in_whole_numbers():
    # k of 10 for k = 0..10: one in each bar, and 10 of 10 joins 9 of 10. Masked rollouts are in no denominator: 3 of (13 - 3).
    tens = [TaskCount(10, 0, right) for right in range(11)]
    assert bars_of(tens) == [1] * 9 + [2]
    assert bars_of([TaskCount(13, 3, 3)]) == [0, 0, 0, 1] + [0] * 6 and bars_of([TaskCount(4, 4)]) == [0] * 10


def test_a_curve_is_placed_by_hand():
    # 168 x 64 with margins of 4: steps 0..10 over x 4..164, rewards 0..1 over y 60..4.
    svg = small_curve([(0.0, 0.0), (5.0, 0.5), (10.0, 1.0)], (0.0, 10.0), (0.0, 1.0))
    assert "M4.0 60.0L84.0 32.0L164.0 4.0" in svg and svg.count("<circle") == 3
    assert "every rollout was masked" in small_curve([], (0.0, 10.0), (0.0, 1.0))


def test_few_tasks_have_no_part(tmp_path):
    assert task_parts([write_tasks(tmp_path / "rl", [{f"t{i}": count(8, 1) for i in range(7)}])]) == []
    assert task_parts([Trained("sft", "sft", tmp_path)]) == []


def test_tasks_drawn_once_are_counted_but_not_compared(tmp_path):
    (part,) = task_parts([write_tasks(tmp_path / "rl", [{f"t{i}": count(8, i % 3)} for i in range(12)])])
    assert part.num_paired == 0 and not part.top and "all rollouts" in part.histogram and len(part.curves) == 12


def test_a_line_that_is_no_count_is_named(tmp_path):
    (tmp_path / "tasks.jsonl").write_text('{"step": 0}\n')
    with pytest.raises(DataError, match=r"tasks\.jsonl:1"):
        task_parts([Trained("rl", "rl", tmp_path)])


@pytest.fixture
def run_dir(tmp_path):
    """A run of RL only, of 1,500 tasks with hostile names, 200 steps of 64 tasks."""
    run, ours = tmp_path / "run", random.Random(0)
    names = [f"gym/<b>{i}</b>/step-{i % 7}" for i in range(1500)]
    steps = [{name: count(8, ours.randint(0, 8)) for name in ours.sample(names, 64)} for _ in range(200)]
    write_tasks(run / "stages" / "01-rl", steps)
    rows = [
        {"step": i, "loss": 0.1, "reward": 0.5, "tasks/drawn": 64.0, "tasks/pass_p50": 0.5, "judge/helpful/agreement": 0.9}
        | ({"watch/exact/reward": 0.4, "watch/exact/accuracy_held": 0.9, "watch/flagged": float(i > 5)} if i % 2 else {})
        for i in range(10)
    ]
    (run / "stages" / "01-rl" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    outcome = {
        "verdicts": {"exact": {"ok": 3, "wrong": 5, "timeout": 2}, "unused": {}},
        "watch": ["the verifier 'exact' <is> gamed"],
    }
    (run / "stages" / "01-rl" / "stage.lock").write_text(json.dumps({"outputs": {"metrics": outcome}}))
    config = {"domain": "pathology", "recipe": "embedded", "base": "embedded-vl", "seed": 0, "stages": {"rl": {"kind": "rl"}}}
    (run / "resolved.yaml").write_text(yaml.safe_dump(config))
    return run


def test_1500_tasks_cost_little_time_and_little_page(run_dir):
    tasks = run_dir / "stages" / "01-rl" / "tasks.jsonl"
    text = tasks.read_text()
    tasks.unlink()
    without = len(build_report(run_dir).read_text())
    tasks.write_text(text)
    began = time.process_time()
    (part,) = task_parts([Trained("rl", "rl", tasks.parent)])
    assert time.process_time() - began < 2
    page = build_report(run_dir).read_text()
    assert 1400 < part.num_tasks <= 1500 and f"Tasks of rl: {part.num_tasks} drawn" in page
    assert 5_000 < len(page) - without < 1_000_000
    assert page.count("<figcaption>") == 24
    for drawing in (part.histogram, *(one.svg for one in part.curves)):
        assert ElementTree.fromstring(drawing).tag == "svg"


def test_names_from_outside_are_escaped_and_nothing_is_loaded(run_dir):
    page = build_report(run_dir).read_text()
    assert "<b>1" not in page and "&lt;b&gt;" in page and "&lt;is&gt; gamed" in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)


def test_verification_is_told(run_dir):
    page = build_report(run_dir).read_text()
    # 2 of 10 verdicts were timeouts.
    assert "ok 3, wrong 5, timeout 2" in page and "2 (20.0 %)" in page
    assert "the watch flagged 1 verifier." in page
    for title in ("rl: judge helpful beside the rule", "rl: watch over exact", "rl: pass rates of a step&#39;s tasks"):
        assert title in page or title.replace("&#39;", "'") in page, title


def test_a_run_without_judges_watch_or_verdicts_says_nothing_of_them(tmp_path):
    plain = Trained("sft", "sft", tmp_path, [{"step": 0, "loss": 1.0}])
    assert verdict_rows([plain]) == [] and watch_notes([plain]) == [] and verification_charts(plain) == []


def test_names_are_those_with_a_figure():
    rows = [{"watch/flagged": 1.0, "watch/a/b/reward": 0.1, "judge/x/score": 1.0}, {"watch/c/reward": 0.2}]
    assert names_under(rows, "watch/") == ["a/b", "c"] and names_under(rows, "judge/") == ["x"]
