"""Caption rewards: the text-only question on a recorded policy, and SATORI's three terms by hand."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_policy import Scripted, rollout

from factory.contracts import IMAGE, Media, Message, Sample
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.caption import (
    MAX_BOXES,
    CaptionReward,
    SatoriReward,
    bleu4,
    boxes_in,
    rouge_l,
    union_iou,
    without_images,
)
from factory.stages.rl.pieces.formats import CaptionReasonAnswer, Satori

pytestmark = [
    pytest.mark.proves("reward.caption", "table", "law", "run"),
    pytest.mark.proves("reward.satori", "table", "law"),
    pytest.mark.proves("format.caption_reason_answer", "run"),
]

IMAGES = (Media(data=b"1"), Media(data=b"2"))
SAMPLE = CaptionReasonAnswer().render(Sample("s", "t", (Message("user", f"{IMAGE} and {IMAGE}: what?"),), "B", media=IMAGES))
SAID = "<info>{}</info><think>a</think><answer>B</answer>\0"


def scores(services, *texts, sample=SAMPLE, **settings):
    services.form = CaptionReasonAnswer()
    reward = CaptionReward(**settings)
    pairs = [(sample, rollout(text, index=i, services=services)) for i, text in enumerate(texts)]
    ctx = StepContext(0, 10, 3, 64, 8, services=services)
    reward.prepare(ctx, pairs)
    return [reward.score(ctx, *pair) for pair in pairs], [one for _, one in pairs]


def test_a_caption_pays_when_the_question_is_answered_right_from_it_alone():
    services = Scripted(answers={"a cat": "<think>w</think><answer>B</answer>", "a dog": "<think>w</think><answer>C</answer>"})
    found, rollouts = scores(services, SAID.format("a cat"), SAID.format("a dog"), "<think>a</think><answer>B</answer>\0")
    assert found == [0.1, 0.0, 0.0]
    prompts, limit, temperature, _ = services.calls[0]
    assert len(prompts) == 2 and (limit, temperature) == (64, 0.0), "one call, greedy, only for those with a caption"
    messages, media = prompts[0]
    assert media == () and IMAGE not in messages[0].content
    assert messages[0].content.startswith("(Instead of the image, its description: a cat) and : what?")
    assert "<info>" not in messages[0].content and "<think>" in messages[0].content
    # The rollouts themselves are as they were verified.
    assert [one.text for one in rollouts[:2]] == [SAID.format(what)[:-1] for what in ("a cat", "a dog")] and rollouts[0].right


def test_a_verifier_that_fails_on_the_text_only_answer_masks_the_rollout():
    found, rollouts = scores(Scripted(answers={"a cat": "?"}), SAID.format("a cat"))
    assert found == [0.0] and rollouts[0].is_masked


def test_rows_without_an_image_are_not_asked():
    services = Scripted()
    found, _ = scores(services, SAID.format("a cat"), sample=Sample("s", "t", (Message("user", "q"),), "B"))
    assert found == [0.0] and not services.calls


@given(caption=st.text(max_size=30))
def test_the_text_only_question_never_holds_an_image(caption):
    messages = without_images(SAMPLE, caption)
    assert not any(IMAGE in message.content for message in messages) and len(messages) == 1


def test_a_real_step_pays_for_captions(run_seeing):
    _, rows, _ = run_seeing(preset="visionary_r1", num_steps=1)
    assert "shaping/reward.caption" in rows[0] and rows[0]["kl_coef"] > 0


def test_bleu_and_rouge_by_hand():
    # 1-grams 2/3; add-one for the rest: 2-grams 1 of 2 -> 2/3, 3-grams 0 of 1 -> 1/2, 4-grams 0 of 0 -> 1/1; equal lengths
    assert bleu4("the red cat", "the red dog") == pytest.approx((2 / 3 * 2 / 3 * 1 / 2) ** 0.25)
    # brevity: 2 words for 4, exp(1 - 4/2); 1-grams 2/2, 2-grams 2/2, 3- and 4-grams 1/1
    assert bleu4("a b", "a b c d") == pytest.approx(2.718281828**-1)
    # longest common subsequence "the cat", 2 of 3 and 2 of 4 words: 2 * 2 / 7
    assert rouge_l("the red cat", "the big old cat") == pytest.approx(4 / 7)


@given(text=st.text(alphabet="ab ,", max_size=20), reference=st.text(alphabet="ab ,", max_size=20))
def test_overlap_of_texts_is_bounded_and_full_for_equal_words(text, reference):
    for overlap in (bleu4, rouge_l):
        assert 0.0 <= overlap(text, reference) <= 1.0
        assert overlap(text, text) == pytest.approx(float(bool(text.replace(",", " ").split())))


def test_united_boxes_by_hand():
    # two boxes of 4 and 4 that share 1: 7; the other covers 4 of which 4 lie inside: 4 / 7
    assert union_iou([(0, 0, 2, 2), (1, 1, 3, 3)], [(0, 0, 2, 2)]) == pytest.approx(4 / 7)
    assert union_iou([], [(0, 0, 2, 2)]) == 0.0 == union_iou([(0, 0, 1, 1)], [(1, 1, 2, 2)])
    assert boxes_in("[1, 2, 3, 4] and (5, 6, 7, 8)") == [(1, 2, 3, 4), (5, 6, 7, 8)]
    assert boxes_in("[1, 2, 3, 4] [9, 2, 3, 4]") == [] == boxes_in("[0, 0, 1, 1]" * (MAX_BOXES + 1)), "no luck by listing boxes"


corners = st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 4), st.integers(1, 4))
boxes = st.lists(corners.map(lambda c: (c[0], c[1], c[0] + c[2], c[1] + c[3])), min_size=1, max_size=4)


@given(one=boxes, other=boxes)
def test_united_boxes_equal_a_count_of_unit_squares(one, other):
    def squares(some):
        return {(x, y) for b in some for x, y in itertools.product(range(b[0], b[2]), range(b[1], b[3]))}

    wanted = len(squares(one) & squares(other)) / len(squares(one) | squares(other))
    assert union_iou(one, other) == pytest.approx(wanted) == pytest.approx(union_iou(other, one))


def test_satori_by_hand(rollout_of, context):
    sample = Sample("s", "t", (), "B", meta={"caption": "the red cat", "boxes": [[0, 0, 2, 2]]})
    fields = dict(Satori().read("<caption>the red cat</caption><bbox>[0, 0, 4, 2]</bbox><answer>C</answer>"))
    # form 1 + caption (1 + 1) / 2 + IoU 4 / 8
    assert SatoriReward().score(context(), sample, rollout_of(fields=fields)) == pytest.approx(2.5)
    assert SatoriReward().score(context(), sample, rollout_of(fields={"form": "no"})) == 0.0
    assert SatoriReward().score(context(), Sample("s", "t", (), "B"), rollout_of(fields=fields)) == 1.0
