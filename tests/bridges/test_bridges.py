"""Libraries as they are: samples with fixed splits, verdicts with the right status, and no failure that looks like a wrong answer."""

import itertools
import json
import pickle
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import Message, Sample, Status
from factory.errors import ConfigError, DataError, PluginError
from factory.rewards.bridges.bootcamp import Bootcamps
from factory.rewards.bridges.bridge import make_sample, score_verdict, split_of
from factory.rewards.bridges.lm_eval import LmEvalTasks
from factory.rewards.bridges.rubric import Rubrics
from factory.rewards.bridges.trl import TrlVerifier, as_reward_function, rows
from factory.rewards.pool import VerifierPool
from factory.rewards.pool_worker import load_verifiers


def travelled(sample):
    """As a worker gets it: through JSON."""
    return Sample.from_json(json.loads(json.dumps(sample.to_json())))


# --- what all share -----------------------------------------------------------------------------------------------------


def test_splits_are_by_prompt_and_of_the_stated_sizes():
    counts = {split: 0 for split in ("train", "validation", "test")}
    for i in range(5000):
        counts[split_of(f"question {i}")] += 1
    assert counts["test"] == pytest.approx(500, abs=70) and counts["validation"] == pytest.approx(500, abs=70)


def test_an_item_has_one_id_wherever_it_is_drawn():
    one, same = (make_sample("a/b", "what?", 1, {"x": 1}, split="train", source=s) for s in ("here", "there"))
    assert one.id == same.id and make_sample("a/c", "what?", 1, {}, split="train", source="").id != one.id


@pytest.mark.parametrize("score, partial, expected", [
    (True, False, (1.0, "ok")), (1, False, (1.0, "ok")), (0.5, False, (0.0, "wrong")), (0.5, True, (0.5, "wrong")), (0, True, (0.0, "wrong")),
])  # fmt: skip
def test_scores_become_verdicts(score, partial, expected):
    verdict = score_verdict(score, partial=partial)
    assert (verdict.score, verdict.status.value) == expected and verdict.parts == {"graded": float(score)}


@pytest.mark.parametrize("score", [None, "1", float("nan"), float("inf"), -0.1, 1.1, [1.0]])
def test_anything_else_raises_and_is_never_clipped(score):
    with pytest.raises(ValueError):
        score_verdict(score, partial=True)


@given(st.floats(-1, 3), st.booleans())
def test_a_range_is_mapped_to_the_unit_interval(score, partial):
    verdict = score_verdict(score, partial=partial, low=-1, high=3)
    assert 0 <= verdict.score <= 1 and verdict.parts["graded"] == pytest.approx((score + 1) / 4)


# --- bootcamps ----------------------------------------------------------------------------------------------------------

CAMPS = Bootcamps({"parity": "bridged_libraries:Parity", "say": "bridged_libraries:OnlyThree"})


def test_a_bootcamp_generates_by_seed_and_leaves_the_global_generator_alone():
    random.seed(5)
    before = random.getstate()
    one, again, other = (list(itertools.islice(CAMPS.samples("bootcamp/parity", "train", seed), 10)) for seed in (1, 1, 2))
    assert random.getstate() == before
    assert one == again and [s.id for s in one] != [s.id for s in other]
    assert len({s.id for s in one}) == 10 and {s.task for s in one} == {"bootcamp/parity"}


def test_splits_of_a_small_bootcamp_are_whole_disjoint_and_finite():
    found = {split: {s.id for s in CAMPS.samples("bootcamp/parity", split, 0)} for split in ("train", "validation", "test")}
    assert sum(map(len, found.values())) == len(set().union(*found.values())) == 100


def test_verdicts_of_a_bootcamp():
    verifier = CAMPS.verifier()
    sample = travelled(next(CAMPS.samples("bootcamp/parity", "train", 0)))
    is_odd = sample.meta["bridge"]["identity"]["number"] % 2
    right, wrong = ("[odd]", "[even]") if is_odd else ("[even]", "[odd]")
    assert verifier(right, sample).status is Status.ok and verifier(wrong, sample).status is Status.wrong
    assert verifier("no idea", sample).status is Status.unparsable
    assert verifier("[odd] [even]", sample).status is Status.unparsable
    say = travelled(next(CAMPS.samples("bootcamp/say", "train", 0)))
    assert verifier(str(say.meta["bridge"]["identity"]["n"]), say).score == 1 and verifier("9", say).score == 0


