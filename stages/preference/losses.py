"""Preference losses as named terms, and the published losses as weighted sums of them. No torch: tensor methods only.

Shape letter: P = pairs. With `D = log p(response | prompt) - log p_ref(response | prompt)`, summed over the tokens that the
assistant writes, `w` the chosen and `l` the rejected response, and `s = -log sigmoid`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.errors import ConfigError, near_miss
from factory.stages.logistic import negative_log_sigmoid

if TYPE_CHECKING:
    from torch import Tensor

DELTAS = ("running_mean", "none")


@dataclass(frozen=True, eq=False)
class PairLogprobs:
    """What the terms are computed from; each [P], float32, log-probabilities in nats."""

    chosen: Tensor
    rejected: Tensor
    ref_chosen: Tensor
    ref_rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    beta: float
    delta: float = 0.0

    @property
    def chosen_ratio(self) -> Tensor:
        """`D_w` [P], carrying the gradient."""
        return self.chosen - self.ref_chosen

    @property
    def rejected_ratio(self) -> Tensor:
        """`D_l` [P], carrying the gradient."""
        return self.rejected - self.ref_rejected


def dpo(pair: PairLogprobs) -> Tensor:
    """`s(beta (D_w - D_l))` [P]."""
    return negative_log_sigmoid(pair.beta * (pair.chosen_ratio - pair.rejected_ratio))


def ipo(pair: PairLogprobs) -> Tensor:
    """`(D_w/|w| - D_l/|l| - 1/(2 beta))^2` [P], per token: what TRL computes after asking the authors."""
    per_token = pair.chosen_ratio / pair.chosen_tokens - pair.rejected_ratio / pair.rejected_tokens
    return (per_token - 1.0 / (2.0 * pair.beta)) ** 2


def ipo_sum(pair: PairLogprobs) -> Tensor:
    """`(D_w - D_l - 1/(2 beta))^2` [P], over whole sequences: the paper's equation as printed."""
    return (pair.chosen_ratio - pair.rejected_ratio - 1.0 / (2.0 * pair.beta)) ** 2


def bco_pair(pair: PairLogprobs) -> Tensor:
    """`s(beta D_w - delta) + s(-(beta D_l - delta))` [P]: each response is classified on its own."""
    chosen = negative_log_sigmoid(pair.beta * pair.chosen_ratio - pair.delta)
    return chosen + negative_log_sigmoid(pair.delta - pair.beta * pair.rejected_ratio)


def sft(pair: PairLogprobs) -> Tensor:
    """`-log p(w)` [P]; its sum is divided by the chosen tokens of the whole step."""
    return -pair.chosen


def sft_row_mean(pair: PairLogprobs) -> Tensor:
    """`-log p(w) / |w|` [P]: each response counts the same, however long."""
    return -pair.chosen / pair.chosen_tokens


@dataclass(frozen=True)
class Term:
    """One summand of a loss. Its values are summed over all pairs of the step and divided by the total `over`."""

    name: str
    function: Callable[[PairLogprobs], Tensor]
    over: str
    """`pairs` or `chosen_tokens`."""
    formula: str
    source: str


_MPO = "MPO, arXiv 2411.10442"
TERMS: dict[str, Term] = {
    term.name: term
    for term in (
        Term("dpo", dpo, "pairs", "-log sigmoid(beta (Dw - Dl))", "DPO, arXiv 2305.18290, eq. 7"),
        Term("ipo", ipo, "pairs", "(Dw/|w| - Dl/|l| - 1/(2 beta))^2", "IPO, arXiv 2310.12036, eq. 17, per token as in TRL"),
        Term("ipo_sum", ipo_sum, "pairs", "(Dw - Dl - 1/(2 beta))^2", "IPO, arXiv 2310.12036, eq. 17 as printed"),
        Term("bco_pair", bco_pair, "pairs", "-log sigmoid(beta Dw - delta) - log sigmoid(-(beta Dl - delta))",
             f"BCO, arXiv 2404.04656; {_MPO}"),
        Term("sft", sft, "chosen_tokens", "-sum log p(w) / chosen tokens of the step", f"{_MPO}, as TRL computes it"),
        Term("sft_row_mean", sft_row_mean, "pairs", "mean over pairs of -log p(w) / |w|", "RPO, arXiv 2404.19733"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Loss:
    """A published loss: weights of terms, and how the BCO term is shifted."""

    weights: Mapping[str, float]
    delta: str = "none"

    def terms(self) -> list[tuple[Term, float]]:
        """Terms of non-zero weight."""
        return [(TERMS[name], weight) for name, weight in self.weights.items() if weight]


_MIX = {"dpo": 0.8, "bco_pair": 0.2, "sft": 1.0}
LOSSES: dict[str, Loss] = {
    "dpo": Loss({"dpo": 1.0}),
    "ipo": Loss({"ipo": 1.0}),
    "ipo_sum": Loss({"ipo_sum": 1.0}),
    "bco": Loss({"bco_pair": 1.0}, delta="running_mean"),
    "mpo": Loss(_MIX, delta="running_mean"),
    "mpo_trl": Loss(_MIX),
    "rpo": Loss({"dpo": 1.0, "sft_row_mean": 1.0}),
}
"""`mpo` shifts the BCO term by a running mean of the rewards, as its authors do; `mpo_trl` does not, as TRL does."""


def resolve_loss(where: str, name: str, weights: Mapping[str, float], delta: str, beta: float) -> Loss:
    """The loss that the settings of a stage describe.

    Raises:
        ConfigError: unknown loss, term or delta; weights that are negative or all 0; beta not above 0; a delta without a
            term that it shifts.
    """
    if name not in LOSSES:
        raise ConfigError(f"{where}.loss is '{name}'.{near_miss(name, LOSSES)} Choose one of: {', '.join(LOSSES)}.")
    for term, weight in weights.items():
        if term not in TERMS:
            raise ConfigError(f"{where}.weights.{term}: no such term.{near_miss(term, TERMS)} Terms: {', '.join(TERMS)}.")
        if not 0.0 <= weight < float("inf"):
            raise ConfigError(f"{where}.weights.{term} is {weight}; give a finite number of 0 or more.")
    if not 0.0 < beta < float("inf"):
        raise ConfigError(f"{where}.beta is {beta}; give a finite number above 0, for example 0.1.")
    if delta and delta not in DELTAS:
        raise ConfigError(f"{where}.delta is '{delta}'.{near_miss(delta, DELTAS)} Choose one of: {', '.join(DELTAS)}.")
    loss = Loss({**LOSSES[name].weights, **weights}, delta or LOSSES[name].delta)
    if not loss.terms():
        raise ConfigError(f"{where}.weights leave no term of loss '{name}'. Give one of them a weight above 0.")
    if delta == "running_mean" and not loss.weights.get("bco_pair"):
        raise ConfigError(f"{where}.delta=running_mean shifts only the term bco_pair, which loss '{name}' lacks. Leave it out.")
    return loss
