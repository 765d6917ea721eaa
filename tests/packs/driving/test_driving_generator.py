"""What the generator draws, asks and answers; the pack's evals on given answers; the ablation table."""

import io
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from factory.contracts import IMAGE, DataRequest
from factory.domains.driving import ablations
from factory.domains.driving.describe import describe
from factory.domains.driving.evals import action_figures, actions, consequences
from factory.domains.driving.front_view import front_view
from factory.domains.driving.options import TASKS
from factory.domains.driving.scene import Car, Scene, SideLane
from factory.domains.driving.top_view import top_view
from factory.errors import ConfigError


def drawn(pack, role="samples", split="train", limit=60, **options):
    return list(getattr(pack, role)(split, 0, DataRequest(limit=limit, options=options)))


def test_swapped_lessons_teach_the_form_and_nothing_of_which_plan_is_right(pack):
    worked, swapped = (drawn(pack, "lessons", limit=300, shares={"plan": 1.0}, swapped_lessons=on) for on in (False, True))
    assert [lesson.sample for lesson in swapped] == [lesson.sample for lesson in worked]

    def share(lessons):
        hits = [
            lesson.response.split("<answer>")[1].removesuffix("</answer>").upper().replace(" ,", ",") == lesson.sample.reference
            for lesson in lessons
        ]
        return sum(hits) / len(hits)

    counts = Counter(lesson.sample.reference for lesson in worked)
    chance = sum((count / 300) ** 2 for count in counts.values())
    assert share(worked) == 1.0 and share(swapped) == pytest.approx(chance, abs=0.08)  # 4 standard errors


@pytest.mark.parametrize("style", ["terse", "full"])
@pytest.mark.parametrize("view", ["front", "top", "text", "mixed"])
def test_every_view_and_style(pack, style, view):
    for lesson in drawn(pack, "lessons", view=view, style=style, limit=40):
        assert pack.verifiers()["accuracy"](lesson.response, lesson.sample).score == 1.0, lesson
        assert pack.verifiers()["format"](lesson.response, lesson.sample).score == 1.0
        assert bool(lesson.sample.media) == (view != "text") == (IMAGE in lesson.sample.text())
        words = [word for word in lesson.response.split() if word.isupper() and len(word) > 4]
        assert style == "full" or not words


def test_questions_are_the_same_in_every_view(pack):
    by_view = {view: drawn(pack, view=view, limit=30) for view in ("front", "top", "text", "mixed")}
    for front, top, text, mixed in zip(*by_view.values(), strict=True):
        assert front.reference == top.reference == text.reference == mixed.reference
        assert front.id == text.id and front.meta["scene"] == text.meta["scene"] == mixed.meta["scene"]
        assert front.media != top.media


def test_the_order_of_the_shares_does_not_matter(pack):
    one = drawn(pack, shares={"plan": 0.5, "safe": 0.5}, limit=12, view="text")
    other = drawn(pack, shares={"safe": 0.5, "plan": 0.5}, limit=12, view="text")
    assert one == other


def test_thinking_off(pack):
    lesson = drawn(pack, "lessons", thinking="off", limit=1)[0]
    assert lesson.response.startswith("<answer>") and pack.verifiers()["format"](lesson.response, lesson.sample).score == 1.0


def test_tasks_and_answers_are_balanced(pack):
    samples = drawn(pack, limit=600, view="text", shares={task: 1.0 for task in TASKS})
    for task in TASKS:
        counts = Counter(json.dumps(sample.reference) for sample in samples if sample.task == task)
        assert max(counts.values()) < 0.65 * sum(counts.values()), (task, counts)


def test_the_plans_of_the_reference_are_safe(pack):
    for sample in drawn(pack, shares={"plan": 1.0, "waypoints": 1.0}, view="text"):
        verdict = pack.verifiers()["collision_free"](pack.gold(sample), sample)
        assert verdict.score == 1.0, verdict


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"veiw": "top"}, "Did you mean 'view'"),
        ({"view": "side"}, "pack.view is 'side'"),
        ({"shares": {"plann": 1}}, "plan"),
        ({"clearance": 0.01}, "pack.clearance"),
        ({"thinking": False}, "pack.thinking"),
    ],
)
def test_faulty_options_are_told(pack, options, told):
    with pytest.raises(ConfigError, match=told):
        drawn(pack, limit=1, **options)