def test_what_the_library_would_swallow_reaches_the_pool():
    import bridged_libraries

    identity = {"number": 3, "broken": True}
    sample = make_sample("bootcamp/parity", "q", None, {"camp": "parity", "identity": identity}, split="train", source="")
    # The library itself makes a bug look like a wrong answer.
    assert bridged_libraries.Parity.verify_score("[odd]", identity) == 0.0
    with pytest.raises(KeyError, match="a bug of the library"):
        CAMPS.verifier()("[odd]", sample)


def test_in_the_real_pool_it_is_an_error_and_not_a_wrong_answer():
    sample = make_sample(
        "bootcamp/parity", "q", None, {"camp": "parity", "identity": {"number": 3, "broken": True}}, split="train", source=""
    )
    sound = make_sample("bootcamp/parity", "q", None, {"camp": "parity", "identity": {"number": 3}}, split="train", source="")
    with VerifierPool("bridged_verifiers:VERIFIERS", workers=1, max_error_rate=1.0) as pool:
        found = pool.score([("[odd]", sample, ("bootcamp",)), ("[odd]", sound, ("bootcamp",))])
    assert [row["bootcamp"].status for row in found] == [Status.error, Status.ok]


def test_verifiers_survive_pickling_and_load_by_name():
    assert pickle.loads(pickle.dumps(CAMPS.verifier())) == CAMPS.verifier()
    assert set(load_verifiers("bridged_verifiers:VERIFIERS")) == {"bootcamp", "rubric", "lm_eval", "trl"}


def test_rows_of_a_file_are_read_strictly(tmp_path):
    file = tmp_path / "cases.jsonl"
    good = {"data_source": "Parity", "prompt": "Is 3 odd?", "ground_truth": {"number": 3}}
    file.write_text(json.dumps(good) + "\n")
    camps = Bootcamps({"parity": "bridged_libraries:Parity"}, files=(str(file),))
    (sample,) = [s for split in ("train", "validation", "test") for s in camps.samples("bootcamp/parity", split, 0)]
    assert camps.verifier()("[odd]", sample).score == 1 and sample.source == "cases.jsonl:1"
    file.write_text(json.dumps(good) + "\n{}\n")
    with pytest.raises(DataError, match=r"cases\.jsonl:2"):
        list(camps.samples("bootcamp/parity", "train", 0))


def test_unknown_targets_are_named():
    with pytest.raises(PluginError, match="no_such_module:Camp"):
        list(Bootcamps({"x": "no_such_module:Camp"}).samples("bootcamp/x", "train", 0))
    with pytest.raises(DataError, match=r"no meta\.bridge"):
        CAMPS.verifier()("x", Sample("s", "t", (Message("user", "q"),), None))


# --- verifiers-style environments ------------------------------------------------------------------------------------------


def test_a_rubric_is_the_weighted_mean_of_its_functions():
    bridge = Rubrics({"sums": "bridged_libraries:load_environment"})
    samples = [travelled(s) for split in ("train", "validation", "test") for s in bridge.samples("rubric/sums", split, 0)]
    assert len(samples) == 40
    sample = next(s for s in samples if s.reference == "14")
    verifier = bridge.verifier()
    assert verifier("14", sample).score == 1.0 and verifier("14", sample).status is Status.ok
    # Only the short function: 0.25 / 1.25
    verdict = verifier("15", sample)
    assert (
        verdict.score == pytest.approx(0.2) and verdict.status is Status.wrong and verdict.parts == {"exact": 0.0, "short": 1.0}
    )
    assert verifier("14 or maybe 15, who knows", sample).score == 0.0


@pytest.mark.parametrize("target, error, told", [
    ("load_penalised", ConfigError, "penalty"), ("load_out_of_range", ValueError, "two returned 2.0"), ("nothing", PluginError, "nothing"),
])  # fmt: skip
def test_a_rubric_that_cannot_be_a_score_is_refused(target, error, told):
    sample = next(Rubrics({"sums": "bridged_libraries:load_environment"}).samples("rubric/sums", "train", 0))
    with pytest.raises(error, match=told):
        Rubrics({"sums": f"bridged_libraries:{target}"}).verifier()("1", sample)


# --- lm-eval --------------------------------------------------------------------------------------------------------------


