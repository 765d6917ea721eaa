"""For every preset of the table, and pieces in none: loss and gradient of a step do not depend on micro-batches, padding, order or processes."""

import json
from functools import cache
from pathlib import Path

import pytest
import seeing
import torch
from recorded_step import CASES, Harness, is_seeing
from safetensors.torch import load_file

from factory.testing.ranks import run_ranks

HERE = Path(__file__).parent
TOLERANCE = 1e-5
"""Relative to the size of the gradient, in float32."""


@pytest.fixture(scope="module")
def harnesses(base, seeing_base, tmp_path_factory):
    """harnesses[preset would have nothing to do on plain text]."""
    folder = tmp_path_factory.mktemp("learner")
    return {False: Harness(base, folder), True: Harness(seeing_base, folder, seeing)}


@pytest.fixture(scope="module")
def step(harnesses):
    """step(preset, ...) -> loss and gradient."""
    return lambda preset, **changes: harnesses[is_seeing(preset)].step(preset, **changes)


@pytest.fixture(scope="module")
def plain(step):
    """plain(preset) -> loss and gradient in one batch on one process; computed once."""
    return cache(step)


def assert_same(found, expected):
    (loss, gradient), (plain_loss, plain_gradient) = found, expected
    size = plain_gradient.norm().item()
    assert size > 1e-6, "a gradient of zero would prove nothing"
    assert (gradient - plain_gradient).norm().item() <= TOLERANCE * size
    # A loss is a sum of terms of both signs and of size 1, which may all but cancel.
    assert loss == pytest.approx(plain_loss, rel=TOLERANCE, abs=1e-6)


@pytest.mark.parametrize("preset", CASES)
def test_three_micro_batches_equal_one(step, plain, preset):
    expected = plain(preset)
    assert_same(step(preset, micro_batch_size=6), expected)


@pytest.mark.parametrize("preset", CASES)
def test_padding_does_not_count(step, plain, preset):
    # One row at a time there is none; all at once, every row is padded to the longest.
    expected = plain(preset)
    assert_same(step(preset, micro_batch_size=1), expected)


@pytest.mark.parametrize("preset", CASES)
def test_the_order_of_rollouts_does_not_count(step, plain, preset):
    expected = plain(preset)
    assert_same(step(preset, micro_batch_size=5, order="shuffled"), expected)


@pytest.fixture(scope="module")
def two_processes(base, seeing_base, tmp_path_factory):
    """Losses and gradients of all presets from one launch of two gloo processes."""
    out = tmp_path_factory.mktemp("two")
    run_ranks(HERE / "recorded_step.py", [str(base), str(out), str(seeing_base)], world=2)
    written = json.loads((out / "losses.json").read_text())
    assert written["world"] == 2
    gradients = load_file(out / "gradients.safetensors")
    (out / "gradients.safetensors").unlink()  # large, and pytest keeps the folders of three runs
    return written["losses"], gradients


@pytest.mark.parametrize("preset", CASES)
def test_two_processes_equal_one(two_processes, plain, preset):
    expected = plain(preset)
    losses, gradients = two_processes
    assert_same((losses[preset], gradients[preset]), expected)


def test_the_harness_would_notice_a_lost_rollout(step, plain):
    loss, gradient = plain("grpo")
    with pytest.raises(AssertionError):
        assert_same((loss, gradient * (1 + 3e-5)), (loss, gradient))
    with pytest.raises(AssertionError):
        assert_same((loss * (1 + 1e-3), gradient), (loss, gradient))
    assert torch.equal(step("grpo")[1], gradient), "the weights must not have moved"


def test_the_recording_reaches_what_a_preset_adds(harnesses):
    """Without this, a term that is never made could not depend on anything."""
    harness = harnesses[True]
    for preset in ("deepeyes", "visionary_r1", "glm_force_answer", "vl_rethinker_forced"):
        harness.step(preset)
        assert harness.asked, f"{preset}: the policy was never asked for more"
    for preset in ("papo", "papo_dapo"):
        harness.step(preset)
        seen = [row for row in harness.rows if row.prompt.pixels is not None]
        assert seen and all(row.rollout.masked_logprobs for row in seen)
        assert any(row.rollout.masked_logprobs != row.rollout.logprobs for row in seen)
    harness.step("deepeyes")
    assert any(row.rollout.images for row in harness.rows), "no zoom was answered"
