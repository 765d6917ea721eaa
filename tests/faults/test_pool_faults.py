"""The verifier pool under attack: whatever a verifier does costs its own verdict, and only that."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from ast import literal_eval
from pathlib import Path

import pytest

from factory.contracts import Message, Sample, Status
from factory.errors import PluginError, RewardError
from factory.rewards.pool import VerifierPool
from factory.rewards.pool_process import worker_environment
from factory.testing.ear import Ear

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "hostile"))

from patience import patience  # noqa: E402

PACK = "pool_verifiers:VERIFIERS"


@pytest.fixture(autouse=True)
def _workers_can_import_the_fault_verifiers(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))


def sample(reference="B", **meta) -> Sample:
    return Sample(id="s", task="t", messages=(Message("user", "q"),), reference=reference, meta=meta)


def pool(**settings) -> VerifierPool:
    return VerifierPool(PACK, **{"workers": 1, "timeout_s": patience(20.0), "max_error_rate": 1.0, "memory_mib": 256} | settings)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_until(condition, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.mark.parametrize("hang", ["spin", "deaf"])
def test_a_hanging_verifier_costs_its_own_verdict(hang):
    limit = patience(1.0)
    with pool(timeout_s=limit) as it:
        before = it.worker_pids()
        verdicts = it.score([("a", sample(), ["right", hang]), ("b", sample(), ["right"])])
        assert verdicts[0][hang].status is Status.timeout
        assert f"pool.timeout_s={limit:g}" in verdicts[0][hang].reason
        assert verdicts[0]["right"].status in (Status.ok, Status.wrong)
        assert verdicts[1]["right"].status in (Status.ok, Status.wrong)
        assert not any(is_alive(pid) for pid in before)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hanging_verifier_does_not_hold_up_the_others_until_its_limit(workers):
    with pool(workers=workers, timeout_s=patience(6.0)) as it:
        for i in range(200):
            it.submit(i, "a", sample(), ["deaf" if i == 20 else "right"])
        order = list(it.results())
    assert len(order) == 200
    # What stood in the stuck worker's hands is judged again after its limit; everything else is there long before.
    place = [i for i, _ in order].index(20)
    assert place >= 190 and order[place][1]["deaf"].status is Status.timeout
    assert it.counts()["right"]["error"] == it.counts()["right"]["timeout"] == 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("bomb", "pool.memory_mib=256"),
        ("leave", "exit status 3; it last printed: going now"),
        ("segfault", "SIGSEGV"),
        ("raises", "KeyError: 'no such gold'"),
        ("rude", "its message raised RuntimeError"),
        ("exits", "SystemExit: bye"),
        ("nonsense", "nonsense on its socket"),
    ],
)
def test_a_failing_verifier_costs_its_own_verdict(name, reason):
    with pool() as it:
        first, second, third = it.score([("a", sample(), ["right"]), ("a", sample(), [name]), ("a", sample(), ["right"])])
        assert second[name].status is Status.error
        assert reason in second[name].reason
        assert first == third
        assert not first["right"].status.is_masked


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ("high", "ValueError"), ("sneaky", "score 1.5"), ("nan", "score nan"), ("text", "score '1'"), ("truth", "score True"),
        ("none", "NoneType, not a Verdict"), ("float", "float, not a Verdict"), ("row", "dict, not a Verdict"),
        ("status", "status 'great'"), ("reason", "reason 7"), ("parts", "part 'x'"), ("parts_type", "list, not a mapping"),
    ],
)  # fmt: skip
def test_a_lying_verifier_is_an_error(lie, reason, lies_pool):
    verdict = lies_pool.score([("a", sample(lie), ["lies"])])[0]["lies"]
    assert verdict.status is Status.error
    assert verdict.score == 0.0
    assert reason in verdict.reason


@pytest.fixture(scope="module")
def lies_pool():
    sys.path.insert(0, str(HERE))
    try:
        with pool() as it:
            yield it
    finally:
        sys.path.remove(str(HERE))


def test_the_network_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()  # reachable from here, so a refusal is the pool's doing
        with pool() as it:
            names = ["python_network", "datagram_network", "look_up"]
            names += ["c_network"] if it.network == "namespace" else []
            verdicts = it.score([("a", sample(port), names)])[0]
    for name in names:
        assert verdicts[name].score == 1.0, verdicts[name].reason


def test_without_a_namespace_the_audit_hook_refuses_python_code():
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = (
            "import sys; from factory.rewards import pool_isolation as p, pool_worker as w\n"
            "import pool_verifiers as v; from factory.contracts import Sample\n"
            "p._unshare = lambda **_: p.Isolation('audit-hook', 'group'); print(p.isolate(allow_network=False, scratch=None)[0].network)\n"
            f"s = Sample(id='s', task='t', messages=(), reference={server.getsockname()[1]})\n"
            "print([f('x', s).score for f in (v.python_network, v.datagram_network, v.look_up)])"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=worker_environment())
    assert done.stdout.split("\n")[:2] == ["audit-hook", "[1.0, 1.0, 1.0]"], done.stderr


def test_a_worker_that_dies_idle_again_and_again_stops_the_run(tmp_path, monkeypatch):
    (tmp_path / "pool_bleeding.py").write_text(
        "import os, threading\nfrom pool_verifiers import VERIFIERS as V\nthreading.Timer(0.3, os._exit, (4,)).start()"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with VerifierPool("pool_bleeding:V") as it, pytest.raises(RewardError, match="before their first call: exit status 4"):
        wait_until(lambda: it.submit(0, "x", sample(), []), seconds=20)


def test_workers_have_one_thread_no_torch_no_secrets_and_not_our_main(monkeypatch):
    monkeypatch.setenv("MY_API_TOKEN", "s3cret")
    with pool() as it:
        facts = literal_eval(it.score([("a", sample(), ["surroundings"])])[0]["surroundings"].reason)
        assert facts["pid"] in it.worker_pids()
        assert os.getsid(facts["pid"]) != os.getsid(0)
    assert (facts["torch"], facts["threads"], facts["secret"]) == (False, "1", False)
    assert facts["main"] == "factory.rewards.pool_worker"
    assert facts["uid"] == os.getuid()


def test_what_a_verifier_prints_does_not_disturb_the_protocol():
    with pool() as it:
        first, second = it.score([("a", sample(), ["shouts"]), ("a", sample(), ["right"])])
    assert first["shouts"].score == second["right"].score


def test_a_verifier_cannot_change_the_sample_for_the_next_call():
    with pool() as it:
        mine = sample(["gold"])
        verdicts = it.score([("a", mine, ["vandal"])] * 4)
    assert [verdict["vandal"].reason for verdict in verdicts] == ["clean"] * 4


@pytest.mark.parametrize("name", ["spoilt", "leaks"])
def test_a_call_is_not_blamed_for_what_earlier_calls_did_to_the_worker(name):
    texts = [str(i) for i in range(20)]
    with pool() as it:
        spoilt = [row[name] for row in it.score([(text, sample(), [name]) for text in texts])]
        clean = [row["right"] for row in it.score([(text, sample(), ["right"]) for text in texts])]
    assert spoilt == clean


def test_children_of_a_killed_worker_are_killed_too(tmp_path):
    ear = Ear(tmp_path / "pid")
    with pool(timeout_s=patience(1.5)) as it:
        assert it.score([("a", sample(str(tmp_path / "pid")), ["parent_of_many"])])[0]["parent_of_many"].status is Status.timeout
    child = int(ear.heard())
    assert wait_until(lambda: not is_alive(child))


def test_closing_the_pool_leaves_no_worker():
    with pool(workers=2, timeout_s=600) as it:
        it.submit(0, "x", sample(), ["deaf"])
        assert wait_until(lambda: len(it.worker_pids()) == 2)
        pids = it.worker_pids()
        assert all(is_alive(pid) for pid in pids)
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_workers_die_with_a_killed_parent_even_in_a_deaf_c_call():
    environment = os.environ | {"PYTHONPATH": worker_environment()["PYTHONPATH"]}
    parent = subprocess.Popen(
        [sys.executable, str(HERE / "pool_orphan.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    )
    try:
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(is_alive(pid) for pid in pids)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.communicate()
    assert wait_until(lambda: not any(is_alive(pid) for pid in pids))


def test_a_worker_killed_from_outside_while_idle_is_replaced():
    with pool() as it:
        first = it.score([("a", sample(), ["right"])])
        (pid,) = it.worker_pids()
        os.kill(pid, signal.SIGKILL)
        assert it.score([("a", sample(), ["right"])]) == first
        assert it.worker_pids() != [pid]


def test_too_many_failures_stop_the_run_and_say_why():
    with pool(max_error_rate=0.05) as it, pytest.raises(RewardError) as caught:
        it.score([(f"{'bad' if i % 10 == 0 else 'good'} {i}", sample(), ["right", "flaky"]) for i in range(200)])
    message = str(caught.value)
    # 10% of the first 50 failed: 5.
    assert "verifier 'flaky' of 'pool_verifiers:VERIFIERS' failed on " in message
    assert "pool.max_error_rate is 5.0%" in message
    assert "Last reason: error: RuntimeError: backend away" in message
    assert "Mend the verifier" in message


def test_failures_below_fifty_verdicts_do_not_stop_the_run():
    with pool(max_error_rate=0.0) as it:
        verdicts = it.score([("bad", sample(), ["flaky"])] * 49)
        assert it.counts()["flaky"]["error"] == len(verdicts) == 49
        with pytest.raises(RewardError, match="50 of its last 50 verdicts"):
            it.score([("bad", sample(), ["flaky"])])
        with pytest.raises(RewardError, match="50 of its last 50 verdicts"):
            it.submit(0, "good", sample(), ["flaky"])


def test_few_verdicts_are_judged_at_the_end():
    with pool(max_error_rate=0.05) as it:
        it.score([(text, sample(), ["flaky"]) for text in ("bad 1", "bad 2", "good 1", "good 2")])
        it.check_end()  # half of them
        it.score([("bad 3", sample(), ["flaky"])])
        with pytest.raises(RewardError, match=r"failed on 3 of its last 5 verdicts.*backend away"):
            it.check_end()
    with pool(max_error_rate=1.0) as it:
        it.score([("bad", sample(), ["flaky"])])
        it.check_end()


@pytest.mark.parametrize(
    ("pack", "message"),
    [
        ("no_such_pack", "unknown domain pack 'no_such_pack'"),
        ("pool_verifiers:NOTHING", "cannot be imported"),
        ("no_such_module:V", "cannot be imported"),
        ("pool_verifiers:EMPTY", "supplies no verifiers"),
        ("pool_verifiers:NO_VERSION", "text `version`"),
        ("pool_broken:V", "RuntimeError: broken on import"),
    ],
)
def test_a_pack_that_cannot_be_loaded_is_reported_at_the_start(pack, message, tmp_path, monkeypatch):
    (tmp_path / "pool_broken.py").write_text("raise RuntimeError('broken on import')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match=message), VerifierPool(pack):
        pass


def test_workers_that_die_while_starting_stop_the_run(tmp_path, monkeypatch):
    (tmp_path / "pool_fatal.py").write_text("import os; print('cannot live', flush=True); os._exit(9)")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RewardError, match=r"3 workers .* exit status 9.*cannot live"), VerifierPool("pool_fatal:V"):
        pass


def test_workers_that_hang_while_starting_stop_the_run(tmp_path, monkeypatch):
    (tmp_path / "pool_stuck.py").write_text("while True: pass")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RewardError, match=r"not ready after 0\.5 s"), VerifierPool("pool_stuck:V", start_timeout_s=0.5):
        pass


def test_a_call_that_is_tried_again_finds_a_fresh_worker_beside_one_that_has_served(tmp_path, monkeypatch):
    """While a call is slow there is one worker more; when the slow one dies then, as many are there as are wanted, and none is fresh."""
    from factory.rewards.pool_dispatch import Dispatcher

    monkeypatch.setattr(  # slow at once, not after half of the limit
        Dispatcher,
        "_slow_at",
        lambda self, worker: worker.running()[1] + 0.1 if worker.ready and worker.is_busy else float("inf"),
    )
    told = tmp_path / "told"
    with pool(timeout_s=patience(60.0)) as it:
        it.score([("warm", sample(), ["right"])])
        [served] = it._dispatcher.worker_pids()
        it.submit("dies", "text", sample(str(told)), ["leave_if_told"])
        it.submit("behind", "text", sample(), ["right"])  # recalled and judged by the second worker, which has served then
        found = []

        def read() -> None:
            for key, verdicts in it.results():
                found.append((key, verdicts))
                if key == "behind":
                    told.write_text("leave")

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        end = time.monotonic() + patience(30.0)
        while served in it._dispatcher.worker_pids() and time.monotonic() < end:
            time.sleep(0.005)
        told.write_text("stay")  # long before a fresh worker has started
        reader.join(patience(30.0))
        assert [key for key, _ in found] == ["behind", "dies"]
        assert found[1][1]["leave_if_told"].reason == "stayed"
