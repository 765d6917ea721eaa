"""Loss and gradient of our objective against TRL's GRPOTrainer, on the same recorded rollouts and the same tiny Qwen3."""

import copy
import random

import pytest
import torch

from factory.contracts import Message
from factory.stages.models.embedded import make_embedded
from factory.stages.models.load import load
from factory.stages.rl.config import RlConfig
from factory.stages.rl.objective import PolicyObjective, Row, make_batch
from factory.stages.rl.presets import resolve
from factory.stages.rl.rollouts import Rollout

MAX_NEW = 12


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    texts = ["what is seven plus two ?", "name the third letter of the alphabet", "nine", "the letter c"] * 20
    return make_embedded("embedded-text", tmp_path_factory.mktemp("base"), seed=0, texts=texts)


def recorded_rows(codec, seed=0):
    """Two groups of four rollouts of different lengths, off-policy enough that both ends of the clip act."""
    rng = random.Random(seed)
    prompts = [codec.prompt((Message("user", text),)) for text in ("what is seven plus two ?", "name the third letter")]
    rows = []
    for place, prompt in enumerate(prompts):
        for index in range(4):
            length = rng.randint(1, MAX_NEW)
            ids = [rng.randrange(5, 60) for _ in range(length)]
            rollout = Rollout(place, index, ids, [rng.uniform(-8.0, -4.0) for _ in ids], True, 0)
            rollout.ref_logprobs = [rng.uniform(-8.0, -4.0) for _ in ids]
            rollout.advantage = rng.uniform(-2, 2)
            rows.append(Row(prompt, rollout))
    return rows


def trl_inputs(rows, pad_id):
    """The input dict of `GRPOTrainer._compute_loss`: prompts padded on the left, completions on the right."""
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
        "advantages": torch.tensor([r.rollout.advantage for r in rows]),
        "num_items_in_batch": torch.tensor(float(sum(len(r.rollout.ids) for r in rows))),
    }


def trl_loss_and_gradients(model, codec, rows, tmp_path, loss_type, beta, is_unbiased, entropy_coef):
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")
    args = trl.GRPOConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        report_to="none",
        gradient_checkpointing=False,
        loss_type=loss_type,
        beta=beta,
        epsilon=0.2,
        epsilon_high=0.28,
        use_bias_correction_kl=is_unbiased,
        entropy_coef=entropy_coef,
        num_generations=4,
        per_device_train_batch_size=8,
        max_completion_length=MAX_NEW,
        temperature=1.0,
    )
    trainer = trl.GRPOTrainer(
        model=model,
        args=args,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        processing_class=codec.tokenizer,
        train_dataset=datasets.Dataset.from_list([{"prompt": "x"}] * 8),
    )
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    trainer.model.zero_grad()
    loss = trainer._compute_loss(trainer.model, trl_inputs(rows, codec.pad_id))
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in trainer.model.named_parameters()}


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo"])
def test_loss_and_gradient_equal_trl(base, tmp_path, loss_type, beta):
    check_against_trl(base, tmp_path, loss_type, beta)


def test_unbiased_kl_equals_trl(base, tmp_path):
    check_against_trl(base, tmp_path, "dapo", 0.04, is_unbiased=True)


def test_entropy_bonus_equals_trl(base, tmp_path):
    # TRL averages the bonus over tokens whatever the loss type; ours follows the aggregator, so only token_mean compares.
    check_against_trl(base, tmp_path, "dapo", 0.0, entropy_coef=0.02)


def test_the_recorded_rollouts_reach_both_ends_of_the_clip(base):
    loaded = load(base, precision="fp32")
    rows = recorded_rows(loaded.codec)
    batch = make_batch(rows, loaded.codec, None)
    objective = PolicyObjective(resolve(RlConfig(preset="dapo", max_new_tokens=MAX_NEW)), temperature=1.0)
    _, sums = objective.loss(loaded.model, batch, objective.counts(batch))
    assert sums["clipped_low"] > 0 and sums["clipped_high"] > 0


def check_against_trl(base, tmp_path, loss_type, beta, is_unbiased=False, entropy_coef=0.0):
    loaded = load(base, precision="fp32")
    rows = recorded_rows(loaded.codec)
    other = copy.deepcopy(loaded.model)
    expected, gradients = trl_loss_and_gradients(other, loaded.codec, rows, tmp_path, loss_type, beta, is_unbiased, entropy_coef)
    settings = resolve(
        RlConfig(
            preset=loss_type,
            eps_high=0.28,
            kl_coef=beta,
            kl_unbiased=is_unbiased,
            entropy_coef=entropy_coef,
            max_new_tokens=MAX_NEW,
        )
    )
    objective = PolicyObjective(settings, temperature=1.0)
    loaded.model.train()
    batches = [make_batch(part, loaded.codec, None) for part in (rows[:3], rows[3:])]
    totals = {key: sum(objective.counts(b)[key] for b in batches) for key in objective.counts(batches[0])}
    # Ours in two micro-batches of different size, TRL's in one: the shares must add up to the same.
    losses = [objective.loss(loaded.model, batch, totals)[0] for batch in batches]
    sum(losses).backward()
    assert sum(losses).item() == pytest.approx(expected, abs=1e-5)
    assert set(gradients) == {name for name, p in loaded.model.named_parameters()}
    for name, parameter in loaded.model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")
