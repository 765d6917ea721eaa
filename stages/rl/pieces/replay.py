"""A stored rollout: how replay buffers keep one as JSON data, and how it comes back in a later step.

A row holds the sample's id, a fingerprint of tokenizer, rendered prompt and media, and what `Rollout.stored` keeps. Its
log-probs are those it was sampled with: without them no importance ratio can be made, so they are demanded here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory.contracts import Sample
from factory.errors import TrainingError
from factory.stages.rl.context import StepContext
from factory.stages.rl.rollouts import Group, Rollout, copied

Row = dict[str, Any]


def keep(ctx: StepContext, sample: Sample, rollout: Rollout, **more: Any) -> Row:
    """A row of a buffer. `more`: what the buffer itself wants to remember, as JSON data.

    Raises:
        TrainingError: the rollout has no log-probs of the policy that sampled it.
    """
    if len(rollout.logprobs) != len(rollout.ids):
        raise TrainingError(
            f"rl: a rollout of sample {sample.id!r} has {len(rollout.logprobs)} behaviour log-probs for {len(rollout.ids)} tokens, "
            "so it cannot be replayed. Use an engine that returns log-probs, or take the replay piece out."
        )
    assert ctx.services is not None, "a run has services"
    # `stored` hands out the rollout's own lists; a row must not change when a later piece changes the rollout.
    return {"sample": sample.id, "fingerprint": ctx.services.fingerprint(sample), "rollout": copied(rollout).stored(), **more}


def bring_back(ctx: StepContext, row: Mapping[str, Any], *, place: int, index: int) -> tuple[Sample, Rollout]:
    """The row's sample and its rollout, of kind `replay`.

    Raises:
        TrainingError: the sample is gone, or tokenizer, template or media are not those it was stored with.
    """
    assert ctx.services is not None, "a run has services"
    sample = ctx.services.sample(row["sample"])
    if ctx.services.fingerprint(sample) != row["fingerprint"]:
        raise TrainingError(
            f"rl: a rollout of sample {sample.id!r} was stored with another tokenizer, prompt template or media, so its tokens "
            "mean something else now. Restore those, or delete the stage's checkpoints to start with an empty buffer."
        )
    return sample, copied(Rollout.restored(row["rollout"], place=place, index=index))


def put_in(group: Group, rollout: Rollout, at: int) -> Group:
    """The group with `rollout` in the place of its member `at` (negative: from the end); the group itself stays as it is."""
    members = list(group.rollouts)
    members[at] = rollout
    return Group(group.sample, members)
