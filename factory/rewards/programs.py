"""Programs as answers, judged by what they compute: input and output, or calls and results.

The expected results never enter the sandbox: the program is run, and what it printed or returned is compared out here. So a
program that exits early, patches a test runner, or prints "all tests passed" earns nothing. Tests written as `assert` lines
are not supported for that reason: they would have to run beside the code that they judge.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from factory.contracts import Sample, Status, Verdict
from factory.errors import ConfigError
from factory.rewards.json_schema import equal_fields
from factory.rewards.reader import AnswerReader, one_of, share, unparsable
from factory.rewards.sandbox import Ended, Limits, SandboxMissing, run_program

MAX_PROGRAM_CHARS = 100_000
_FENCE = re.compile(r"```[ \t]*(?:python|py|python3)?[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL | re.IGNORECASE)
_CALLER = """

def _factory_main():
    import json, sys
    arguments = json.load(sys.stdin)
    kept, sys.stdout = sys.stdout, sys.stderr
    result = {name}(*arguments)
    kept.write({mark!r} + json.dumps(result))
    kept.flush()


_factory_main()
"""
_MARK = "\x1eresult:"


def read_program(text: str) -> str | None:
    """The program in a text: the last fenced block, else the whole text. None when it is blank or above 100,000 characters."""
    blocks = _FENCE.findall(text) if len(text) <= 10 * MAX_PROGRAM_CHARS else []
    program = blocks[-1] if blocks else text
    return program if program.strip() and len(program) <= MAX_PROGRAM_CHARS else None


@dataclass(frozen=True)
class ProgramAnswer(AnswerReader):
    """Share of the sample's tests that the answered Python program passes, in bubblewrap only.

    Tests are `sample.reference` (or its key `tests`), a list of
    - `{"stdin": text, "stdout": text}`: the whole program is run; outputs compare line by line without trailing white space;
    - `{"call": [arguments], "result": value}`: the function `entry` is called; arguments and result are JSON.

    Without a working sandbox every verdict is `error` and nothing is run. `all_or_nothing` scores 1 only when all pass.
    """

    shape: str = "safework"
    """Here: all that follows the reasoning, in which the last fenced block is the program."""
    entry: str = "solve"
    """Function for `call` tests; `sample.meta["entry"]` overrides it."""
    all_or_nothing: bool = True
    threshold: float = 1.0
    float_tol: float = 1e-9
    max_tests: int = 20
    limits: Limits = field(default_factory=Limits)
    """Of one test. Keep `max_tests * limits.time_s` below the pool's timeout."""
    language: str = "python"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "language", self.language, ("python",))
        share(self.name, "threshold", self.threshold)
        if not self.entry.isidentifier() or self.max_tests < 1:
            raise ConfigError(f"verifier '{self.name}': want entry a Python name and max_tests 1 or more.")

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the sample's tests are faulty."""
        tests = check_tests(sample, self.max_tests)
        want = f"{len(tests)} tests passed"
        answer = self.answer(completion, want, limit=10 * MAX_PROGRAM_CHARS)
        if isinstance(answer, Verdict):
            return answer
        program = read_program(answer)
        if program is None:
            return unparsable("no program, or one above 100,000 characters", want)
        entry = str(sample.meta.get("entry", self.entry))
        if not entry.isidentifier():
            raise ValueError(f"sample {sample.id}: meta['entry'] is {entry!r}, which is no Python name")
        passed, first_fault = 0, ""
        for number, test in enumerate(tests, start=1):
            try:
                fault = self._fault(program, test, entry)
            except SandboxMissing as err:
                return Verdict(0.0, Status.error, f"refused: {err}")
            passed += not fault
            if fault and not first_fault:
                first_fault = f"; test {number}: {fault}"
                if self.all_or_nothing:
                    break
        part = passed / len(tests)
        score = float(part == 1.0) if self.all_or_nothing else part
        status = Status.ok if score >= self.threshold else Status.wrong
        return Verdict(score, status, f"{passed} of {len(tests)} tests passed{first_fault}", {"passed": part})

    def _fault(self, program: str, test: Mapping[str, Any], entry: str) -> str:
        """Why one test is not passed; empty when it is."""
        if "stdin" in test:
            ended = run_program(program, stdin=str(test["stdin"]).encode(), limits=self.limits)
            return _ending(ended, self.limits) or _output_fault(ended.out, str(test["stdout"]))
        caller = program + _CALLER.format(name=entry, mark=_MARK)
        ended = run_program(caller, stdin=json.dumps(test["call"]).encode(), limits=self.limits)
        fault = _ending(ended, self.limits)
        if fault:
            return fault
        _, mark, result = ended.out.decode("utf-8", errors="replace").rpartition(_MARK)
        try:
            got = json.loads(result) if mark else None
        except (ValueError, RecursionError):
            mark = ""
        if not mark:
            return "no result came back"
        equal, total = equal_fields(got, test["result"], self.float_tol)
        return "" if equal == total else f"got {result[:60]}, want {json.dumps(test['result'])[:60]}"


def _ending(ended: Ended, limits: Limits) -> str:
    if ended.stopped == "time":
        return f"ran longer than {limits.time_s:g} s"
    if ended.stopped == "output":
        return f"wrote more than {limits.output_bytes} bytes"
    if ended.code != 0:
        said = ended.err.decode("utf-8", errors="replace").strip().splitlines()[-1:] or [""]
        return f"ended with status {ended.code}: {said[0][:120]}"
    return ""


def _output_fault(out: bytes, want: str) -> str:
    got = [line.rstrip() for line in out.decode("utf-8", errors="replace").rstrip().splitlines()]
    wanted = [line.rstrip() for line in want.rstrip().splitlines()]
    return "" if got == wanted else f"printed {' / '.join(got)[:60]!r}, want {' / '.join(wanted)[:60]!r}"


def check_tests(sample: Sample, most: int) -> list[Mapping[str, Any]]:
    """The sample's tests. Raises ValueError when there are none, too many, or one is malformed."""
    tests = sample.reference.get("tests") if isinstance(sample.reference, Mapping) else sample.reference
    if not isinstance(tests, Sequence) or isinstance(tests, str) or not 1 <= len(tests) <= most:
        raise ValueError(f"sample {sample.id}: the reference must hold 1 to {most} tests")
    for test in tests:
        kinds = [{"stdin", "stdout"} <= set(test), {"call", "result"} <= set(test)] if isinstance(test, Mapping) else []
        if sum(kinds) != 1 or (kinds[1] and not isinstance(test["call"], list)):
            raise ValueError(f"sample {sample.id}: a test must be {{stdin, stdout}} or {{call: [...], result}}, got {test!r:.80}")
    return list(tests)
