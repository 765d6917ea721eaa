"""An engine that writes fixed texts and notes what it was asked, and a pack whose verifiers the pool can import."""

from __future__ import annotations

from types import SimpleNamespace

from factory.contracts import Eval, Manifest, Message, Sample, Status, Verdict
from factory.rewards.verifiers import ClosedAnswer, FormatVerifier
from factory.stages.eval.deliberate.protocol import Draw, Request


class ScriptedEngine:
    """`texts[purpose]` holds, for each request in order, its draws; a text that ends in `…` was cut off there."""

    def __init__(self, **texts: list[list[str]]) -> None:
        self.texts = texts
        self.asked: list[tuple[str, list[Request], int]] = []

    def generate(self, requests, *, purpose, max_new_tokens, temperature, num_return=1, stop=""):
        self.asked.append((purpose, list(requests), max_new_tokens))
        rows = self.texts[purpose.replace("-", "_")]
        assert len(rows) == len(requests) and all(len(row) == num_return for row in rows)
        return [[draw(text) for text in row] for row in rows]

    def said(self, purpose: str, index: int = 0) -> str:
        """The conversation of one request, the opening of the assistant's turn included."""
        request = next(requests for name, requests, _ in self.asked if name == purpose)[index]
        turns = "\n".join(f"{turn.role}: {turn.content}" for turn in request.messages)
        return turns + "\n" + "".join(piece if isinstance(piece, str) else piece.text for piece in request.opening)


def draw(text: str) -> Draw:
    """One token per word."""
    return Draw(text.removesuffix("…"), len(text.split()), not text.endswith("…"))


def sample(number: int = 0, task: str = "colour", **changes) -> Sample:
    fields = {"id": f"s{number}", "task": task, "messages": (Message("user", "which colour?"),), "reference": "blue"}
    return Sample(**(fields | changes))


class Hidden:
    """Needs the reference but keeps it in `meta`, and says so."""

    name, version, needs_reference = "hidden", "1", True

    def __call__(self, completion, sample):
        return Verdict(float(sample.meta["gold"] in completion), Status.ok, "")


class Short:
    """The shorter the better; reads no reference."""

    name, version = "short", "1"

    def __call__(self, completion, sample):
        return Verdict(1 / (1 + len(completion)), Status.ok, "")


VERIFIERS = {
    "closed": ClosedAnswer(name="closed", mode="lenient", synonyms={"blue": ["azure"]}),
    "format": FormatVerifier(),
    "short": Short(),
    "hidden": Hidden(),
}
TASKS = {"colour": {"verifiers": {"format": 0.1, "closed": 1.0}}, "free": {"verifiers": {"short": 1.0}}}


def pack(samples=()):
    """A DomainPack in the parts that evals touch; train and held-out splits alike."""
    manifest = Manifest("scripted", "Scripted", "1", "MIT", "tests", "else", tasks=TASKS)
    return SimpleNamespace(
        manifest=manifest, verifiers=lambda: VERIFIERS, samples=lambda split, seed, request: list(samples)[: request.limit],
        evals=lambda: {"closed": Eval("closed", verifier="closed", primary=True)},
    )  # fmt: skip
