"""The parts of the report by hand: charts, cost, mixture, trade-offs, verifier health, the browser's data, runs side by side."""

import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import runs

from factory.errors import ConfigError
from factory.report import browser
from factory.report.browser import Answers, browser_data, script_json
from factory.report.build import main_verifiers
from factory.report.cost import cost_of
from factory.report.mixture import mixture_parts
from factory.report.read import read_run
from factory.report.side_by_side import build_comparison, differing, read_columns
from factory.report.svg import Mark, areas, dots, lines, spread, thinned, ticks
from factory.report.trade_offs import binned, length_chart, mean_length, pass_rate, reward_charts
from factory.report.verification import health_charts


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return read_run(runs.make_run(tmp_path_factory.mktemp("runs") / "first"))


@pytest.mark.parametrize(
    ("low", "high", "want"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (0, 100, [0, 20, 40, 60, 80, 100]), (1, 160, [50, 100, 150]), (-0.02, 0.04, [-0.02, 0, 0.02, 0.04])],
)  # fmt: skip
def test_ticks_are_round(low, high, want):
    assert ticks(low, high) == want


def test_ranges_are_never_empty():
    assert spread([2.0, 2.0]) == (1.5, 2.5) and spread([0.0, 10.0], margin=0.1) == (-1.0, 11.0)


def test_long_lines_are_averaged_in_groups():
    assert thinned([(0, 0.0), (1, 2.0), (2, 4.0), (3, 6.0)], 2) == [(0.5, 1.0), (2.5, 5.0)]


@pytest.mark.parametrize(
    "chart",
    [
        lines({"a<b": [(0, 1.0), (5, float("nan")), (9, 2.0)], "one": [(3, 1.0)]}, "x & y"),
        areas({"a<b": [(0, 0.25), (1, 0.5)], "c": [(0, 0.75), (1, 0.5)]}, "x & y"),
        dots([Mark(1, 0.5, "a<b", 0.4, 0.6), Mark(2, 0.7, "c", is_cross=True)], "x & y", xlabel="t", ylabel="v", joined=True),
    ],
)
def test_a_chart_is_well_formed_and_says_what_it_shows(chart):
    drawn = ElementTree.fromstring(chart)
    svg = drawn.find("svg")
    assert svg.get("role") == "img" and svg.get("aria-label").startswith("x & y: a<b")
    assert "nan" not in chart and "x &amp; y" in chart


def test_labels_of_dots_in_one_place_stand_above_each_other():
    chart = dots([Mark(0.0, 0.5, "a"), Mark(0.0, 0.5, "b"), Mark(1.0, 0.0, "c")], "t", xlabel="x", ylabel="y")
    heights = [float(re.search(rf'y="([\d.]+)"[^>]*>{name}</text>', chart)[1]) for name in "ab"]
    assert heights[0] - heights[1] == pytest.approx(11.0)


def test_charts_of_nothing_are_nothing():
    assert lines({"a": [], "b": [(1, float("nan"))]}, "t") == areas({}, "t") == dots([], "t", xlabel="", ylabel="") == ""


def test_cost_by_hand(run):
    cost = cost_of(run)
    rl = next(row for row in cost.rows if row.step == "04-rl")
    # 7,200 s on 2 threads are 4 core-hours; 40 steps of 100 and 300 tokens; 3 s of 4 were spent in rollouts.
    assert (rl.device_hours, rl.trained, rl.generated, rl.rollout_share, rl.planned_s) == (4.0, 4000.0, 12000.0, 0.75, 3600.0)
    assert cost.device == "CPU core" and cost.seconds == 7200 + 3 * 36
    # 60 answers of 8 + (0..4) tokens are 600 tokens in each of three evals.
    assert cost.generated == 12000 + 3 * 600 and all(row.is_guessed for row in cost.rows if row.step.endswith("eval"))


def test_mixture_over_time(run):
    (part,) = mixture_parts(run.trainings)
    # Each step drew 8 rollouts of either task.
    assert dict(part.sources) == {"choice": 0.5, "finding": 0.5}
    assert any("choice from 50% to 50%; finding from 50% to 50%" in chart for chart in part.charts)
    # `finding` is never right; `choice` is right in 1 of 40 of its first rollouts and always at the end.
    assert any("never right from 100% to 50%" in chart and "always right from 0% to 50%" in chart for chart in part.charts)


def test_trade_offs_by_hand(run):
    # rl: of 60, right are 24 even ones that end in no 0 and 10 that are 3 mod 6; length 10 when right, 20 when wrong; 0 errors below 99.
    statuses = run.evals[-1].figures["splits"]["test"]["statuses"]
    assert statuses == {"ok": 34, "wrong": 26, "error": 0}
    assert mean_length(run.evals[-1].figures) == pytest.approx((34 * 10 + 26 * 20) / 60)
    assert "Held-out accuracy against length" in length_chart(run.evals)
    assert pass_rate({"task/a/pass": 0.5, "task/a/share": 0.25, "task/b/pass": 1.0, "task/b/share": 0.75}) == 0.875
    assert pass_rate({"loss": 1.0}) is None
    assert binned([(i, 2.0 * i) for i in range(4)], 2) == [(0.5, 1.0), (2.5, 5.0)]
    titles = " ".join(reward_charts(run.trainings[0]))
    assert "reward part letter against right answers" in titles and "reward part format" in titles


