"""One step off: the rollouts of the next step are written while this one trains.

    step 0    weights 0: write the rollouts of steps 0 and 1 | train on those of 0
    step 1    weights 1: write those of step 2               | train on those of 1, which weights 0 wrote
    step k    weights k: write those of step k + 1           | train on those of k, which weights k - 1 wrote

So from the second step on every rollout is one step old, however fast either side is: what a run computes does not depend on timing.
The old log-probs are the sampler's; `token_weight.tis` (there by default) puts the trainer's in their place and weighs the difference.
An engine of its own process (vLLM) writes in a thread beside the training. One that shares the policy's weights (transformers) writes
before the update begins: the same rollouts, no time saved.

A checkpoint holds the rollouts that wait for the next step, so a run that was killed goes on with those very ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from factory.errors import TrainingError
from factory.stages.batches import share_of
from factory.stages.rl.engines.protocol import RolloutEngine, WeightSource
from factory.stages.rl.rollouts import FRESH, Group, Request, Rollout, Sampling

if TYPE_CHECKING:
    from factory.stages.learner import Learner

_KEPT = ("place", "index", "ids", "logprobs", "finished", "version", "entropy")
"""What an engine says of a rollout; the rest is found out in the step that trains on it."""


@dataclass(frozen=True)
class Order:
    """What the engine is asked for the first draw of a step."""

    step: int
    prompts: list[int]
    """Places in the pool, in draw order; the same on every process."""
    figures: dict[str, float]
    """Of the draw, for metrics.jsonl of that step."""
    requests: Sequence[Request]
    """This process's share."""
    sampling: Sampling
    seed: int


@dataclass
class Flight:
    """The rollouts of one step, on their way or here."""

    step: int
    seed: int
    prompts: list[int]
    figures: dict[str, float]
    written: Future[list[Rollout]] = field(default_factory=Future)
    """This process's share."""


class OneStepOff:
    """A `RolloutEngine` around another one, which hands out what was written a step ago. Collective: `begin`, `sync` and `state_dict`.

    Args:
        engine: who writes. One with `runs_apart = True` neither touches the policy's module nor calls the other processes in `generate`.
        num_steps: RL steps of the stage; nothing is written for a step after the last.
    """

    def __init__(self, engine: RolloutEngine, learner: Learner, num_steps: int) -> None:
        self._engine, self._learner, self._num_steps = engine, learner, num_steps
        self._thread = ThreadPoolExecutor(1, "next-rollouts") if getattr(engine, "runs_apart", False) else None
        self._version: int | None = None
        self._waiting: Flight | None = None
        self._landed: Flight | None = None

    def begin(self, step: int, weights: WeightSource, order: Callable[[int], Order]) -> Flight:
        """Wait for the rollouts of `step`, send `weights`, let those of the next step be written. Returns the first.

        Raises:
            TrainingError: the engine failed, or the checkpoint holds the rollouts of another step.
        """
        if self._waiting is None:
            self.sync(weights)
            self._take_off(order(step))
        landed = self._waiting
        assert landed is not None, "there is a flight by now"
        if landed.step != step:
            raise TrainingError(
                f"rl: the checkpoint holds rollouts of step {landed.step + 1}, and step {step + 1} comes. Delete the stage's checkpoints."
            )
        landed.written.result()
        self._waiting, self._landed = None, landed
        if self._version != weights.version:
            self.sync(weights)
        if step + 1 < self._num_steps:
            self._take_off(order(step + 1))
        return landed

    def _take_off(self, order: Order) -> None:
        flight = Flight(order.step, order.seed, order.prompts, order.figures)

        def write() -> list[Rollout]:
            return list(self._engine.generate(order.requests, order.sampling, seed=order.seed))

        if self._thread is not None:
            flight.written = self._thread.submit(write)
        else:
            flight.written.set_result(write())
        self._waiting = flight

    def generate(self, requests: Sequence[Request], sampling: Sampling, *, seed: int) -> Iterator[Rollout]:
        """The step's own draw: what was written for it. Anything else (a hook's continuation) is written now, by the present weights."""
        landed = self._landed
        if landed is None or seed != landed.seed:
            yield from self._engine.generate(requests, sampling, seed=seed)
            return
        self._landed = None
        yield from landed.written.result()

    def sync(self, weights: WeightSource) -> int:
        """Send the weights. Nothing is being written meanwhile."""
        self._version = self._engine.sync(weights)
        return self._version

    def figures(self) -> Mapping[str, float]:
        """Those of the engine."""
        return self._engine.figures() if hasattr(self._engine, "figures") else {}

    def close(self) -> None:
        """End the engine; what it was writing is dropped."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
        self._engine.close()

    def state_dict(self) -> dict[str, Any]:
        """The rollouts that wait, once they are all here: the main process keeps all, every other its own."""
        flight = self._waiting
        if flight is None:
            return {"flight": None}
        own = [{name: getattr(one, name) for name in _KEPT} for one in flight.written.result()]
        shares = self._learner.gather(own)
        rows = [row for share in shares for row in share] if self._learner.is_main else own
        return {
            "flight": {
                "step": flight.step, "seed": flight.seed, "prompts": flight.prompts, "figures": flight.figures, "rollouts": rows
            }
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take this process's share of them; the number of processes may be another one now."""
        self._waiting = self._landed = None
        held = state["flight"]
        if held is None:
            return
        flight = Flight(int(held["step"]), int(held["seed"]), list(held["prompts"]), dict(held["figures"]))
        mine = set(share_of(list(range(len(flight.prompts))), self._learner.rank, self._learner.world_size))
        flight.written.set_result([Rollout(**row) for row in held["rollouts"] if row["place"] in mine])
        self._waiting = flight


def staleness(groups: Sequence[Group], version: int) -> dict[str, float]:
    """`staleness` and `staleness_max`: updates between the weights that wrote the step's own rollouts and those that train on them."""
    ages = [version - one.version for group in groups for one in group.rollouts if one.kind == FRESH]
    return {"staleness": sum(ages) / len(ages), "staleness_max": float(max(ages))} if ages else {}
