"""Loss, gradient and advantages against TRL's trainers, on the same recorded rollouts and the same tiny Qwen3.

Ours runs in two micro-batches of different size, TRL's in one: the shares must add up to the same.
"""

import copy
import random
from dataclasses import dataclass, field

import pytest
import torch

from factory.contracts import Message, Sample, Status, Verdict
from factory.rewards.mixture import Mixture
from factory.stages.models.embedded import make_embedded
from factory.stages.models.forward import token_logprobs
from factory.stages.models.load import load
from factory.stages.rl.config import RlConfig
from factory.stages.rl.context import StepContext
from factory.stages.rl.objective import PolicyObjective, Row, make_batch
from factory.stages.rl.pieces.advantage import BatchStd, GroupMean, GroupStd, LeaveOneOut
from factory.stages.rl.pieces.mixers import NormaliseThenSum
from factory.stages.rl.pieces.overlong import OverlongPunishment
from factory.stages.rl.presets import resolve
from factory.stages.rl.rollouts import Group, Rollout

datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")

MAX_NEW = 12
TOLERANCE = 1e-5
NEAR = 5e-3
"""Spread of old log-probs for sequence-level clips, whose range is a few 1e-4 wide."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    texts = ["what is seven plus two ?", "name the third letter of the alphabet", "nine", "the letter c"] * 20
    return make_embedded("embedded-text", tmp_path_factory.mktemp("base"), seed=0, texts=texts)


def recorded_rows(loaded, spread, seed=0):
    """Two groups of four rollouts of different lengths; old log-probs lie within `spread` of the policy's."""
    rng = random.Random(seed)
    texts = ("what is seven plus two ?", "name the third letter")
    prompts = [loaded.codec.prompt((Message("user", text),)) for text in texts]
    rows = []
    for place, prompt in enumerate(prompts):
        for index in range(4):
            ids = [rng.randrange(5, 60) for _ in range(rng.randint(1, MAX_NEW))]
            rollout = Rollout(place, index, ids, [0.0] * len(ids), True, 0)
            rollout.advantage = rng.uniform(-2, 2)
            rows.append(Row(prompt, rollout))
    with torch.no_grad():
        logp, _ = token_logprobs(loaded.model, make_batch(rows, loaded.codec, None))
    for row, own in zip(rows, logp, strict=True):
        now = own[len(row.prompt.ids) : row.length].tolist()
        row.rollout.logprobs = [one + rng.uniform(-spread, spread) for one in now]
        row.rollout.ref_logprobs = [one + rng.uniform(-1, 1) for one in now]
    return rows


def trl_inputs(rows, pad_id):
    """The input dict of TRL's `_compute_loss`: prompts padded on the left, completions on the right."""
    width = max(len(row.prompt.ids) for row in rows)
    length = max(len(row.rollout.ids) for row in rows)

    def completions(of, dtype, fill):
        return torch.tensor([list(of(r.rollout)) + [fill] * (length - len(r.rollout.ids)) for r in rows], dtype=dtype)

    return {
        "prompt_ids": torch.tensor([[pad_id] * (width - len(r.prompt.ids)) + r.prompt.ids for r in rows]),
        "prompt_mask": torch.tensor([[0] * (width - len(r.prompt.ids)) + [1] * len(r.prompt.ids) for r in rows]),
        "completion_ids": completions(lambda r: r.ids, torch.long, pad_id),
        "completion_mask": completions(lambda r: [1] * len(r.ids), torch.long, 0),
        "old_per_token_logps": completions(lambda r: r.logprobs, torch.float32, 0.0),
        "ref_per_token_logps": completions(lambda r: r.ref_logprobs, torch.float32, 0.0),
        "old_logps": torch.tensor([sum(r.rollout.logprobs) for r in rows]),
        "advantages": torch.tensor([r.rollout.advantage for r in rows]),
        "num_items_in_batch": torch.tensor(float(sum(len(r.rollout.ids) for r in rows))),
    }


