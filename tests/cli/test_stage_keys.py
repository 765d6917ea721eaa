"""What a stage refuses names the user's key, before anything runs; `config why` follows a key into preset and piece."""

from __future__ import annotations

from pathlib import Path

import pytest

CHAIN = """
domain: pathology
base: embedded-vl
stages:
  pick: {kind: select, samples: 24, rollouts: 4, max_new_tokens: 32, pairs: right_wrong, max_pairs: 2}
  prefer: {kind: preference, pairs_from: pick, batch_size: 8}
  judge: {kind: reward_model, pairs_from: pick, batch_size: 8, holdout: 0.25}
  drill: {kind: rl, prompts_from: pick, num_steps: 2, max_new_tokens: 24}
  soup: {kind: merge, reads: [prefer, drill]}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """Path of a recipe with one stage of each kind that reads another."""
    file = tmp_path / "chain.yaml"
    file.write_text(CHAIN)
    return str(file)


def test_a_chain_is_planned_with_what_each_step_reads(factory, recipe):
    made = factory("plan", "--recipe", recipe, "--json").json
    steps = {step["stage"]: step for step in made["steps"] if step["role"] == "stage"}
    assert steps["prefer"]["name"] == "03-prefer" and steps["prefer"]["reads"] == {"pick": "02-pick"}
    # 24 prompts x 2 pairs at most, not the 3000 (or three quarters of them) that would be taken
    assert (steps["prefer"]["num_samples"], steps["judge"]["num_samples"]) == (48, 48)
    assert steps["prefer"]["num_steps"] == 6
    shown = factory("plan", "--recipe", recipe).out
    assert "00-base + 02-pick" in shown and "06-drill + 03-prefer" in shown


def test_pairs_of_a_prompt_are_bounded_by_its_rollouts(factory, recipe):
    made = factory(
        "plan", "--recipe", recipe, "--set", "stages.pick.max_pairs=0", "--set", "stages.pick.rollouts=5", "--json"
    ).json
    # of 5 rollouts 2 right and 3 wrong give the most pairs: 6, of 24 prompts 144
    assert {step["num_samples"] for step in made["steps"] if step["kind"] == "preference"} == {144}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("prefer.pairs_from=", "stages.prefer: pack 'pathology' provides no pairs. Set stages.prefer.pairs_from"),
        ("prefer.loss=dpoo", "stages.prefer.loss is 'dpoo'. Did you mean 'dpo'?"),
        ("pick.pairs=none", "stages.prefer.pairs_from is 'pick', but stages.pick.pairs is none, so it writes no pairs. Set stages.pick.pairs=right_wrong"),
        ("judge.pairs_from=prefer", "stages.judge.pairs_from is 'prefer', a stage of kind 'preference', which writes no pairs. Name one that does (pick)"),
        ("drill.prompts_from=prefer", "stages.drill.prompts_from is 'prefer', a stage of kind 'preference', which writes no prompts"),
        ("drill.preset=gspoo", "stages.drill.preset='gspoo' is not known. Did you mean 'gspo'?"),
        ("drill.pieces.los=clip", "stages.drill.pieces.los: there is no such slot. Did you mean 'loss'?"),
        ("drill.pieces.loss.clip.eps_high=big", "stages.drill.pieces.loss.clip.eps_high: Value 'big'"),
        ("drill.pieces.sampler=rlcs", "Set stages.drill.pieces.sampler.rlcs.decay=VALUE"),
        ("drill.engine=vlm", "stages.drill.engine='vlm' is not known"),
        ("drill.tasks=[nope]", "stages.drill.tasks: the pack has no task 'nope'"),
        ("soup.reads=[prefer,judge]", "stages.soup.reads names 'judge', a stage of kind 'reward_model', which makes no model. Stages that do: base, prefer, drill."),
    ],
)  # fmt: skip
def test_a_refusal_names_the_key_of_the_recipe(factory, recipe, setting, message):
    ended = factory("plan", "--recipe", recipe, "--set", f"stages.{setting}")
    assert ended.code == 2 and message in ended.err and ended.err.startswith("error: stages.") and not ended.out


def test_config_why_follows_a_piece_into_preset_and_default(factory):
    key = "stages.rl.pieces.loss.clip.eps_high"
    dapo = ("--domain", "pathology", "--set", "stages.rl.preset=dapo")
    chain = factory("config", "why", key, *dapo, "--json").json[key]
    assert [(row["layer"], row["value"]) for row in chain] == [("default", 0.2), ("preset", 0.28)]
    text = factory("config", "why", key, *dapo, "--set", f"{key}=0.3").out
    assert text.startswith(f"{key} = 0.3\n") and "won command line  0.3" in text and "(preset dapo)" in text
    assert "stages.rl.pieces.sampler.shuffled" in factory("config", "why", "stages.rl.pieces", *dapo).out
    missed = factory("config", "why", key.replace("high", "hgh"), *dapo)
    assert missed.code == 2 and f"Did you mean '{key}'?" in missed.err
    wrong = factory("config", "why", key, "--domain", "pathology", "--set", "stages.rl.preset=dappo")
    assert wrong.code == 2 and "stages.rl.preset='dappo' is not known" in wrong.err


def test_an_unknown_slot_of_the_list_is_told_by_its_flag(factory):
    ended = factory("pieces", "list", "--slot", "los")
    assert ended.code == 2 and "--slot los: there is no such slot. Did you mean 'loss'?" in ended.err


def test_the_recipe_of_the_docs_is_planned(factory, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "stages.md").read_text(encoding="utf-8")
    [chain] = [block.split("```")[0] for block in page.split("```yaml\n")[1:] if block.startswith("# chain.yaml")]
    (tmp_path / "chain.yaml").write_text(chain)
    made = factory("plan", "--recipe", str(tmp_path / "chain.yaml"), "--json").json
    kinds = [step["kind"] for step in made["steps"] if step["role"] == "stage"]
    assert kinds == ["select", "preference", "rl", "merge"]
