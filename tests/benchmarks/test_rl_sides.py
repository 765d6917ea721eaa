"""The RL benchmarks' proofs can fail, and each benchmark runs in its small form."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import rl_step
import vision


def test_other_gradients_or_metrics_are_no_result():
    own = torch.tensor([1.0, 2.0, 3.0])
    assert vision.assert_same(own, own * 2, {"loss": (1.0, 1.0)}) == pytest.approx(1.0)
    with pytest.raises(AssertionError, match="different gradients"):
        vision.assert_same(own, own + torch.tensor([0.5, 0.0, 0.0]), {})
    with pytest.raises(AssertionError, match="different loss"):
        vision.assert_same(own, own, {"loss": (1.0, 1.001)})


def test_the_recorded_rollouts_are_ragged_clipped_and_the_same_for_a_seed(tmp_path):
    from rl_sides import Recording, loaded_model, make_base, recorded_rows

    loaded = loaded_model(make_base(tmp_path / "base", 1000, 0), lora=False, seed=0)
    rows, again = (recorded_rows(loaded, Recording(), 3) for _ in range(2))
    lengths = [len(row.rollout.ids) for row in rows]
    assert len(rows) == 16 and lengths == sorted(lengths, reverse=True)
    assert max(lengths) > 2 * sum(lengths) / len(lengths)
    assert [row.rollout.ids for row in rows] == [row.rollout.ids for row in again]
    assert {row.rollout.advantage > 0 for row in rows} == {True, False}


def test_half_of_the_questions_of_a_step_cannot_be_right():
    verdicts = [rl_step.VERIFIERS["even"]("ab", sample).score for sample in rl_step.samples()]
    assert verdicts == [float(i % 2) for i in range(len(verdicts))]
    assert rl_step.score("abc", "open one") == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rl_update", "rl_step", "rollouts", "vision"])
def test_the_small_form_runs_and_proves_its_sides_equal(name, monkeypatch):
    pytest.importorskip("trl")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    found = __import__(name).rows(True, 0)
    assert found and all(row.ours > 0 and row.theirs > 0 for row in found)
