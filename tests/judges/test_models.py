"""Real tiny models as judges, each in its own process: the scores are those of the model in this process."""

import math
import sys

import pytest
from judge_server import sample

from factory.contracts import Status
from factory.rewards.judges.pool import open_judge
from factory.rewards.judges.settings import JudgeSettings
from factory.stages.models.embedded import make_embedded
from factory.stages.models.load import load, save
from factory.stages.models.scorer import ScorerSettings, load_scorer, with_head


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_embedded("embedded-text", tmp_path_factory.mktemp("judge") / "base", seed=0, texts=["the sky is blue"] * 20)


@pytest.fixture(autouse=True)
def processes(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.parametrize("objective", ["bradley_terry", "cost"])
@pytest.mark.parametrize("show_reference", [False, True])
def test_a_reward_model_stages_scorer(base, tmp_path, objective, show_reference):
    settings = ScorerSettings(objective, show_reference=show_reference, max_length=128)
    folder = save(with_head(load(base, precision="fp32"), settings, seed=1), tmp_path / "scorer")
    judge = open_judge("rm", JudgeSettings("scalar", path=str(folder), against="reference"))
    try:
        sign = -1.0 if objective == "cost" else 1.0
        mine, gold = (sign * score for score in load_scorer(folder).score([(sample(), "red"), (sample(), "blue")]))
        assert judge.raw("red", sample()) == pytest.approx(mine, abs=1e-5)
        # Bradley-Terry: P(candidate beats reference) = sigmoid(r_c - r_r)
        assert judge("red", sample()).score == pytest.approx(1 / (1 + math.exp(gold - mine)), abs=1e-5)
    finally:
        judge.backend.close()


def test_a_generative_model_that_was_taught_nothing_is_unparsable_and_masked(base):
    judge = open_judge("gen", JudgeSettings("local", path=str(base), max_new_tokens=8, max_chars=40, criterion="right"))
    try:
        verdict = judge("blue", sample())
        assert verdict.status is Status.error and verdict.score == 0
    finally:
        judge.backend.close()
