"""Hostile verifiers and completions through a real RL step: it ends, the guilty are masked, the others learn as if alone.

A part of the cases runs in every test run, all of them with `-m slow`. What each does is in `hostile/deeds.py` and
`hostile/sayings.py`; the worker processes import them, this process never runs one.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import torch

HERE = Path(__file__).parent / "hostile"
sys.path.insert(0, str(HERE))

import hostile_kit as kit  # noqa: E402
from deeds import DEEDS  # noqa: E402
from patience import patience  # noqa: E402
from sayings import SAYINGS  # noqa: E402

from factory.errors import RewardError  # noqa: E402
from factory.rewards.pool import VerifierPool  # noqa: E402

GUILTY = [name for name, (_, (status, _)) in DEEDS.items() if status != "ok"]
VANDALS = [name for name, (_, (status, _)) in DEEDS.items() if status == "ok"]
QUICK = (
    "sleeps_forever", "busy_in_c", "dribbles_on_the_wire", "allocates_50_gib", "fork_bomb", "exits_hard", "segfaults",
    "kills_everybody", "nested_on_the_wire", "a_fatal_word_on_the_wire", "closes_every_file", "uses_the_network",
    *(name for name in GUILTY if name.startswith(("raises_", "returns_", "score_", "status_", "reason_", "parts_"))),
)  # fmt: skip
QUICK_VANDALS = ("changes_folder", "patches_builtins", "seeds_random", "closes_stdout", "leaves_a_daemon", "leaves_files")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return kit.make_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def nothing_left(tmp_path, monkeypatch):
    """No process and no file of the workers is left behind."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    yield
    end = time.monotonic() + 10
    while (left := _left(before)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not left, f"processes left behind: {left}"
    assert list(scratch.iterdir()) == []


def _left(before):
    own = {process.pid for process in psutil.Process().children(recursive=True)} - before
    strays = [p.pid for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "987654"]]
    workers = [p.pid for p in psutil.process_iter(["cmdline"]) if "hostile_kit:VERIFIERS" in (p.info["cmdline"] or [])]
    return [*own, *strays, *workers]


def test_there_are_at_least_sixty_cases_of_each_sort_of_trouble():
    assert len(GUILTY) >= 60 and len(VANDALS) >= 12 and len(SAYINGS) >= 30
    assert set(QUICK) <= set(GUILTY) and set(QUICK_VANDALS) <= set(VANDALS)


def check_guilty(base, folder, names):
    """The guilty rollouts of these deeds are masked, and the step equals that of their groups without them."""
    samples = kit.deed_samples(names)
    found = kit.run_step(base, folder / "hostile", samples)
    assert len(found.groups) == len(samples)
    faults = {}
    for name, rollouts in found.groups.items():
        (_, (status, reason)), guilty = DEEDS[name], rollouts[2]
        got = guilty.reward.statuses["hostile"], guilty.reward.reasons["hostile"]
        if got[0] != status or reason not in got[1] or not guilty.is_masked or guilty.advantage:
            faults[name] = (*got, f"wanted {status}: {reason}")
        innocent = [(rollout.is_masked, rollout.value, rollout.reward.statuses["hostile"]) for rollout in rollouts[:2]]
        if innocent != [(False, 0.0, "wrong"), (False, 1.0, "ok")]:
            faults[f"{name}: the innocent"] = innocent
    assert not faults, faults
    assert found.counts["hostile"]["error"] + found.counts["hostile"]["timeout"] == len(names)
    assert found.figures["masked_share"] == pytest.approx(1 / 3)
    clean = kit.run_step(base, folder / "clean", samples, group_size=2)
    assert clean.figures["masked_share"] == 0.0
    assert found.figures["loss"] == pytest.approx(clean.figures["loss"], abs=1e-7)
    assert found.figures["grad_norm"] == pytest.approx(clean.figures["grad_norm"], rel=1e-5) and clean.figures["grad_norm"] > 0
    assert found.weights.keys() == clean.weights.keys()
    assert all(torch.allclose(value, clean.weights[name], atol=1e-6) for name, value in found.weights.items())


def check_vandals(base, folder, names):
    """What these leave behind changes nobody's verdict: the step equals one whose verifier does nothing of the kind."""
    samples = kit.deed_samples(names)
    found = kit.run_step(base, folder / "hostile", samples)
    verdicts = {name: [rollout.reward.statuses["hostile"] for rollout in rollouts] for name, rollouts in found.groups.items()}
    assert verdicts == {name: ["wrong", "ok", "ok"] for name in names}
    assert all(rollouts[2].value == 1.0 for rollouts in found.groups.values())
    assert found.figures["masked_share"] == 0.0


def check_sayings(base, folder, names):
    """Real verifiers call each saying wrong or unparsable; no text is right, and none makes a verifier fail."""
    samples = kit.saying_samples(names)
    found = kit.run_step(base, folder / "run", samples, hooks=["say_hostile_things"], timeout_s=patience(20.0), memory_mib=1024)
    said = {name: rollouts[2] for name, rollouts in found.groups.items()}
    assert all(said[name].text == SAYINGS[name] for name in names)
    faults = {
        name: dict(one.reward.statuses) | dict(one.reward.reasons)
        for name, one in said.items()
        if one.is_masked or {one.reward.statuses[v] for v in ("letter", "closed")} - {"wrong", "unparsable"}
    }
    assert not faults, faults
    assert found.figures["masked_share"] == 0.0


@pytest.mark.usefixtures("nothing_left")
def test_guilty_rollouts_are_masked_and_the_rest_trains_as_if_they_had_not_been(base, tmp_path):
    check_guilty(base, tmp_path, QUICK)


@pytest.mark.usefixtures("nothing_left")
def test_what_a_verifier_leaves_behind_disturbs_no_other(base, tmp_path):
    check_vandals(base, tmp_path, QUICK_VANDALS)


@pytest.mark.usefixtures("nothing_left")
def test_every_call_finds_its_worker_as_the_first_call_did():
    with VerifierPool("hostile_kit:VERIFIERS", workers=1, memory_mib=256) as pool:
        witness = kit.deed_samples(["witness"])[0]
        rows = [("blue", witness, ["witness"])]
        for sample in kit.deed_samples(VANDALS):
            rows += [("blue", sample, ["hostile"]), ("red", witness, ["witness"])]
        found = [next(iter(row.values())) for row in pool.score(rows)]
    assert [verdict.status.value for verdict in found] == ["ok"] * len(rows)
    first, *later = [json.loads(verdict.reason) for verdict in found[::2]]
    changed = {name: facts for name, facts in zip(VANDALS, later, strict=True) if facts != first}
    assert not changed, (first, changed)


@pytest.mark.usefixtures("nothing_left")
def test_hostile_completions_are_wrong_or_unparsable_and_nothing_else(base, tmp_path):
    check_sayings(base, tmp_path, list(SAYINGS))


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left")
def test_all_guilty_verifiers(base, tmp_path):
    check_guilty(base, tmp_path, GUILTY)


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left")
def test_all_vandals(base, tmp_path):
    check_vandals(base, tmp_path, VANDALS)


@pytest.mark.usefixtures("nothing_left")
def test_too_many_failures_stop_the_stage_with_a_plain_message(base, tmp_path):
    samples = kit.deed_samples(["raises_exception"]) * 1
    many = [kit.replace(samples[0], id=f"raises {i}") for i in range(40)]
    with pytest.raises(RewardError, match=r"verifier 'hostile' of .* failed on \d+ of its last \d+ verdicts"):
        kit.run_step(base, tmp_path / "run", many, max_error_rate=0.05)
