"""The two passes of SRPO: what each of them says, and the pieces that pay for them on a whole step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_policy import Scripted, rollout

from factory.contracts import Message, Sample
from factory.stages.rl.pieces.formats import FORM, KEPT
from factory.stages.rl.pieces.reflection import TwoPass

pytestmark = pytest.mark.proves("format.two_pass", "table", "law", "run")

SAMPLE = Sample("s", "t", (Message("user", "q"),), "B")
WHOLE = "<think>{}</think><answer>{}</answer><reflection>{}</reflection><think>{}</think><answer>{}</answer>"
words = st.text(alphabet="abc <reflection>BC\n", min_size=1, max_size=15).filter(
    lambda text: text.strip() and "reflection>" not in text
)


@given(parts=st.tuples(words, words, words, words, words))
def test_all_five_parts_are_read_back(parts):
    found = TwoPass().read(WHOLE.format(*parts))
    keys = ("first_think", "first_answer", "reflection", "think", "answer")
    assert found == {key: part.strip() for key, part in zip(keys, parts, strict=True)} | {FORM: KEPT}


@pytest.mark.parametrize(
    ("first", "second", "is_right"), [("B", "B", True), ("C", "B", True), ("B", "C", False), ("C", "C", False)]
)
def test_a_rollout_is_right_when_its_second_answer_is(first, second, is_right):
    services = Scripted(form=TwoPass())
    one = rollout(WHOLE.format("x", first, "r", "y", second) + "\0", services=services)
    assert one.right is is_right and one.fields["first_answer"] == first


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (WHOLE.format("x", "C", "", "y", "B"), "the answer is empty"),
        (WHOLE.format("x", "", "r", "y", "B"), "first pass: <answer> is empty|first pass: the answer is empty"),
        (WHOLE.format("x", "C", "r", "y", "B") + "B", "second pass: text outside"),
        ("so " + WHOLE.format("x", "C", "r", "y", "B"), "first pass: text before <think>"),
        (WHOLE.format("x", "C", "r", "y", "B").replace("</reflection>", ""), "<reflection> is never closed"),
    ],
)
def test_what_is_wrong_is_said(broken, reason):
    import re

    assert re.match(reason, TwoPass().read(broken)[FORM])


def test_a_real_step_with_the_preset_runs(run_stage):
    _, rows, _ = run_stage(preset="srpo", num_steps=1)
    # The tiny policy says one word, so every form is broken and no term is earned.
    assert rows[0]["shaping/reward.format"] == 0.0