def make_trainer(model, codec, folder, trainer=trl.GRPOTrainer, config=trl.GRPOConfig, **settings):
    """A TRL trainer on eight prompts in groups of four, which never trains."""
    settings = ({"use_bias_correction_kl": False} if config is trl.GRPOConfig else {}) | settings
    args = config(
        output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", gradient_checkpointing=False, num_generations=4,
        per_device_train_batch_size=8, max_completion_length=MAX_NEW, temperature=1.0, **settings,
    )  # fmt: skip
    made = trainer(
        model=model, args=args, reward_funcs=lambda completions, **_: [0.0] * len(completions), processing_class=codec.tokenizer,
        train_dataset=datasets.Dataset.from_list([{"prompt": "what is seven plus two ?"}] * 8),
    )  # fmt: skip
    made.current_gradient_accumulation_steps = 1
    made.model.train()
    return made


def trl_loss_and_gradients(trainer, inputs):
    trainer.model.zero_grad()
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in trainer.model.named_parameters()}


def our_loss_and_gradients(loaded, rows, chosen):
    kl = chosen.one("kl")
    ctx = StepContext(0, 10, 0, MAX_NEW, 4)
    objective = PolicyObjective(chosen, ctx, temperature=1.0, kl_coef=kl.coef if kl and kl.place == "loss" else 0.0)
    loaded.model.train()
    loaded.model.zero_grad()
    batches = [make_batch(part, loaded.codec, None) for part in (rows[:3], rows[3:])]
    totals = {key: sum(objective.counts(b)[key] for b in batches) for key in objective.counts(batches[0])}
    shares = [objective.loss(loaded.model, batch, totals) for batch in batches]
    loss = sum(share for share, _ in shares)
    loss.backward()
    sums = {key: sum(figures.get(key, 0.0) for _, figures in shares) for key in ("clipped_low", "clipped_high")}
    return loss.item(), {name: p.grad.clone() for name, p in loaded.model.named_parameters()}, sums


def assert_equal_gradients(found, expected):
    """Relative to the size of the whole gradient, which must not be zero."""
    assert found.keys() == expected.keys()
    difference = sum(float((found[name].double() - expected[name].double()).square().sum()) for name in found) ** 0.5
    size = sum(float(one.double().square().sum()) for one in expected.values()) ** 0.5
    assert size > 1e-4 and difference <= TOLERANCE * size, f"{difference:.3e} of {size:.3e}"


@dataclass(frozen=True)
class Case:
    """One of our presets (with changes) and the TRL settings it must equal."""

    preset: str
    trl: dict = field(default_factory=dict)
    pieces: dict = field(default_factory=dict)
    spread: float = 0.6
    clips: bool = True


