"""The learnable pack with a second verifier that is measured and does not count: `calm` is 1 unless the answer is red."""

from types import SimpleNamespace

import learnable

from factory.contracts import Manifest, Status, Verdict


class Calm:
    """1 for blue, 0.5 for green, 0 for red and for what is no colour."""

    name, version = "calm", "1"

    def __call__(self, completion, sample):
        score = {"blue": 1.0, "green": 0.5}.get(completion.strip().split(" ")[0], 0.0)
        return Verdict(score, Status.ok if score else Status.wrong, "", {"half": score / 2})


VERIFIERS = {**learnable.VERIFIERS, "calm": Calm()}


def pack(verifier="exact"):
    """As `learnable.pack`."""
    tasks = {"sky": {"verifiers": {verifier: 1.0, "calm": 0.0}, "gate": None, "title": "Sky"}}
    manifest = Manifest(
        name="judged", title="Judged", version="1", license="MIT", intended_use="tests", not_for="else", tasks=tasks
    )
    return SimpleNamespace(manifest=manifest, samples=learnable.samples, lessons=learnable.lessons, verifiers=lambda: VERIFIERS)
