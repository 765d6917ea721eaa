"""What becomes of the importance ratio x of a token that the policy did not sample in this step.

With `f(x) = x / (x + gamma)` the gradient weight on the log-prob is `gamma x / (x + gamma)^2`, largest at x = gamma: tokens
that the policy finds unlikely still learn, where a plain ratio would give them next to nothing (LUFFY, arXiv 2504.14945).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from factory.stages.rl.pieces.policy_loss import MAX_LOG_RATIO

if TYPE_CHECKING:
    from torch import Tensor

Shaper = Callable[["Tensor", "Tensor", float], "Tensor"]

SHAPERS: dict[str, Shaper] = {
    "none": lambda x, log_x, gamma: x,
    "p/(p+gamma)": lambda x, log_x, gamma: x / (x + gamma),
    "p/(p+0.3)": lambda x, log_x, gamma: x / (x + 0.3),
    "p/(p+0.5)": lambda x, log_x, gamma: x / (x + 0.5),
    "logp": lambda x, log_x, gamma: log_x,
    "p*logp": lambda x, log_x, gamma: x * log_x,
    "sqrt(p)": lambda x, log_x, gamma: x.sqrt(),
    "p^0.5": lambda x, log_x, gamma: x.pow(0.5),
}
"""Name -> f(x, log x, gamma), element by element. x is the policy's probability itself where a teacher wrote the token."""


def check_shaper(name: str, gamma: float) -> None:
    """Raises ValueError for an unknown name or a gamma that is not above 0."""
    if name not in SHAPERS:
        raise ValueError(f"shaper={name!r} is not known. Choose one of: {', '.join(SHAPERS)}.")
    if gamma <= 0:
        raise ValueError("gamma must be above 0. LUFFY and ExGRPO use 0.1.")


def shaped(log_ratio: Tensor, *, shaper: str, gamma: float) -> Tensor:
    """`f(exp(log_ratio))`, any shape, carrying the gradient. `exp` sees at most +-`MAX_LOG_RATIO`."""
    return SHAPERS[shaper](log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp(), log_ratio, gamma)
