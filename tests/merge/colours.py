"""A verifier that the pool's worker processes import by the name of this file."""

from factory.contracts import Status, Verdict


class Blue:
    """1 when the completion says blue."""

    name, version = "blue", "1"

    def __call__(self, completion, sample):
        return Verdict(float("blue" in completion), Status.ok if "blue" in completion else Status.wrong, "")


VERIFIERS = {"blue": Blue()}
