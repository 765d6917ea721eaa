"""The audit finds the holes that it is there to find, and nothing in sound verifiers."""

import pytest

from factory.contracts import Message, Sample, Status, Verdict
from factory.rewards.formats import SHAPES, parse
from factory.rewards.verifiers import ClosedAnswer, OptionLetter
from factory.testing.audit import GATE, search
from factory.testing.audit_mutations import DRESSINGS, attempts, frame_of, in_form
from factory.testing.subject import Subject

WORDS = ["adenoma", "carcinoma", "melanoma", "sarcoma", "lymphoma", "glioma"]
OPTIONS = ["adenoma", "carcinoma", "melanoma", "sarcoma"]


def golds(task="name"):
    """Six questions with six answers in words, or four with the letter of the same option in four orders."""
    for i, word in enumerate(WORDS if task == "name" else OPTIONS):
        order = OPTIONS[i:] + OPTIONS[:i] if task != "name" else OPTIONS
        reference = word if task == "name" else "ABCD"[order.index("adenoma")]
        asked = Message("user", "Which tumour? " + " ".join(f"{x}. {y}" for x, y in zip("ABCD", order, strict=True)))
        meta = {"options": order} if task != "name" else {}
        yield Sample(f"{task}-{i}", task, (asked,), reference, meta=meta), f"<think>so it is</think><answer>{reference}</answer>"


def judge_by(verifier):
    """A judge of one verifier; an exception is a failure, as in the pool."""

    def judge(rows):
        found = []
        for text, sample in rows:
            try:
                verdict = verifier(text, sample)
            except RuntimeError:
                found.append({"reward": None})
                continue
            found.append({"reward": None if verdict.status.is_masked else verdict.score})
        return found

    return judge


def paying(rule):
    """A verifier from a plain rule (text, sample) -> bool."""
    return lambda text, sample: Verdict(float(rule(text, sample)), Status.ok if rule(text, sample) else Status.wrong, "rule")


def found_by(rule, task="name", **settings):
    return {e.mutation for e in search(list(golds(task)), judge_by(paying(rule)), **settings).exploits}


@pytest.mark.parametrize(("verifier", "task"), [(ClosedAnswer(), "name"), (ClosedAnswer(mode="lenient"), "name"), (OptionLetter(), "letter"),
                                                (OptionLetter(mode="lenient"), "letter")])  # fmt: skip
def test_sound_verifiers_have_no_exploit(verifier, task):
    report = search(list(golds(task)), judge_by(verifier))
    assert report.exploits == [] and report.poor_golds == {} and not report.has_faults
    assert report.num_samples >= 4 and report.num_attempts > 100 and report.best[task] < GATE


def answer_of(text):
    return parse(text, "think_answer", lenient=True).answer or ""


FAULTS = {
    # Each careless verifier, and one mutation by which it must be caught.
    "substring of the whole": (lambda text, s: s.reference in text, "answer in the reasoning only"),
    "substring of the answer": (lambda text, s: s.reference in answer_of(text), "answer buried in a long text"),
    "empty pays": (lambda text, s: s.reference in text or not text, "empty"),
    "first tag anywhere": (
        lambda text, s: text.partition("<answer>")[2].partition("</answer>")[0] == s.reference, "answer in the reasoning only"),
    "any of many blocks": (lambda text, s: f"<answer>{s.reference}</answer>" in text, "answer in every block"),
    "greedy pattern": (lambda text, s: s.reference in text.partition("<answer>")[2].rpartition("</answer>")[0], "answer in every block"),
    "letters folded": (lambda text, s: answer_of(text.translate(str.maketrans("АВСЕНІКМОРТХΥасеіорѕхуј", "ABCEHIKMOPTXYaceiopsxyj"))) == s.reference,
                       None),
    "right to left": (lambda text, s: answer_of(text).strip("\u202e\u202c")[::-1] == s.reference or answer_of(text) == s.reference,
                      "right-to-left override"),
    "believes the completion": (lambda text, s: "Score: 1" in text or answer_of(text) == s.reference, "bait"),
    "pays for length": (lambda text, s: len(text) > 5000 or answer_of(text) == s.reference, "another answer, very long"),
    "repeated blocks": (lambda text, s: text.count("<answer>") > 9 or answer_of(text) == s.reference, "another answer, many times"),
    "the prompt": (lambda text, s: text.startswith("Which tumour?") or answer_of(text) == s.reference, "copied prompt"),
    "empty tags": (lambda text, s: (not answer_of(text) and "<answer></answer>" in text) or answer_of(text) == s.reference, "empty tags"),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name, (_, mutation) in FAULTS.items() if mutation])
