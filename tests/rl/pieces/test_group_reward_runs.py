"""The presets of rewards on groups, run for two real steps each: every term is in the log, and a step is taken."""

import math

import judged
import pytest

RUNS = {
    "vl_cogito_hard": "group_reward.vl_cogito_length",
    "observe_r1": "group_reward.shortest_bonus",
    "dast": "group_reward.dast_length",
    "alphadrive": "group_reward.diversity",
    "srpo": "reward.srpo_length",
}
SHORT = {"observe_r1": {"group_reward": {"shortest_bonus": {"min_length": 1}}}}


@pytest.mark.proves("group_reward.vl_cogito_length", "run")
@pytest.mark.proves("group_reward.shortest_bonus", "run")
@pytest.mark.proves("group_reward.dast_length", "run")
@pytest.mark.proves("group_reward.diversity", "run")
@pytest.mark.proves("hook.srpo_accuracy", "run")
@pytest.mark.parametrize("preset", RUNS)
def test_a_preset_runs_and_logs_its_term(run_stage, preset):
    _, rows, _ = run_stage(preset=preset, num_steps=2, max_new_tokens=8, pieces=SHORT.get(preset, {}))
    assert all(math.isfinite(row["loss"]) and f"shaping/{RUNS[preset]}" in row for row in rows)
    if preset == "srpo":
        # The tiny policy writes a few words: no two passes, so accuracy is worth nothing.
        assert [row["reward"] for row in rows] == [0.0, 0.0]
    else:
        assert rows[0][f"shaping/{RUNS[preset]}"] != 0


@pytest.mark.proves("weigh.univg", "run")
@pytest.mark.proves("weigh.odsw", "run")
def test_difficulty_weights_scale_the_step(run_stage):
    _, plain, _ = run_stage("plain", num_steps=1)
    _, hard, _ = run_stage("hard", num_steps=1, pieces={"weigh": {"univg": {"form": "exp"}}})
    _, easy, _ = run_stage("easy", num_steps=1, pieces={"weigh": {"odsw": {"form": "medium"}}})
    # A third of the answers is right: exp(1 - 1/3) is about 2, cos((1/3 - 1/2) pi) about 0.87.
    assert hard[0]["grad_norm"] > 1.4 * plain[0]["grad_norm"] > 1.4 * easy[0]["grad_norm"] > 0


@pytest.mark.proves("group_reward.trust", "run")
def test_trust_pays_for_what_the_judge_likes(run_stage):
    pieces = {"group_reward": {"trust": {"part": "calm", "alpha": 1.0}}}
    _, rows, _ = run_stage(kit=judged, num_steps=4, pieces=pieces)
    assert rows[0]["shaping/group_reward.trust"] > 0 and rows[-1]["reward/calm"] > rows[0]["reward/calm"]


@pytest.mark.proves("group_reward.vote", "run")
def test_the_vote_learns_from_no_label(run_stage):
    """The recorded accuracy is not what is rewarded: the policy comes to agree with itself, whatever the word."""
    _, rows, _ = run_stage(preset="mm_upt", num_steps=10, optim={"lr": 3e-3})
    assert rows[-1]["reward"] > rows[0]["reward"] + 0.1
    assert rows[0]["reward"] != pytest.approx(rows[0]["reward/exact"])


@pytest.mark.proves("group_reward.kimi_length", "run")
@pytest.mark.proves("reward.efficient_length", "run")
@pytest.mark.proves("reward.repetition", "run")
def test_pieces_without_a_preset_run(run_stage):
    kimi = {"group_reward": {"kimi_length": {"weight": 0.5, "off_until": 0.5}}, "reward": {"repetition": {"ngram": 1}}}
    _, rows, _ = run_stage("kimi", num_steps=2, pieces=kimi)
    assert rows[0]["shaping/group_reward.kimi_length"] == 0.0 != rows[1]["shaping/group_reward.kimi_length"]
    _, rows, _ = run_stage("budget", num_steps=1, pieces={"reward": {"efficient_length": {"budget": 2, "alpha": 0.5}}})
    assert 0 < rows[0]["shaping/reward.efficient_length"] < 0.05


def test_the_plan_refuses_a_part_that_no_task_measures(run_stage):
    from factory.errors import ConfigError

    with pytest.raises(
        ConfigError, match=r"^stages\.rl\.pieces\.group_reward\.trust\.part='clam': .*no verifier 'clam'\. Did you mean 'calm'"
    ):
        run_stage(kit=judged, pieces={"group_reward": {"trust": {"part": "clam"}}})
