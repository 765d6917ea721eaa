"""Output shapes: every shape's right form, the known traps, and any text at all."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.errors import ConfigError
from factory.rewards.formats import SHAPES, AnswerForm, Shape, parse

GOOD = {
    "think_answer": ("<think>a\nb</think>\n <answer> B </answer>\n", "B"),
    "answer": ("<answer>B</answer>", "B"),
    "boxed": ("so it is \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
    "huatuo": ("## Thinking\n\nlong\n\n## Final Response\n\nIt is flu.", "It is flu."),
    "think_line": ("<think>\nx\n</think>\nAnswer: melanoma\n", "melanoma"),
    "ether0": ("<|think_start|>x<|think_end|><|answer_start|>CCO<|answer_end|>", "CCO"),
    "json": ('two rings {a} so\n```json\n{"count": 2, "note": "a } b"}\n```', '{"count": 2, "note": "a } b"}'),
    "smolinstruct": ("The product is <SMILES> CC(=O)O.C </SMILES>.", "CC(=O)O.C"),
    "timemaster": ("<think>t</think><class>Laptop</class><extension>unplug it</extension>", "Laptop"),
    "safework": ("<think>risky</think>\nI cannot help with that.", "I cannot help with that."),
    "whole": (" Laptop\n", "Laptop"),
}


def test_every_shape_has_a_good_example():
    assert set(GOOD) == set(SHAPES)


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_good_form_is_well_formed_and_gives_its_answer(shape):
    text, answer = GOOD[shape]
    parsed = parse(text, shape)
    assert (parsed.well_formed, parsed.answer, parsed.reason) == (True, answer, "well-formed")


@pytest.mark.parametrize(
    ("shape", "text", "answer", "reason"),
    [
        # Vectors of guides/domains.md 12, pathology.
        ("think_answer", "<answer> b. adenocarcinoma </answer>", "b. adenocarcinoma", "no <think>"),
        ("think_answer", "<think>a</think><answer>A</answer><answer>B</answer>", None, "2 answer blocks"),
        ("think_answer", "B", None, "no <think>"),
        # Traps of guides/domains.md 10: tags inside the reasoning, nesting, text around, unfinished blocks.
        ("think_answer", "<think>x <answer>A</answer></think><answer>B</answer>", "B", "inside the reasoning"),
        ("think_answer", "<think>x <answer>A</answer>", None, "never closed"),
        ("think_answer", "<think>x</think><answer>B", None, "never closed|no <answer>"),
        ("think_answer", "<think>x</think><answer>A<answer>B</answer></answer>", None, "2 answer blocks"),
        ("think_answer", "<think>x</think>so <answer>B</answer>", "B", "outside"),
        ("think_answer", "<think>x</think><answer>B</answer> done", "B", "outside"),
        ("think_answer", "hm <think>x</think><answer>B</answer>", "B", "text before"),
        ("think_answer", "x</think><answer>B</answer>", "B", "without <think>"),
        ("think_answer", "<think>a</think><think>b</think><answer>B</answer>", "B", "once each"),
        ("think_answer", "<think> </think><answer>B</answer>", "B", "reasoning is empty"),
        ("think_answer", "<think>a</think><answer> </answer>", None, "answer is empty"),
        ("think_answer", "<think>a</think><Answer>B</Answer>", "B", "must be written"),
        ("think_answer", "<answer>B</answer><think>a</think>", None, "text before"),
        ("boxed", "\\boxed{1} then \\boxed{\\text{B}}", "B", "2 "),
        ("boxed", "<think>\\boxed{A}</think> none", None, "no "),
        ("boxed", "\\boxed{a", None, "no "),
        ("huatuo", "## Thinking\nx\n## Final Response\ny\n## Final Response\nz", "z", "once each"),
        ("huatuo", "### Thinking\nx\n### Final Response\ny", "### Thinking\nx\n### Final Response\ny", "no ## Thinking"),
        ("think_line", "<think>x</think>Answer: A\nAnswer: B", "B", "2 'Answer:'"),
        ("think_line", "<think>Answer: A</think> nothing", None, "no 'Answer:'"),
        ("ether0", GOOD["ether0"][0] + " more", "CCO", "outside"),
        ("json", '{"count": 1} and {"count": 2}', '{"count": 2}', "well-formed"),
        ("json", '{"count": 1, "count": 2}', None, "twice"),
        ("json", '{"count": NaN}', None, "not JSON"),
        ("smolinstruct", "<SMILES>C</SMILES> or <SMILES>CC</SMILES>", None, "2 answer blocks"),
        ("timemaster", "<think><class>A</class></think><class>B</class><extension>e</extension>", "B", "inside"),
        ("timemaster", "<think>t</think><class>B</class>", "B", "followed by <extension>"),
        ("safework", "<think>x</think> \n", None, "nothing follows"),
    ],
)
def test_answer_and_reason_of_bad_form(shape, text, answer, reason):
    import re

    parsed = parse(text, shape)
    assert parsed.answer == answer
    assert re.search(reason, parsed.reason), parsed.reason
    assert parsed.well_formed == (reason == "well-formed")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("B", "B"),
        ("I think the answer is (B) because of the nuclei", "(B)"),
        ("The answer is A? No.\nFinal answer: C", "C"),
        ("<answer>B", "B"),
        ("so \\boxed{D}", "D"),
        ("<think>the answer is A", None),
        ("<think>the answer is A</think>", None),
        ("<answer>A</answer><answer>B</answer>", None),
        ("", None),
    ],
)
def test_lenient_mode_reads_bare_answers_outside_the_reasoning(text, answer):
    assert parse(text, "think_answer", lenient=True).answer == answer
    assert not parse(text, "think_answer", lenient=True).well_formed


def test_extra_blocks_are_kept():
    assert parse(GOOD["timemaster"][0], "timemaster").extras == {"<extension>": "unplug it"}


def test_a_callers_own_shape():
    shape = Shape("mine", AnswerForm.tags, thinking=None, answers=(("[[", "]]"),))
    assert parse("[[42]]", shape).answer == "42"
    assert parse("[[42]]", shape).well_formed


def test_unknown_shape_names_the_near_miss():
    with pytest.raises(ConfigError, match="Did you mean 'timemaster'"):
        parse("x", "timemastr")


_PIECES = st.sampled_from(
    ["<think>", "</think>", "<answer>", "</answer>", "<Answer>", "\\boxed{", "{", "}", '"', "\\", "\x00", "\ud800", "Answer:",
     "\n", "## Thinking", "## Final Response", "<SMILES>", "</SMILES>", "<|answer_start|>", "<|think_end|>", " ", "B", "ſ",
     "<class>"]
)  # fmt: skip


@given(text=st.lists(_PIECES | st.text(max_size=5), max_size=40).map("".join), shape=st.sampled_from(sorted(SHAPES)))
@settings(max_examples=400, deadline=None)
def test_no_text_raises_and_a_well_formed_one_has_an_answer(text, shape):
    strict, lenient = parse(text, shape), parse(text, shape, lenient=True)
    assert strict.well_formed == lenient.well_formed
    if strict.well_formed:
        assert strict.answer
    if strict.answer is not None:
        assert strict.answer == strict.answer.strip() != ""
        assert lenient.answer == strict.answer


@given(thinking=st.text(alphabet=st.characters(blacklist_characters="<>"), min_size=1), answer=st.text(min_size=1))
@settings(max_examples=200, deadline=None)
def test_what_is_written_in_the_tags_is_what_is_read(thinking, answer):
    if "<" in answer or not thinking.strip() or not answer.strip():
        return
    parsed = parse(f"<think>{thinking}</think><answer>{answer}</answer>")
    assert (parsed.thinking, parsed.answer, parsed.well_formed) == (thinking, answer.strip(), True)


@pytest.mark.parametrize("shape", sorted(SHAPES))
@pytest.mark.parametrize(
    "unit",
    ["<think>", "</think>", "<answer>", "\\boxed{", "{", "}", '"', '\\"', "\\", " ", "\n", "answer is ", "Answer:",
     "<SMILES>x</SMILES>", "## Thinking\n", '{"a":', "a", "*", "\x00", "<|answer_start|>", "\\text{"],
)  # fmt: skip
def test_time_is_linear_on_hostile_text(shape, unit):
    text = (unit * 100_000)[:100_000]
    for candidate in (text, f"<think>a</think>{text}", text + "}"):
        started = time.process_time()
        parse(candidate, shape, lenient=True)
        # Linear takes some 50 ms here; a quadratic scan of 100,000 characters takes many seconds.
        assert time.process_time() - started < 2.0
