"""Rules and judges together, through the real worker pool: order, gating, masking, rates, cache, settings of a build."""

import json
import threading
import time

import pytest
from judge_server import answer_of, mark_of, sample

from factory.contracts import Status
from factory.errors import ConfigError, RewardError
from factory.rewards.judges.panel import JudgePanel
from factory.rewards.judges.pool import JudgedPool, open_judge, scoring_pool
from factory.rewards.judges.settings import JudgeSettings, build_mixture, read_judges

TASKS = {"sky": {"verifiers": {"exact": 0.7, "helpful": 0.3}}, "plain": {"verifiers": {"exact": 1.0}}}
POOL = {"workers": 1, "timeout_s": 60.0, "max_error_rate": 1.0}


def labelled(path):
    rows = [
        {"sample": sample(f"s{i}").to_json(), "completion": text, "label": text == "blue"}
        for i in range(12)
        for text in ("blue", "red")
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


@pytest.fixture
def build(server, tmp_path):
    server.reply = lambda prompt: (
        f"VERDICT {mark_of(prompt)}: {9 if answer_of(prompt).startswith('blue') and len(answer_of(prompt)) < 25 else 1}"
    )
    judge = {
        "kind": "endpoint",
        "url": server.url,
        "model": "m",
        "timeout_s": 60.0,
        "calibration": labelled(tmp_path / "l.jsonl"),
        "max_error_rate": 0.5,
    }
    return {"judges": {"helpful": judge}, "pool": POOL}


def test_a_run_with_a_judge_end_to_end(server, build, tmp_path):
    mixture = build_mixture(TASKS, build, known=["exact"])
    with scoring_pool("judged_rules:VERIFIERS", build, mixture, workdir=tmp_path) as pool:
        asked = len(server.requests)
        assert asked >= 24 and list((tmp_path / "judges").glob("judge-helpful-*.json"))
        texts = {"a": "blue", "b": "red", "c": "the sky is blue", "d": "blue " * 20}
        for key, text in texts.items():
            pool.submit(key, text, sample(), mixture.verifiers_for("sky"))
        pool.submit("e", "blue", sample(task="plain"), mixture.verifiers_for("plain"))
        found = dict(pool.results())
        values = {key: mixture.combine("plain" if key == "e" else "sky", verdicts).value for key, verdicts in found.items()}
        # 0.7 + 0.3 * 0.9; wrong for the rule; 0.7 + 0.3 * 0.1 twice; no judge.
        assert values == pytest.approx({"a": 0.97, "b": 0.0, "c": 0.73, "d": 0.73, "e": 1.0})
        # The rule said no to `red`, so nobody was asked about it.
        assert len(server.requests) == asked + 3
        figures = pool.figures()
        assert figures["judge/helpful/asked"] == 3 and figures["judge/helpful/agreement"] == pytest.approx(1 / 3)
        assert figures["judge/helpful/failed"] == 0 and figures["judge/helpful/score"] == pytest.approx(1.1 / 3)
        rows = pool.score(
            [("blue", sample(), ("exact", "helpful")), ("red", sample(), ("exact", "helpful")), ("blue", sample(), ("exact",))]
        )
        assert [sorted(row) for row in rows] == [["exact", "helpful"], ["exact", "helpful"], ["exact"]]
        assert rows[0]["helpful"].score == 0.9 and rows[1]["helpful"].score == 0
        assert pool.counts()["helpful"]["ok"] == 2 and set(pool.versions) == {"exact", "length", "helpful"}


def test_without_judges_it_is_the_plain_pool(build):
    from factory.rewards.pool import VerifierPool

    mixture = build_mixture({"plain": TASKS["plain"]}, build, known=["exact"])
    with scoring_pool("judged_rules:VERIFIERS", build, mixture) as pool:
        assert isinstance(pool, VerifierPool)


def test_a_judge_that_counts_must_be_calibrated_and_one_that_is_only_measured_need_not(server, build):
    del build["judges"]["helpful"]["calibration"]
    with pytest.raises(ConfigError, match="has a weight and no calibration"):
        with scoring_pool("judged_rules:VERIFIERS", build, build_mixture(TASKS, build, known=["exact"])):
            pass
    build["mixture"] = {"sky": {"helpful": 0.0}}
    mixture = build_mixture(TASKS, build, known=["exact"])
    with scoring_pool("judged_rules:VERIFIERS", build, mixture) as pool:
        pool.submit("a", "blue", sample(), mixture.verifiers_for("sky"))
        ((_, verdicts),) = pool.results()
        assert verdicts["helpful"].score == 0.9 and mixture.combine("sky", verdicts).value == 1.0


def test_a_judge_may_not_be_asked_without_its_rule(build):
    mixture = build_mixture(TASKS, build, known=["exact"])
    with scoring_pool("judged_rules:VERIFIERS", build, mixture) as pool:
        with pytest.raises(ConfigError, match="needs the verdict of 'exact' first"):
            pool.submit("a", "blue", sample(), ["helpful"])


def test_failures_of_a_judge_are_masked_and_above_its_rate_the_run_stops(server, build):
    build["judges"]["helpful"]["max_error_rate"] = 0.2
    mixture = build_mixture(TASKS, build, known=["exact"])
    with scoring_pool("judged_rules:VERIFIERS", build, mixture) as pool:
        server.reply = lambda prompt: "I cannot say."
        pool.submit("a", "blue", sample(), mixture.verifiers_for("sky"))
        ((_, verdicts),) = pool.results()
        reward = mixture.combine("sky", verdicts)
        assert reward.masked and reward.statuses["helpful"] == "error" and pool.figures()["judge/helpful/failed"] == 1.0
        for i in range(60):
            pool.submit(i, f"blue {i}", sample(), mixture.verifiers_for("sky"))
        with pytest.raises(RewardError, match=r"judge 'helpful' failed too often.*masked, not scored"):
            list(pool.results())


def panel(server, cache_dir=None, **changes):
    settings = JudgeSettings("endpoint", url=server.url, model="m", **{"timeout_s": 60.0} | changes)
    return JudgePanel({"helpful": open_judge("helpful", settings)}, cache_dir)


def test_concurrency_is_bounded_and_used(server):
    lock, now, most = threading.Lock(), [0], [0]

    def slow(prompt):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.1)
        with lock:
            now[0] -= 1
        return f"VERDICT {mark_of(prompt)}: 10"

    server.reply = slow
    with panel(server, concurrency=3) as judges:
        for i in range(9):
            judges.submit(i, f"blue {i}", sample(), "helpful")
        assert {key for key, _, _ in judges.results()} == set(range(9))
    assert most[0] == 3


def test_verdicts_are_cached_across_restarts_and_failures_are_not(server, tmp_path):
    for expected in (1, 1):
        with panel(server, tmp_path) as judges:
            judges.submit("a", "blue", sample(), "helpful")
            assert [verdict.score for _, _, verdict in judges.results()] == [1.0]
        assert len(server.requests) == expected
    server.reply = lambda prompt: "hm"
    for expected in (2, 3):
        with panel(server, tmp_path) as judges:
            judges.submit("a", "other", sample(), "helpful")
            assert [verdict.status for _, _, verdict in judges.results()] == [Status.error]
        assert len(server.requests) == expected


def test_closing_breaks_off_what_runs(server):
    server.raw = lambda handler: time.sleep(2)
    judges = panel(server, timeout_s=30.0, retries=0)
    judges.submit("a", "blue", sample(), "helpful")
    time.sleep(0.3)
    began = time.monotonic()
    judges.close()
    assert time.monotonic() - began < 1.5


def test_the_pool_of_a_judged_run_offers_what_stages_use(build):
    for name in ("submit", "results", "score", "counts", "versions", "close"):
        assert hasattr(JudgedPool, name)
    assert read_judges(build)["helpful"].weight_cap == 0.3
