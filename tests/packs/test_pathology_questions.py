"""Questions, worked answers, options and the decision table of the generator."""

import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.contracts import IMAGE, DataRequest
from factory.domains.pathology.decision import HE_AXES, HE_TABLE, IHC_TABLE, candidates, diagnose
from factory.domains.pathology.findings import EXTRA, VALUES
from factory.domains.pathology.generator import SIZES
from factory.domains.pathology.options import TASKS
from factory.domains.pathology.questions import pose, shown
from factory.domains.pathology.reasoning import SENTENCES, respond
from factory.errors import ConfigError
from factory.plugins import load_pack

PACK = load_pack("pathology")
STYLES = st.sampled_from(("terse", "full"))


def draw(role, split="train", seed=0, limit=60, **options):
    return list(getattr(PACK, role)(split, seed, DataRequest(limit=limit, options=options)))


def test_the_table_is_complete_and_its_names_are_distinct():
    cells = {(gland, size, density) for gland in VALUES["gland"] for size in VALUES["size"] for density in VALUES["density"]}
    assert set(HE_TABLE) == cells and {(value,) for value in VALUES["dab"]} == set(IHC_TABLE)
    names = [*HE_TABLE.values(), *IHC_TABLE.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("cell", HE_TABLE)
def test_distractors_of_an_he_field_differ_in_exactly_one_finding(cell):
    findings = dict(zip(HE_AXES, cell, strict=True)) | {"stain": "he"}
    right, *others = candidates(findings)
    assert right == diagnose(findings) == HE_TABLE[cell]
    by_name = {name: other for other, name in HE_TABLE.items()}
    assert len(others) == 3
    assert sorted(sum(a != b for a, b in zip(cell, by_name[name], strict=True)) for name in others) == [1, 1, 1]


@pytest.mark.parametrize("value", VALUES["dab"])
def test_an_ihc_field_offers_all_four_scores(value):
    assert set(candidates({"stain": "ihc", "dab": value})) == set(IHC_TABLE.values())


@given(
    task=st.sampled_from(TASKS), seed=st.integers(0, 10**9), style=STYLES, thinking=st.sampled_from(("graded", "short", "off"))
)
@settings(max_examples=80, deadline=None)
def test_the_reference_follows_from_the_field(task, seed, style, thinking):
    field, question = pose(task, random.Random(seed), style, EXTRA)
    found = field.findings(EXTRA)
    if task == "region":
        assert tuple(question.reference) == field.nest
    elif question.options:
        texts = list(question.options.values())
        assert len(set(texts)) == len(texts) == (4 if task == "diagnosis" else len(VALUES[question.asked[0]]))
        if style == "terse":
            assert question.options[question.reference] == (diagnose(found) if task == "diagnosis" else found[question.asked[0]])
    elif style == "terse" and task == "finding":
        assert question.reference == found[question.asked[0]]
    elif task == "impression":
        assert question.reference == shown(diagnose(found), style)
    elif style == "terse":
        name, asked = re.fullmatch(r"is (\w+) (\w+) \?", question.text).groups()
        assert question.reference == ("yes" if found[name] == asked else "no")
    response = respond(question, field, style=style, thinking=thinking, extra=EXTRA)
    assert response.endswith(f"<answer>{question.answer}</answer>") and ("<think>" in response) == (thinking != "off")


def test_letters_and_words_are_balanced():
    samples = draw("samples", limit=1200, shares={"diagnosis": 1, "yes_no": 1})
    letters = Counter(sample.reference for sample in samples if sample.task == "diagnosis")
    # 600 diagnoses expected, 150 a letter; 107 is 4 standard deviations (sqrt(600 x .25 x .75) = 10.6) below
    assert min(letters[letter] for letter in "ABCD") > 107
    said = Counter(sample.reference for sample in samples if sample.task == "yes_no")
    assert 0.35 < said["yes"] / (said["yes"] + said["no"]) < 0.65


def test_harder_questions_get_longer_reasoning():
    for style in ("terse", "full"):
        words = {"easy": [], "medium": [], "hard": []}
        for lesson in draw("lessons", limit=200, style=style, shares={"finding": 1, "diagnosis": 1}):
            thinking = lesson.response.split("</think>")[0]
            words[lesson.sample.meta["difficulty"]].append(len(thinking.split()))
        means = {level: sum(values) / len(values) for level, values in words.items()}
        assert means["easy"] < means["medium"] < means["hard"]


def test_terse_completions_are_short():
    assert max(len(re.findall(r"\w+|[^\w\s]", lesson.response)) for lesson in draw("lessons", limit=200)) <= 36


def test_captions_hold_every_finding_in_random_order():
    texts = [document.text for document in draw("corpus", limit=200, region_captions=0.0, textbook=0.0)]
    assert all(text.startswith(f"{IMAGE}\n") for text in texts)
    firsts = Counter(text.split("\n")[1].split()[0] for text in texts)
    assert set(firsts) == {"stain", "size", "density", "gland", "dab"}


def test_options_change_what_is_drawn():
    assert {sample.task for sample in draw("samples", shares={"region": 2.0})} == {"region"}
    assert all(not document.media for document in draw("corpus", textbook=1.0))
    full = draw("samples", limit=40, style="full", system="draft")
    assert all(sample.messages[0].role == "system" and "five words" in sample.messages[0].content for sample in full)
    names = {name for sample in draw("samples", extra_findings=["mitosis", "necrosis"]) for name in sample.meta["findings"]}
    assert {"mitosis", "necrosis"} <= names and "shape" not in names
    off = draw("samples", limit=5, system="expert", thinking="off")
    assert all("<think>" not in sample.messages[0].content for sample in off)


@pytest.mark.parametrize(("options", "match"), [
    ({"shres": {}}, "Did you mean 'shares'"), ({"style": "terze"}, "Did you mean 'terse'"), ({"shares": {"findings": 1}}, "Did you mean 'finding'"),
    ({"shares": {"finding": -1}}, "finite number from 0"), ({"shares": {"finding": 0}}, "no task a share above 0"),
    ({"textbook": 1.5}, "from 0 to 1"), ({"textbook": True}, "want a number"), ({"extra_findings": "mitosis"}, "want a list"),
    ({"extra_findings": ["mitoses"]}, "Did you mean 'mitosis'"), ({"shares": 3}, "want a mapping"), ({"shares": {"region": float("nan")}}, "finite"),
])  # fmt: skip
def test_wrong_options_are_refused_with_a_remedy(options, match):
    with pytest.raises(ConfigError, match=match):
        draw("samples", limit=1, **options)


def test_an_unknown_split_is_refused():
    with pytest.raises(ConfigError, match="want one of train, validation, test"):
        draw("samples", split="dev", limit=1)


def test_without_a_limit_the_documented_number_comes():
    assert sum(1 for _ in PACK.lessons("validation", 0, DataRequest())) == SIZES["lessons"]


def test_every_finding_value_has_a_sentence():
    assert set(SENTENCES) == {(name, value) for name, values in VALUES.items() for value in values}


def test_roles_splits_and_seeds_never_share_a_tile():
    seen = {}
    for role in ("corpus", "lessons", "samples"):
        for split in ("train", "validation", "test"):
            for seed in (0, 1):
                for item in draw(role, split, seed, limit=25):
                    for media in getattr(item, "sample", item).media:
                        assert media.sha256() not in seen, (role, split, seed, seen[media.sha256()])
                        seen[media.sha256()] = (role, split, seed)
