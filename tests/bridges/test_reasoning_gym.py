"""reasoning-gym, the real library: tasks of every step, the same items everywhere, exact scorers. Needs the extra `bridges`."""

import itertools
import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("reasoning_gym")

from factory.contracts import Sample, Status
from factory.errors import ConfigError, DataError
from factory.rewards.bridges.reasoning_gym import ReasoningGym

GYM = ReasoningGym.of({
    "gym/sums": {"dataset": "chain_sum", "config": {"min_terms": 2, "max_terms": 3, "max_digits": 2}},
    "gym/legs": {"dataset": "leg_counting"},
})  # fmt: skip


def draw(bridge, task, split="train", seed=0, count=10):
    return list(itertools.islice(bridge.samples(task, split, seed), count))


def test_samples_are_seeded_and_splits_disjoint():
    assert draw(GYM, "gym/sums") == draw(GYM, "gym/sums")
    found = {split: {s.id for s in draw(GYM, "gym/sums", split, count=100)} for split in ("train", "validation", "test")}
    assert all(len(ids) == 100 for ids in found.values()) and len(set().union(*found.values())) == 300
    # Another seed draws other items, but never one of another split.
    others = {s.id for s in draw(GYM, "gym/sums", seed=1, count=100)}
    assert others != found["train"] and not others & (found["validation"] | found["test"])


def test_gold_is_paid_and_all_else_is_told_apart():
    verifier = GYM.verifier()
    for task in GYM.tasks():
        for sample in draw(GYM, task, count=5):
            sample = Sample.from_json(json.loads(json.dumps(sample.to_json())))
            assert verifier(GYM.gold(sample), sample).status is Status.ok
            assert verifier("<think>x</think><answer>no idea</answer>", sample).status is Status.wrong
            assert verifier(str(sample.reference), sample).status is Status.unparsable
            # Partial credit for an answer hidden among others is the library's; it is kept aside and not paid.
            listed = verifier(f"<think>x</think><answer>1 2 3 {sample.reference}</answer>", sample)
            assert listed.score == 0.0 and 0 < listed.parts["graded"] < 1


def test_another_question_from_the_same_seed_is_an_error_and_not_a_wrong_answer():
    sample = draw(GYM, "gym/sums", count=1)[0]
    origin = dict(sample.meta["bridge"]) | {"index": sample.meta["bridge"]["index"] + 1}
    moved = Sample(sample.id, sample.task, sample.messages, sample.reference, meta={"bridge": origin})
    with pytest.raises(DataError, match="another question"):
        GYM.verifier()(GYM.gold(sample), moved)


@pytest.mark.parametrize(
    "row, told", [({"dataset": "chain_smu"}, "chain_sum"), ({"dataset": "chain_sum", "config": {"min_terms": -1}}, "refuses")]
)
def test_wrong_tables_are_refused(row, told):
    with pytest.raises(ConfigError, match=told):
        draw(ReasoningGym.of({"gym/x": row}), "gym/x")


def test_the_ladder_gives_over_a_thousand_tasks_that_differ():
    gym = ReasoningGym.ladder()
    assert len(gym.tasks()) > 1000
    assert len({(dataset, config) for _, dataset, config in gym.table}) == len(gym.table)
    assert gym.table == ReasoningGym.ladder().table


def test_every_fortieth_task_of_the_ladder_works():
    gym, verifier = ReasoningGym.ladder(), ReasoningGym.ladder().verifier()
    for task in list(gym.tasks())[::40]:
        sample = draw(gym, task, count=1)[0]
        gold = gym.gold(sample)
        if gold is not None:
            assert verifier(gold, sample).status is Status.ok, task
        assert verifier("<think>x</think><answer></answer>", sample).score == 0, task


ITEMS_OF_ALL = """
import hashlib, itertools, json
from factory.rewards.bridges.reasoning_gym import SLOW, ReasoningGym
gym, found = ReasoningGym.ladder(leave_out=SLOW), {}
for task in gym.tasks():
    if task.endswith("/base"):
        items = [f"{s.text()}|{s.reference}" for s in itertools.islice(gym.samples(task, "train", 0), 3)]
        found[task] = hashlib.sha256("|".join(items).encode("utf-8", "surrogatepass")).hexdigest()
print("ITEMS" + json.dumps(found))
"""


@pytest.mark.slow
def test_a_process_with_another_hash_seed_makes_the_same_items():
    """A pool worker is such a process: what it cannot make again it cannot judge."""

    def items(seed):
        done = subprocess.run(
            [sys.executable, "-c", ITEMS_OF_ALL], capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": seed}
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.rpartition("ITEMS")[2])

    first, second = items("1"), items("2")
    assert len(first) > 80 and [task for task in first if first[task] != second[task]] == []


def test_an_item_that_the_library_cannot_make_is_left_out(monkeypatch):
    """countdown raises after 100 attempts; a run must go on with the next item."""
    import reasoning_gym

    made = reasoning_gym.arithmetic.chain_sum.ChainSumDataset.__getitem__

    def sometimes(dataset, index):
        if index % 2:
            raise ValueError("Failed to generate valid expression")
        return made(dataset, index)

    monkeypatch.setattr(reasoning_gym.arithmetic.chain_sum.ChainSumDataset, "__getitem__", sometimes)
    drawn = draw(GYM, "gym/sums", count=40)
    assert len(drawn) == 40 and all(sample.meta["bridge"]["index"] % 2 == 0 for sample in drawn)
