"""Rules for the real worker pool, importable by name."""

from factory.contracts import Status, Verdict


class Exact:
    """1 when the reference is said."""

    name, version = "exact", "1"

    def __call__(self, completion, sample):
        is_right = sample.reference in completion
        return Verdict(float(is_right), Status.ok if is_right else Status.wrong, "looked")


class Length:
    """1 for anything that is long: what a policy learns to game."""

    name, version = "length", "1"

    def __call__(self, completion, sample):
        return Verdict(min(1.0, len(completion) / 20), Status.ok, "counted")


VERIFIERS = {"exact": Exact(), "length": Length()}
