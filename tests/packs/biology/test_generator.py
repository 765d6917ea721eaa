"""Generated data: right answers, splits by what is asked, balanced labels, options with hints."""

from collections import Counter

import pytest

from factory.contracts import DataRequest
from factory.domains.biology import generator, pathways
from factory.domains.biology.figures import OTHER, classification
from factory.domains.biology.options import TASKS, Options
from factory.domains.biology.pack import PACK
from factory.domains.biology.variants import effect
from factory.errors import ConfigError


def draw(role, split="train", seed=0, limit=300, **options):
    return list(getattr(PACK, role)(split, seed, DataRequest(limit=limit, options=options)))


@pytest.mark.parametrize("style", ["terse", "full"])
@pytest.mark.parametrize("system", ["none", "expert", "draft", "bioreason"])
@pytest.mark.parametrize("thinking", ["on", "off"])
def test_worked_responses_earn_everything(style, system, thinking):
    if (system, thinking) == ("bioreason", "off"):
        with pytest.raises(ConfigError, match="asks for reasoning"):
            draw("lessons", system=system, thinking=thinking)
        return
    verifiers = PACK.verifiers()
    seen = set()
    for lesson in draw("lessons", style=style, system=system, thinking=thinking, limit=120):
        seen.add(lesson.sample.task)
        for name in PACK.manifest.tasks[lesson.sample.task]["verifiers"]:
            verdict = verifiers[name](lesson.response, lesson.sample)
            assert verdict.score == 1.0, (lesson.sample.text(), lesson.response, name, verdict)
    assert seen == set(TASKS)


def test_no_question_is_in_two_splits():
    asked = {split: {s.messages[-1].content for s in draw("samples", split, limit=1500)} for split in generator.TENTHS}
    for a in asked:
        for b in asked:
            assert a == b or not asked[a] & asked[b]
    statements = "\n".join(document.text for document in draw("corpus", limit=800)).splitlines()
    held_out = asked["validation"] | asked["test"]
    assert not held_out & {line.partition(" ; ")[0] for line in statements}
    assert not held_out & set(statements)


def test_lessons_and_samples_share_no_id():
    assert not {lesson.sample.id for lesson in draw("lessons")} & {sample.id for sample in draw("samples")}


def test_no_label_is_common_enough_to_be_worth_guessing():
    for task, most in (("effect", 0.35), ("pathway", 0.2), ("regulation", 0.58), ("gc", 0.25), ("melting", 0.35)):
        counts = Counter(str(sample.reference) for sample in draw("samples", "test", limit=600, shares={task: 1}))
        assert counts.most_common(1)[0][1] / 600 < most, (task, counts)


def test_effects_are_those_of_the_sequences():
    for sample in draw("samples", shares={"effect": 1}):
        found = effect(sample.meta["reference_sequence"], sample.meta["variant_sequence"])
        assert found.replace(" ", "-") == sample.reference


def test_alleles_of_a_pathway_say_gain_or_loss():
    for sample in draw("samples", shares={"pathway": 1, "regulation": 1}):
        kind = effect(sample.meta["reference_sequence"], sample.meta["variant_sequence"])
        assert kind == ("missense" if " gain ;" in sample.text() else "nonsense")


def test_full_pathway_questions_state_the_table():
    for sample in draw("samples", limit=40, shares={"pathway": 1}, style="full"):
        said = [name for name in pathways.LABELS if name in sample.text()]
        assert sample.reference in said and len(said) == 2


DNA = {"sequences": "dna", "shares": {"regulation": 1, "pathway": 1}}


@pytest.mark.parametrize("style", ["terse", "full"])
def test_with_dna_only_the_alleles_say_what_the_variant_does(style):
    verifiers = PACK.verifiers()
    for lesson in draw("lessons", limit=40, style=style, **DNA):
        text, meta = lesson.sample.text(), lesson.sample.meta
        assert f"<dna>{meta['reference_sequence']}</dna> <dna>{meta['variant_sequence']}</dna>" in text
        assert "gain" not in text and "loss" not in text
        assert verifiers["label"](lesson.response, lesson.sample).score == 1.0
    plain = {s.messages[-1].content for split in ("validation", "test") for s in draw("samples", split, **DNA)}
    assert not plain & {s.messages[-1].content for s in draw("samples", **DNA)}


def test_dna_needs_tasks_that_have_it():
    with pytest.raises(ConfigError, match="asks only regulation and pathway"):
        draw("samples", sequences="dna")


def test_bare_statements_have_no_working():
    worked, bare = (draw("corpus", limit=40, bare=share, shares={"gc": 1}) for share in (0.0, 1.0))
    assert all(len(document.text.splitlines()) == 8 for document in worked)
    assert all(len(document.text.splitlines()) == 4 for document in bare)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"shares": {"gcc": 1}}, "gc"),
        ({"stile": "full"}, "style"),
        ({"style": "long"}, "one of terse, full"),
        ({"system": "expret"}, "expert"),
        ({"shares": {"gc": 0}}, "above 0"),
        ({"bare": 2.0}, "to 1"),
    ],
)
def test_wrong_options_have_hints(options, reason):
    with pytest.raises(ConfigError, match=reason):
        draw("samples", **options)


def test_loader_options_pass_through_the_generator():
    assert draw("samples", limit=1, reference="genome.fa")
    assert Options().style == "terse"


def test_figures_equal_scikit_learn():
    from sklearn.metrics import f1_score, matthews_corrcoef, precision_score, recall_score

    gold = ["a", "b", "c", "a", "b", "a", "c", "a"]
    said = ["a", "b", "a", "c", "x", "a", "c", ""]
    found = classification(gold, said)
    mapped = [label if label in "abc" and label else OTHER for label in said]
    labels = ["a", "b", "c"]
    assert found["accuracy"] == 4 / 8  # rows 1, 2, 6, 7
    assert found["majority"] == 4 / 8
    assert found["mcc"] == pytest.approx(matthews_corrcoef(gold, mapped))
    for name, function in (("macro_f1", f1_score), ("macro_precision", precision_score), ("macro_recall", recall_score)):
        assert found[name] == pytest.approx(function(gold, mapped, labels=labels, average="macro", zero_division=0)), name


def test_a_constant_answer_has_no_macro_f1_to_speak_of():
    """BioReason's issue 16: accuracy .83 with macro figures near 0 must be visible beside the majority."""
    found = classification(["yes"] * 5 + ["no"], ["yes"] * 6)
    # precision of yes 5/6, recall 1, F1 10/11; of no 0: macro F1 is 5/11.
    assert (found["accuracy"], found["majority"]) == (5 / 6, 5 / 6)
    assert found["macro_f1"] == pytest.approx(5 / 11)
    assert found["mcc"] == 0.0