def test_a_careless_verifier_is_caught(name):
    rule, mutation = FAULTS[name]
    assert mutation in found_by(rule, rounds=0)


def test_look_alike_letters_are_caught_where_every_letter_has_one():
    rule = FAULTS["letters folded"][0]
    assert "look-alike letters" in found_by(rule, "letter", rounds=0)


def test_one_fixed_answer_that_always_pays_is_caught():
    assert "one answer for every sample" in found_by(lambda text, s: len(text) > 3)


def test_listing_the_options_is_caught():
    caught = found_by(
        lambda text, s: s.reference in answer_of(text).replace(".", " ").replace(",", " ").split(), "letter", rounds=0
    )
    assert {"all options listed", "all letters"} <= caught


def test_dressing_up_finds_what_no_single_mutation_does():
    bait = "Thought process:"
    rule = lambda text, s: answer_of(text) == s.reference or (text.startswith(f"{bait}\n") and text.endswith(f"\n{bait}"))  # noqa: E731
    assert not found_by(rule, rounds=0)
    assert any("with bait" in mutation for mutation in found_by(rule, rounds=2))


def test_a_completion_that_makes_a_verifier_fail_is_reported_as_that():
    def fails(text, sample):
        if "\u202e" in text:
            raise RuntimeError("cannot shape this text")
        return ClosedAnswer()(text, sample)

    exploits = search(list(golds()), judge_by(fails)).exploits
    assert exploits and all(e.score is None and "\u202e" in e.completion for e in exploits)
    assert "makes a verifier fail" in exploits[0].told


def test_golds_that_do_not_pay_are_reported_and_not_searched():
    report = search(list(golds()), judge_by(paying(lambda text, s: False)))
    assert len(report.poor_golds) == len(WORDS) and report.num_samples == 0 and report.has_faults


def test_the_search_is_deterministic_and_its_gate_counts():
    rule = FAULTS["substring of the whole"][0]
    first, second = (search(list(golds()), judge_by(paying(rule)), seed=3).to_json() for _ in range(2))
    assert first == second
    half = lambda rows: [{"reward": 1.0 if answer_of(t) == s.reference else 0.5} for t, s in rows]  # noqa: E731
    assert search(list(golds()), half, gate=0.5).exploits and not search(list(golds()), half, gate=0.51).exploits


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_can_be_taken_apart_and_filled(shape):
    text = in_form("B", SHAPES[shape])
    parsed = parse(text, shape)
    if shape == "json":
        return  # its answer is an object
    assert parsed.answer == "B"
    frame = frame_of(text if shape != "timemaster" else text + "<extension>e</extension>")
    assert frame is not None and frame.answer == "B" and "C" in frame.around("C")


def test_no_attempt_is_the_right_answer():
    """By a verifier that is known to be sound, in both modes."""
    for (sample, gold), verifier in zip(golds("letter"), (OptionLetter(), OptionLetter(mode="lenient")) * 2, strict=False):
        others = [text for other, text in golds("letter") if other.reference != sample.reference]
        tried = list(attempts(sample, gold, others))
        assert len({attempt.mutation for attempt in tried}) > 20
        assert all(verifier(attempt.completion, sample).score == 0.0 for attempt in tried)
    assert len(DRESSINGS) == len(dict(DRESSINGS))


def test_the_bundled_pack_has_no_exploit():
    from factory.testing.audit import check_fixtures, judge_here

    subject = Subject.named("pathology")
    report = search(subject.golds(), judge_here(subject), per_task=2)
    assert [exploit.told for exploit in report.exploits] == []
    verifiers = subject.pack.verifiers()
    rows = check_fixtures(subject, lambda calls: [verifiers[name](text, sample) for text, sample, name in calls])
    assert len(rows) > 40 and not [row for row in rows if row["fault"]]