def test_the_modality_follows_the_view(pack):
    assert pack.modality({"view": "text"}) == "text" and pack.modality({}) == "vl"


# --- drawings -----------------------------------------------------------------------------------------------------------


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)), dtype=np.int16)


BASE = Scene(8, 12, light="red", line=9.0, junction=13.0, lead=Car(6.0, 8.0), left=SideLane(), texture=7)
CHANGES = {
    "light": {"light": "green"}, "no light": {"light": "none", "line": None}, "walker": {"light": "none", "walker": True},
    "brakes": {"lead": Car(6.0, 2.0)}, "distance": {"lead": Car(20.0, 8.0)}, "barrier": {"lead": None, "barrier": 8.0}, "lane": {"left": None},
    "beside": {"left": SideLane(ahead=Car(1.0, 8.0))}, "behind": {"left": SideLane(behind=Car(1.0, 8.0))}, "junction": {"junction": None},
}  # fmt: skip


@pytest.mark.parametrize("view", [front_view, top_view])
@pytest.mark.parametrize("name", CHANGES)
def test_what_decides_can_be_seen(view, name):
    before, after = pixels(view(BASE)), pixels(view(replace(BASE, **CHANGES[name])))
    changed = (np.abs(before - after).max(axis=2) > 20).sum()
    assert changed >= 6, f"{name}: only {changed} of 4096 px change"


@pytest.mark.parametrize("view", [front_view, top_view])
def test_drawings_are_pure_and_do_not_show_what_only_words_say(view):
    assert view(BASE) == view(BASE) and pixels(view(BASE)).shape == (64, 64, 3)
    assert view(BASE) == view(replace(BASE, limit=17, command="left"))


def test_text_says_all_that_a_drawing_shows():
    texts = {name: describe(replace(BASE, **change), "terse") for name, change in CHANGES.items()}
    assert len(set(texts.values())) == len(texts)


# --- evals --------------------------------------------------------------------------------------------------------------


def test_action_figures_by_hand():
    def said(plan):
        return f"<think>x</think><answer>{plan}</answer>"

    rows = [("STOP, STRAIGHT", said("stop , straight")), ("STOP, STRAIGHT", said("keep , straight")), ("KEEP, LEFT_TURN", said("keep , left_turn")),
            ("KEEP", said("stop")), ("LEFT_TURN", "nonsense")]  # fmt: skip
    figures = action_figures(rows)
    # STOP: wanted 2, named 2, right 1 -> accuracy 1/2, F1 2 x 1 / 4. KEEP: wanted 2, named 2, right 1. LEFT_TURN: wanted 2, named 1, right 1.
    assert figures["STOP/f1"] == figures["STOP/accuracy"] == figures["KEEP/f1"] == 0.5
    assert figures["LEFT_TURN/f1"] == pytest.approx(2 / 3) and figures["STRAIGHT/f1"] == 1.0
    assert figures["speed/macro_f1"] == 0.5 and figures["path/macro_f1"] == pytest.approx(5 / 6)
    assert figures["plan/accuracy"] == pytest.approx(2 / 3)


class View:
    def __init__(self, pack, answer):
        self.request = DataRequest(limit=80, options={"view": "text", "shares": {"plan": 1.0, "waypoints": 0.5}})
        self.answers = {sample.id: answer(sample) for sample in pack.samples("test", 5, self.request)}


