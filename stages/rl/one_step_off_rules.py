"""What does not go with `one_step_off`: a table of rules as in conflict_rules.py."""

from __future__ import annotations

from factory.stages.rl.rule import Case, Rule

_WITHOUT_RATIO = ("loss.reinforce", "loss.oreal", "loss.weighted_sft")


def _refills(case: Case) -> bool:
    return case.chosen.one("supply").max_refills > 0


def _counts_between(case: Case) -> bool:
    sampler = case.chosen.one("sampler")
    return case.has("sampler.rlcs") or getattr(sampler, "on_exhausted", "") == "stop"


def _reserves(case: Case) -> bool:
    return any(hasattr(piece, "reserve") for piece in case.chosen.many("inject"))


def _continues(case: Case) -> bool:
    return any(hasattr(hook, "extra_tokens") for hook in case.chosen.many("hook"))


_ROWS: tuple[Rule, ...] = (
    Rule(
        "off_refills", True, _refills,
        "one_step_off writes the next step's rollouts before this one is rewarded, so supply=refill cannot ask for more. "
        "Set pieces.supply=oversample (or fixed).",
    ),
    Rule(
        "off_sampler", True, _counts_between,
        "one_step_off draws a step's prompts before the last step is counted; sampler.rlcs, and sampler.mix that stops, need the count. "
        "Use another sampler, or pieces.sampler.mix.on_exhausted=cycle.",
    ),
    Rule(
        "off_reserve", True, _reserves,
        "one_step_off draws a step's prompts before the last step filled the buffer, so inject.exgrpo cannot reserve its own. "
        "Take it out, or set one_step_off=false.",
    ),
    Rule(
        "off_hooks", True, _continues,
        "one_step_off hands out rollouts of older weights, and this hook would let the present ones write on in them. "
        "Take the hook out, or set one_step_off=false.",
    ),
    Rule(
        "off_uncorrected", True, lambda c: c.has(*_WITHOUT_RATIO) and not c.has("token_weight.tis"),
        "one_step_off: losses reinforce, oreal and weighted_sft have no ratio, so nothing corrects for older rollouts without "
        "pieces.token_weight.tis. Leave it in.",
    ),
    Rule(
        "off_serial", False, lambda c: c.config.engine == "transformers",
        "one_step_off: engine=transformers shares the policy's weights, so the next rollouts are written before the update, not beside "
        "it; engine=vllm saves the time.",
    ),
    Rule(
        "off_awake", False, lambda c: c.config.engine == "vllm" and bool((c.launch.get("vllm") or {}).get("sleep", True)),
        "one_step_off: the server writes while the policy trains, so on a GPU it keeps its memory (launch.vllm.sleep has no effect).",
    ),
)  # fmt: skip


def _only_when_on(rule: Rule) -> Rule:
    return Rule(rule.name, rule.is_error, lambda case: case.config.one_step_off and rule.applies(case), rule.message)


OFF_RULES: tuple[Rule, ...] = tuple(_only_when_on(rule) for rule in _ROWS)
