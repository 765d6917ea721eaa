"""The conformance kit: what a domain pack must keep, as checks that anyone can run on any pack.

factory domains check NAME                    from the shell; with --build also the check that builds

from factory.testing import parametrize_with_pack_checks

@parametrize_with_pack_checks("dermatology")  # in a pack's own test suite
def test_pack(pack, check):
    check(pack)
"""

from factory.testing.conformance import CHECKS, SLOW_CHECKS, CheckResult, parametrize_with_pack_checks, run_checks
from factory.testing.subject import CheckFailed, Subject

__all__ = ["CHECKS", "SLOW_CHECKS", "CheckFailed", "CheckResult", "Subject", "parametrize_with_pack_checks", "run_checks"]
