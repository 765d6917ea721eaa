"""What pieces may declare that they need, and what it costs, so that `plan` can add it up before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Need:
    """The cost of one declared need."""

    extra_forwards: float
    """Forwards per trained token beside the one of the update."""
    copies_of_weights: float
    """Further copies of the policy's weights in memory (0 where an adapter can be switched off)."""
    note: str


NEEDS: dict[str, Need] = {
    "old_logprobs": Need(
        0.0, 0.0, "old log-probs come from the sampler; they cost one forward only when its weights are not the policy's"
    ),
    "sampler_logprobs": Need(
        1.0, 0.0, "the sampler is another program: the trainer's own log-probs cost one forward per trained token"
    ),
    "ref_logprobs": Need(
        1.0, 1.0, "reference log-probs cost one forward per trained token and, without an adapter, a copy of the weights"
    ),
    "ema_reference": Need(
        0.0, 1.0, "a moving-average reference keeps its own fp32 copy of the trained weights, also in checkpoints"
    ),
    "entropy": Need(0.0, 0.0, "the entropy of each position keeps a second vocabulary-wide tensor per token"),
    "current_logprobs": Need(
        1.0, 0.0, "log-probs right before each optimiser step cost one forward per trained token, unless it is the first one"
    ),
    "policy_entropy": Need(0.5, 0.0, "stored rollouts are scored again under the current policy before they are replayed"),
    "full_logits": Need(1.0, 0.0, "whole-vocabulary log-probs of a group are kept at once: group x length x vocabulary x 4 B"),
    "masked_view": Need(1.0, 0.0, "a second forward with part of the image masked, for rows with images"),
    "behaviour_logprobs": Need(0.0, 0.0, "stored rollouts keep the log-probs they were sampled with"),
    "demonstrations": Need(0.0, 0.0, "worked responses for the training samples (the pack's lessons, or a file)"),
    "second_policy": Need(0.0, 1.0, "another local model generates or scores text; it is loaded beside the policy"),
    "more_generation": Need(0.0, 0.0, "the policy generates more text after the first completion"),
    "more_verification": Need(0.0, 0.0, "completions that a piece changed or took apart are verified a second time"),
    "judge_part": Need(0.0, 0.0, "a verifier or judge of the pack whose score the piece reads, named by a setting"),
    "token_scores": Need(0.0, 1.0, "a token reward model, trained beside the policy"),
}
