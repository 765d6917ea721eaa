"""Generated questions: right by an independent count, in their own split, in every style."""

import re
from collections import Counter

import pytest
from rdkit import Chem
from rdkit.Chem import rdMolDescriptors

from factory.contracts import DataRequest
from factory.domains.chemistry.draw import names, random_writing, split_of
from factory.domains.chemistry.molecules import canonical_smiles
from factory.domains.chemistry.options import SHARES, read_options
from factory.domains.chemistry.questions import posers
from factory.errors import ConfigError
from factory.plugins import load_pack
from factory.rewards.formats import parse

PACK = load_pack("chemistry")


def lessons(task="", style="terse", limit=40, split="train", **options):
    shares = {"shares": {task: 1.0}} if task else {}
    return list(PACK.lessons(split, 3, DataRequest(limit=limit, options={"style": style, **shares, **options})))


def test_every_task_of_the_shares_has_a_poser():
    assert set(posers()) == set(SHARES) <= set(PACK.manifest.tasks)


@pytest.mark.parametrize("style", ["terse", "full"])
@pytest.mark.parametrize("task", SHARES)
def test_worked_responses_are_right_and_keep_the_form(task, style):
    accuracy = PACK.verifiers()["accuracy"]
    for lesson in lessons(task, style, limit=12):
        parsed = parse(lesson.response, "think_answer")
        assert parsed.well_formed, lesson.response
        verdict = accuracy(lesson.response, lesson.sample)
        assert verdict.score == 1.0, (lesson.sample.messages[-1].content, lesson.response, verdict.reason)


def test_formulas_agree_with_rdkits_own():
    for lesson in lessons("formula"):
        smiles = lesson.sample.messages[-1].content.split()[-1]
        assert rdMolDescriptors.CalcMolFormula(Chem.MolFromSmiles(smiles)) == lesson.sample.reference


def test_the_working_counts_up_to_the_answer():
    for lesson in lessons("count", limit=60):
        if lesson.sample.meta["what"] in ("C", "O", "N", "heavy atoms", "donors"):
            last = re.findall(r"\d+", parse(lesson.response, "think_answer").thinking)[-1]
            assert int(last) == lesson.sample.reference


def test_half_of_the_pairs_are_the_same_molecule_in_another_writing():
    found = lessons("same", limit=120)
    assert 0.35 < sum(lesson.sample.reference == "yes" for lesson in found) / 120 < 0.65
    for lesson in found:
        _, left, right = lesson.sample.messages[-1].content.split()
        assert (canonical_smiles(left) == canonical_smiles(right)) == (lesson.sample.reference == "yes") and left != right


def test_answers_are_not_all_the_same():
    for task, most in (("count", 0.4), ("groups", 0.5), ("scaffold", 0.3), ("formula", 0.1), ("balance", 0.1)):
        references = Counter(str(lesson.sample.reference) for lesson in lessons(task, limit=120))
        assert references.most_common(1)[0][1] / 120 <= most, (task, references.most_common(2))


def test_molecules_of_the_splits_do_not_meet_in_any_writing():
    keys = {}
    for split in ("train", "validation", "test"):
        for lesson in lessons("formula", limit=80, split=split):
            smiles = lesson.sample.messages[-1].content.split()[-1]
            assert split_of(canonical_smiles(smiles)) == split
            keys.setdefault(split, set()).add(canonical_smiles(smiles))
    assert not keys["train"] & keys["test"] and not keys["train"] & keys["validation"]


def test_names_are_distinct_molecules_and_random_writings_keep_them():
    import random

    known = names()
    assert len(known) == 237 and len({canonical_smiles(smiles) for smiles in known.values()}) == 237
    for name in ("caffeine", "L-proline", "pyrene"):
        assert canonical_smiles(random_writing(random.Random(1), known[name])) == canonical_smiles(known[name])


def test_thinking_off_and_the_system_turn():
    bare = lessons(thinking="off", limit=3)[0]
    assert bare.response.startswith("<answer>") and bare.sample.meta["shape"] == "answer"
    told = lessons(system="expert", limit=1)[0]
    assert told.sample.messages[0].role == "system" and "SMILES" in told.sample.messages[0].content


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"shares": {"formulas": 1}}, "formula"), ({"style": "terze"}, "terse"), ({"atoms": 99}, "3 to 12"), ({"colour": 1}, "no option"),
        ({"shares": {"count": 0.0}}, "no task"), ({"screening_override": "x"}, "reason"), ({"reasonable": "/nowhere.json"}, "no set"),
        ({"level": "same"}, "want one of"),
    ],
)  # fmt: skip
def test_wrong_options_say_so(options, match):
    with pytest.raises(ConfigError, match=match):
        read_options(options)


def test_loader_keys_are_allowed_beside_the_generators():
    assert read_options({"split_by": "molecule", "style": "full"}).style == "full"
