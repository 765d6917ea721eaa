"""The conflict table: one row per rule (section C5 of the techniques guide, and our own), to be read and tested as a table."""

from __future__ import annotations

from factory.stages.deepspeed_config import split_as
from factory.stages.rl.prompts import LESSONS, stage_read
from factory.stages.rl.rule import Case, Rule

_POSITIVE = ("num_steps", "samples", "prompts_per_step", "max_new_tokens", "updates_per_rollout", "minibatches")


_CLIPS = ("loss.clip", "loss.stable_clip", "loss.gspo", "loss.gspo_token", "loss.cispo", "loss.cpgd", "loss.sapo")
_GROUP_BASELINES = ("advantage.group_std", "advantage.group_mean", "advantage.rloo", "advantage.batch_std")
_GROUP_ADVANTAGES = (*_GROUP_BASELINES, "advantage.reinforce_pp_baseline")


def _idle_clip(case: Case) -> bool:
    one_update = case.config.updates_per_rollout * case.config.minibatches == 1
    if case.config.one_step_off and "sampler_logprobs" not in case.chosen.needs():
        return False  # the ratio starts from the weights of a step ago
    return one_update and case.has(*_CLIPS) and not any(case.chosen.many("inject")) and not case.has("resample.ssr")


SETTING_RULES: tuple[Rule, ...] = (
    Rule(
        "counts", True, lambda c: any(getattr(c.config, key) < 1 for key in _POSITIVE),
        f"{', '.join(_POSITIVE)} must be 1 or more.",
    ),
    Rule(
        "group_of_one", True, lambda c: c.config.group_size < 2 and c.has(*_GROUP_ADVANTAGES),
        "group_size must be 2 or more for group advantages: one rollout has nothing to be compared with. Set group_size=8.",
    ),
    Rule(
        "greedy_rollouts", True, lambda c: c.config.temperature <= 0,
        "temperature must be above 0: greedy rollouts of one prompt are all the same. Set temperature=1.0.",
    ),
    Rule("top_p_range", True, lambda c: not 0 < c.config.top_p <= 1, "top_p must be above 0 and at most 1."),
    Rule(
        "sharded_generation", True, lambda c: split_as(c.launch) == 3 and c.config.engine == "transformers",
        "launch.zero_stage=3 and launch.fsdp split the weights over processes, so engine=transformers cannot generate. "
        "Set launch.zero_stage=2 and fsdp=false, or engine=vllm.",
    ),
    Rule(
        "cut_sampling", False, lambda c: c.config.top_p < 1 or c.config.top_k > 0,
        "top_p or top_k cut what is sampled, but ratios and KL speak of the whole of it: the update is slightly off-policy.",
    ),
    Rule("idle_clip", False, _idle_clip, "one update per rollout: the ratio is 1, so the clip range has no effect."),
    Rule(
        "no_filter_waste", False,
        lambda c: (
            c.has("supply.fixed") and not c.get("supply.fixed", "drop_equal") and c.has(*_GROUP_BASELINES)
            and c.chosen.one("kl") is None and not c.has("resample.oreal_pair", "resample.ssr", "resample.drop_equal")
            and not c.chosen.many("inject")
        ),
        "groups with equal rewards are kept: they cost a forward and backward and teach nothing.",
    ),
)  # fmt: skip


def _kl_in_reward(case: Case) -> bool:
    kl = case.chosen.one("kl")
    return kl is not None and kl.place == "reward"


def _is_deepspeed(case: Case) -> bool:
    return int(case.launch.get("zero_stage", -1)) >= 1


def _wants_offline(case: Case) -> bool:
    samplers = ("sampler.difficulty_pool", "sampler.rlcs", "sampler.curriculum")
    return case.has("pool.rap") or any(case.get(key, "by") == "offline" for key in samplers)


def _ptst_fits(case: Case) -> bool:
    most_tokens, most_rollouts = case.config.max_new_tokens, case.config.group_size
    limits = case.chosen.made["clock.ptst"].all_limits(most_tokens, most_rollouts)
    return all(1 <= tokens <= most_tokens and 2 <= rollouts <= most_rollouts for tokens, rollouts in limits)


