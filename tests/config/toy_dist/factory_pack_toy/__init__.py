"""A pack of a third party, for tests: sums with exact answers, read from `a+b=c` lines when data is given."""

from __future__ import annotations

import random
from pathlib import Path

from factory.contracts import SPLITS, DataRequest, Document, Eval, Lesson, Message, Sample, Status, Verdict
from factory.data.report import RowFault, RowRef, RowReport
from factory.plugins import read_manifest


class Exact:
    name = "exact"
    version = "1"

    def __call__(self, completion, sample):
        is_right = completion.strip() == str(sample.reference)
        return Verdict(float(is_right), Status.ok if is_right else Status.wrong, f"want {sample.reference}")


class ToyPack:
    manifest = read_manifest(Path(__file__).parent)

    def samples(self, split, seed, request):
        if request.paths:
            yield from self._read(request, RowReport.for_request(request, "rows"))
            return
        for number in range(request.limit or 5):
            rng = random.Random(f"{split}-{seed}-{number}")
            # The first number's remainder by three tells the splits apart, so that no question is in two of them.
            a, b = 3 * rng.randint(1, 300) + SPLITS.index(split), rng.randint(1, 9)
            yield self._sample(f"{split}-{seed}-{number}", a, b, split)

    def lessons(self, split, seed, request):
        for sample in self.samples(split, seed, request):
            yield Lesson(sample, f"The sum is {sample.reference}.")

    def corpus(self, split, seed, request):
        for sample in self.samples(split, seed, request):
            yield Document(sample.id, f"{sample.text()} {sample.reference}", split=split)

    def verifiers(self):
        return {"exact": Exact()}

    def evals(self):
        return {"qa": Eval("qa", verifier="exact", primary=True)}

    def check(self, request: DataRequest) -> RowReport:
        report = RowReport.for_request(request, "rows")
        for _ in self._read(request, report):
            pass
        return report

    def _read(self, request, report):
        for path in request.paths:
            report.open_file(path)
            for number, line in enumerate(Path(path).read_text().splitlines(), start=1):
                with report.row(RowRef(path, number)):
                    try:
                        a, b = (int(part) for part in line.split("+"))
                    except ValueError:
                        raise RowFault("sum", f"{line!r} is not a sum like 2+3") from None
                    report.accept()
                    yield self._sample(f"{path}-{number}", a, b, "train")
        report.finish()

    @staticmethod
    def _sample(name, a, b, split):
        return Sample(name, "add", (Message("user", f"{a}+{b}?"),), a + b, split=split, source="toy")


PACK = ToyPack()
