"""Force answering on a scripted policy, and on a real tiny model."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from scripted_policy import END, Scripted, coded, covers, rollout

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.force_answer import ForceAnswer
from factory.stages.rl.pieces.formats import ThinkAnswer
from factory.stages.rl.rollouts import Group, Span

pytestmark = pytest.mark.proves("hook.force_answer", "table", "law", "run")


def apply(hook, services, *rollouts, sample=None):
    ctx = StepContext(0, 10, 3, 64, 8, temperature=0.7, services=services)
    group = Group(sample, list(rollouts))
    hook.apply(ctx, [group])
    return group.rollouts, ctx


def test_an_unfinished_thought_is_closed_and_answered(sample_of):
    services = Scripted({"<answer>": "B</answer>\0"}, form=ThinkAnswer())
    open_one, done, cut_answer = (
        rollout("<think>hm"),
        rollout("<think>a</think><answer>C</answer>\0"),
        rollout("<think>a</think><ans"),
    )
    before = [list(done.ids), list(cut_answer.ids)]
    (one, *others), ctx = apply(ForceAnswer(), services, open_one, done, cut_answer, sample=sample_of())
    assert one.text == "<think>hm</think>\n<answer>B</answer>" and one.finished and one.fields["answer"] == "B"
    # 9 letters of the thought, 17 inserted, 12 written: the policy's own keep -0.5 and get -0.25, the inserted have 0.
    assert one.spans == [Span(0, 9, "policy"), Span(9, 26, "injected"), Span(26, 37, "policy")]
    assert one.logprobs == [-0.5] * 9 + [0.0] * 17 + [-0.25] * 11
    assert one.trained() == [1] * 9 + [0] * 17 + [1] * 11 and one.length == 20
    assert [list(other.ids) for other in others] == before and not any(other.spans for other in others)
    assert ctx.counts == {"forced_answers": 1.0}
    # One call for all open rollouts, at the run's temperature, with the answer's own budget.
    assert [call[:3] for call in services.calls] == [(1, 64, 0.7)]


def test_an_answer_that_runs_out_too_stays_unfinished(sample_of):
    services = Scripted({"<answer>": "B</answer>\0"}, form=ThinkAnswer())
    (one,), _ = apply(ForceAnswer(answer_tokens=3), services, rollout("<think>hm"), sample=sample_of())
    assert not one.finished and one.text.endswith("<answer>B</") and covers(one)


def test_without_room_in_the_context_the_rollout_stays_as_it_is(sample_of):
    services = Scripted(form=ThinkAnswer(), room_left=9 + 17 + 63)
    (one,), ctx = apply(ForceAnswer(), services, rollout("<think>hm"), sample=sample_of())
    assert not one.spans and ctx.counts == {"forced_answers": 0.0} and not services.calls


@pytest.mark.parametrize(
    ("text", "settings", "is_open"),
    [("<think>a", {}, True), ("<think>a</think>b", {}, False), ("no thought", {}, False), ("no thought", {"opens": ""}, True),
     ("a</think>b", {"opens": ""}, False), ("<think>a</think><think>b", {}, True), ("<think>a\0", {}, False)],
)  # fmt: skip
def test_what_counts_as_unfinished_thinking(text, settings, is_open):
    assert ForceAnswer(**settings).is_open(rollout(text)) is is_open


@pytest.mark.parametrize("settings", [{"closes": ""}, {"answer_tokens": 0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match="closes must be a mark"):
        ForceAnswer(**settings)


@given(
    texts=st.lists(st.text(alphabet="abc </>think", max_size=30), max_size=4), reply=st.text(alphabet="xy</answer>", max_size=70)
)
def test_spans_cover_every_token_once_and_inserted_ones_never_train(texts, reply):
    services = Scripted({"<answer>": reply + "\0"}, form=ThinkAnswer())
    group = [rollout(f"<think>{text}", index=i) for i, text in enumerate(texts)]
    ForceAnswer().apply(StepContext(0, 10, 3, 64, 8, services=services), [Group(_sample(), group)])
    for one in group:
        if not one.spans:
            continue
        assert covers(one)
        inserted = [i for span in one.spans if span.role == "injected" for i in range(span.start, span.end)]
        assert [one.ids[i] for i in inserted] == coded("</think>\n<answer>")
        assert not any(one.trained()[i] for i in inserted) and sum(one.trained()) == len(one.ids) - len(inserted)
        assert one.finished == (one.ids[-1] == END)


def _sample():
    from factory.contracts import Message, Sample

    return Sample("s", "t", (Message("user", "q"),), "B")


FORCED = {"pieces": {"hook": {"force_answer": {"opens": "", "closes": "\n", "answer": "the sky is", "answer_tokens": 3}}},
          "max_new_tokens": 1, "num_steps": 3, "samples": 3}  # fmt: skip


def test_a_real_step_trains_forced_answers_whatever_the_micro_batch(run_stage):
    workdir, rows, _ = run_stage("whole", **FORCED)
    _, others, _ = run_stage("split", optim={"micro_batch_size": 5}, **FORCED)
    assert rows[0]["forced_answers"] > 0 and rows[0]["sampler_gap"] < 1e-4
    assert others[0]["loss"] == pytest.approx(rows[0]["loss"], abs=1e-6)
    assert others[0]["grad_norm"] == pytest.approx(rows[0]["grad_norm"], rel=1e-4)
    texts = [json.loads(line)["completion"] for line in (workdir / "rollouts.jsonl").read_text().splitlines()]
    assert any("\nthe sky is" in text for text in texts)


def test_a_resumed_run_with_forced_answers_is_the_uninterrupted_one(run_stage):
    whole, _, _ = run_stage("whole", **FORCED)
    with pytest.raises(KeyboardInterrupt):
        run_stage("cut", stop_after=3, **FORCED)
    cut, rest, _ = run_stage("cut", **FORCED)
    assert 0 < len(rest) < 3
    one, other = (load_file(folder / "model" / "model.safetensors") for folder in (whole, cut))
    assert all((one[name] == other[name]).all() for name in one)
