"""Options as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.data.rows import RowFault
from factory.packs.choices import LETTERS, parse_options, render_options, resolve_answer, split_options

PLAIN = st.text(st.characters(categories=["Ll", "Nd"], include_characters=" -"), min_size=1).map(str.strip).filter(bool)
OPTIONS = st.lists(PLAIN, min_size=2, max_size=10, unique_by=lambda text: " ".join(text.split()).casefold())
FORMS = ("{}. ", "{}) ", "({}) ", "{}: ")


@given(question=PLAIN, options=OPTIONS, form=st.sampled_from(FORMS), joint=st.sampled_from(["\n", " /n ", " "]))
def test_written_options_are_split_again(question, options, form, joint):
    text = joint.join([question, *(form.format(letter) + option for letter, option in zip(LETTERS, options, strict=False))])
    assert split_options(text) == (question, tuple(options))


@given(options=OPTIONS, index=st.integers(0, 9), form=st.sampled_from(["{0}", "{0}.", "({0})", "{0}) {1}", "({0}) {1}", "{1}"]))
def test_every_form_of_the_right_answer_gives_its_letter(options, index, form):
    letter, text = LETTERS[index % len(options)], options[index % len(options)]
    others = {option.strip().casefold() for option in options}
    if (form == "{1}" and text.upper() in LETTERS) or letter.casefold() in others:
        return  # a text that is one letter is ambiguous: tested below
    assert resolve_answer(form.format(letter, text), options) == letter


@pytest.mark.parametrize(
    ("text", "question", "options"),
    [
        ("Which? A.adenoma\nB.carcinoma", "Which? A.adenoma\nB.carcinoma", ()),
        ("Which?\nA.adenoma\nB.carcinoma", "Which?", ("adenoma", "carcinoma")),
        ("Fig. A. shows a gland. Which? A. benign B. malignant", "Fig. A. shows a gland. Which?", ("benign", "malignant")),
        ("Type A. or hepatitis?", "Type A. or hepatitis?", ()),
        ("Which? A. hepatitis C. virus B. none", "Which?", ("hepatitis C. virus", "none")),
        ("", "", ()),
    ],
)
def test_markers_count_only_in_order(text, question, options):
    assert split_options(text) == (question, options)


@pytest.mark.parametrize(
    "cell",
    [["fat", "nerve"], ["A) fat", "B) nerve"], {"A": "fat", "B": "nerve"}, "A. fat B. nerve", "['fat', 'nerve']",
     '["fat", "nerve"]', "fat\nnerve", "fat /n nerve"],
)  # fmt: skip
def test_options_cells_of_all_forms_are_read(cell):
    assert parse_options(cell) == ("fat", "nerve")


def test_letters_that_are_part_of_the_texts_stay():
    assert parse_options(["B. subtilis", "A. niger"]) == ("B. subtilis", "A. niger")


@pytest.mark.parametrize(
    ("answer", "options", "says"),
    [
        ("C", ("fat", "nerve"), "'C' is not among the options"),
        ("A) nerve", ("fat", "nerve"), "contradicts itself"),
        ("A) bone", ("fat", "nerve"), "not among the options"),
        ("B", ("B", "A"), "is ambiguous: it is a letter and also the text of option A"),
        ("", ("fat", "nerve"), "not among"),
    ],
)
def test_an_answer_that_fits_no_option_is_a_fault(answer, options, says):
    with pytest.raises(RowFault, match=says):
        resolve_answer(answer, options)


def test_options_are_written_one_a_line():
    assert render_options(("fat", "nerve")) == "A. fat\nB. nerve"
