"""A bridge over any number of tiny tasks, for mixtures of thousands."""

from dataclasses import dataclass, field

from factory.contracts import Status, Verdict
from factory.rewards.bridges.bridge import make_sample, split_of


@dataclass(frozen=True)
class Count:
    """1 when the completion says the number."""

    name: str = "count"
    version: str = "1"

    def __call__(self, completion, sample):
        is_right = str(sample.reference) == completion.strip()
        return Verdict(float(is_right), Status.ok if is_right else Status.wrong, "looked")


@dataclass(frozen=True)
class Counting:
    """Tasks `count/0` ...: say a number."""

    num_tasks: int = 10
    name: str = "count"
    sizes: dict = field(default_factory=dict)

    def tasks(self):
        return {f"count/{i}": f"Count {i}" for i in range(self.num_tasks)}

    def samples(self, task, split, seed):
        given, number = 0, 0
        while given < self.sizes.get(task, 10**9):
            prompt = f"count {number} is ({task})"
            if split_of(prompt) == split:
                given += 1
                yield make_sample(task, prompt, number, {"count": number}, split=split, source="counting")
            number += 1

    def verifier(self):
        return Count(self.name)

    def gold(self, sample):
        return str(sample.reference)


VERIFIERS = {"count": Count()}
