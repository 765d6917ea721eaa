"""Likeness of texts, wording, languages and the fifteen constraints."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.contracts import Message, Sample, Status
from factory.errors import ConfigError
from factory.rewards.constraints import CHECKS, is_kept
from factory.rewards.instructions import FollowsInstructions, constraints_of, response_text
from factory.rewards.languages import LANGUAGES, InLanguage, detect
from factory.rewards.overlaps import TextOverlap, anls, edit_distance, edit_similarity, rouge_l, rouge_n, word_error_rate
from factory.rewards.wording import LengthWithin, NoRepetition, repetition_penalty


def tagged(answer: str) -> str:
    """An answer in the commonest shape."""
    return f"<think>a</think><answer>{answer}</answer>"


def sample(reference=None, **meta) -> Sample:
    return Sample("s", "t", (Message("user", "Wie viele sind es und warum ist das so?"),), reference, meta=meta)


def slow_distance(a, b):
    """The textbook table, row by row."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


@given(st.text("abcd", max_size=40), st.text("abcd", max_size=90))
@settings(max_examples=300, deadline=None)
def test_edit_distance_equals_the_textbook(a, b):
    assert edit_distance(a, b) == slow_distance(a, b) == edit_distance(b, a)


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
@settings(max_examples=200, deadline=None)
def test_rouge_l_equals_the_textbook(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    expected = 2 * table[-1][-1] / (len(a) + len(b)) if a and b else float(not a and not b)
    assert rouge_l(a, b) == pytest.approx(expected)


def test_overlaps_by_hand():
    # kitten -> sitting: 3 edits of 7 letters. WER: one of three words. ANLS cuts below one half: "abcd"/"axyz" is 1/4.
    assert edit_similarity("kitten", "sitting") == pytest.approx(1 - 3 / 7)
    assert word_error_rate("the red fox", "the blue fox") == pytest.approx(1 / 3)
    assert (anls("abcd", "axyz"), anls("ABCD", "abcx")) == (0.0, 0.75)
    assert rouge_n(["a", "b", "c"], ["a", "b", "d"], 2) == pytest.approx(0.5)
    wer = TextOverlap(rule="wer")
    assert wer(tagged("the red fox"), sample("the blue fox")).score == pytest.approx(2 / 3)
    assert wer(tagged("x y z p q r s"), sample("a b")).score == 0.0
    assert TextOverlap(is_binary=True)(tagged("abcx"), sample("abcd")).score == 1.0


def test_a_flood_of_text_is_not_like_the_reference():
    for rule in ("edit", "anls", "wer", "rouge"):
        assert TextOverlap(rule=rule)(tagged("word " * 3000 + "gold"), sample("gold")).score == 0.0


def test_repetition_vector_of_b15():
    # "a a a a a a": 4 trigrams, 1 distinct: -0.5 * (1 - 1/4) = -0.375.
    assert repetition_penalty("a a a a a a", 3, -0.5) == pytest.approx(-0.375)
    assert NoRepetition()("a a a a a a", sample()).score == pytest.approx(0.25)
    assert NoRepetition()("好好好好好好", sample()).score == pytest.approx(0.25)
    assert NoRepetition(part="thinking")("no thinking", sample()).status is Status.unparsable


def test_length_falls_outside_its_window():
    # 6 of at most 4 words: 2 - 6/4 = 0.5; 1 of at least 2: 1/2.
    verifier = LengthWithin(fewest=2, most=4)
    assert [verifier(" ".join("abcdef"[:n]), sample()).score for n in (1, 2, 4, 6)] == [0.5, 1.0, 1.0, 0.5]
    assert LengthWithin(fewest=2, most=4, is_binary=True)("a", sample()).score == 0.0
    assert LengthWithin(fewest=100, most=400, unit="characters")("x" * 60, sample()).score == pytest.approx(0.6)
    with pytest.raises(ConfigError, match="fewest <= most"):
        LengthWithin(fewest=5, most=2)


TEXTS = {
    "en": "The answer is 5 because the sum of the numbers is odd.", "de": "Die Antwort ist 5, weil die Summe nicht gerade ist.",
    "fr": "La réponse est 5 parce que la somme est impaire et nous avons les nombres.",
    "es": "La respuesta es 5 porque la suma de los números es impar.", "ja": "答えは5です。奇数です。", "zh": "答案是五，因为它是奇数。",
    "ko": "답은 5입니다.", "ru": "Ответ 5, потому что сумма не чётная и мы это знаем.", "uk": "Відповідь 5, тому що сума не є парною",
    "ar": "الجواب هو 5 لأن المجموع في هذا", "hi": "उत्तर 5 है क्योंकि यह विषम है और", "mr": "उत्तर ५ आहे आणि हे विषम आहे",
    "it": "La risposta è 5 perché la somma non è pari, e quindi il numero è dispari", "ur": "يہ جواب ہے کہ اس کی کے میں",
    "pt": "A resposta é 5 porque a soma não é par e os números são", "vi": "Câu trả lời là 5 vì tổng của các số không phải",
    "id": "jawabannya adalah 5 karena jumlah dari bilangan ini tidak genap yang", "he": "התשובה היא חמש", "th": "คำตอบคือห้า", "el": "η απάντηση",
}  # fmt: skip


@pytest.mark.parametrize("code", TEXTS)
def test_languages_are_told_apart(code):
    assert code in LANGUAGES and detect(TEXTS[code]) == code
    assert InLanguage()(TEXTS[code], sample(language=code)).score == 1.0
    assert InLanguage()(TEXTS[code], sample(language="nl")).status is Status.wrong


@pytest.mark.parametrize("text", ["", "5", "xyzzy", "$\\frac{1}{2}$", "🙂🙂", "A", "hello"])
def test_what_cannot_be_told_is_not_right(text):
    assert detect(text) is None
    assert InLanguage()(text, sample(language="en")).status is Status.unparsable


def test_the_prompts_own_language_is_the_default_and_reasoning_counts_when_asked():
    german, english = TEXTS["de"], TEXTS["en"]
    assert InLanguage()(german, sample()).score == 1.0
    mixed = f"<think>{english}</think><answer>{german} {german} {german}</answer>"
    assert InLanguage()(mixed, sample()).score == 1.0
    assert InLanguage(part="all")(mixed, sample()).status is Status.wrong
    with pytest.raises(ConfigError, match="ISO 639-1"):
        InLanguage(language="english")


KEPT = {
    "keywords:existence": ({"keywords": ["find", "must"]}, "We must find it.", "We must findings."),
    "keywords:frequency": ({"keyword": "a.b", "frequency": 2, "relation": "at least"}, "a.b and A.B", "a.b and axb"),
    "keywords:forbidden_words": ({"forbidden_words": ["cat"]}, "concatenate", "the Cat sat"),
    "language:response_language": ({"language": "de"}, TEXTS["de"], "5"),
    "length_constraints:number_words": ({"num_words": 3, "relation": "less than"}, "two words", "now three words"),
    "detectable_format:number_bullet_lists": ({"num_bullets": 2}, "* a\n- b", "* a\n* b\n* c"),
    "detectable_format:number_highlighted_sections": ({"num_highlights": 2}, "*a* and **b**", "*a* and ** **"),
    "detectable_format:multiple_sections": (
        {"section_spliter": "SECTION", "num_sections": 2},
        "SECTION 1 a SECTION 2 b",
        "SECTION 1 only",
    ),
    "combination:repeat_prompt": ({"prompt_to_repeat": "Add 2 and 2."}, "Add 2  and 2.\nIt is 4", "It is 4. Add 2 and 2."),
    "startend:end_checker": ({"end_phrase": "That is all."}, 'So. "That is all."', "That is all. Or not"),
    "startend:quotation": ({}, '"quoted"', '"half'),
    "change_case:capital_word_frequency": ({"capital_frequency": 2, "capital_relation": "at least"}, "GO NOW please", "GO now"),
    "change_case:english_capital": ({}, "ALL OF IT", "ALL of it"),
    "change_case:english_lowercase": ({}, "all of it", "all of It"),
    "punctuation:no_comma": ({}, "no comma here", "one, two"),
}


@pytest.mark.parametrize("name", CHECKS)
def test_each_of_the_fifteen_tells_kept_from_broken(name):
    args, kept, broken = KEPT[name]
    assert is_kept(name, kept, args) and not is_kept(name, broken, args)
    assert not is_kept(name, " \n", args)


def test_there_are_fifteen_and_numbers_are_exact():
    assert len(CHECKS) == 15 and set(KEPT) == set(CHECKS)
    # guides/domains.md 12, safety: "at least 2" with 2 hits -> kept; 3 bullets wanted, 4 found -> not kept.
    assert is_kept("keywords:frequency", "so so", {"keyword": "so", "frequency": 2, "relation": "at least"})
    assert not is_kept("detectable_format:number_bullet_lists", "- a\n- b\n- c\n- d", {"num_bullets": 3})


@given(st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_constraints_judge_any_text(text):
    for name, (args, _, _) in KEPT.items():
        assert is_kept(name, text, args) in (True, False)


def test_hard_and_soft_accuracy():
    both = [{"name": "punctuation:no_comma", "args": {}}, {"name": "change_case:english_lowercase"}]
    text = "<think>Well, then</think><answer>Not lower case</answer>"
    assert FollowsInstructions()(text, sample(constraints=both)).score == 0.0
    soft = FollowsInstructions(rule="soft")(text, sample(constraints=both))
    assert (soft.score, soft.status) == (0.5, Status.wrong) and "missed 1:change_case" in soft.reason
    # guides/domains.md 12: blank after </think> keeps nothing.
    blank = FollowsInstructions()("<think>x</think>  ", sample(constraints=both))
    assert (blank.score, blank.status) == (0.0, Status.unparsable)


def test_the_text_judged_is_what_the_reader_sees():
    assert response_text("<think>a</think><answer>b</answer>") == "b"
    assert response_text("<think>a</think> b c") == "b c"
    assert response_text("plain") == "plain"
    assert response_text("<think>never closed") == ""


@pytest.mark.parametrize(
    "meta",
    [{}, {"constraints": []}, {"constraints": [{"name": "no:such"}]}, {"constraints": ["x"]}, {"constraint_name": ["a"], "constraint_args": []},
     {"constraints": [{"name": "keywords:existence", "args": {}}]}, {"constraints": [{"name": "length_constraints:number_words",
                                                                                       "args": {"num_words": 3, "relation": "about"}}]}],
)  # fmt: skip
def test_faulty_constraints_are_the_samples_fault(meta):
    with pytest.raises(ValueError):
        FollowsInstructions()("some text", sample(**meta))


def test_mathifs_own_rows_are_understood():
    row = json.loads(
        '{"constraint_name": ["keywords:existence"], "constraint_args": [{"keywords": ["find", "must"], "relation": null}]}'
    )
    assert constraints_of(sample(**row)) == [("keywords:existence", {"keywords": ["find", "must"], "relation": None})]
    assert FollowsInstructions()("<think>no</think>You must find it", sample(**row)).score == 1.0
