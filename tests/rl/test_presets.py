"""Preset rows, overrides, contradictions and the plan: all of it without torch."""

import subprocess
import sys
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from factory.config.schema import AdapterConfig, AdapterKind
from factory.contracts import Manifest, ModelFacts
from factory.errors import ConfigError, DataError, TrainingError
from factory.stages.rl import STAGE
from factory.stages.rl.config import RlConfig
from factory.stages.rl.conflicts import check
from factory.stages.rl.pieces.advantage import GroupStd
from factory.stages.rl.pieces.catalogue import pieces
from factory.stages.rl.pieces.needs import NEEDS
from factory.stages.rl.pieces.piece import SLOTS, Piece, entered
from factory.stages.rl.pieces.policy_loss import Clip
from factory.stages.rl.pieces.supply import Refill
from factory.stages.rl.presets import presets, resolve
from factory.stages.rl.stage import told_of

FACTS = ModelFacts(ref="m", modality="text", num_params=1000, hidden_size=8, num_layers=2, vocab_size=50, context=512)
PACK = SimpleNamespace(
    manifest=Manifest(
        name="p",
        title="P",
        version="1",
        license="MIT",
        intended_use="tests",
        not_for="else",
        tasks={"t": {"verifiers": {"exact": 1.0, "format": 0.1}, "gate": None, "title": "T"}},
    ),
    verifiers=lambda: {"exact": None, "format": None},
)
BUILD = {"precision": "fp32", "mixture": {}, "launch": {"processes": 1, "zero_stage": -1}}


def plan(**changes):
    return STAGE.plan("rl", RlConfig(**changes), FACTS, PACK, BUILD)


def test_grpo_is_std_advantage_symmetric_clip_and_sequence_mean():
    chosen = resolve(RlConfig(preset="grpo"))
    assert chosen.one("advantage") == GroupStd(eps=1e-6)
    assert chosen.one("loss") == Clip(eps_low=0.2, eps_high=0.2, dual_clip=0.0)
    assert chosen.one("aggregator").key == "aggregator.seq_mean_token_mean"
    assert chosen.one("kl") is None and chosen.one("supply").key == "supply.fixed"


def test_dr_grpo_is_grpo_without_std_and_length():
    grpo, dr = resolve(RlConfig(preset="grpo")), resolve(RlConfig(preset="dr_grpo"))
    assert set(grpo.made) ^ set(dr.made) == {
        "advantage.group_std", "advantage.group_mean", "aggregator.seq_mean_token_mean", "aggregator.constant_length",
    }  # fmt: skip


def test_dapo_is_clip_higher_token_mean_dynamic_sampling_and_both_overlong_pieces():
    chosen = resolve(RlConfig(preset="dapo"))
    assert chosen.one("loss") == Clip(eps_low=0.2, eps_high=0.28)
    assert chosen.one("aggregator").key == "aggregator.token_mean" and chosen.has("advantage.group_std")
    assert chosen.one("supply") == Refill(max_refills=9, on_spent="error") and chosen.one("kl") is None
    # L_max 20480, cache 4096: 18432 lies in the middle of the cache, so half of the factor is taken.
    ctx = SimpleNamespace(max_new_tokens=20480)
    assert chosen.many("reward")[0].score(ctx, None, SimpleNamespace(length=18432)) == pytest.approx(-0.25)
    assert [piece.key for piece in chosen.many("resample")] == ["resample.overlong_filter"]


def test_dapo_oversample_draws_twice_and_never_refills():
    supply = resolve(RlConfig(preset="dapo_oversample")).one("supply")
    assert (supply.first_draw(16), supply.max_refills, supply.on_spent, supply.drop_equal) == (32, 0, "train_smaller", True)


def test_changes_are_laid_over_the_preset_and_named():
    chosen = resolve(RlConfig(preset="dapo", pieces={"loss": {"clip": {"eps_high": 0.4}}, "kl": "k3", "resample": None}))
    assert chosen.one("loss") == Clip(eps_low=0.2, eps_high=0.4)
    assert chosen.changed == ("without resample.overlong_filter", "loss.clip.eps_high=0.4", "kl=k3")
    assert (
        "preset dapo, changed: loss.clip.eps_high=0.4" in plan(preset="dapo", pieces={"loss": {"clip": {"eps_high": 0.4}}}).notes
    )


