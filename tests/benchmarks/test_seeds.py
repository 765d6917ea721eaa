"""The table over seeds: differences by hand, intervals that hold what they should, and runs that do not go together."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import seeds


def a_run(folder, seed, scores):
    """A run folder as a build leaves it, with the stages of `scores`: name -> score of each sample; None could not be judged."""
    folder.mkdir()
    (folder / "resolved.yaml").write_text(yaml.safe_dump({"domain": "d", "recipe": "r", "seed": seed, "eval": {"seed": 5}}))
    rows = []
    for index, (stage, values) in enumerate(scores.items()):
        step = folder / "stages" / f"{index:02d}-{stage}-eval"
        step.mkdir(parents=True)
        told = [
            {"id": f"q{i}", "task": f"t{i % 2}", "score": v or 0.0, "status": "error" if v is None else "ok"}
            for i, v in enumerate(values)
        ]
        (step / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
        mean = float(np.mean([v for v in values if v is not None]))
        task = {"n": len(values) // 2, "majority": 0.25, "value": mean}
        test = {"majority": 0.2, "primary": {"n": len(values), "value": mean}, "tasks": {"t0": task, "t1": task}}
        (step / "eval.json").write_text(json.dumps({"splits": {"test": test}}))
        rows.append({"stage": stage, "value": mean, "against": list(scores)[index - 1] if index else None})
    (folder / "result.json").write_text(json.dumps({"rows": rows}))
    return folder


def test_differences_and_their_mean_by_hand(tmp_path):
    # run 1: 2 of 4 -> 3 of 4, +25; run 2: 1 of 4 -> 3 of 4, +50; run 3: the masked sample leaves 3 pairs, +0, +1, +0 -> +33.3
    folders = [
        a_run(tmp_path / "a", 0, {"sft": [1, 1, 0, 0], "rl": [1, 1, 1, 0]}),
        a_run(tmp_path / "b", 1, {"sft": [1, 0, 0, 0], "rl": [1, 1, 1, 0]}),
        a_run(tmp_path / "c", 2, {"sft": [1, 0, 0, None], "rl": [1, 1, 0, 1]}),
    ]
    first, second = seeds.lines([seeds.read_run(folder) for folder in folders])
    assert (first.stage, first.values, first.differences, first.pooled) == ("sft", [0.5, 0.25, 1 / 3], [], None)
    assert [one[0] for one in second.differences] == pytest.approx([0.25, 0.5, 1 / 3])
    mean, low, high = second.pooled
    assert mean == pytest.approx((0.25 + 0.5 + 1 / 3) / 3) and low < mean < high
    # Student, 2 degrees of freedom: the half width is 4.303 s / sqrt(3)
    low, high = seeds.over_seeds([0.25, 0.5, 1 / 3])
    assert (high - low) / 2 == pytest.approx(4.303 * 0.127293 / 3**0.5, rel=1e-4)


def test_the_pooled_interval_holds_the_truth_about_19_times_in_20(monkeypatch):
    monkeypatch.setattr(seeds, "RESAMPLES", 400)
    rng, held = np.random.default_rng(0), 0
    for trial in range(120):
        pairs = [rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.6, 0.3], size=100) for _ in range(3)]  # truth: 0.2
        _, low, high = seeds.pooled(pairs, seed=trial)
        held += low <= 0.2 <= high
    assert 105 <= held <= 120


def test_what_is_printed(tmp_path, capsys):
    folders = [a_run(tmp_path / str(seed), seed, {"sft": [1, 0, 0, 0] * 10, "rl": [1, 1, 0, 0] * 10}) for seed in (0, 1)]
    assert seeds.main([*map(str, folders), "--by-task"]) == 0
    said = capsys.readouterr().out
    assert "2 runs of `d`, recipe `r`, eval.seed 5, 40 test samples each, majority 20.0 %" in said
    assert "| rl | 50.0 | 50.0 | sft | +25.0 [" in said and "| t1 | 20 | 25.0 | 25.0 | 50.0 |" in said


def test_runs_of_other_stages_do_not_go_together(tmp_path, capsys):
    whole = a_run(tmp_path / "a", 0, {"sft": [1, 0], "rl": [1, 1]})
    other = a_run(tmp_path / "b", 1, {"sft": [1, 0]})
    assert seeds.main([str(whole), str(other)]) != 0
    assert "Give ended runs of one recipe" in capsys.readouterr().err
    assert seeds.main([str(tmp_path / "none")]) != 0
