"""Option letters, closed answers and boxes: all spellings, and the hedges that must not win."""

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.errors import ConfigError
from factory.rewards.answers import (
    Synonyms,
    accepted,
    gold_letter,
    normalise,
    options_of,
    read_choice,
    read_choice_anywhere,
    read_yes_no,
    split_options,
)
from factory.rewards.length import distinct_share, window_score
from factory.rewards.regions import check_box, iou, read_box

OPTIONS = {"A": "normal gland", "B": "adenocarcinoma", "C": "lymphoid tissue", "D": "necrosis"}


@pytest.mark.parametrize(
    "text",
    ["B", " B\n", "(B)", "[B]", "B.", "B)", "b", "b)", "(b).", "Ｂ", "Option B", "option: B", "The correct answer is B.",
     "Answer: B", "**B**", "**B.** adenocarcinoma", "`B`", "B. adenocarcinoma", "b. Adenocarcinoma.", "B: adenocarcinoma",
     "B - adenocarcinoma", "B adenocarcinoma", "(B) adenocarcinoma", "Adenocarcinoma", "adenocarcinoma.", "\\text{B}",
     "The answer is option (B)",
     "B. adenocarcinoma of the breast"],
)  # fmt: skip
def test_every_spelling_of_b(text):
    assert read_choice(text, OPTIONS).letter == "B"


@pytest.mark.parametrize(
    "text",
    ["", "   ", "A, B", "A or B", "AB", "A B", "A/B", "(A)(B)", "B. or C.", "b) or c)", "A. B. C. D.", "E", "(E) other", "maybe",
     "B. adenocarcinoma or necrosis", "B. necrosis", "A tumour of the gland", "adenocarcinoma, necrosis, lymphoid tissue",
     "not adenocarcinoma", "carcinoma", "\x00", "?"],
)  # fmt: skip
def test_hedges_and_noise_have_no_letter(text):
    choice = read_choice(text, OPTIONS)
    assert choice.letter is None
    assert choice.reason


def test_option_text_that_looks_like_a_letter_belongs_to_its_option():
    options = {"A": "C. difficile", "B": "T. gondii", "C": "E. coli"}
    assert read_choice("C. difficile", options).letter == "A"
    assert read_choice("C. E. coli", options).letter == "C"
    assert read_choice("C", options).letter == "C"


def test_blood_groups_are_read_as_letters():
    # The letter wins over an option whose text is another letter: a lone letter is how options are named.
    assert read_choice("A", {"A": "B", "B": "A"}).letter == "A"


def test_a_longer_option_may_contain_a_shorter_one():
    options = {"A": "carcinoma", "B": "ductal carcinoma in situ"}
    assert read_choice("B. ductal carcinoma in situ, high grade", options).letter == "B"


def test_the_same_text_under_two_letters_is_ambiguous():
    assert "several letters" in read_choice("yes", {"A": "yes", "B": "Yes."}).reason


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B\nbecause the nuclei are large", "B"),
        ("large nuclei\n(B)", "B"),
        ("B\nso\nB", "B"),
        ("A\nbut then\nB", None),
        ("Which?\nC. lymphoid tissue\nD. necrosis", None),
        ("so\nB\nor not", None),
        ("Which? A. normal gland B. adenocarcinoma\nC. lymphoid tissue\nD. necrosis", None),
        ("Which? A. normal gland B. adenocarcinoma C. lymphoid tissue\nD. necrosis", None),
        ("A normal gland\nB adenocarcinoma\nC lymphoid tissue\nD necrosis", None),
        ("Which?\n(A) normal gland\n(B) adenocarcinoma\nSo it is\nB", "B"),
        ("not A. normal gland and not D. necrosis\nB. adenocarcinoma", None),
        ("neither A. normal gland nor D. necrosis\nB", "B"),
    ],
)
def test_lenient_reading_uses_first_or_last_line_unless_another_disagrees(text, letter):
    assert read_choice_anywhere(text, OPTIONS).letter == letter


@pytest.mark.parametrize(
    "text",
    ["Which? A. normal gland B. adenocarcinoma C. lymphoid tissue D. necrosis",
     "Which?\nA) normal gland\nB) adenocarcinoma\nC) lymphoid tissue\nD) necrosis\n",
     "Which? /n A. normal gland /n B. adenocarcinoma /n C. lymphoid tissue /n D. necrosis",
     "Which? (A) normal gland (B) adenocarcinoma (C) lymphoid tissue (D) necrosis",
     "Which?\n(A) normal\ngland\n(B) adenocarcinoma\n(C) lymphoid tissue\n(D) necrosis"],
)  # fmt: skip
def test_options_are_split_from_the_question(text):
    question, options = split_options(text)
    assert question == "Which?"
    assert [" ".join(option.split()) for option in options] == list(OPTIONS.values())


def test_letters_out_of_turn_are_text():
    stem, options = split_options("Hepatitis C. Which stage? A. early B. late")
    assert (stem, options) == ("Hepatitis C. Which stage?", ("early", "late"))
    assert split_options("no options here") == ("no options here", ())