HIGHER = {"loss": {"clip": {"eps_low": 0.2, "eps_high": 0.28}}}
SEQUENCE = {"importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4}
CASES = {
    "grpo": Case("grpo", {"loss_type": "grpo", "epsilon": 0.2}),
    "clip_higher": Case("grpo", {"loss_type": "grpo", "epsilon_high": 0.28}, HIGHER),
    "dapo": Case("dapo", {"loss_type": "dapo", "epsilon_high": 0.28}),
    "dr_grpo": Case("dr_grpo", {"loss_type": "dr_grpo", "epsilon": 0.2}),
    # BNPO is a token mean per micro-batch; in one micro-batch that is the global one.
    "bnpo": Case("dapo", {"loss_type": "bnpo", "epsilon_high": 0.28}),
    # TRL writes CISPO's upper end as the bound itself.
    "cispo": Case("cispo", {"loss_type": "cispo", "epsilon_high": 1.28}),
    "gspo": Case("gspo", {"loss_type": "grpo", **SEQUENCE}, spread=NEAR),
    "gspo_token": Case("gspo_token", {"loss_type": "grpo", **SEQUENCE}, spread=NEAR),
    "luspo": Case("luspo", {"loss_type": "luspo", **SEQUENCE}, spread=NEAR),
    "sapo": Case("sapo", {"loss_type": "sapo"}, clips=False),
    # The two-sided clip of TRL bounds the ratio itself; beyond the upper end that is the dual clip.
    "dual_clip": Case("grpo", {"loss_type": "grpo", "delta": 1.6}, {"loss": {"clip": {"dual_clip": 1.6}}}, spread=1.2),
}


@pytest.mark.proves("loss.clip", "trl")
@pytest.mark.proves("loss.cispo", "trl")
@pytest.mark.proves("loss.gspo", "trl")
@pytest.mark.proves("loss.gspo_token", "trl")
@pytest.mark.proves("loss.sapo", "trl")
@pytest.mark.proves("aggregator.token_mean", "trl")
@pytest.mark.proves("aggregator.seq_mean_token_mean", "trl")
@pytest.mark.proves("aggregator.seq_mean_token_sum", "trl")
@pytest.mark.proves("aggregator.constant_length", "trl")
@pytest.mark.proves("kl.k3", "trl")
@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_equal_trl(base, tmp_path, name, beta):
    case = CASES[name]
    pieces = case.pieces | ({"kl": {"k3": {"coef": beta}}} if beta else {})
    check(base, tmp_path, case, pieces, {**case.trl, "beta": beta})


@pytest.mark.proves("kl.k3", "trl")
def test_unbiased_kl_equals_trl(base, tmp_path):
    pieces = {"kl": {"k3": {"coef": 0.04, "unbiased": True}}}
    check(base, tmp_path, CASES["dapo"], pieces, {**CASES["dapo"].trl, "beta": 0.04, "use_bias_correction_kl": True})


@pytest.mark.proves("auxiliary.entropy_bonus", "trl")
def test_entropy_bonus_equals_trl(base, tmp_path):
    # TRL averages the bonus over tokens whatever the loss type; ours follows the aggregator, so only token_mean compares.
    pieces = {"auxiliary": {"entropy_bonus": {"coef": 0.02}}}
    check(base, tmp_path, CASES["dapo"], pieces, {**CASES["dapo"].trl, "beta": 0.0, "entropy_coef": 0.02})


def check(base, folder, case, pieces, settings):
    loaded = load(base, precision="fp32")
    rows = recorded_rows(loaded, case.spread)
    trainer = make_trainer(copy.deepcopy(loaded.model), loaded.codec, folder, **settings)
    expected, gradients = trl_loss_and_gradients(trainer, trl_inputs(rows, loaded.codec.pad_id))
    chosen = resolve(RlConfig(preset=case.preset, pieces=pieces, max_new_tokens=MAX_NEW))
    found, own, sums = our_loss_and_gradients(loaded, rows, chosen)
    assert found == pytest.approx(expected, rel=TOLERANCE)
    assert_equal_gradients(own, gradients)
    # The comparison says something about a clip only where it acts.
    is_open_below = case.preset == "cispo"
    assert not case.clips or (sums["clipped_high"] > 0 and (is_open_below or sums["clipped_low"] > 0))


@pytest.mark.proves("loss.reinforce", "trl")
@pytest.mark.proves("aggregator.seq_mean_token_sum", "trl")
def test_rloo_on_policy_has_the_gradient_of_trls_rloo(base, tmp_path):
    # TRL's loss there is -A exp(0) = -A per rollout, ours -A log pi: another value, the same gradient.
    loaded = load(base, precision="fp32")
    rows = recorded_rows(loaded, 0.0)
    model = copy.deepcopy(loaded.model)
    trainer = make_trainer(model, loaded.codec, tmp_path, trl.RLOOTrainer, trl.RLOOConfig, beta=0.0)
    _, gradients = trl_loss_and_gradients(trainer, trl_inputs(rows, loaded.codec.pad_id))
    _, own, _ = our_loss_and_gradients(loaded, rows, resolve(RlConfig(preset="rloo", max_new_tokens=MAX_NEW)))
    assert_equal_gradients(own, gradients)


NAN = float("nan")
REWARDS = [1.0, 0.25, 0.0, NAN, 0.5, 0.75, 0.75, 0.0]
"""Two groups of four; a rollout whose rewards all failed is NaN for TRL and masked for us."""


def trl_advantages(base, folder, trainer=trl.GRPOTrainer, config=trl.GRPOConfig, **settings):
    """What TRL makes of `REWARDS`, with generation and scoring replaced by recorded ones."""
    loaded = load(base, precision="fp32")
    made = make_trainer(loaded.model, loaded.codec, folder, trainer, config, **settings)
    completions = [[7, 8, 9]] * len(REWARDS)
    single = config is trl.RLOOConfig
    made._generate_single_turn = lambda prompts, *_, **__: completions if single else (completions, None)
    made._calculate_rewards = lambda *_, **__: torch.tensor(REWARDS).unsqueeze(1)
    inputs = [{"prompt": "what is seven plus two ?"}] * len(REWARDS)
    return made._generate_and_score_completions(inputs)["advantages"].tolist()


def our_advantages(piece):
    groups = []
    for place in range(2):
        sample = Sample(id=f"s{place}", task="t", messages=(Message("user", "q"),), reference="a")
        rollouts = [Rollout(place, i, [7, 8, 9], [-1.0] * 3, True, 0) for i in range(4)]
        for rollout, reward in zip(rollouts, REWARDS[4 * place :], strict=False):
            rollout.outcome = None if reward != reward else reward
        groups.append(Group(sample, rollouts))
    piece.estimate(StepContext(0, 10, 0, MAX_NEW, 4), groups)
    return [rollout.advantage for group in groups for rollout in group.rollouts]


@pytest.mark.proves("advantage.group_std", "trl")
@pytest.mark.proves("advantage.group_mean", "trl")
@pytest.mark.proves("advantage.batch_std", "trl")
@pytest.mark.parametrize(
    ("scale", "piece"), [("group", GroupStd(eps=1e-4)), ("none", GroupMean()), ("batch", BatchStd(eps=1e-4))]
)
def test_group_advantages_equal_trl(base, tmp_path, scale, piece):
    expected = trl_advantages(base, tmp_path, scale_rewards=scale, beta=0.0)
    assert our_advantages(piece) == pytest.approx(expected, rel=TOLERANCE, abs=1e-6)


@pytest.mark.proves("advantage.rloo", "trl")
def test_rloo_advantages_equal_trl(base, tmp_path):
    expected = trl_advantages(base, tmp_path, trl.RLOOTrainer, trl.RLOOConfig, beta=0.0)
    assert our_advantages(LeaveOneOut()) == pytest.approx(expected, rel=TOLERANCE, abs=1e-6)


TWO_REWARDS = {"exact": [1.0, 0.25, 0.0, 0.5, 0.5, 0.75, 0.75, 0.0], "calm": [0.1, 0.9, 0.3, 0.3, 0.2, 0.2, 0.2, 0.2]}
"""Two groups of four; the second verifier says the same of all of the last."""
WEIGHTS = {"exact": 0.7, "calm": 0.3}


@pytest.mark.proves("mixer.normalise_then_sum", "trl")
def test_normalise_then_sum_equals_trl(base, tmp_path):
    loaded = load(base, precision="fp32")
    made = make_trainer(loaded.model, loaded.codec, tmp_path, multi_objective_aggregation="normalize_then_sum", beta=0.0)
    made.reward_funcs, made.reward_func_names = made.reward_funcs * 2, list(TWO_REWARDS)
    made.reward_weights = torch.tensor(list(WEIGHTS.values()))
    made._generate_single_turn = lambda prompts, *_, **__: ([[7, 8, 9]] * 8, None)
    made._calculate_rewards = lambda *_, **__: torch.tensor(list(TWO_REWARDS.values())).T
    expected = made._generate_and_score_completions([{"prompt": "what is seven plus two ?"}] * 8)["advantages"].tolist()

    mixture = Mixture({"t": {"verifiers": WEIGHTS, "gate": None}}, known=list(WEIGHTS))
    groups = []
    for place in range(2):
        sample = Sample(id=f"s{place}", task="t", messages=(Message("user", "q"),), reference="a")
        rollouts = [Rollout(place, i, [7, 8, 9], [-1.0] * 3, True, 0) for i in range(4)]
        for i, rollout in enumerate(rollouts):
            scores = {name: Verdict(of[4 * place + i], Status.ok, "") for name, of in TWO_REWARDS.items()}
            rollout.reward = mixture.combine("t", scores)
        groups.append(Group(sample, rollouts))
    ctx = StepContext(0, 10, 0, MAX_NEW, 4, mixture=mixture)
    NormaliseThenSum(eps=1e-4).mix(ctx, groups)
    assert [r.mixed for group in groups for r in group.rollouts] == pytest.approx(expected, rel=TOLERANCE, abs=1e-6)


@pytest.mark.proves("reward.overlong", "trl")
def test_soft_overlong_punishment_equals_trl():
    from trl.rewards import get_soft_overlong_punishment

    theirs = get_soft_overlong_punishment(max_completion_len=100, soft_punish_cache=20)
    lengths = [1, 79, 80, 81, 90, 99, 100, 130]
    ctx = StepContext(0, 10, 0, 100, 4)
    piece = OverlongPunishment(cache_share=0.2, factor=1.0)
    own = [piece.score(ctx, None, Rollout(0, 0, [7] * n, [0.0] * n, True, 0)) for n in lengths]
    assert own == pytest.approx(theirs([[7] * n for n in lengths]))
