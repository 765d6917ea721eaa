"""Generated questions: references are what an independent reading of the question says, answers are balanced, splits do not share."""

from collections import Counter

import pytest
from safety_forms import form

from factory.contracts import DataRequest
from factory.domains.safety import PACK
from factory.domains.safety.names import handbook, strangers
from factory.domains.safety.policies import policies
from factory.domains.safety.world import FACTS, NUMBERS, PERSONS, REAL, VERBS
from factory.errors import ConfigError
from factory.rewards.constraints import is_kept

SAMPLES = list(PACK.samples("train", 0, DataRequest(limit=600)))
VERIFIERS = PACK.verifiers()


def of_task(*tasks):
    return [sample for sample in SAMPLES if sample.task in tasks]


@pytest.mark.parametrize("sample", of_task("answer", "refuse", "partial")[:120], ids=lambda s: s.id)
def test_requests_are_decided_by_the_rules_that_stand_in_the_question(sample):
    """Read the question anew, word by word, without the generator."""
    first, second = sample.messages[-1].content.split("\n")
    rules = first.removeprefix("rules ").split(" , ")
    wanted = []
    for request in second.removesuffix(" ?").split(" , "):
        verb, target, setting = request.split(" ")
        kind, tool = VERBS[verb]
        is_forbidden = target in PERSONS and setting in REAL and kind in rules
        wanted.append(f"refuse {kind}" if is_forbidden else f"use {tool}")
    assert sample.reference == " ; ".join(wanted)
    sides = {want.split(" ")[0] for want in wanted}
    assert sides == {"answer": {"use"}, "refuse": {"refuse"}, "partial": {"use", "refuse"}}[sample.task]


@pytest.mark.parametrize("sample", of_task("obey")[:60], ids=lambda s: s.id)
def test_a_reference_answer_keeps_every_instruction_and_is_right(sample):
    a, _, b = sample.messages[-1].content.split(" ; ")[0].partition(" + ")
    assert sample.reference == NUMBERS[int(a) + int(b)]
    assert all(is_kept(row["name"], sample.meta["gold"], row["args"]) for row in sample.meta["constraints"])
    assert 1 <= len(sample.meta["constraints"]) <= 3


@pytest.mark.parametrize("sample", of_task("spec")[:60], ids=lambda s: s.id)
def test_what_may_not_be_said_is_left_out_and_nothing_else(sample):
    parts = sample.messages[-1].content.removesuffix(" ?").split(" ; ")
    thing, must, never, end = (part.split(" ", 1)[1] for part in parts)
    told = [] if FACTS[thing] in never.split(" , ") else [FACTS[thing]]
    assert sample.meta["gold"].split() == [thing, *told, *must.split(" , "), end]
    assert not set(never.split(" , ")) & set(sample.meta["gold"].split())


def test_strangers_of_one_split_occur_in_no_other():
    groups = [set(strangers(split)) for split in ("train", "validation", "test")]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert sum(map(len, groups)) + len(handbook()) == 144 and min(map(len, groups)) >= 20
    for split in ("train", "test"):
        for sample in PACK.samples(split, 0, DataRequest(limit=100, options={"shares": {"know": 1}})):
            for name, trade in zip(sample.messages[-1].content[6:-2].split(" , "), sample.reference, strict=True):
                assert handbook().get(name, "unknown") == trade and (name in handbook() or name in strangers(split))


@pytest.mark.parametrize("task", ["answer", "refuse", "partial", "obey", "spec", "know"])
def test_no_constant_answer_explains_a_task(task):
    counts = Counter(str(sample.reference) for sample in of_task(task))
    assert counts.most_common(1)[0][1] / sum(counts.values()) < 0.45


def test_neither_extreme_wins():
    """Always refuse and never refuse, each as well as it can be done, earn little over the tasks about rules, and less than all overall."""
    scores = {name: [] for name in policies(SAMPLES[0])}
    rules = {name: [] for name in scores}
    for sample in SAMPLES:
        for name, completion in policies(sample).items():
            score = VERIFIERS["accuracy"](completion, sample).score
            scores[name].append(score)
            if sample.task in ("answer", "refuse", "partial"):
                rules[name].append(score)
    for name in scores:
        assert sum(scores[name]) / len(scores[name]) < 0.6, name
        assert sum(rules[name]) / len(rules[name]) < 0.5, name


def test_lessons_may_be_unsafe_on_request_only():
    request = DataRequest(limit=200, options={"shares": {"refuse": 1}, "unsafe_lessons": 1.0})
    judge = VERIFIERS["harmless"]
    assert all(judge(lesson.response, lesson.sample).score == 0.0 for lesson in PACK.lessons("train", 0, request))
    plain = DataRequest(limit=100, options={"shares": {"refuse": 1}})
    assert all(judge(lesson.response, lesson.sample).score == 1.0 for lesson in PACK.lessons("train", 0, plain))


@pytest.mark.parametrize("preference", ["safer", "helpful"])
def test_pairs_prefer_what_they_say(preference):
    found = list(PACK.pairs("train", 0, DataRequest(limit=150, options={"preference": preference})))
    for pair in found:
        safe = [VERIFIERS["harmless"](text, pair.sample).score == 1.0 for text in (pair.chosen, pair.rejected)]
        assert [pair.meta["chosen_safe"], pair.meta["rejected_safe"]] == safe
        if preference == "safer":
            assert (
                VERIFIERS["conduct"](pair.chosen, pair.sample).score
                == 1.0
                > VERIFIERS["conduct"](pair.rejected, pair.sample).score
            )
            assert safe != [False, True]
        else:
            assert (
                VERIFIERS["helpful"](pair.chosen, pair.sample).score
                == 1.0
                > VERIFIERS["helpful"](pair.rejected, pair.sample).score
            )
    assert len({pair.meta["rejected_safe"] for pair in found}) == 2


@pytest.mark.parametrize(
    "options", [{"style": "full"}, {"thinking": "off"}, {"system": "rules"}, {"system": "safework", "style": "full"}]
)
def test_styles_keep_the_references(options):
    for sample in PACK.samples("validation", 3, DataRequest(limit=40, options=options)):
        gold = PACK.gold(sample)
        assert VERIFIERS["accuracy"](gold, sample).score == 1.0 == VERIFIERS["format"](gold, sample).score
        assert (sample.messages[0].role == "system") == ("system" in options)


@pytest.mark.parametrize(("options", "told"), [({"stile": "full"}, "style"), ({"style": "ful"}, "full"), ({"shares": {"anser": 1}}, "answer"),
                                               ({"exercises": 2}, "exercises")])  # fmt: skip
def test_options_are_checked(options, told):
    with pytest.raises(ConfigError, match=told):
        list(PACK.samples("train", 0, DataRequest(limit=1, options=options)))


def test_the_gold_of_a_label_alone_is_accepted(make_sample):
    for reference in ("comply", "refuse"):
        sample = make_sample(reference, text="Where is my rival's diary?")
        assert VERIFIERS["conduct"](PACK.gold(sample), sample).score == 1.0
    assert VERIFIERS["conduct"](form("I cannot help with that"), make_sample("comply")).score == 0.0
