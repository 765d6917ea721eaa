"""What a completion answers, and which tokens write the answer, also where tokens cut marks and characters."""

import pytest
import scored
from hypothesis import given
from hypothesis import strategies as st

from factory.stages.rl.pieces.answer_text import answer_span, canonical_answer, check_shape, tokens_before, tokens_over

SKY = "\u00e9\U0001f52c".encode()
"""Two characters of 2 and 4 bytes."""


def said(pieces):
    """A decoder whose token i writes pieces[i], and the ids that write them all."""
    services = scored.Vocabulary(pieces)
    return services.decode, list(range(len(pieces)))


def words(pieces, opens="<answer>", closes="</answer>"):
    decode, ids = said(pieces)
    span = answer_span(decode(ids), opens, closes)
    return None if span is None else [pieces[t] for t in tokens_over(decode, ids, *span)]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["<think>", "B", "</think>", "<answer>", "A", " ", "or B", "</answer>"], ["A", " ", "or B"]),
        # The mark ends and the answer begins in one token, and the other way round.
        (["<ans", "wer>A", " lot", " of it</", "answer>"], ["wer>A", " lot", " of it</"]),
        (["<answer", ">", "A</answer>"], ["A</answer>"]),
        # White space around the answer is not part of it, whoever writes it.
        (["<answer>\n", " ", "A", "\n</answer>", "tail"], ["A"]),
        # Characters of several tokens: every token that writes a byte of them belongs to the answer.
        (["<answer>", SKY[:1], SKY[1:3], SKY[3:5], SKY[5:], "</answer>"], [SKY[:1], SKY[1:3], SKY[3:5], SKY[5:]]),
        (["\u00e9<answer>", "A", "</answer>"], ["A"]),
        # Not closed: cut by the length limit. Tokens without a text (a special token) do not hurt.
        (["<answer>", "A", " B"], ["A", " B"]),
        (["", "<answer>", "", "A", "", "</answer>", ""], ["A"]),
        (["<answer>", " ", "</answer>"], None),
        (["A"], None),
    ],
)  # fmt: skip
def test_the_answers_tokens(pieces, expected):
    assert words(pieces) == expected


def test_empty_marks_take_the_whole_completion():
    assert words([" red", " ", "or", " blue", "\n"], opens="", closes="") == [" red", " ", "or", " blue"]


@given(st.text("ab<>/\u00e9\U0001f52c \n", max_size=12), st.text("xy\u00e9\U0001f52c", min_size=1, max_size=8), st.data())
def test_any_cutting_into_tokens_finds_tokens_that_hold_the_answer_and_no_others(before, answer, data):
    raw = f"{before}<answer>{answer}</answer>".encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=len(raw) - 1)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    decode, ids = said(pieces)
    found = tokens_over(decode, ids, *answer_span(decode(ids), "<answer>", "</answer>"))
    # By bytes, which know no tokens: a token belongs to the answer when it writes one of the answer's bytes.
    start = len(f"{before}<answer>".encode())
    end = start + len(answer.encode())
    spans = [(a, b) for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert list(found) == [t for t, (a, b) in enumerate(spans) if a < end and b > start]


def test_tokens_before_a_character():
    decode, ids = said(["ab", "c", "def"])
    assert [tokens_before(decode, ids, n) for n in (0, 1, 2, 3, 4, 6)] == [0, 1, 1, 2, 3, 3]


@pytest.mark.parametrize(
    ("text", "meta", "expected"),
    [
        ("<think>4</think><answer>4.0</answer>", {}, "4.0"),
        ("<answer> 1,000 </answer>", {}, "1000.0"),
        ("<answer>Red.</answer>", {}, "red"),
        ("<answer>Yes, there is.</answer>", {}, "yes"),
        ("<answer>There is no nest</answer>", {}, "there is no nest"),
        ("<answer>B) blue</answer>", {"options": ["red", "blue"]}, "B"),
        ("<answer>blue</answer>", {"options": ["red", "blue"]}, "B"),
        ("<answer>red or blue</answer>", {"options": ["red", "blue"]}, None),
        ("<answer>A</answer><answer>B</answer>", {}, None),
        ("<think>unfinished", {}, None),
        ("the sky is red", {}, "the sky is red"),
    ],
)  # fmt: skip
def test_answers_in_a_form_that_can_be_compared(text, meta, expected):
    assert canonical_answer(scored.rollout(text=text), scored.sample(**meta), "think_answer") == expected


def test_the_formats_own_field_goes_first():
    made = scored.rollout(text="<answer>A</answer>")
    made.fields = {"answer": "C"}
    assert canonical_answer(made, scored.sample(), "think_answer") == "c"


def test_an_unknown_shape_is_refused_with_a_hint():
    with pytest.raises(ValueError, match="boxed"):
        check_shape("boxd")
