"""`TokenBatch`es made from plain numbers, in float64, for tests of losses. Shape letters: B rollouts, T positions."""

import torch

from factory.stages.rl.tokens import TokenBatch


def tensor(rows):
    """[B, T] float64."""
    return torch.as_tensor(rows, dtype=torch.float64)


def batch_of(logp, *, old=None, mask=None, advantages=None, ref=None, flags=None, right=None, totals=None):
    """A batch of fresh rollouts. `advantages`: one per rollout [B] or per token [B, T]; old log-probs default to the policy's."""
    logp = logp if torch.is_tensor(logp) else tensor(logp)
    shape = logp.shape
    ones, zeros = torch.ones(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
    advantages = torch.ones(shape[0], dtype=torch.float64) if advantages is None else tensor(advantages)
    if advantages.dim() == 1:
        advantages = advantages.unsqueeze(1).expand(shape)
    mask = ones if mask is None else tensor(mask)
    totals = totals or {"tokens": float(mask.sum()), "sequences": float((mask.sum(1) > 0).sum())}
    return TokenBatch(
        logp=logp, old=logp.detach() if old is None else tensor(old), ref=zeros if ref is None else tensor(ref), masked=zeros,
        mask=mask, advantages=advantages, weights=ones, kl_weights=ones, flags=zeros if flags is None else tensor(flags),
        kinds=torch.zeros(shape[0], dtype=torch.int64), totals=totals, right=None if right is None else tensor(right),
    )  # fmt: skip


def random_batch(seed, rows=3, tokens=5, *, spread=1.0, requires_grad=False):
    """Random log-probs, old log-probs within `spread` of them, advantages and a mask with at least one token a row."""
    rng = torch.Generator().manual_seed(seed)
    logp = -5.0 * torch.rand(rows, tokens, generator=rng, dtype=torch.float64)
    old = logp + spread * (2.0 * torch.rand(rows, tokens, generator=rng, dtype=torch.float64) - 1.0)
    mask = (torch.rand(rows, tokens, generator=rng) < 0.7).double()
    mask[:, 0] = 1.0
    advantages = torch.randn(rows, generator=rng, dtype=torch.float64)
    return batch_of(logp.requires_grad_(requires_grad), old=old, mask=mask, advantages=advantages)


def gradient(loss, batch):
    """d(sum of the loss over trained tokens) / d logp, [B, T]."""
    (found,) = torch.autograd.grad((loss(batch).loss * batch.mask).sum(), batch.logp)
    return found
