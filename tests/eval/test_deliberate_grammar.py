"""The grammar of `--deliberate`: what is read, what is refused with which hint, and what the plan counts."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import scripted
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import ModelFacts
from factory.errors import ConfigError
from factory.plugins import load_stage
from factory.stages.eval.config import EvalStageConfig
from factory.stages.eval.deliberate.cost import SPEC_TOKENS, cost_of
from factory.stages.eval.deliberate.grammar import METHODS, check_against, named_files, read_deliberation, read_text

FACTS = ModelFacts("toy", "text", 1000, 16, 2, 100, 4096)
EVAL = {"samples": 10, "validation_samples": 5, "batch_size": 4, "max_new_tokens": 8, "blind": False}


def test_majority_has_a_count_and_defaults():
    got = read_deliberation("majority:8")
    assert (got.method, got.count, dict(got.options)) == ("majority", 8, {"temperature": 1.0, "seed": None})


def test_options_are_read_in_any_order():
    got = read_deliberation("best_of:4, temperature=0.7 ,verifier=format,seed=3")
    assert (got.options["verifier"], got.options["temperature"], got.options["seed"]) == ("format", 0.7, 3)


def test_paths_become_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text = str(read_deliberation("align3,behaviour=b.txt,safety=s.txt"))
    here = Path.cwd()
    assert text == f"align3,behaviour={here / 'b.txt'},safety={here / 's.txt'}"
    assert named_files(text) == [str(here / "b.txt"), str(here / "s.txt")]
    assert named_files("") == [] == named_files("majority:2")


@given(
    st.integers(2, 99), st.none() | st.integers(0, 9), st.none() | st.floats(0.1, 2.0), st.sampled_from(["majority", "best_of"])
)
def test_written_form_is_read_back_the_same(count, seed, temperature, method):
    parts = [f"{method}:{count}"] + (["verifier=format"] if method == "best_of" else [])
    parts += [f"seed={seed}"] * (seed is not None) + [f"temperature={temperature}"] * (temperature is not None)
    got = read_deliberation(",".join(parts))
    assert read_deliberation(str(got)) == got


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("majorty:8", r"unknown method 'majorty'. Did you mean 'majority'\? Use one of: majority, best_of"),
        ("", r"unknown method ''"),
        ("majority", r"majority needs a number of draws \(1 or more\) after a colon, got ''. Write majority:8"),
        ("majority:many", r"got 'many'"),
        ("majority:0", r"got '0'"),
        ("majority:1", r"chooses among one draw"),
        ("majority:8,temprature=1", r"majority has no option 'temprature'. Did you mean 'temperature'\?"),
        ("majority:8,temperature=hot", r"majority wants temperature=a number above 0, got 'hot'"),
        ("majority:8,temperature=nan", r"got 'nan'"),
        ("majority:8,temperature=0", r"draws the same text 8 times"),
        ("majority:8,seed=1,seed=2", r"is given seed twice"),
        ("majority:8,seed", r"wants seed=a whole number from 0 up, got ''"),
        ("best_of:8", r"needs exactly one of verifier and scorer"),
        ("best_of:8,verifier=a,scorer=b", r"needs exactly one of verifier and scorer"),
        ("align3:3,behaviour=a,safety=b", r"align3 takes no number, got '3'"),
        ("align3,behaviour=a", r"align3 needs safety"),
        ("critic", r"critic needs a number of rounds"),
        ("force_answer:-4", r"needs a number of thinking tokens"),
    ],
)
def test_refusals(text, message):
    with pytest.raises(ConfigError, match=message):
        read_deliberation(text)


def test_unknown_verifier_has_a_near_miss():
    with pytest.raises(ConfigError, match=r"no verifier 'fromat'. Did you mean 'format'\?"):
        check_against(read_deliberation("best_of:2,verifier=fromat"), ["format", "closed"])


def test_missing_folder_and_empty_specification_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"scorer=.* is no folder"):
        check_against(read_deliberation(f"best_of:2,scorer={tmp_path / 'gone'}"), [])
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(ConfigError, match=r"behaviour=.* is empty"):
        check_against(read_deliberation(f"align3,behaviour={tmp_path / 'empty.txt'},safety=x"), [])
    with pytest.raises(ConfigError, match=r"safety=.* cannot be read as text"):
        read_text("safety", str(tmp_path / "gone.txt"))


def test_examples_of_the_table_can_be_read():
    for method in METHODS.values():
        assert read_deliberation(method.example)


@pytest.mark.parametrize(
    ("text", "generated", "longest"),
    [
        ("majority:5", 5 * 8, 8),
        ("best_of:5,verifier=format", 5 * 8, 8),
        ("force_answer:100", 100 + 8, 108),
        ("force_answer:100,answer=3", 103, 103),
        ("align3,behaviour=a,safety=b,thinking=20", 3 * 20 + 8, 68 + SPEC_TOKENS),
        ("critic:2,critique=10", 8 + 2 * (10 + 8), 2 * 8 + 10),
    ],
)
def test_cost_by_hand(text, generated, longest):
    got = cost_of(read_deliberation(text), 8)
    assert (got.generated, got.longest) == (generated, longest)


def plan(deliberate, **changes):
    build = {"eval": EVAL | {"deliberate": deliberate} | changes, "precision": "fp32"}
    return load_stage("eval").plan("01-base-eval", EvalStageConfig(), FACTS, scripted.pack(), build)


def test_plan_without_deliberation_is_what_it_was():
    build = {"eval": EVAL, "precision": "fp32"}
    before = load_stage("eval").plan("01-base-eval", EvalStageConfig(), FACTS, scripted.pack(), build)
    assert plan("") == before and before.num_generated_tokens == 15 * 8


def test_plan_counts_the_second_answers():
    plain, got = plan(""), plan("majority:5")
    assert got.num_generated_tokens == plain.num_generated_tokens + 15 * 5 * 8
    assert got.num_samples == plain.num_samples + 15 and "deliberated.jsonl" in got.outputs
    # The rows are as long as plain ones, so memory is the same.
    same = replace(got, **{key: getattr(plain, key) for key in ("num_samples", "num_generated_tokens", "outputs", "notes")})
    assert same == plain


def test_plan_refuses_what_the_pack_or_the_model_cannot_do():
    with pytest.raises(ConfigError, match=r"no verifier 'clsed'. Did you mean 'closed'\?"):
        plan("best_of:2,verifier=clsed")
    with pytest.raises(ConfigError, match=r"makes rows of about 5056 tokens, the model reads 4096"):
        plan("force_answer:5000")


def test_planning_loads_no_torch():
    code = (
        "import sys; from factory.plugins import load_stage; load_stage('eval');"
        "from factory.stages.eval.deliberate.grammar import read_deliberation; read_deliberation('critic:2');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