@given(st.dictionaries(st.sampled_from("ABCD"), st.text(max_size=12), min_size=2), st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_reading_a_choice_never_raises_and_only_names_an_option(options, text):
    assert read_choice(text, options).letter in (*options, None)
    assert read_choice_anywhere(text, options).letter in (*options, None)
    split_options(text)


@pytest.mark.parametrize("unit", ["A", "A ", "the answer ", "(", "*", "_", "A.", "/n ", "\n", "A. x\n", "answer is: ", "B. a "])
def test_reading_time_is_linear(unit):
    text = (unit * 100_000)[:100_000]
    started = time.process_time()
    read_choice_anywhere(text, OPTIONS)
    split_options(text)
    read_yes_no(text)
    assert time.process_time() - started < 3.0


def test_gold_is_a_letter_or_an_option_text():
    assert gold_letter("b", OPTIONS) == gold_letter("Adenocarcinoma", OPTIONS) == "B"
    for faulty in ("E", "", None, 1, "gland"):
        with pytest.raises(ValueError, match="reference"):
            gold_letter(faulty, OPTIONS)


def test_options_come_as_a_list_or_a_mapping():
    assert options_of(["x", "y"]) == options_of({"a": "x", "B": "y"}) == {"A": "x", "B": "y"}
    for faulty in ("AB", None, [], ["x"], {"A": "x", "AB": "y"}, ["x"] * 27):
        with pytest.raises(ValueError):
            options_of(faulty)


def test_synonyms_are_equality_not_substring():
    table = Synonyms({"H&E": ["haematoxylin and eosin", "he stain"], "IHC": ["immunohistochemistry"]})
    assert table.canonical("Haematoxylin  and eosin.") == table.canonical("h&e")
    assert table.canonical("IHC or H&E") not in (table.canonical("IHC"), table.canonical("H&E"))


def test_a_synonym_of_two_answers_is_refused():
    with pytest.raises(ConfigError, match="'he' stands for both"):
        Synonyms({"H&E": ["he"], "helium": ["he"]})
    with pytest.raises(ConfigError, match="must be a list"):
        Synonyms({"H&E": "he"})


def test_accepted_refuses_an_empty_reference():
    assert accepted("x") == ["x"]
    assert accepted(["x", 2]) == ["x", "2"]
    for faulty in ("", [], None, True, [" "], {"a": 1}):
        with pytest.raises(ValueError, match="reference"):
            accepted(faulty)


@given(st.text())
def test_normalise_is_idempotent_on_plain_words(text):
    once = normalise(" ".join(word for word in text.split() if word.isascii() and word.isalnum()))
    assert normalise(once) == once


@pytest.mark.parametrize(
    ("text", "got"),
    [("Yes, there is.", "yes"), ("no", "no"), ("yes and no", None), ("certainly", None), ("yesterday", None), ("", None)],
)
def test_yes_or_no_needs_exactly_one_of_them(text, got):
    assert read_yes_no(text) == got


def test_iou_by_hand():
    # 10x10 boxes shifted by 5 in x: intersection 50, union 200 - 50 = 150.
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(50 / 150)
    assert iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1.0
    assert iou((0, 0, 1, 1), (1, 0, 2, 1)) == 0.0
    assert iou((0, 0, 1e308, 1e308), (0, 0, 1e308, 1e308)) == pytest.approx(1.0)


_BOXES = st.tuples(*[st.floats(-1e6, 1e6)] * 4).filter(lambda b: b[0] < b[2] and b[1] < b[3])


@given(_BOXES, _BOXES)
def test_iou_is_symmetric_and_in_range(a, b):
    assert 0.0 <= iou(a, b) <= 1.0
    assert math.isclose(iou(a, b), iou(b, a), rel_tol=1e-9)


@pytest.mark.parametrize("text", ["[1, 2, 3, 4]", "(1,2,3,4)", " 1, 2, 3.0, 4e0 "])
def test_a_box_is_read(text):
    assert read_box(text) == (1, 2, 3, 4)


@pytest.mark.parametrize("text", ["", "[1,2,3]", "[1,2,3,4,5]", "[3,2,1,4]", "[1,2,1,4]", "[1,2,3,1e999]", "[nan,0,1,1]",
                                  "[1,2,3,4] or [5,6,7,8]", "9" * 100_000])  # fmt: skip
def test_no_box_or_an_invalid_one_is_refused(text):
    with pytest.raises(ValueError, match="box"):
        read_box(text)


def test_check_box_refuses_other_types():
    for faulty in (None, "1234", [0, 0, 1], [0, 0, True, 1], [0, 0, math.nan, 1]):
        with pytest.raises(ValueError, match="box"):
            check_box(faulty)


def test_window_score_by_hand():
    # Window 10-20: 5 words are half of 10; 25 words are 2 - 25/20 = 0.75; twice 20 is 0.
    assert [window_score(n, 10, 20) for n in (0, 5, 10, 20, 25, 40, 99)] == [0, 0.5, 1, 1, 0.75, 0, 0]


def test_distinct_share_of_a_loop_is_low():
    assert distinct_share(list("abcdef")) == 1.0
    assert distinct_share(["pad"] * 103) == 1 / 100  # 100 four-grams, all equal
    assert distinct_share([]) == 1.0
