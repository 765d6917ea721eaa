"""Order of steps, starts, and every recipe that is refused."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from factory.errors import ConfigError
from factory.pipeline.steps import order_steps, resolve_starts


@dataclass
class Recipe:
    """Of a stage config, what the order depends on."""

    kind: str = "fake-train"
    start: str | None = None
    control: bool = False
    notes_from: str = ""


@pytest.fixture(autouse=True)
def _kit(base):
    """The kinds of the fake kit must be installed."""


def test_each_stage_is_followed_by_its_eval():
    names = [step.name for step in order_steps({"cpt": Recipe(), "sft": Recipe()}, eval_kind="fake-eval")]
    assert names == ["00-base", "01-base-eval", "02-cpt", "03-cpt-eval", "04-sft", "05-sft-eval"]


def test_default_start_passes_over_controls():
    stages = {"cpt": Recipe(), "plain": Recipe(start="base", control=True), "sft": Recipe()}
    assert resolve_starts(stages) == {"cpt": "base", "plain": "base", "sft": "cpt"}


def test_first_stage_after_only_controls_starts_from_base():
    assert resolve_starts({"ctl": Recipe(control=True), "sft": Recipe()}) == {"ctl": "base", "sft": "base"}


def test_a_control_may_be_named_as_start():
    assert resolve_starts({"ctl": Recipe(control=True), "sft": Recipe(start="ctl")})["sft"] == "ctl"


def test_a_stage_without_a_model_gets_no_eval_and_is_no_start():
    stages = {"look": Recipe(kind="fake-eval"), "sft": Recipe()}
    steps = order_steps(stages, eval_kind="fake-eval")
    assert [step.name for step in steps] == ["00-base", "01-base-eval", "02-look", "03-sft", "04-sft-eval"]
    assert steps[3].start == "00-base"
    with pytest.raises(ConfigError, match=r"makes no model\. Start from a stage that trains"):
        resolve_starts({"look": Recipe(kind="fake-eval"), "sft": Recipe(start="look")})


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        ({"sft": Recipe(start="ctp"), "cpt": Recipe()}, "Did you mean 'cpt'"),
        ({"sft": Recipe(start="cpt"), "cpt": Recipe()}, "List 'cpt' before 'sft'"),
        ({"a": Recipe(start="b"), "b": Recipe(start="a")}, "in a circle: a <- b <- a"),
        ({"a": Recipe(start="a")}, "in a circle: a <- a"),
        ({"base": Recipe()}, "'base' cannot name a stage"),
        ({"sft-eval": Recipe()}, "that ending"),
        ({"../x": Recipe()}, "becomes a folder"),
    ],
)
def test_refused(stages, told):
    with pytest.raises(ConfigError, match=told):
        resolve_starts(stages)
