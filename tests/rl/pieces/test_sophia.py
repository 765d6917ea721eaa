"""SOPHIA's reward rule and update, RACRO's reward, and the caption format both lean on."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from replay_kit import END, Shelf, token_batch

from factory.contracts import IMAGE, Media, Message, Sample
from factory.rewards.mixture import Reward
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.caption_answering import CaptionFormat, ask_about, question_of
from factory.stages.rl.pieces.racro import CaptionReward
from factory.stages.rl.pieces.sophia import Sophia, WeightedSft
from factory.stages.rl.rollouts import EDITED, FRESH, Group, Rollout


def a_context(answers, limit=64):
    return StepContext(0, 10, 0, limit, 2, services=Shelf(answers=list(answers)))


def a_caption(text, index=0, *, finished=True):
    ids = [*map(ord, text), *([END] if finished else [])]
    reward = Reward(0.0, False, False, {}, {}, {})
    return Rollout(0, index, ids, [-0.5] * len(ids), finished, 0, text=text, reward=reward, entropy=1.0)


def sophia(**changes):
    return Sophia(**{"reasoner": "policy", "alpha": 0.5, "num_traces": 3, "trace_tokens": 8, "temperature": 1.0} | changes)


def judged(answers, *captions, limit=64, **settings):
    group = Group(Shelf().sample("q"), [c if isinstance(c, Rollout) else a_caption(c, i) for i, c in enumerate(captions)])
    ctx = a_context(answers, limit)
    sophia(**settings).apply(ctx, [group])
    return group.rollouts, ctx.services


@pytest.mark.proves("hook.sophia", "table")
def test_the_shortest_right_trace_of_a_good_caption_is_joined_to_it():
    (one, two), shelf = judged(["right long", "right", "no", "right", "no", "no"], "cat", "dog")
    # R(cat) = 2/3 > 1/2: the shortest right trace; R(dog) = 1/3: nothing.
    assert one.text == "cat\n\nright" and one.ids == [*map(ord, "cat\n\nright"), END]
    assert (one.kind, one.value, one.right, one.entropy) == (EDITED, 1.0, True, None)
    assert [(s.start, s.end, s.role) for s in one.spans] == [(0, 3, "policy"), (3, 11, "demo")] and one.trained() == [1] * 11
    assert one.logprobs == [-0.5] * 3 + [0.0] * 8
    assert (two.kind, two.value, two.right, two.text) == (FRESH, 0.0, False, "dog")
    assert len(shelf.asked) == 6 and "cat" in shelf.asked[0] and "question q" in shelf.asked[0] and "dog" in shelf.asked[5]


def test_alpha_must_be_exceeded():
    (one,), _ = judged(["right", "no"], "cat", num_traces=2)
    assert one.value == 0.0
    (one,), _ = judged(["right", "no"], "cat", num_traces=2, alpha=0.49)
    assert one.value == 1.0


def test_a_joint_trace_beyond_the_limit_and_an_unfinished_caption_earn_nothing():
    # cat + \n\nright + end of turn = 3 + 8 tokens
    assert judged(["right"] * 3, "cat", limit=11)[0][0].value == 1.0
    assert judged(["right"] * 3, "cat", limit=10)[0][0].value == 0.0
    (one,), shelf = judged([], a_caption("cat", finished=False))
    assert one.value == 0.0 and shelf.asked == []


def test_failed_verifications_do_not_count_and_without_any_other_the_rollout_is_masked():
    (one,), _ = judged(["broken", "broken", "right"], "cat")
    assert one.value == 1.0
    (one,), _ = judged(["broken"] * 3, "cat")
    assert one.is_masked and one.kind == FRESH


def test_a_mark_ends_the_caption():
    (one, two), shelf = judged(["right"] * 3, "cat</c> own thoughts", a_caption("no mark", 1), caption_end="</c>")
    assert one.text == "cat</c>\n\nright" and one.spans[0].end == 7
    assert two.value == 0.0 and len(shelf.asked) == 3 and "own thoughts" not in shelf.asked[0]


@pytest.mark.proves("hook.sophia", "law")
@given(answers=st.lists(st.sampled_from(["right", "right!", "no", "broken"]), min_size=6, max_size=6), alpha=st.floats(0, 0.99))
def test_the_rule_of_the_reward(answers, alpha):
    rollouts, _ = judged(answers, "a", "b", alpha=alpha)
    for rollout, own in zip(rollouts, (answers[:3], answers[3:]), strict=True):
        live = [text for text in own if text != "broken"]
        good = [text for text in live if text.startswith("right")]
        if not live:
            assert rollout.is_masked
        elif len(good) / len(live) > alpha:
            assert rollout.value == 1.0 and rollout.text.endswith("\n\n" + min(good, key=len))
        else:
            assert rollout.value == 0.0 and rollout.kind == FRESH
        assert len(rollout.ids) == len(rollout.logprobs) == len(rollout.trained())


@pytest.mark.proves("loss.weighted_sft", "table")
def test_what_earned_nothing_has_no_gradient():
    logp = torch.tensor([[-0.5, -2.0], [-0.5, -2.0], [-1.0, -1.0]], dtype=torch.float64, requires_grad=True)
    found = WeightedSft()(token_batch(logp, 0.0, [[1.0], [0.0], [-1.0]], [EDITED, FRESH, FRESH]))
    assert found.loss.tolist() == [[0.5, 2.0], [0.0, 0.0], [0.0, 0.0]] and found.clipped_low is None
    found.loss.sum().backward()
    assert logp.grad.tolist() == [[-1.0, -1.0], [0.0, 0.0], [0.0, 0.0]]


@pytest.mark.proves("loss.weighted_sft", "float64", "law")
@given(rows=st.lists(st.tuples(st.floats(-2, 2), st.floats(-9, 0)), min_size=1, max_size=6))
def test_weighted_sft_is_a_weighted_log_likelihood(rows):
    logp = torch.tensor([[new] for _, new in rows], dtype=torch.float64, requires_grad=True)
    loss = WeightedSft()(token_batch(logp, -1.0, [[a] for a, _ in rows], [EDITED] * len(rows))).loss
    loss.sum().backward()
    assert loss.flatten().tolist() == pytest.approx([-max(a, 0.0) * new for a, new in rows])
    assert logp.grad.flatten().tolist() == pytest.approx([-max(a, 0.0) for a, _ in rows])
    assert (loss >= 0).all()


@pytest.mark.parametrize(
    "settings", [{"alpha": 1.0}, {"num_traces": 0}, {"trace_tokens": 0}, {"temperature": 0.0}, {"ask": "{caption}"}]
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError):
        sophia(**settings)


@pytest.mark.proves("hook.racro", "table")
def test_a_caption_earns_what_the_reasoner_makes_of_it():
    group = Group(Shelf().sample("q"), [a_caption("cat"), a_caption("dog", 1), a_caption("fog", 2)])
    ctx = a_context(["right", "no", "broken"])
    CaptionReward(reasoner="policy").apply(ctx, [group])
    assert [(r.value, r.right, r.text) for r in group.rollouts] == [(1.0, True, "cat"), (0.0, False, "dog"), (None, False, "fog")]
    assert [r.fields["answer"] for r in group.rollouts] == ["right", "no", "broken"]
    assert "dog" in ctx.services.asked[1] and "question q" in ctx.services.asked[1]


@pytest.mark.proves("hook.racro", "law")
@given(answers=st.lists(st.sampled_from(["right", "no"]), min_size=1, max_size=5))
def test_each_caption_has_its_own_answer_and_stays_as_it_was(answers):
    group = Group(Shelf().sample("q"), [a_caption(f"c{i}", i) for i in range(len(answers))])
    before = [(r.ids, r.logprobs, r.text, r.kind) for r in group.rollouts]
    CaptionReward(reasoner="policy").apply(a_context(answers), [group])
    assert [r.right for r in group.rollouts] == [answer == "right" for answer in answers]
    assert [(r.ids, r.logprobs, r.text, r.kind) for r in group.rollouts] == before


def test_braces_in_captions_and_questions_are_text():
    sample = Sample("q", "t", (Message("user", "what is {caption}?"),), "a")
    ctx = a_context(["x"])
    ask_about(
        ctx, [(sample, "a {question} {0}")], ask="<{caption}> {question}", reasoner="policy", max_new_tokens=4, temperature=0.0
    )
    assert ctx.services.asked == ["<a {question} {0}> what is {caption}?"]


@pytest.mark.parametrize("settings", [{"answer_tokens": 0}, {"temperature": -1.0}, {"ask": "what?"}])
def test_racro_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError):
        CaptionReward(reasoner="policy", **settings)


def a_question(text="How many?", media=True):
    content = f"{IMAGE}\n{text}" if media else text
    return Sample("q", "t", (Message("system", "s"), Message("user", content)), "a", (Media(data=b"x"),) if media else ())


@pytest.mark.proves("format.caption", "table")
def test_the_caption_prompt_keeps_image_and_question():
    found = CaptionFormat(instruction="Describe.").render(a_question())
    assert [m.content for m in found.messages] == ["s", f"Describe.\n{IMAGE}\nHow many?"]
    assert question_of(found) == "How many?" == question_of(a_question()) and found.media == a_question().media
    assert CaptionFormat().read(" a cat ") == {"caption": "a cat"}


@pytest.mark.proves("format.caption", "law")
@given(text=st.text(alphabet="ab?{} ", min_size=1).filter(str.strip), media=st.booleans())
def test_rendering_twice_changes_nothing(text, media):
    form, sample = CaptionFormat(), a_question(text, media)
    once = form.render(sample)
    assert form.render(once) == once and question_of(once) == text.strip()


@pytest.mark.proves("hook.sophia", "run")
@pytest.mark.proves("hook.racro", "run")
def test_a_run_with_the_policy_as_its_own_reasoner(run_stage):
    pieces = {
        "hook": {"sophia": {"reasoner": "policy", "alpha": 0.0, "num_traces": 2, "trace_tokens": 4, "temperature": 1.0,
                            "separator": " ", "ask": "{question}{caption}"}},
        "loss": "weighted_sft", "advantage": "none",
    }  # fmt: skip
    workdir, rows, _ = run_stage("sophia", num_steps=1, max_new_tokens=12, pieces=pieces)
    kept = [json.loads(line) for line in (workdir / "rollouts.jsonl").read_text().splitlines()]
    edited = [row for row in kept if row["kind"] == "edited"]
    assert edited and {row["kind"] for row in kept} == {"edited", "fresh"}
    assert all(row["completion"].endswith(" blue") and row["value"] == 1.0 and row["advantage"] == 1.0 for row in edited)
    assert all(row["value"] == row["advantage"] == 0.0 for row in kept if row["kind"] == "fresh") and rows[0]["grad_norm"] > 0
    racro = {"hook": {"racro": {"reasoner": "policy", "answer_tokens": 4, "temperature": 1.0, "ask": "{question}{caption}"}}}
    _, rows, _ = run_stage("racro", num_steps=1, pieces=racro)
    assert 0.0 <= rows[0]["reward"] <= 1.0