def test_an_lm_eval_task_keeps_its_splits_and_its_metric():
    bridge = LmEvalTasks({"capitals": "bridged_libraries:Capitals"}, {"capitals": "exact_match"})
    assert [len(list(bridge.samples("lm_eval/capitals", split, 0))) for split in ("train", "validation", "test")] == [2, 0, 1]
    sample = travelled(next(bridge.samples("lm_eval/capitals", "train", 0)))
    assert sample.text() == "The capital of France is" and bridge.gold(sample) == "Paris"
    verifier = bridge.verifier()
    assert verifier(" Paris", sample).status is Status.ok and verifier("Lyon", sample).status is Status.wrong
    with pytest.raises(ConfigError, match="no metric 'acc'"):
        LmEvalTasks({"capitals": "bridged_libraries:Capitals"}, {"capitals": "acc"}).verifier()("x", sample)


def test_a_single_split_is_split_by_prompt():
    bridge = LmEvalTasks({"towns": "bridged_libraries:OneSplit"}, {"towns": "exact_match"})
    counts = [len(list(bridge.samples("lm_eval/towns", split, 0))) for split in ("train", "validation", "test")]
    assert sum(counts) == 100 and min(counts) > 0


def test_choice_tasks_are_refused():
    with pytest.raises(ConfigError, match="multiple_choice"):
        list(LmEvalTasks({"c": "bridged_libraries:Choice"}, {"c": "acc"}).samples("lm_eval/c", "train", 0))


# --- TRL ------------------------------------------------------------------------------------------------------------------


def sky(**meta):
    return Sample("s", "sky", (Message("user", "What colour is the sky?"),), "blue", meta=meta)


def test_a_trl_function_as_a_verifier():
    verifier = TrlVerifier("bridged_libraries:accuracy")
    assert verifier("blue", sky()).status is Status.ok and verifier("red", sky()).score == 0
    scaled = TrlVerifier("bridged_libraries:signed", low=-1, high=1, conversational=False)
    assert (scaled("blue", sky()).score, scaled("red", sky()).score) == (1.0, 0.0)
    with pytest.raises(ValueError, match="outside"):
        TrlVerifier("bridged_libraries:signed", conversational=False)("red", sky())


def test_none_means_not_applicable_and_is_masked():
    verifier = TrlVerifier("bridged_libraries:only_maths")
    assert verifier("x", sky(kind="maths")).score == 1
    verdict = verifier("x", sky(kind="poem"))
    assert verdict.status is Status.error and "not applicable" in verdict.reason


@pytest.mark.parametrize("name", ["wrong_count", "not_numbers"])
def test_a_faulty_function_raises(name):
    with pytest.raises(ValueError):
        TrlVerifier(f"bridged_libraries:{name}")("x", sky())


def test_trls_own_reward_function_gives_what_trl_gives():
    rewards = pytest.importorskip("trl.rewards")
    verifier = TrlVerifier("trl.rewards:think_format_reward")
    for text in ("<think>so</think>blue", "blue", "<think>so", "<think></think></think>x", "a<think>b</think>c"):
        (expected,) = rewards.think_format_reward([[{"role": "assistant", "content": text}]])
        assert verifier(text, sky()).score == expected


def test_a_verifier_as_a_trl_function():
    verifier = TrlVerifier("bridged_libraries:only_maths", name="maths")
    reward = as_reward_function(verifier)
    data = rows([sky(kind="maths"), sky(kind="poem")])
    completions = [[{"role": "assistant", "content": "x"}]] * 2
    assert reward.__name__ == "maths"
    # As TRL calls it: prompts, completions and every column by name.
    columns = {
        "prompts": [row["prompt"] for row in data],
        "sample": [row["sample"] for row in data],
        "completion_ids": [[1], [2]],
    }
    assert reward(completions=completions, **columns) == [1.0, None]
    assert as_reward_function(TrlVerifier("bridged_libraries:wrong_count"))(["x"], [data[0]["sample"]]) == [None]


def test_trl_sums_the_exported_function(tmp_path):
    """Through TRL's own reward loop: a None row gets no reward from this function."""
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list([dict(row) for row in rows([sky(kind="maths")])])
    reward = as_reward_function(TrlVerifier("bridged_libraries:accuracy"))
    row = data[0]
    assert reward([[{"role": "assistant", "content": "blue"}]], sample=[row["sample"]], prompts=[row["prompt"]]) == [1.0]
