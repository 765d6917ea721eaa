"""The whole RL stage with a judge behind a rule, and under the watch: figures, masks, files, exact resume."""

import json

import pytest
from learnable import samples

from factory.rewards.task_stats import TaskTable


@pytest.fixture
def judged(tmp_path):
    """A recorded judge that grades what the policy can say; `green` is not on record, so there it fails."""
    said = tmp_path / "said.jsonl"
    rows = [
        {"sample": s.id, "completion": text, "score": score} for s in samples() for text, score in (("blue", 0.5), ("red", 1.0))
    ]
    said.write_text("\n".join(map(json.dumps, rows)))
    labels = tmp_path / "labels.jsonl"
    rows = [
        {"sample": s.to_json(), "completion": text, "label": text == "red"}
        for s in samples()
        for text in ("blue", "red")
        for _ in range(3)
    ]
    labels.write_text("\n".join(map(json.dumps, rows)))
    judge = {"kind": "recorded", "path": str(said), "calibration": str(labels), "weight_cap": 0.3, "max_error_rate": 1.0}
    return {"judges": {"helpful": judge}, "mixture": {"sky": {"exact": 0.7, "helpful": 0.3}}}


def test_a_judge_counts_behind_its_rule_and_is_reported(run_stage, judged):
    workdir, rows, outputs = run_stage(build=judged, num_steps=2)
    kept = [json.loads(line) for line in (workdir / "rollouts.jsonl").read_text().splitlines()]
    for row in kept:
        if row["masked"]:
            assert row["statuses"] == {"exact": "ok", "helpful": "error"}
        elif row["completion"].strip() == "blue":
            # 0.7 * 1 + 0.3 * 0.5
            assert row["value"] == pytest.approx(0.85)
        elif row["statuses"]["exact"] != "ok":
            # `red` has full marks from the judge, and the rule says no.
            assert row["value"] == 0.0 and row["parts"]["helpful"] == 0.0 and "not counted" in row["reasons"]["helpful"]
    assert any(row["value"] == pytest.approx(0.85) for row in kept if not row["masked"])
    assert rows[0]["judge/helpful/asked"] > 0 and 0 <= rows[0]["judge/helpful/failed"] < 1
    assert outputs.metrics["verdicts"]["helpful"]["wrong"] > 0
    assert list((workdir / "judges").glob("judge-helpful-*.json"))


WATCHED = {"mixture": {"sky": {"exact": 1.0, "flaky": 0.0}}, "watch": {"every": 2, "auditors": {"exact": "flaky"}, "min_rows": 4}}


def test_the_watch_looks_and_a_resumed_run_says_the_same(run_stage):
    whole, rows, _ = run_stage("whole", build=WATCHED, num_steps=6, optim={"lr": 1e-6})
    assert "watch/exact/accuracy_fresh" in rows[1] and "watch/flagged" not in rows[0] and rows[5]["watch/flagged"] == 0
    with pytest.raises(KeyboardInterrupt):
        run_stage("cut", build=WATCHED, num_steps=6, optim={"lr": 1e-6}, stop_after=4)
    cut, rest, _ = run_stage("cut", build=WATCHED, num_steps=6, optim={"lr": 1e-6})
    for name in ("watch/exact/accuracy_fresh", "watch/exact/reward", "watch/flagged"):
        assert rest[-1][name] == rows[-1][name]
    assert (whole / "tasks.jsonl").read_text() == (cut / "tasks.jsonl").read_text()
    table = TaskTable.read(whole / "tasks.jsonl")
    assert len(table.steps) == 6 and table.totals()["sky"].rollouts == 6 * 4 * 8


def test_what_the_watch_said_is_left_with_the_stage(run_stage, monkeypatch):
    """The report shows it; a stage whose watch was silent leaves nothing."""
    from factory.rewards.watch import VerifierWatch

    _, _, silent = run_stage("silent", build=WATCHED, num_steps=1)
    assert "watch" not in silent.metrics

    def look(watch, step, rewards, pool):
        watch.messages.append(f"step {step}: gamed")
        return {"watch/flagged": 1.0}

    monkeypatch.setattr(VerifierWatch, "look", look)
    _, rows, flagged = run_stage("flagged", build=WATCHED, num_steps=1)
    assert flagged.metrics["watch"] == ["step 0: gamed"] and rows[0]["watch/flagged"] == 1.0
