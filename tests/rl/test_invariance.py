"""For every preset of the table: loss and gradient of a step do not depend on micro-batches, padding, order or processes."""

import json
from pathlib import Path

import pytest
import torch
from recorded_step import Harness, NeedsGeneration
from safetensors.torch import load_file

from factory.stages.rl.presets import presets
from factory.testing.ranks import run_ranks

HERE = Path(__file__).parent
TOLERANCE = 1e-5
"""Relative to the size of the gradient, in float32."""


@pytest.fixture(scope="module")
def harness(base, tmp_path_factory):
    return Harness(base, tmp_path_factory.mktemp("learner"))


@pytest.fixture(scope="module")
def plain(harness):
    """plain(preset) -> loss and gradient in one batch on one process; computed once."""
    found = {}

    def of(preset):
        if preset not in found:
            try:
                found[preset] = harness.step(preset)
            except NeedsGeneration:
                pytest.skip(f"{preset} asks the policy for more text within the step: a recording has none")
        return found[preset]

    return of


def assert_same(found, expected):
    (loss, gradient), (plain_loss, plain_gradient) = found, expected
    size = plain_gradient.norm().item()
    assert size > 1e-6, "a gradient of zero would prove nothing"
    assert (gradient - plain_gradient).norm().item() <= TOLERANCE * size
    # A loss is a sum of terms of both signs and of size 1, which may all but cancel.
    assert loss == pytest.approx(plain_loss, rel=TOLERANCE, abs=1e-6)


@pytest.mark.parametrize("preset", presets())
def test_three_micro_batches_equal_one(harness, plain, preset):
    expected = plain(preset)
    assert_same(harness.step(preset, micro_batch_size=6), expected)


@pytest.mark.parametrize("preset", presets())
def test_padding_does_not_count(harness, plain, preset):
    # One row at a time there is none; all at once, every row is padded to the longest.
    expected = plain(preset)
    assert_same(harness.step(preset, micro_batch_size=1), expected)


@pytest.mark.parametrize("preset", presets())
def test_the_order_of_rollouts_does_not_count(harness, plain, preset):
    expected = plain(preset)
    assert_same(harness.step(preset, micro_batch_size=5, order="shuffled"), expected)


@pytest.fixture(scope="module")
def two_processes(base, tmp_path_factory):
    """Losses and gradients of all presets from one launch of two gloo processes."""
    out = tmp_path_factory.mktemp("two")
    run_ranks(HERE / "recorded_step.py", [str(base), str(out)], world=2)
    written = json.loads((out / "losses.json").read_text())
    assert written["world"] == 2
    gradients = load_file(out / "gradients.safetensors")
    (out / "gradients.safetensors").unlink()  # large, and pytest keeps the folders of three runs
    return written["losses"], gradients


@pytest.mark.parametrize("preset", presets())
def test_two_processes_equal_one(two_processes, plain, preset):
    expected = plain(preset)
    losses, gradients = two_processes
    assert_same((losses[preset], gradients[preset]), expected)


def test_the_harness_would_notice_a_lost_rollout(harness, plain):
    loss, gradient = plain("grpo")
    with pytest.raises(AssertionError):
        assert_same((loss, gradient * (1 + 3e-5)), (loss, gradient))
    with pytest.raises(AssertionError):
        assert_same((loss * (1 + 1e-3), gradient), (loss, gradient))
    assert torch.equal(harness.step("grpo")[1], gradient), "the weights must not have moved"