def test_a_setting_that_falls_back_to_its_default_is_named():
    chosen = resolve(RlConfig(preset="dapo", pieces={"loss": None}))
    assert chosen.one("loss") == Clip(eps_low=0.2, eps_high=0.2)
    assert "loss.clip.eps_high at its default" in chosen.changed


def test_a_slot_for_one_is_replaced_and_a_slot_for_many_is_joined():
    one = resolve(RlConfig(preset="dapo", pieces={"supply": "fixed"}))
    assert [piece.key for piece in one.many("supply")] == ["supply.fixed"]
    many = resolve(RlConfig(preset="dapo", pieces={"auxiliary": "entropy_bonus", "reward": {"overlong": {"factor": 1.0}}}))
    assert many.has("auxiliary.entropy_bonus") and many.many("reward")[0].factor == 1.0
    gone = resolve(RlConfig(preset="dapo", pieces={"reward": {"overlong": None}}))
    assert not gone.many("reward")


def test_the_same_value_as_the_preset_is_no_change():
    assert resolve(RlConfig(preset="dapo", pieces={"loss": {"clip": {"eps_high": 0.28}}})).changed == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "dappo"}, "preset='dappo' is not known. Did you mean 'dapo'"),
        ({"pieces": {"advantage": "group_sdt"}}, "pieces.advantage='group_sdt' is not known. Did you mean 'group_std'"),
        ({"pieces": {"advantages": "group_std"}}, "pieces.advantages: there is no such slot. Did you mean 'advantage'"),
        ({"pieces": {"loss": {"clip": {"eps": 1.0}}}}, "pieces.loss.clip.eps: unknown setting"),
        (
            {"pieces": {"loss": {"clip": {"eps_high": "much"}}}},
            r"^stages\.\w+\.pieces\.loss\.clip\.eps_high: .*could not be converted to Float\. See: ",
        ),
        ({"pieces": {"loss": {"clip": {"eps_low": 0.0}}}}, "pieces.loss.clip: eps_low must be in"),
        ({"pieces": {"loss": {"clip": {"dual_clip": 0.9}}}}, "dual_clip must be above 1"),
        ({"pieces": {"loss": {"clip": 3}}}, "must map settings to values"),
        ({"pieces": {"loss": ["clip"]}}, "must be a piece's name or a mapping"),
        ({"pieces": {"kl": {"k1": {}, "k3": {}}}}, "pieces.kl holds one piece, got k1 and k3"),
        ({"pieces": {"kl": {"k3": {"coef": -0.1}}}}, "coef must be 0 or more"),
        ({"pieces": {"kl": {"k3": {"unbiased": True, "place": "reward"}}}}, "unbiased=true belongs to place=loss"),
        ({"pieces": {"kl": {"k3": {"place": "both"}}}}, "place='both' is not known"),
        ({"pieces": {"supply": {"refill": {"on_spent": "weep"}}}}, "on_spent='weep' is not known"),
        ({"pieces": {"supply": {"oversample": {"factor": 0.5}}}}, "factor must be 1 or more"),
        ({"engine": "transfomers"}, "engine='transfomers' is not known. Did you mean 'transformers'"),
        ({"max_new_tokens": 500}, "exceed the model's context of 512"),
    ],
)
def test_wrong_settings_are_refused_at_plan(changes, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        plan(**changes)


def test_a_required_setting_is_asked_for(monkeypatch):
    @dataclass(frozen=True)
    class NeedsTau:
        tau: float

    record = Piece("loss", "needs_tau", NeedsTau, "f", "a paper that does not say", frozenset())
    monkeypatch.setitem(entered(), "loss.needs_tau", record)
    with pytest.raises(ConfigError, match=r"pieces\.loss\.needs_tau needs tau: no source gives a value"):
        plan(pieces={"loss": "needs_tau"})
    monkeypatch.undo()


def test_zero_3_cannot_generate_in_process():
    with pytest.raises(ConfigError, match=r"stages\.rl: launch\.zero_stage=3"):
        STAGE.plan("rl", RlConfig(), FACTS, PACK, {**BUILD, "launch": {"zero_stage": 3}})


WITH_KL = {"kl": {"k3": {"coef": 0.04}}}


def test_no_reference_is_kept_without_kl_and_the_plan_adds_one_with_it():
    without, with_kl = plan(), plan(pieces=WITH_KL)
    assert with_kl.peak_memory_bytes == without.peak_memory_bytes + 1000 * 4
    assert "reference" in with_kl.memory_formula and "reference" not in without.memory_formula
    lora = plan(pieces=WITH_KL, adapter=AdapterConfig(kind=AdapterKind.lora))
    assert "reference 1" not in lora.memory_formula
    assert resolve(RlConfig(pieces=WITH_KL)).extra_forwards() == 1.0 and resolve(RlConfig()).extra_forwards() == 0.0
    assert resolve(RlConfig(pieces={"auxiliary": "entropy_bonus"})).needs() == {"old_logprobs", "entropy"}


def test_plan_counts_tokens():
    settings = {
        "num_steps": 10,
        "prompts_per_step": 4,
        "group_size": 8,
        "max_new_tokens": 20,
        "updates_per_rollout": 2,
        "minibatches": 3,
    }
    # trained: 10 steps * 2 passes * 32 rollouts * (48 + 20) tokens; generated: 10 * 4 prompts * 8 * 20, of twice the prompts with oversampling
    for preset, prompts in (("dapo_plain", 4), ("dapo_oversample", 8)):
        found = plan(preset=preset, **settings)
        assert (found.num_steps, found.num_tokens, found.num_generated_tokens) == (60, 10 * 2 * 32 * 68, 10 * prompts * 8 * 20)


def test_plan_counts_what_hooks_generate_and_what_papo_recomputes():
    plain = plan(num_steps=10, prompts_per_step=4, group_size=8, max_new_tokens=20)
    forced = plan(
        num_steps=10, prompts_per_step=4, group_size=8, max_new_tokens=20, pieces={"hook": {"force_answer": {"answer_tokens": 5}}}
    )
    assert forced.num_generated_tokens * 20 == plain.num_generated_tokens * 25
    assert any("5 further tokens" in note for note in forced.notes)
    masked = plan(
        num_steps=10, prompts_per_step=4, group_size=8, max_new_tokens=20, pieces={"auxiliary": {"papo": {"recompute": True}}}
    )
    assert masked.num_tokens == 2 * plain.num_tokens


def test_a_pack_without_samples_is_refused():
    pack = SimpleNamespace(manifest=replace(PACK.manifest, provides=("corpus",)), verifiers=PACK.verifiers)
    with pytest.raises(ConfigError, match="provides no samples"):
        STAGE.plan("rl", RlConfig(), FACTS, pack, BUILD)


@pytest.mark.parametrize("name", presets())
def test_every_preset_plans_and_says_where_it_comes_from(name):
    chosen = resolve(RlConfig(preset=name))
    assert chosen.changed == ()
    check("rl", RlConfig(preset=name), chosen, {})
    assert presets()[name].title and presets()[name].source


def test_every_piece_names_slot_source_formula_and_known_needs():
    for key, record in pieces().items():
        assert record.slot in SLOTS and record.formula and record.source, key
        assert record.needs <= set(NEEDS), key


def test_planning_imports_no_torch():
    code = "import sys; import factory.stages.rl; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_moe_base_is_told_that_token_level_clipping_sees_routing_noise():
    notes = STAGE.plan("rl", RlConfig(preset="grpo"), replace(FACTS, is_moe=True), PACK, BUILD).notes
    assert any("GSPO" in note or "gspo" in note for note in notes)
    assert not any("gspo" in note.lower() for note in STAGE.plan("rl", RlConfig(preset="grpo"), FACTS, PACK, BUILD).notes)


@pytest.mark.parametrize("kind", [TrainingError, DataError])
def test_what_a_piece_says_while_it_runs_names_the_stage_of_the_recipe(kind):
    with pytest.raises(
        kind, match=r"^stages\.drill: no group is useful: raise stages\.drill\.pieces\.supply\.refill\.max_refills\.$"
    ):
        with told_of("drill"):
            raise kind("rl: no group is useful: raise pieces.supply.refill.max_refills.")
    with pytest.raises(kind, match=r"^gradients are not finite$"), told_of("drill"):
        raise kind("gradients are not finite")


def test_the_order_of_pieces_does_not_depend_on_what_was_imported_first():
    """Pieces of a slot for many are applied in catalogue order, so it must be the same in every process."""
    code = "{}; from factory.stages.rl.pieces.catalogue import pieces; print(list(pieces()))"
    first = [f"import factory.stages.rl.pieces.{module}" for module in ("zoom", "rlcs", "aggregate")]
    orders = {
        subprocess.run([sys.executable, "-c", code.format(line)], capture_output=True, text=True, check=True).stdout
        for line in ("pass", *first)
    }
    assert len(orders) == 1
