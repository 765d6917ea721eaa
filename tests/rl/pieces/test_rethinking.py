"""Forced rethinking on a scripted policy, its SFT term by hand, and both on a real tiny model."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from scripted_policy import Scripted, coded, covers, rollout

from factory.contracts import Message, Sample
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.formats import ThinkAnswer
from factory.stages.rl.pieces.rethinking import DOUBLE_CHECK, MISTAKE, ForcedRethinking
from factory.stages.rl.pieces.sft_selected import SftSelected
from factory.stages.rl.rollouts import Group, Span
from factory.stages.rl.tokens import KIND_CODES, TokenBatch

pytestmark = [
    pytest.mark.proves("hook.forced_rethinking", "table", "law", "run"),
    pytest.mark.proves("auxiliary.sft_selected", "table", "law", "float64", "run"),
]

SAMPLE = Sample("s", "t", (Message("user", "q"),), "B")
ALWAYS = {"probability": 1.0, "cut_share": 1.0, "marks": ["</think>"], "neutral": [], "min_tokens": 5, "max_tokens": 100}
WRONG, RIGHT = "<think>it is C</think><answer>C</answer>\0", "<think>it is B</think><answer>B</answer>\0"
GOOD = " It is B.</think><answer>B</answer>\0"


def rethink(services, *texts, **settings):
    services.form = ThinkAnswer()
    group = Group(SAMPLE, [rollout(text, index=i, services=services) for i, text in enumerate(texts)])
    ctx = StepContext(0, 10, 3, 64, 8, temperature=1.0, services=services)
    ForcedRethinking(**(ALWAYS | settings)).apply(ctx, [group])
    return group.rollouts, ctx


def test_a_wrong_rollout_is_reopened_with_a_doubt_and_replaced_when_it_ends_right():
    (one,), ctx = rethink(Scripted({MISTAKE: GOOD}), WRONG)
    kept, trigger = len("<think>it is C"), len(f"\n{MISTAKE}")
    assert one.text == f"<think>it is C\n{MISTAKE}{GOOD}"[:-1] and one.kind == "edited" and one.right and one.value == 1.0
    assert one.spans == [Span(0, kept, "policy"), Span(kept, kept + trigger, "injected"),
                         Span(kept + trigger, len(one.ids), "policy")]  # fmt: skip
    # Kept tokens keep their log-probs, the trigger has none, the rest are those of the new context.
    assert one.logprobs == [-0.5] * kept + [0.0] * trigger + [-0.25] * len(GOOD)
    assert one.finished and one.fields["answer"] == "B" and one.index == 0
    assert ctx.counts == {"rethinkings_tried": 1.0, "rethinkings_kept": 1.0}
    assert ctx.services.calls[0][:3] == (1, 100, 0.9)


def test_a_right_rollout_is_asked_to_check_again():
    (one,), _ = rethink(Scripted({DOUBLE_CHECK: GOOD}), RIGHT)
    assert DOUBLE_CHECK in one.text and one.kind == "edited"


@pytest.mark.parametrize(
    ("continuation", "why"),
    [
        (" It is C.</think><answer>C</answer>\0", "ends wrong"),
        ("B\0", "5 tokens or more are wanted, this has 2"),
        (" wait wait wait wait wait, B</think><answer>B</answer>\0", "five waits"),
        (" It is B.</think><answer>B</answer>" + " " * 99, "never ends"),
        (" ?</think><answer>B</answer>\0", "the verifier fails on it"),
    ],
)
def test_a_rethinking_that_is_not_accepted_leaves_the_original(continuation, why):
    (one,), ctx = rethink(Scripted({MISTAKE: continuation}), WRONG)
    assert one.kind == "fresh" and one.text == WRONG[:-1] and not one.spans and not one.right, why
    assert ctx.counts == {"rethinkings_tried": 1.0, "rethinkings_kept": 0.0}


def test_at_most_two_of_a_question_are_kept():
    rollouts, ctx = rethink(Scripted({MISTAKE: GOOD}), WRONG, WRONG, WRONG, WRONG)
    assert [one.kind for one in rollouts] == ["edited", "edited", "fresh", "fresh"]
    assert [one.index for one in rollouts] == [0, 1, 2, 3] and ctx.counts["rethinkings_kept"] == 2.0


def test_unfinished_masked_and_tool_rollouts_are_never_reopened():
    services = Scripted({MISTAKE: GOOD}, form=ThinkAnswer())
    tool = rollout(WRONG, services=services)
    tool.spans = [Span(0, 4, "policy"), Span(4, 6, "tool"), Span(6, len(tool.ids), "policy")]
    failed = rollout(f"?{WRONG}", services=services)
    unfinished = rollout(WRONG[:-1], services=services)
    group = Group(SAMPLE, [tool, failed, unfinished])
    ForcedRethinking(**ALWAYS).apply(StepContext(0, 10, 3, 64, 8, services=services), [group])
    assert group.rollouts == [tool, failed, unfinished] and failed.is_masked and not services.calls


@pytest.mark.parametrize(
    ("text", "start"),
    [
        # the last of the marks that occur is where the text is cut
        ("so it is \\boxed{C}\0", "so it is "),
        ("no.\nWait, it is \\boxed{C}\0", "no.\nWait, it is "),
        ("no.\nWait, C\0", "no.\n"),
        ("no.\nC <answer>C</answer>\0", "no.\nC "),
        ("C\0", "C"),
    ],
)
def test_where_a_rollout_is_cut(text, start):
    services = Scripted({MISTAKE: " it is B: \\boxed{B}\0"})
    (one,), _ = rethink(services, text, marks=["Wait", "\\boxed", "<answer>", "\n"])
    assert one.kind == "edited"
    cut = one.spans[0].end
    assert "".join(map(chr, one.ids[:cut])) == start


def test_without_a_cut_the_trigger_follows_the_whole_text():
    (one,), _ = rethink(Scripted({MISTAKE: " it is B: \\boxed{B}\0"}), "it is C\0", cut_share=0.0)
    assert one.text == f"it is C\n{MISTAKE} it is B: \\boxed{{B}}"


def test_the_share_of_reopened_rollouts_is_the_probability():
    services = Scripted({MISTAKE: " C</think>\0"})
    _, ctx = rethink(services, *[WRONG] * 400, probability=0.65)
    # standard deviation sqrt(.65 * .35 / 400) = 0.024; four of them
    assert ctx.counts["rethinkings_tried"] / 400 == pytest.approx(0.65, abs=0.096)


@pytest.mark.parametrize(
    "settings", [{"probability": 0.0}, {"cut_share": 1.1}, {"min_tokens": 0}, {"min_tokens": 9, "max_tokens": 8}, {"marks": [""]},
                 {"per_question": 0}, {"temperature": 0.0}],
)  # fmt: skip
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError):
        ForcedRethinking(**settings)


@given(thoughts=st.lists(st.text(alphabet="ab \n", max_size=12), min_size=1, max_size=4), share=st.sampled_from([0.0, 0.5, 1.0]))
def test_spans_cover_every_token_once_and_the_trigger_never_trains(thoughts, share):
    texts = [f"{thought} \\boxed{{C}}\0" for thought in thoughts]
    services = Scripted({MISTAKE: " so \\boxed{B}\0"})
    rollouts, ctx = rethink(services, *texts, cut_share=share, marks=["\n", "\\boxed"], max_tokens=40)
    edited = [one for one in rollouts if one.kind == "edited"]
    assert len(edited) == min(2, len(texts)) == ctx.counts["rethinkings_kept"]
    for one in edited:
        assert covers(one) and [span.role for span in one.spans][-2:] == ["injected", "policy"]
        put = next(span for span in one.spans if span.role == "injected")
        assert not any(one.trained()[put.start : put.end]) and sum(one.trained()) == len(one.ids) - (put.end - put.start)
        assert texts[one.index].startswith("".join(map(chr, one.ids[: put.start])))


def batch(logp, advantages, kinds, mask=None):
    zeros = torch.zeros_like(logp)
    mask = torch.ones_like(logp) if mask is None else mask
    return TokenBatch(
        logp=logp, old=logp.detach(), ref=zeros, masked=zeros, mask=mask, advantages=advantages, weights=zeros + 1,
        kl_weights=zeros + 1, flags=zeros, kinds=torch.tensor([KIND_CODES[kind] for kind in kinds]), totals={},
    )  # fmt: skip


def test_the_sft_term_by_hand(context):
    logp = torch.tensor([[-1.0, -2.0]] * 4, requires_grad=True)
    advantages = torch.tensor([[1.0], [-1.0], [0.0], [1.0]]).expand(4, 2)
    term = SftSelected()(context(), batch(logp, advantages, ["edited", "edited", "edited", "fresh"]))
    # only the edited rollout with A > 0: -0.05 * -1 and -0.05 * -2
    assert torch.equal(term.detach(), torch.tensor([[0.05, 0.1], [0, 0], [0, 0], [0, 0]]))
    term.sum().backward()
    assert torch.equal(logp.grad, torch.tensor([[-0.05, -0.05], [0, 0], [0, 0], [0, 0]]))


@given(data=st.data())
def test_the_sft_term_equals_a_slow_reference(data):
    rows = data.draw(st.integers(1, 4))
    numbers = st.floats(-5, 0, width=32)
    logp = data.draw(st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=rows, max_size=rows))
    advantages = data.draw(st.lists(st.floats(-2, 2, width=32), min_size=rows, max_size=rows))
    kinds = data.draw(st.lists(st.sampled_from(sorted(KIND_CODES)), min_size=rows, max_size=rows))
    made = batch(torch.tensor(logp), torch.tensor(advantages)[:, None].expand(rows, 3), kinds)
    term = SftSelected(coef=0.3)(StepContext(0, 1, 0, 8, 2), made).double()
    slow = [
        [-0.3 * p if kind == "edited" and a > 0 else 0.0 for p in row]
        for row, a, kind in zip(logp, advantages, kinds, strict=True)
    ]
    torch.testing.assert_close(term, torch.tensor(slow, dtype=torch.float64), rtol=1e-6, atol=1e-7)


RETHINK = {"pieces": {
    "hook": {"forced_rethinking": {"probability": 1.0, "cut_share": 1.0, "marks": ["red", "green", "blue"], "neutral": [],
                                   "if_right": "", "if_wrong": "", "min_tokens": 1, "max_tokens": 8}},
    "auxiliary": {"sft_selected": {}},
}, "num_steps": 3, "samples": 3}  # fmt: skip
"""An empty trigger: cut before the colour and say it again, which the tiny policy often gets right."""


def test_a_real_step_trains_rethought_rollouts_whatever_the_micro_batch(run_stage):
    workdir, rows, _ = run_stage("whole", **RETHINK)
    _, others, _ = run_stage("split", optim={"micro_batch_size": 5}, **RETHINK)
    assert rows[0]["rethinkings_kept"] > 0 and rows[0]["auxiliary/auxiliary.sft_selected"] > 0
    assert others[0]["loss"] == pytest.approx(rows[0]["loss"], abs=1e-6)
    assert others[0]["grad_norm"] == pytest.approx(rows[0]["grad_norm"], rel=1e-4)
    kinds = {json.loads(line)["kind"] for line in (workdir / "rollouts.jsonl").read_text().splitlines()}
    assert "edited" in kinds


def test_a_resumed_run_with_rethinking_is_the_uninterrupted_one(run_stage):
    whole, _, _ = run_stage("whole", **RETHINK)
    with pytest.raises(KeyboardInterrupt):
        run_stage("cut", stop_after=3, **RETHINK)
    cut, rest, _ = run_stage("cut", **RETHINK)
    assert 0 < len(rest) < 3
    one, other = (load_file(folder / "model" / "model.safetensors") for folder in (whole, cut))
    assert all((one[name] == other[name]).all() for name in one)


def test_nothing_of_the_original_rollout_is_changed():
    services = Scripted({MISTAKE: GOOD}, form=ThinkAnswer())
    original = rollout(WRONG, services=services)
    before = replace(original, ids=list(original.ids), logprobs=list(original.logprobs), fields=dict(original.fields))
    ForcedRethinking(**ALWAYS).apply(StepContext(0, 10, 3, 64, 8, services=services), [Group(SAMPLE, [original])])
    assert original == before and coded(WRONG) == original.ids


def test_the_learner_gives_edited_rollouts_the_logprobs_they_carry(run_stage, monkeypatch):
    """Kept tokens in their old context, the new ones in the context with the trigger: at the run's temperature, all agree."""
    from factory.stages.rl import loop
    from factory.stages.rl.logprobs import completion_logprobs

    gaps, whole = [], loop.RlLoop._complete_logprobs

    def compared(self, rows, version):
        edited = [row for row in rows if row.rollout.kind == "edited"]
        for row, now in zip(edited, completion_logprobs(edited, self.learner.model, self.learner, temperature=1.0), strict=True):
            gaps.append(max(abs(a - b) for a, b in zip(row.rollout.logprobs, now, strict=True)))
            put = next(span for span in row.rollout.spans if span.role == "injected")
            assert put.end > put.start and not any(now[put.start : put.end])
        return whole(self, rows, version)

    monkeypatch.setattr(loop.RlLoop, "_complete_logprobs", compared)
    settings = RETHINK["pieces"]["hook"]["forced_rethinking"] | {"temperature": 1.0, "if_right": " ", "if_wrong": " "}
    run_stage(**RETHINK | {"pieces": {"hook": {"forced_rethinking": settings}}, "num_steps": 1})
    assert gaps and max(gaps) < 1e-4
