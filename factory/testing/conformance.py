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
from factory.testing import checks_build, checks_data, checks_manifest, checks_verifiers
from factory.testing.subject import CheckFailed, Subject

Check = Callable[[Subject], None]
"""Raises CheckFailed when the pack breaks the rule. Its docstring is its help text."""

CHECKS: Mapping[str, Check] = {
    check.__name__: check for check in (*checks_manifest.CHECKS, *checks_data.CHECKS, *checks_verifiers.CHECKS)
}
"""Check name -> check, in the order in which they run."""
SLOW_CHECKS: Mapping[str, Check] = {check.__name__: check for check in checks_build.CHECKS}
"""Those that take a minute; they run last, and only when asked for."""


NEEDS: Mapping[str, str] = {
    check: "mixture_is_valid"
    for check in (
        "items_survive_transport",
        *(check.__name__ for check in checks_verifiers.CHECKS if "fixtures" not in check.__name__),
    )
}
"""Check -> another without which it can say nothing; when that fails, this one is not run and one fault is told once."""


FIRST = next(iter(CHECKS))
"""Where pack.yaml cannot be read at all, nothing but this check is run."""


@dataclass(frozen=True)
class CheckResult:
    """What became of one check."""

    check: str
    outcome: str
    """`passed`, `failed`, `excused` (fails, and the pack says why), `stale` (excused, but passes) or `not run` (see NEEDS)."""
    message: str
    time_s: float
    is_fault: bool
    """True for `failed` and `stale`."""


def run_checks(pack: str | Subject, only: Sequence[str] = (), *, slow: bool = False) -> list[CheckResult]:
    """Run the checks on an installed pack: the quick ones, with `slow` all, or those named.

    Raises:
        ConfigError: `only` names an unknown check.
        PluginError: the pack is unknown.
    """
    every = {**CHECKS, **SLOW_CHECKS}
    for name in only:
        if name not in every:
            raise ConfigError(f"there is no check '{name}'.{near_miss(name, every)} Checks: {', '.join(every)}.")
    subject = Subject.named(pack) if isinstance(pack, str) else pack
    wanted = only or (every if slow else CHECKS)
    is_readable = _has_manifest(subject)
    results: dict[str, CheckResult] = {}
    for name, check in every.items():
        if name not in wanted:
            continue
        before = results.get(FIRST if not is_readable else NEEDS.get(name, ""))
        if before is not None and before.outcome == "failed":
            results[name] = CheckResult(name, "not run", f"needs {before.check}", 0.0, False)
        else:
            results[name] = _run(subject, name, check)
    return list(results.values())


def _has_manifest(subject: Subject) -> bool:
    try:
        return bool(subject.manifest)
    except FactoryError:
        return False


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


def parametrize_with_pack_checks(*names: str, slow: bool = False) -> Any:
    """A pytest decorator: the test gets `pack` (a Subject) and `check`, and calls `check(pack)`. Excused checks become strict xfails.

    With `slow` the checks that take a minute are there too, marked `slow` (declare the marker: `markers = ["slow"]`).
    """
    import pytest

    cases = []
    for name in names:
        subject = Subject.named(name)
        for check_name, check in {**CHECKS, **(SLOW_CHECKS if slow else {})}.items():
            excuse = excuses(subject).get(check_name)
            marks = [pytest.mark.xfail(reason=excuse, strict=True)] if excuse else []
            marks += [pytest.mark.slow] if check_name in SLOW_CHECKS else []
            cases.append(pytest.param(subject, check, id=f"{name}-{check_name}", marks=marks))
    return pytest.mark.parametrize(("pack", "check"), cases)
