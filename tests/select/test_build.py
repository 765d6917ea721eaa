"""A whole round of self-training through the conductor: select, then sft from the base on its lessons."""

from __future__ import annotations

import json

import pytest

from factory.config.compose import compose
from factory.errors import ConfigError
from factory.pipeline.worker import config_from_plain
from factory.stages.lesson_files import read_lessons, read_prompts
from factory.stages.select.config import Fallback, LessonRule, SelectConfig


def test_a_round_of_self_training_builds_and_is_not_built_twice(kit, taught, tmp_path):
    result = kit.build(tmp_path, taught)
    root = tmp_path / "runs" / "run"
    assert [row["stage"] for row in result["rows"]] == ["base", "again"], "select makes no model, so it is not measured"
    steps = {row["name"]: row for row in json.loads((root / "plan.json").read_text())["steps"]}
    assert list(steps) == ["00-base", "01-base-eval", "02-select", "03-again", "04-again-eval"]
    assert (steps["03-again"]["start"], steps["03-again"]["reads"]) == ("00-base", {"select": "02-select"})
    selected = root / "stages" / "02-select"
    kept = {stat.sample_id for stat in read_prompts(selected) if stat.kept}
    lessons = read_lessons(selected)
    assert len(kept) >= 2 and {lesson.sample.id for lesson in lessons} <= kept and len(lessons) >= 2
    assert not (selected / "checkpoints").exists()
    lock = json.loads((root / "stages" / "03-again" / "stage.lock").read_text())
    # a quarter of all is the pack's: n own ones take n / 3
    assert lock["outputs"]["metrics"]["lessons_by_source"] == {"select": len(lessons), "pack": round(len(lessons) / 3)}
    assert lock["inputs"]["reads"] == {"select": json.loads((selected / "stage.lock").read_text())["outputs"]["hash"]}
    before = {path: path.stat().st_mtime_ns for path in root.rglob("stages/*/stage.lock")}
    assert kit.build(tmp_path, taught) == result
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("stages/*/stage.lock")}


def test_settings_reach_the_worker_unchanged(kit):
    composed = compose(
        "colours",
        recipe="round",
        overrides=[
            "stages.select.repeat=[[0.2,6],[0.6,4],[0.8,2]]",
            "stages.select.max_pass=null",
            "stages.select.lessons=random_correct",
            "stages.select.fallback=pack",
        ],
    )
    config = composed.config.stages["select"]
    assert (config.repeat, config.max_pass) == ([[0.2, 6], [0.6, 4], [0.8, 2]], None)
    assert (config.lessons, config.fallback) == (LessonRule.random_correct, Fallback.pack)
    job = json.loads(json.dumps(composed.plain["stages"]["select"]))
    assert config_from_plain(SelectConfig, job) == config


def test_a_wrong_setting_is_refused_with_its_place(kit):
    with pytest.raises(ConfigError, match=r"--set stages\.select\.top_p=0.*stages\.select\.top_p is 0\.0; it must be above 0"):
        compose("colours", recipe="round", overrides=["stages.select.top_p=0"])