def _same_stages(case: Case) -> bool:
    ends = case.get("auxiliary.staged_entropy", "ends")
    return len(case.get("sampler.curriculum", "tiers", ())) == 3 and case.get("sampler.curriculum", "ends") == ends


_RESHAPED = ("inject.luffy", "inject.exgrpo")
"""Pieces whose foreign rollouts train with a reshaped ratio."""

_LENGTH_REWARDS = (
    "group_reward.kimi_length", "group_reward.vl_cogito_length", "group_reward.shortest_bonus", "group_reward.dast_length",
    "reward.efficient_length", "reward.srpo_length",
)  # fmt: skip
_DIFFICULTY_WEIGHTS = ("weigh.odsw", "weigh.observe", "weigh.univg")
_PART_MIXERS = ("mixer.annealed", "mixer.format_gate", "mixer.multiply", "mixer.markov_gate", "mixer.normalise_then_sum")


def _num_length_rewards(case: Case) -> int:
    return sum(case.has(key) for key in _LENGTH_REWARDS)


PIECE_RULES: tuple[Rule, ...] = (
    Rule(
        "both_overlong", False, lambda c: c.all_of("resample.overlong_filter", "reward.overlong"),
        "overlong filter and punishment together: a truncated rollout gets no gradient, but its punishment moves the mean.",
    ),
    Rule(
        "k1_in_loss", False, lambda c: c.get("kl.k1", "place") == "loss",
        "kl=k1 in the loss has a gradient of mean zero; k3 (or k1 with place=reward) acts.",
    ),
    Rule(
        "sequence_loss_token_weight", True, lambda c: c.has("loss.gspo", "loss.mirror_descent") and bool(c.chosen.many("token_weight")),
        "loss gspo and mirror_descent are one number per rollout, so token weights contradict them. Use loss=gspo_token.",
    ),
    Rule(
        "mirror_aggregator", True, lambda c: c.has("loss.mirror_descent") and not c.has("aggregator.seq_mean_token_mean"),
        "loss=mirror_descent is one number per rollout: another aggregator would weigh it by length. "
        "Set pieces.aggregator=seq_mean_token_mean.",
    ),
    Rule(
        "gspo_aggregator", False,
        lambda c: c.has("loss.gspo") and not c.has("aggregator.seq_mean_token_mean") and c.chosen.preset != "luspo",
        "loss=gspo is one number per rollout; any aggregator but seq_mean_token_mean weighs it by length (LUSPO does so on purpose).",
    ),
    Rule(
        "mirror_two_references", True, lambda c: c.has("loss.mirror_descent") and c.chosen.one("kl") is not None,
        "loss=mirror_descent has its own reference, the policy that sampled; take the KL piece out (pieces.kl=null).",
    ),
    Rule(
        "oreal_aggregator", True, lambda c: c.has("loss.oreal") and not c.has("aggregator.token_mean"),
        "loss=oreal divides by the tokens of right and of wrong rollouts, which needs pieces.aggregator=token_mean.",
    ),
    Rule(
        "std_with_constant_length", False, lambda c: c.all_of("advantage.group_std", "aggregator.constant_length"),
        "advantage=group_std with aggregator=constant_length is legal, but it is not Dr. GRPO, which is defined by having no std.",
    ),
    Rule(
        "dr_grpo_with_std", True, lambda c: c.chosen.preset == "dr_grpo" and not c.has("advantage.group_mean"),
        "preset dr_grpo is defined by advantage=group_mean. Name another preset (grpo) and change that.",
    ),
    Rule(
        "schedule_without_kl", True, lambda c: c.chosen.one("kl") is None and not c.has("kl_schedule.constant"),
        "a KL schedule has nothing to scale without a KL piece. Set pieces.kl=k3, or take pieces.kl_schedule out.",
    ),
    Rule(
        "token_kl_estimator", True,
        lambda c: c.has("advantage.reinforce_pp") and _kl_in_reward(c) and not (c.has("kl.k1") and c.has("mixer.weighted")),
        "advantage=reinforce_pp charges the KL to single tokens, which only k1 and mixer=weighted let it tell apart. "
        "Set pieces.kl.k1.place=reward and leave the mixer alone.",
    ),
    Rule(
        "no_ratio_many_updates", False,
        lambda c: c.has("loss.reinforce", "loss.oreal") and c.config.updates_per_rollout * c.config.minibatches > 1,
        "losses reinforce and oreal have no ratio: from the second update of a step on, the gradient is a little off-policy.",
    ),
    Rule(
        "two_flags", True, lambda c: c.all_of("loss.kl_cov", "auxiliary.kl_cov_penalty"),
        "loss=kl_cov has the penalty already. Take auxiliary.kl_cov_penalty out.",
    ),
    Rule(
        "skip_under_deepspeed", True, lambda c: c.has("step_rule.max_grad_norm") and _is_deepspeed(c),
        "step_rule.max_grad_norm cannot hold DeepSpeed's step back. Set launch.zero_stage=-1.",
    ),
    Rule(
        "reset_under_deepspeed", True, lambda c: bool(c.get("loss.mirror_descent", "reset_optimizer")) and _is_deepspeed(c),
        "loss=mirror_descent resets the optimiser, which DeepSpeed shards. Set launch.zero_stage=-1, or reset_optimizer=false.",
    ),
    Rule(
        "moe_token_ratio", False, lambda c: c.is_moe and c.has("loss.clip", "loss.stable_clip"),
        "token ratios of a mixture-of-experts model carry the routing's noise; gspo or oreal do not.",
    ),
    Rule(
        "offline_rates", True, lambda c: _wants_offline(c) and stage_read(c.config) is None,
        "this sampler or pool piece reads what a select stage measured, and prompts come from the pack. Set prompts_from to a stage "
        "of kind select, or pieces.sampler.<name>.by to latest or meta.KEY.",
    ),
    Rule(
        "ptst_limits", True, lambda c: c.has("clock.ptst") and not _ptst_fits(c),
        "clock.ptst: in every stage of it max_new_tokens must be 1 up to the configured one and group_size 2 up to the configured one. "
        "Raise group_size (16 in the paper) or max_new_tokens, or change pieces.clock.ptst.lengths and groups.",
    ),
    Rule(
        "staged_entropy_alone", False, lambda c: c.has("auxiliary.staged_entropy") and not _same_stages(c),
        "auxiliary.staged_entropy follows no sampler.curriculum of three tiers with the same ends: its stages are then only of time.",
    ),
    Rule(
        "filter_before_injection", False,
        lambda c: c.chosen.one("supply").drop_equal and (bool(c.chosen.many("inject")) or c.has("resample.ssr")),
        "supply drops groups with equal rewards before rollouts are put in or replayed, so the groups that need them are gone. "
        "Set pieces.supply=fixed; pieces.resample=drop_equal filters afterwards.",
    ),
    Rule(
        "ssr_and_pad", True, lambda c: c.has("resample.ssr") and c.has("resample.pad_paper", "resample.pad_code"),
        "resample ssr and pad both choose rollouts by |A| after the advantage. Take one out.",
    ),
    Rule(
        "exgrpo_and_arpo", True, lambda c: c.all_of("inject.exgrpo", "inject.arpo"),
        "inject exgrpo and arpo both put stored successes into the same groups. Take one out.",
    ),
    Rule(
        "luffy_and_exgrpo", False, lambda c: c.all_of("inject.luffy", "inject.exgrpo"),
        "inject luffy and exgrpo together: a group holds one foreign rollout at most, and the stored success wins.",
    ),
    Rule(
        "pad_with_std", False, lambda c: c.has("resample.pad_paper", "resample.pad_code") and c.has("advantage.group_std"),
        "advantages divided by the deviation put a lone success of a binary reward at |A| = 2.5 in a group of 8: an upper threshold "
        "below that throws the rarest rollouts away. Use pieces.advantage=group_mean, or thresholds of that scale.",
    ),
    Rule(
        "injected_and_cispo", True, lambda c: c.has("loss.cispo") and c.has(*_RESHAPED),
        "loss=cispo would clip the ratio of foreign rollouts, which are to be reshaped and not clipped. Set pieces.loss=mixed.",
    ),
    Rule(
        "injected_and_cpgd", True, lambda c: c.has("loss.cpgd") and c.has(*_RESHAPED),
        "loss=cpgd has no ratio to reshape for foreign rollouts. Set pieces.loss=mixed.",
    ),
    Rule(
        "injected_and_sequence_loss", True,
        lambda c: c.has("loss.gspo", "loss.gspo_token", "loss.mirror_descent") and c.has(*_RESHAPED),
        "losses gspo, gspo_token and mirror_descent have one ratio per rollout; foreign rollouts need one per token to reshape. "
        "Set pieces.loss=mixed.",
    ),
    Rule(
        "injected_and_clip", False, lambda c: c.has("loss.clip", "loss.stable_clip") and c.has(*_RESHAPED),
        "foreign rollouts go through the plain clip: their unlikely tokens hardly learn. pieces.loss=mixed reshapes their ratio.",
    ),
    Rule(
        "luffy_without_lessons", False, lambda c: c.has("inject.luffy") and c.config.prompts_from != LESSONS,
        "inject.luffy has no demonstrations here: set prompts_from=lessons, or every group stays as it was sampled.",
    ),
    Rule(
        "sophia_update", True, lambda c: c.has("hook.sophia") and not c.all_of("loss.weighted_sft", "advantage.none"),
        "hook.sophia's traces were sampled by another model, so they can only be imitated. "
        "Set pieces.loss=weighted_sft and pieces.advantage=none.",
    ),
    Rule(
        "racro_without_caption", False, lambda c: c.has("hook.racro") and c.has("format.pack"),
        "hook.racro takes the completion for a caption, but the prompts ask for an answer. Set pieces.format=caption.",
    ),
    Rule(
        "two_length_rewards", True, lambda c: _num_length_rewards(c) > 1,
        "two length rewards in one stage pull at each other. Keep one of them.",
    ),
    Rule(
        "length_and_overlong", False, lambda c: _num_length_rewards(c) > 0 and c.has("reward.overlong"),
        "a length reward and the overlong punishment both act where their ranges meet; keep the punishment's cache_share small.",
    ),
    Rule(
        "length_and_rethinking", False, lambda c: _num_length_rewards(c) > 0 and c.has("hook.forced_rethinking"),
        "forced rethinking makes answers longer by design, and a length reward makes them shorter: use one of them.",
    ),
    Rule(
        "difficulty_twice", False, lambda c: c.has("advantage.group_std") and c.has(*_DIFFICULTY_WEIGHTS),
        "advantage=group_std already blows up hard and easy prompts; a difficulty weight on top counts difficulty twice.",
    ),
    Rule(
        "kl_weight_without_kl", True, lambda c: c.chosen.one("kl_weight") is not None and c.chosen.one("kl") is None,
        "a KL weight has nothing to scale without a KL piece. Set pieces.kl=k3, or take pieces.kl_weight out.",
    ),
    Rule(
        "kl_weight_in_reward", True, lambda c: c.chosen.one("kl_weight") is not None and _kl_in_reward(c),
        "a KL weight scales the KL in the loss, and the KL is in the reward. Set place=loss on the KL piece.",
    ),
    Rule(
        "care_with_kl", False, lambda c: c.has("group_reward.care") and c.chosen.one("kl") is not None,
        "CARE is trained without KL: its reference only scores, and it is the KL's target here as well.",
    ),
    Rule(
        "care_frozen", False, lambda c: c.has("group_reward.care") and not c.has("reference.ema"),
        "CARE's confidence comes from a moving average of the policy; with reference=start it is not CARE.",
    ),
    Rule(
        "idle_ema", False, lambda c: c.has("reference.ema") and "ref_logprobs" not in c.chosen.needs(),
        "reference=ema: no piece asks for a reference, so none is kept.",
    ),
    Rule(
        "sharded_ema", True, lambda c: c.has("reference.ema") and split_as(c.launch) == 3,
        "launch.zero_stage=3 and launch.fsdp split the weights over processes, so reference=ema cannot average them. "
        "Set launch.zero_stage=2 and fsdp=false.",
    ),
    Rule(
        "vote_and_labels", True, lambda c: c.has("group_reward.vote", "hook.srpo_accuracy") and c.has(*_PART_MIXERS),
        "group_reward.vote and hook.srpo_accuracy stand in place of the verifiers' scores, which this mixer reads: pseudo-label and "
        "label would fight. Set pieces.mixer=weighted.",
    ),
    Rule(
        "vote_and_right", False, lambda c: c.has("group_reward.vote") and c.has("group_reward.care", "group_reward.trust"),
        "group_reward.vote: what CARE and Trust take for right is then a vote.",
    ),
    Rule(
        "normalised_twice", False, lambda c: c.has("mixer.normalise_then_sum") and not c.has("advantage.none"),
        "mixer=normalise_then_sum gives advantages; another estimator on top normalises them again. Set pieces.advantage=none.",
    ),
    Rule(
        "normalised_kl", True, lambda c: c.has("mixer.normalise_then_sum") and _kl_in_reward(c),
        "mixer=normalise_then_sum would normalise the KL's coefficient away. Set place=loss on the KL piece.",
    ),
    Rule(
        "papo_and_entropy_bonus", True,
        lambda c: c.has("auxiliary.papo") and c.has("auxiliary.entropy_bonus", "auxiliary.staged_entropy")
        and bool(c.get("auxiliary.papo", "eta") or c.get("auxiliary.papo", "eta_masked")),
        "auxiliary=papo pushes both entropies down and an entropy bonus pushes one up. Take one of them out, or set "
        "pieces.auxiliary.papo.eta=0 and eta_masked=0.",
    ),
    Rule(
        "papo_and_zoom", False, lambda c: c.all_of("auxiliary.papo", "hook.zoom"),
        "PAPO masks the prompt's images; parts that hook=zoom shows stay visible in the masked view.",
    ),
    Rule(
        "papo_entropy_without_gradient", False,
        lambda c: bool(c.get("auxiliary.papo", "eta_masked")) and not c.get("auxiliary.papo", "recompute"),
        "PAPO's masked entropy shows in the figures and has no gradient, as in the released code; recompute=true gives it one.",
    ),
    Rule(
        "zoom_without_hook", True, lambda c: c.has("format.zoom") and not c.has("hook.zoom"),
        "format=zoom asks for calls that nothing answers. Set pieces.hook=zoom.",
    ),
    Rule(
        "zoom_without_format", False, lambda c: c.has("hook.zoom") and not c.has("format.zoom"),
        "hook=zoom answers calls, but only format=zoom tells the policy about them and hands the last turn to the verifiers.",
    ),
    Rule(
        "zoom_units", True,
        lambda c: c.all_of("format.zoom", "hook.zoom") and c.get("format.zoom", "unit") != c.get("hook.zoom", "unit"),
        "format.zoom and hook.zoom read boxes in different units. Set both unit settings to the same.",
    ),
    Rule(
        "format_reward_without_format", True, lambda c: c.has("reward.format") and not hasattr(c.chosen.one("format"), "judged"),
        "reward=format reads the chosen format's own check, and this one has none. Set pieces.format=think_answer, for example.",
    ),
    Rule(
        "caption_reward_without_caption", True,
        lambda c: c.has("reward.caption")
        and {"info": "format.caption_reason_answer", "caption": "format.satori", "observe": "format.observe",
             "context": "format.context"}.get(str(c.get("reward.caption", "block"))) not in c.chosen.made,
        "reward=caption reads a block that the format does not ask for. Set pieces.format=caption_reason_answer.",
    ),
    Rule(
        "satori_without_format", True, lambda c: c.has("reward.satori") and not c.has("format.satori"),
        "reward=satori reads the blocks of format=satori. Set pieces.format=satori.",
    ),
    Rule(
        "edited_without_sft", False, lambda c: c.has("auxiliary.sft_selected") and not c.has("hook.forced_rethinking"),
        "auxiliary=sft_selected learns from rollouts that a hook edited, and no hook of forced rethinking is in use.",
    ),
)  # fmt: skip
