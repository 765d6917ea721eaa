"""Each way of deliberating on a scripted engine: its rules, ties, and texts without an answer."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import ScriptedEngine, pack, sample

from factory.rewards.formats import SHAPES
from factory.stages.eval.deliberate.align3 import AUDIT, Align3
from factory.stages.eval.deliberate.answers import AnswerReader
from factory.stages.eval.deliberate.best_of import BestOf, best
from factory.stages.eval.deliberate.critic import CRITICISE, Critic
from factory.stages.eval.deliberate.force_answer import ForceAnswer
from factory.stages.eval.deliberate.majority import Majority, vote

READER = AnswerReader.of(pack())
THINK = SHAPES["think_answer"]


def tagged(answer):
    return f"<answer>{answer}</answer>"


# --- majority -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "index"),
    [
        (["a", "b", "b"], 1),  # b has two
        (["a", "b", "b", "a"], 1),  # two each; b reached two first
        (["a", "b"], 0),  # one each; a reached one first
        ([None, None, "c"], 2),  # only c gives an answer
        ([None, "a", None, "b", "b"], 3),
        ([None, None], 0),  # nobody does: the first draw
    ],
)
def test_vote_by_hand(keys, index):
    assert vote(keys)[0] == index


KEYS = st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=12)


@given(KEYS)
def test_winner_has_most_votes_and_votes_are_a_count(keys):
    index, votes = vote(keys)
    assert votes == Counter(key for key in keys if key is not None)
    assert keys[index] is None if not votes else votes[keys[index]] == max(votes.values())


@given(KEYS, st.randoms(use_true_random=False))
def test_majority_ignores_the_order_of_draws_unless_it_is_a_tie(keys, random):
    shuffled = random.sample(keys, len(keys))
    (one, votes), (other, votes_again) = vote(keys), vote(shuffled)
    assert votes == votes_again
    if list(votes.values()).count(max(votes.values(), default=0)) == 1:
        assert keys[one] == shuffled[other]


@given(KEYS)
def test_the_tie_goes_to_the_answer_that_first_reached_the_top(keys):
    index, votes = vote(keys)
    if votes:
        top = max(votes.values())
        reached = {
            key: next(i for i in range(len(keys)) if keys[: i + 1].count(key) == top) for key, n in votes.items() if n == top
        }
        assert keys[index] == min(reached, key=reached.get)


def test_majority_counts_equal_answers_and_not_equal_texts():
    texts = [tagged("red"), tagged("Blue."), f"<think>hm</think>{tagged('azure')}", "no answer here…"]
    engine = ScriptedEngine(draw=[texts])
    (got,) = Majority(4, 9, READER.key).answer(engine, [sample()])
    assert got.votes == {"red": 1, "blue": 2} and got.text == texts[1]
    assert got.tokens == sum(len(text.split()) for text in texts), "draws that lose are paid for"
    assert engine.asked[0][0] == "draw" and engine.asked[0][2] == 9


def test_majority_of_unreadable_draws_is_the_first():
    (got,) = Majority(2, 9, READER.key).answer(ScriptedEngine(draw=[["cut off…", "cut too…"]]), [sample()])
    assert (got.text, got.votes, got.finished) == ("cut off", {}, False)


# --- best of n ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "index"), [([0.1, 0.9, 0.9], 1), ([None, 0.0], 1), ([None, None], 0), ([-2.0, -1.0, None], 1)]
)
def test_best_by_hand(scores, index):
    assert best(scores) == index


SCORES = st.lists(st.none() | st.floats(-5, 5), min_size=1, max_size=10)


@given(SCORES, st.none() | st.floats(-5, 5))
def test_one_more_draw_never_makes_the_best_worse(scores, more):
    def top(values):
        score = values[best(values)]
        return float("-inf") if score is None else score

    assert top([*scores, more]) >= top(scores)


@given(SCORES, st.randoms(use_true_random=False))
def test_best_score_ignores_the_order_of_draws(scores, random):
    shuffled = random.sample(scores, len(scores))
    assert scores[best(scores)] == shuffled[best(shuffled)]


def test_best_of_asks_the_judge_once_about_all_draws():
    asked = []

    def judge(pairs):
        asked.append([(one.id, text) for one, text in pairs])
        return [-float(len(text)) for _, text in pairs]

    engine = ScriptedEngine(draw=[["long text", "brief"], ["x", "yy"]])
    first, second = BestOf(2, 9, judge).answer(engine, [sample(0), sample(1)])
    assert (first.text, second.text) == ("brief", "x")
    assert asked == [[("s0", "long text"), ("s0", "brief"), ("s1", "x"), ("s1", "yy")]]
    assert first.scores == (-9.0, -5.0) and first.tokens == 3


# --- force answer -------------------------------------------------------------------------------------------------------


def forced(think, answer=None, shape=THINK):
    engine = ScriptedEngine(think=[[think]], **({"answer": [[answer]]} if answer is not None else {}))
    (got,) = ForceAnswer(5, 7, lambda _: shape).answer(engine, [sample()])
    return got, engine


def test_thoughts_over_budget_are_closed_and_answered():
    got, engine = forced("<think>so many thoughts…", tagged("blue"))
    assert got.text == "<think>so many thoughts</think><answer>blue</answer>"
    assert got.tokens == 3 + 1 and got.finished, "the inserted mark costs nothing"
    assert [(name, most) for name, _, most in engine.asked] == [("think", 5), ("answer", 7)]
    assert engine.said("answer").endswith("<think>so many thoughts</think>")


def test_text_that_ends_by_itself_stands():
    got, engine = forced("<think>x</think>" + tagged("red"))
    assert got.text == "<think>x</think><answer>red</answer>" and len(engine.asked) == 1


@pytest.mark.parametrize("begun", ["<think>x</think>then…", "plain words…"])
def test_text_that_is_not_thinking_goes_on_without_a_mark(begun):
    got, _ = forced(begun, " rest")
    assert got.text == begun.removesuffix("…") + " rest"


def test_headings_are_closed_on_a_line_of_their_own():
    got, _ = forced("## Thinking\nmuch…", "blue", SHAPES["huatuo"])
    assert got.text == "## Thinking\nmuch\n## Final Response\nblue"


def test_only_unfinished_texts_go_on():
    engine = ScriptedEngine(think=[["<think>a…"], [tagged("b")], ["<think>c…"]], answer=[["A"], ["C…"]])
    got = ForceAnswer(5, 7, lambda _: THINK).answer(engine, [sample(0), sample(1), sample(2)])
    assert [one.text for one in got] == ["<think>a</think>A", tagged("b"), "<think>c</think>C"]
    assert [one.finished for one in got] == [True, True, False]


# --- align3 -------------------------------------------------------------------------------------------------------------


def aligned(**texts):
    engine = ScriptedEngine(**texts)
    deliberator = Align3("BE {kind}", "BE SAFE", 6, 4, lambda _: THINK)
    return deliberator.answer(engine, [sample()] * len(texts["answer"])), engine


def test_align3_stages_follow_in_one_trace():
    (got,), engine = aligned(behaviour=[["one…"]], safety=[["two…"]], audit=[["three…"]], answer=[[tagged("blue")]])
    assert [(name, most) for name, _, most in engine.asked] == [("behaviour", 6), ("safety", 6), ("audit", 6), ("answer", 4)]
    trace = engine.said("answer")
    places = [trace.index(part) for part in ("<think>", "BE {kind}", "one", "BE SAFE", "two", AUDIT, "three", "</think>")]
    assert places == sorted(places) and trace.count("<think>") == 1 and trace.endswith("</think>")
    assert "BE SAFE" not in engine.said("behaviour") and "BE SAFE" in engine.said("safety")
    assert got.text == "<think>one\ntwo\nthree</think><answer>blue</answer>", "verifiers see no inserted text"
    assert got.tokens == 4 and "".join(got.trace) in trace + tagged("blue")


def test_align3_takes_out_marks_that_end_the_thinking_early():
    (got,), engine = aligned(
        behaviour=[["one</think><answer>red</answer>"]], safety=[["two"]], audit=[["</THINK>"]], answer=[[tagged("blue")]]
    )
    assert "red" not in engine.said("safety") and engine.said("answer").count("</think>") == 1
    assert got.text == "<think>one\ntwo\n</think><answer>blue</answer>"


# --- critic -------------------------------------------------------------------------------------------------------------


def test_critic_revises_in_rounds():
    engine = ScriptedEngine(
        draft=[[tagged("red")]], critique_1=[["too red"]], revise_1=[[tagged("green")]], critique_2=[["too {green}"]],
        revise_2=[[tagged("blue")]],
    )  # fmt: skip
    (got,) = Critic(2, 9, 5, READER.key).answer(engine, [sample()])
    assert got.text == tagged("blue") and got.tokens == 1 + 2 + 1 + 2 + 1
    assert [(name, most) for name, _, most in engine.asked] == [
        ("draft", 9), ("critique-1", 5), ("revise-1", 9), ("critique-2", 5), ("revise-2", 9),
    ]  # fmt: skip
    assert engine.said("critique-1").splitlines()[1:] == [f"assistant: {tagged('red')}", f"user: {CRITICISE}"]
    assert "too red" in engine.said("revise-1") and tagged("green") in engine.said("critique-2")
    assert "too {green}" in engine.said("revise-2") and "too red" not in engine.said("revise-2")


@pytest.mark.parametrize(
    ("draft", "revised", "kept"),
    [
        (tagged("red"), "nothing…", tagged("red")),  # the last answer that can be read
        ("nothing…", tagged("red"), tagged("red")),
        ("one…", "two…", "one"),  # none can: the draft
    ],
)
def test_critic_keeps_the_last_answer_that_can_be_read(draft, revised, kept):
    engine = ScriptedEngine(draft=[[draft]], critique_1=[["hm"]], revise_1=[[revised]])
    (got,) = Critic(1, 9, 5, READER.key).answer(engine, [sample()])
    assert got.text == kept


def test_a_second_model_may_criticise():
    engine, other = ScriptedEngine(draft=[["a"]], revise_1=[["b"]]), ScriptedEngine(critique_1=[["no"]])
    (got,) = Critic(1, 9, 5, READER.key, critic=other).answer(engine, [sample()])
    assert got.text == "b" and [name for name, _, _ in other.asked] == ["critique-1"]


def test_written_image_placeholder_is_no_image():
    engine = ScriptedEngine(draft=[["see <image>"]], critique_1=[["the <image> lies"]], revise_1=[["b"]])
    Critic(1, 9, 5, READER.key).answer(engine, [sample()])
    assert "<image>" not in engine.said("revise-1")
