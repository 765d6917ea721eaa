"""A pack for RL tests: the answer to every question is one of three words, and the verifier says which is right.

`VERIFIERS` is importable as `module:attribute`, so the real worker pool can load it.
"""

from types import SimpleNamespace

from factory.contracts import Lesson, Manifest, Message, Sample, Status, Verdict

WORDS = ("red", "green", "blue")
SKIES = ("dawn", "noon", "dusk", "night")


class Exact:
    """1 when the completion begins with the reference word."""

    name, version = "exact", "1"

    def __call__(self, completion, sample):
        said = completion.strip().split(" ")[0]
        if said not in WORDS:
            return Verdict(0.0, Status.unparsable, "no colour")
        is_right = said == sample.reference
        return Verdict(float(is_right), Status.ok if is_right else Status.wrong, f"said {said}")


class Flaky(Exact):
    """As Exact, but fails for answers that say blue."""

    name = "flaky"

    def __call__(self, completion, sample):
        if "blue" in completion:
            raise RuntimeError("blue makes this verifier fail")
        return super().__call__(completion, sample)


VERIFIERS = {"exact": Exact(), "flaky": Flaky()}


def samples(split="train", seed=0, request=None):
    """All questions; the right answer of each is `blue`, which the policy does not know at first."""
    return [
        Sample(id=sky, task="sky", messages=(Message("user", f"the sky at {sky} is"),), reference="blue", split=split)
        for sky in SKIES
    ]


def lessons(split="train", seed=0, request=None):
    """Each question with each of the words: a policy taught by these answers at random."""
    return [Lesson(sample, word) for sample in samples(split) for word in WORDS]


def texts():
    """What the tokenizer is trained on."""
    return [f"the sky at {sky} is {word}" for sky in SKIES for word in WORDS] * 20


def pack(verifier="exact"):
    """A DomainPack in the parts that RL touches."""
    manifest = Manifest(
        name="learnable", title="Learnable", version="1", license="MIT", intended_use="tests", not_for="else",
        tasks={"sky": {"verifiers": {verifier: 1.0}, "gate": None, "title": "Sky"}},
    )  # fmt: skip
    return SimpleNamespace(manifest=manifest, samples=samples, lessons=lessons, verifiers=lambda: VERIFIERS)
