"""The list of checks, and the two ways to run it: from the shell or Python, and as pytest cases.

A pack may excuse a check in its own pack.yaml, with a reason: `conformance: {skip: {check: reason}}`. An excused check still
runs and is expected to fail, so a stale excuse is reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.errors import ConfigError, FactoryError, near_miss
from factory.testing import checks_data, checks_manifest, checks_verifiers
from factory.testing.subject import CheckFailed, Subject

Check = Callable[[Subject], None]
"""Raises CheckFailed when the pack breaks the rule. Its docstring is its help text."""

CHECKS: Mapping[str, Check] = {
    check.__name__: check for check in (*checks_manifest.CHECKS, *checks_data.CHECKS, *checks_verifiers.CHECKS)
}
"""Check name -> check, in the order in which they run."""


@dataclass(frozen=True)
class CheckResult:
    """What became of one check."""

    check: str
    outcome: str
    """`passed`, `failed`, `excused` (fails, and the pack says why) or `stale` (excused, but passes)."""
    message: str
    time_s: float
    is_fault: bool
    """True for `failed` and `stale`."""


def run_checks(pack: str | Subject, only: Sequence[str] = ()) -> list[CheckResult]:
    """Run the checks on an installed pack, all of them or those named.

    Raises:
        ConfigError: `only` names an unknown check.
        PluginError: the pack is unknown.
    """
    for name in only:
        if name not in CHECKS:
            raise ConfigError(f"there is no check '{name}'.{near_miss(name, CHECKS)} Checks: {', '.join(CHECKS)}.")
    subject = Subject.named(pack) if isinstance(pack, str) else pack
    return [_run(subject, name, check) for name, check in CHECKS.items() if not only or name in only]


def _run(subject: Subject, name: str, check: Check) -> CheckResult:
    began = time.perf_counter()
    fault = ""
    try:
        check(subject)
    except CheckFailed as err:
        fault = str(err)
    except FactoryError as err:
        fault = f"{type(err).__name__}: {err}"
    except Exception as err:  # the pack's own code may raise anything; that is a finding about the pack
        fault = f"the pack raised {type(err).__name__}: {err}"
    excuse = excuses(subject).get(name)
    outcome = ("failed" if fault else "passed") if excuse is None else ("excused" if fault else "stale")
    told = {
        "passed": "", "failed": fault, "excused": f"{excuse} ({fault})",
        "stale": f"passes, but pack.yaml excuses it ({excuse}). Remove the excuse.",
    }  # fmt: skip
    return CheckResult(name, outcome, told[outcome], time.perf_counter() - began, outcome in ("failed", "stale"))


def excuses(subject: Subject) -> Mapping[str, str]:
    """Check -> reason, from the pack's own pack.yaml; empty when that cannot be read (a check of its own reports it)."""
    try:
        skip = subject.manifest.conformance.get("skip", {})
    except FactoryError:
        return {}
    return skip if isinstance(skip, Mapping) else {}


def parametrize_with_pack_checks(*names: str) -> Any:
    """A pytest decorator: the test gets `pack` (a Subject) and `check`, and calls `check(pack)`. Excused checks become strict xfails."""
    import pytest

    cases = []
    for name in names:
        subject = Subject.named(name)
        for check_name, check in CHECKS.items():
            excuse = excuses(subject).get(check_name)
            marks = [pytest.mark.xfail(reason=excuse, strict=True)] if excuse else []
            cases.append(pytest.param(subject, check, id=f"{name}-{check_name}", marks=marks))
    return pytest.mark.parametrize(("pack", "check"), cases)