def test_consequences_of_right_wrong_and_no_plans(pack):
    right = consequences(View(pack, pack.gold), "test", 5)
    assert right["collision_rate"] == right["red_line_rate"] == right["off_road_rate"] == right["no_plan"] == 0.0
    assert right["safe_rate"] == right["pdm_proxy"] == 1.0 and right["waypoints/safe_rate"] > 0.9
    keeping = consequences(View(pack, lambda s: "<think>x</think><answer>keep , straight</answer>"), "test", 5)
    assert keeping["collision_rate"] > 0.1 and keeping["pdm_proxy"] < right["pdm_proxy"]
    assert keeping["waypoints/no_plan"] == 1.0  # that is no list of points
    assert keeping["drive_on/collision_rate"] == right["drive_on/collision_rate"] > 0.1
    silent = consequences(View(pack, lambda s: "hello"), "test", 5)
    assert (silent["no_plan"], silent["safe_rate"], silent["num_plans"]) == (1.0, 0.0, 0.0) and "collision_rate" not in silent


def test_perfect_answers_have_perfect_actions(pack):
    view = View(pack, pack.gold)
    assert set(actions(view, "test", 5).values()) == {1.0}


# --- the ablation table -------------------------------------------------------------------------------------------------


def test_every_row_is_a_recipe_that_composes():
    from factory.config.compose import compose

    for row in ablations.ROWS:
        config = compose("driving", recipe=row.recipe).config
        assert row.stage in config.stages
        assert (str(config.pack.get("thinking", "on")) == "off") == (not row.thinks)
        if row.stage == "rl":
            has_diversity = config.stages["rl"].preset == "alphadrive"
            assert has_diversity == (
                "diversity" in row.title or ("weights" not in row.title and "F1" not in row.title and "accuracy" not in row.title)
            )


def test_the_rewards_of_the_rows():
    from factory.config.compose import compose
    from factory.rewards.mixture import Mixture

    pack_tasks = {
        "plan": {"verifiers": {"speed": 1.0, "path": 1.0, "format": 0.1, "plan_exact": 0.0, "plan_f1": 0.0, "plan_paper": 0.0}}
    }
    counted = {}
    for recipe in ("acc", "acc-format", "f1", "weights", "diversity", "all"):
        mixture = compose("driving", recipe=f"ablation-{recipe}").config.mixture
        weights = Mixture(pack_tasks, {task: dict(row) for task, row in mixture.items()}).of("plan").weights
        counted[recipe] = {name: weight for name, weight in weights.items() if weight}
    assert counted["acc"] == {"plan_exact": 2.0} and counted["acc-format"] == {"plan_exact": 2.0, "format": 1.0}
    assert counted["f1"] == counted["diversity"] == {"plan_f1": 2.0, "format": 1.0}
    assert counted["weights"] == counted["all"] == {"plan_paper": 2.0, "format": 1.0}


def test_figures_and_table(tmp_path):
    folder = tmp_path / "stages" / "03-rl-eval"
    folder.mkdir(parents=True)
    probes = {"actions": {"plan/accuracy": 0.5, "speed/macro_f1": 0.6}, "consequences": {"safe_rate": 0.7}}
    (folder / "eval.json").write_text(json.dumps({"probes": probes}))
    assert ablations.figures_of(tmp_path, "rl") == {"plan/accuracy": 0.5, "speed/macro_f1": 0.6, "safe_rate": 0.7}
    rows = [
        {"title": "reward: all", "published": 77.12, "seed": s, "plan/accuracy": a, "safe_rate": 0.9}
        for s, a in ((0, 0.5), (1, 0.6))
    ]
    text = ablations.table(rows)
    assert "| reward: all | 77.12 | 55.0 | 50.0, 60.0 |" in text and "| - |" in text


@pytest.mark.slow
def test_the_table_runs_from_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTORY_HOME", str(tmp_path / "home"))
    ablations.main(
        ["--quick", "--seeds", "0", "--only", "ablation-diversity", "ablation-rl-only-nothink", "--out", str(tmp_path / "out")]
    )
    rows = json.loads((tmp_path / "out" / "ablations.json").read_text())
    assert [row["title"] for row in rows] == ["reward: F1 + diversity + format", "RL only, without reasoning"]
    assert all("plan/accuracy" in row and "safe_rate" in row for row in rows)
