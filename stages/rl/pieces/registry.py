"""Which pieces exist, slot by slot, and what each one needs to be computed.

Functions on tensors use tensor methods only, so that naming a piece in `plan` does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from factory.errors import ConfigError, near_miss
from factory.stages.rl.pieces.advantage import centred, standardised, uncentred
from factory.stages.rl.pieces.aggregate import constant_length, seq_mean_token_mean, token_mean
from factory.stages.rl.pieces.kl import k1, k2, k3
from factory.stages.rl.pieces.policy_loss import clipped_surrogate, negative_entropy


@dataclass(frozen=True)
class Piece:
    """One choice for one slot of the RL step."""

    slot: str
    name: str
    function: Callable[..., Any]
    source: str
    needs: frozenset[str] = frozenset()
    """What has to be computed before this piece can run; keys of `NEEDS`."""


@dataclass(frozen=True)
class Need:
    """What one declared need costs, per trained token, so that `plan` can add it up."""

    extra_forwards: float
    keeps_reference: bool
    note: str


NEEDS: dict[str, Need] = {
    "old_logprobs": Need(
        0.0, False, "old log-probs come from the sampler; they cost one forward only when its weights are not the policy's"
    ),
    "ref_logprobs": Need(
        1.0, True, "reference log-probs cost one forward per trained token and, without an adapter, a frozen copy of the weights"
    ),
    "entropy": Need(0.0, False, "the entropy bonus keeps a second vocabulary-wide tensor per token"),
}

_DEEPSEEKMATH = "DeepSeekMath, arXiv 2402.03300"
_PPO = "PPO, arXiv 1707.06347"
_DAPO = "DAPO, arXiv 2503.14476"
_DR_GRPO = "Understanding R1-Zero-like training, arXiv 2503.20783"
_K = "J. Schulman, Approximating KL divergence (2020)"

PIECES: tuple[Piece, ...] = (
    Piece("advantage", "group_std", standardised, _DEEPSEEKMATH),
    Piece("advantage", "group_mean", centred, _DR_GRPO),
    Piece("advantage", "none", uncentred, "REINFORCE, without a baseline"),
    Piece(
        "loss", "clip", clipped_surrogate, f"{_PPO}; two ends: {_DAPO}; dual clip: arXiv 1912.09729", frozenset({"old_logprobs"})
    ),
    Piece("aggregator", "token_mean", token_mean, _DAPO),
    Piece("aggregator", "seq_mean_token_mean", seq_mean_token_mean, _DEEPSEEKMATH),
    Piece("aggregator", "constant_length", constant_length, _DR_GRPO),
    Piece("bonus", "entropy", negative_entropy, "A3C, arXiv 1602.01783", frozenset({"entropy"})),
    Piece("kl", "k1", k1, _K, frozenset({"ref_logprobs"})),
    Piece("kl", "k2", k2, _K, frozenset({"ref_logprobs"})),
    Piece("kl", "k3", k3, _K, frozenset({"ref_logprobs"})),
)


def pick(slot: str, name: str) -> Piece:
    """The piece of that name in that slot. Raises ConfigError with the known names."""
    known = {piece.name: piece for piece in PIECES if piece.slot == slot}
    if name not in known:
        key = "kl_estimator" if slot == "kl" else slot
        raise ConfigError(f"rl: {key}={name!r} is not known.{near_miss(name, known)} Choose one of: {', '.join(known)}.")
    return known[name]
