"""Optimiser steps that are left out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from factory.errors import ConfigError
from factory.stages.rl.config import RlConfig
from factory.stages.rl.pieces.step_rules import MaxGradNorm
from factory.stages.rl.presets import resolve


@pytest.mark.proves("step_rule.max_grad_norm", "table")
@pytest.mark.parametrize(("norm", "is_taken"), [(0.0, True), (0.3, True), (0.3000001, False), (1e9, False)])
def test_the_limit_itself_is_allowed(norm, is_taken):
    assert MaxGradNorm(limit=0.3).allows(norm) is is_taken


@pytest.mark.proves("step_rule.max_grad_norm", "law")
@given(st.floats(1e-6, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_smaller_gradient_is_never_refused_where_a_larger_one_is_allowed(limit, one, other):
    small, large = sorted((one, other))
    rule = MaxGradNorm(limit=limit)
    assert rule.allows(small) or not rule.allows(large)


def test_the_limit_has_to_be_given_and_be_positive():
    with pytest.raises(ConfigError, match="max_grad_norm needs limit"):
        resolve(RlConfig(pieces={"step_rule": "max_grad_norm"}))
    with pytest.raises(ConfigError, match="limit must be above 0"):
        resolve(RlConfig(pieces={"step_rule": {"max_grad_norm": {"limit": 0}}}))


@pytest.mark.proves("step_rule.max_grad_norm", "run")
def test_a_refused_step_leaves_the_weights_alone_and_is_counted(run_stage, base):
    before = load_file(base / "model.safetensors")
    for limit, is_taken in ((1e-9, False), (1e9, True)):
        pieces = {"step_rule": {"max_grad_norm": {"limit": limit}}}
        workdir, rows, _ = run_stage(f"limit-{is_taken}", num_steps=2, pieces=pieces)
        after = load_file(workdir / "model" / "model.safetensors")
        assert all(torch.equal(before[name], tensor) for name, tensor in after.items()) is not is_taken
        assert [row["skipped_updates"] for row in rows] == [float(not is_taken)] * 2