def test_health_tells_right_from_wrong_by_the_main_verifier(run):
    charts = health_charts(run.trainings[0], lambda task: "letter")
    assert "ok from 75% to 75%; wrong from 25% to 25%" in charts[0]
    assert "letter from 1 to 1" in charts[1] and "letter from 0 to 0" in charts[2] and "format from 1 to 1" in charts[2]
    # A task without a main verifier is in the statuses alone.
    assert len(health_charts(run.trainings[0], lambda task: None)) == 1


def test_the_main_verifier_is_that_of_the_run_s_mixture(run):
    tasks = {"choice": {"verifiers": {"letter": 1.0, "format": 0.1}}}
    assert main_verifiers(run, tasks)("choice") == "letter" and main_verifiers(run, tasks)("other") is None


def columns_of(run):
    return [Answers(measured.stage, measured) for measured in run.evals]


def test_browser_data_holds_every_answer_once(run):
    data = browser_data(columns_of(run))
    assert data["columns"] == ["base", "sft", "rl"] and len(data["rows"]) == 60
    # Six samples have an image, in three colours: three images.
    assert len(data["images"]) == 3 and [row[4] for row in data["rows"][:7]] == [0, 1, 2, 0, 1, 2, -1]
    assert len(set(data["texts"])) == len(data["texts"])
    name, task, prompt, wanted, _, answers = data["rows"][9]
    assert name == "s-9" and data["tasks"][task] == "task-1" and data["texts"][wanted] == "2"
    assert data["texts"][prompt].startswith("<image> question 9")
    assert [answer[2] for answer in answers] == [0.0, 0.0, 1.0] and data["statuses"][answers[2][1]] == "ok"


def test_browser_data_is_bounded_and_keeps_what_changed(run, monkeypatch):
    monkeypatch.setattr(browser, "MAX_SAMPLES", 10)
    monkeypatch.setattr(browser, "MAX_TEXT", 12)
    monkeypatch.setattr(browser, "MAX_IMAGES", 2)
    data = browser_data(columns_of(run))
    assert len(data["rows"]) == 10 and data["left_out"] == 50 and data["images_left_out"] > 0 and len(data["images"]) == 2
    assert all({answer[2] for answer in row[5]} == {0.0, 1.0} for row in data["rows"])
    assert any(re.search(r"^<image> ques … \(\d+ more characters, see samples\.jsonl\)$", text) for text in data["texts"])


def test_withheld_prompts_take_their_answers_with_them(run, tmp_path):
    folder = runs.make_run(tmp_path / "r", num_samples=4)
    for path in folder.glob("stages/*/samples.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows[1] |= {"prompt": "[withheld: weapons]", "completion": "SECRET"}
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = browser_data(columns_of(read_run(folder)))
    assert len(data["rows"]) == 3 and data["withheld"] == 1 and "SECRET" not in json.dumps(data)


def test_no_text_can_end_the_data_element():
    text = script_json({"a": "</script><b>&amp;"})
    assert not set(text) & set("<>&") and json.loads(text) == {"a": "</script><b>&amp;"}


def test_large_images_are_drawn_smaller():
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.effect_noise((1024, 512), 90).save(buffer, format="PNG")
    with Image.open(io.BytesIO(browser.smaller(buffer.getvalue()))) as image:
        assert image.size == (512, 256)


def test_settings_that_differ():
    rows = differing([{"a": {"b": 1, "c": 2}, "d": {}}, {"a": {"b": 1, "c": 3}, "d": {}, "e": ""}])
    assert rows == {"a.c": [2, 3], "e": [None, ""]}


def test_two_runs_side_by_side(tmp_path):
    folders = [runs.make_run(tmp_path / name / "run", seed=seed, lr=lr) for name, seed, lr in (("a", 0, 1e-4), ("b", 1, 2e-4))]
    assert [column.name for column in read_columns(folders)] == ["run", "run (2)"]
    paired = {"run (2)": {"diff": 0.125, "diff_ci": [0.1, 0.15], "n": 60}}
    page = build_comparison(folders, tmp_path / "out" / "compare.html", paired).read_text()
    for wanted in (
        "2 runs side by side",
        "stages.rl.optim.lr",
        "0.0002",
        "+12.5 [10.0, 15.0]",
        "rl: loss",
        "run (2): rl",
        "4.06",
    ):
        assert wanted in page, wanted
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page) and "<script>alert" not in page


def test_a_comparison_needs_two_runs(tmp_path):
    with pytest.raises(ConfigError, match="1 runs were given"):
        build_comparison([runs.make_run(tmp_path / "a")], tmp_path / "x.html")
